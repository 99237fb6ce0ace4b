"""Check the calls that docstrings show: does what they name exist, and would it take what they pass?

    shown_blocks(docstring)                  # the indented blocks of a docstring that may be Python
    problems_of(block, module)               # one sentence for each name, attribute or argument that is wrong

A block is parsed, never run. Names are looked up in the module, then in the whole package; the type of a
variable is known where the block assigns a constructor's or an annotated function's result to it. Where a
type is not evident, nothing is checked, so a block may use variables that it does not define.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import functools
import importlib
import inspect
import pkgutil
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import adapter_hub

OURS = ("adapter_hub", "tests", "test_docstrings")
PLAIN = (int, float, str, bool, bytes, list, tuple, dict, set, frozenset)
SECTION = re.compile(r"(Args|Returns|Raises|Yields|Attributes|Note|Notes|Source|Sources|References?):$")


@dataclass(frozen=True)
class Thing:
    """An object that exists: a module, class, function or constant. Of several, one has to fit."""

    objects: tuple[Any, ...]
    bound: bool = False  # a method of an instance or a class method: the first parameter is filled


@dataclass(frozen=True)
class Instance:
    """Some instance of a class, with what the annotation says of its items."""

    kind: Any
    items: tuple[Any, ...] = ()


Value = Thing | Instance | None


@functools.cache
def modules() -> dict[str, ModuleType]:
    """Import every module of the package, by its dotted name."""
    found = {"adapter_hub": adapter_hub}
    for info in pkgutil.walk_packages(adapter_hub.__path__, "adapter_hub."):
        if not info.name.endswith("__main__"):
            found[info.name] = importlib.import_module(info.name)
    return found


@functools.cache
def public_names() -> dict[str, tuple[Any, ...]]:
    """Collect what the package's modules define, by name; one name may stand for several objects."""
    found: dict[str, list[Any]] = {}
    for name, module in modules().items():
        for key, value in vars(module).items():
            if getattr(value, "__module__", None) == name or key.isupper():
                found.setdefault(key, []).append(value)
    return {name: tuple(values) for name, values in found.items()}


def shown_blocks(docstring: str) -> Iterator[str]:
    """Find the blocks of a docstring that may be code; not doctests, nor the text of Google's sections.

    A block is indented, or else all Python: ruff removes the indentation of a docstring that is all block.
    """
    before = ""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(docstring)):
        lines = paragraph.splitlines() or [""]
        if SECTION.match(lines[0]):
            before = lines[0]
            continue
        indented = all(line.startswith("    ") for line in lines)
        if ">>>" not in paragraph and not (indented and SECTION.match(before)):
            block = textwrap.dedent(paragraph)
            if indented or is_code(block):
                yield block
        before = before if indented else ""


def is_code(block: str) -> bool:
    """Return whether text is Python with at least one call."""
    try:
        tree = ast.parse(block.replace("…", "..."))
    except SyntaxError:
        return False
    return any(isinstance(node, ast.Call) for node in ast.walk(tree))


def statements(block: str) -> list[ast.stmt]:
    """Parse a block; lines that are not Python (shell commands, file names, formulas) are left out."""
    block = block.replace("…", "...")
    with contextlib.suppress(SyntaxError):
        return ast.parse(block).body
    found = []
    for line in block.splitlines():
        with contextlib.suppress(SyntaxError):
            found += ast.parse(line.strip()).body
    return found


def problems_of(block: str, module: ModuleType, variables: dict[str, Value] | None = None) -> list[str]:
    """Say what is wrong with the calls of one block."""
    reader = Reader(module, dict(variables or {}))
    for statement in statements(block):
        reader.visit(statement)
    return reader.problems


class Reader:
    """Reads the statements of a block one after another, and remembers the types of its variables."""

    def __init__(self, module: ModuleType, variables: dict[str, Value]) -> None:
        self.module, self.variables = module, variables
        self.problems: list[str] = []

    # statements

    def visit(self, node: ast.stmt) -> None:
        """Check a statement and whatever is in it."""
        special = getattr(self, f"visit_{type(node).__name__.lower()}", None)
        if special is not None:
            special(node)
            return
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt):
                self.visit(child)
            elif isinstance(child, ast.expr):
                self.value(child)

    def visit_all(self, nodes: list[ast.stmt]) -> None:
        for node in nodes:
            self.visit(node)

    def visit_assign(self, node: ast.Assign) -> None:
        kind = self.value(node.value)
        for target in node.targets:
            self.assign(target, kind)

    def visit_annassign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.value(node.value)
        self.assign(node.target, annotated(node.annotation, self.module))

    def visit_for(self, node: ast.For) -> None:
        self.assign(node.target, item_of(self.value(node.iter)))
        self.visit_all(node.body + node.orelse)

    def visit_with(self, node: ast.With) -> None:
        for item in node.items:
            entered = entered_of(self.value(item.context_expr), self.module)
            if item.optional_vars is not None:
                self.assign(item.optional_vars, entered)
        self.visit_all(node.body)

    def visit_functiondef(self, node: ast.FunctionDef) -> None:
        for decorator in node.decorator_list:
            self.value(decorator)
        self.variables[node.name] = None
        for argument in node.args.posonlyargs + node.args.args + node.args.kwonlyargs:
            kind = annotated(argument.annotation, self.module) if argument.annotation else None
            self.variables[argument.arg] = kind
        self.visit_all(node.body)

    def visit_import(self, node: ast.Import | ast.ImportFrom) -> None:
        source = node.module or "" if isinstance(node, ast.ImportFrom) else ""
        for alias in node.names:
            dotted = f"{source}.{alias.name}" if source else alias.name
            thing = resolved(dotted)
            if thing is None and dotted.startswith("adapter_hub"):
                self.problems.append(f"there is no {dotted}")
            shown = alias.asname or (alias.name if source else alias.name.partition(".")[0])
            self.variables[shown] = thing if source or alias.asname else resolved(shown)

    visit_importfrom = visit_import

    def assign(self, target: ast.expr, kind: Value) -> None:
        """Remember the type of a variable, or of each variable of a tuple."""
        match target:
            case ast.Name(id=name):
                self.variables[name] = kind or of_that_name(name, self.module)
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                items = kind.items if isinstance(kind, Instance) and kind.kind is tuple else ()
                same = len(items) == 2 and items[1] is Ellipsis
                for place, part in enumerate(parts):
                    item = items[0] if same else items[place] if place < len(items) else None
                    self.assign(part, item)
            case ast.Starred(value=value):
                self.assign(value, None)
            case _:
                self.value(target)

    # expressions

    def value(self, node: ast.expr) -> Value:
        """Check an expression; return what is known of its value."""
        match node:
            case ast.Name(id=name):
                return self.named(name, called=False)
            case ast.Attribute():
                return self.attribute(node)
            case ast.Call():
                return self.call(node)
            case ast.Subscript(value=value, slice=index):
                self.value(index)
                return item_of(self.value(value), index)
            case ast.Constant(value=constant):
                return None if constant is Ellipsis or constant is None else Instance(type(constant))
            case ast.BoolOp(values=operands):
                return next(filter(None, [self.value(operand) for operand in operands]), None)
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                self.comprehension(node)
            case _:
                self.parts_of(node)
        return None

    def parts_of(self, node: ast.expr) -> None:
        """Check the parts of an expression that has no type of its own."""
        if isinstance(node, ast.Lambda):
            self.variables |= {argument.arg: None for argument in node.args.args}
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.value(child)

    def comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        for generator in node.generators:
            self.assign(generator.target, item_of(self.value(generator.iter)))
            for condition in generator.ifs:
                self.value(condition)
        for part in [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]:
            self.value(part)

    def named(self, name: str, *, called: bool) -> Value:
        """Look a name up; only a called one and a class's must exist."""
        if name in self.variables:
            return self.variables[name]
        found = looked_up(name, self.module)
        if found is None and not called:
            found = of_that_name(name, self.module)
        if found is None and (called or re.match(r"[A-Z]+[a-z]", name) or re.match(r"[A-Z_]{4,}$", name)):
            self.problems.append(f"there is no {name}")
        return found

    def attribute(self, node: ast.Attribute) -> Value:
        owner = self.value(node.value)
        if owner is None:
            return None
        found = attribute_of(owner, node.attr)
        if found is MISSING:
            self.problems.append(f"{ast.unparse(node)}: {described(owner)} has no {node.attr}")
            return None
        return found

    def call(self, node: ast.Call) -> Value:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        function = self.named(name, called=True) if name else self.value(node.func)
        for argument in node.args:
            self.value(argument)
        for keyword in node.keywords:
            self.value(keyword.value)
        if function is None:
            return None
        if isinstance(function, Instance) and function.kind in PLAIN:
            self.problems.append(f"{ast.unparse(node)}: {described(function)} is called")
        candidates = callables_of(function)
        misfits = [misfit(candidate, node) for candidate in candidates]
        if misfits and all(misfits):
            self.problems.append(f"{ast.unparse(node)}: {misfits[0]}")
            return None
        fitting = [candidate for candidate, wrong in zip(candidates, misfits, strict=True) if not wrong]
        return result_of(fitting[0]) if fitting else None


MISSING: Any = object()


@dataclass(frozen=True)
class Callee:
    """Something that is called: the signature to hold it against, and where its annotations are."""

    function: Any
    skip_first: bool = False
    instance: Instance | None = None  # of a class, or of the method's `self`


def described(owner: Thing | Instance) -> str:
    """Name an owner in a sentence."""
    if isinstance(owner, Instance):
        return f"a {getattr(owner.kind, '__name__', owner.kind)}"
    return " or ".join(str(getattr(one, "__name__", type(one).__name__)) for one in owner.objects)


def looked_up(name: str, module: ModuleType) -> Thing | None:
    """Find a name in its module, in the package, or among Python's own."""
    if name in vars(module):
        return Thing((vars(module)[name],))
    if name == "adapter_hub":
        return Thing((adapter_hub,))
    if name in public_names():
        found = public_names()[name]
        room = ".".join(module.__name__.split(".")[:2])
        near = tuple(one for one in found if str(getattr(one, "__module__", "")).startswith(room))
        return Thing(near or found)
    if hasattr(builtins, name):
        return Thing((getattr(builtins, name),))
    if name in ("Path", "torch", "np", "click"):  # what everybody knows, imported or not
        return resolved({"Path": "pathlib.Path", "np": "numpy"}.get(name, name))
    return None


def of_that_name(name: str, module: ModuleType) -> Instance | None:
    """Take a variable that is called like one of the module's classes for one of its instances."""
    kind = vars(module).get("".join(part.capitalize() for part in name.split("_")))
    return Instance(kind) if ours(kind) and kind.__module__ == module.__name__ else None


def resolved(dotted: str) -> Thing | None:
    """Find what a dotted name stands for: a module, or something in one."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:end]))
        except ImportError:
            continue
        for part in parts[end:]:
            value = attribute_of(Thing((found,)), part)
            if value is MISSING or not isinstance(value, Thing):
                return None
            found = value.objects[0]
        return Thing((found,))
    return None


def attribute_of(owner: Thing | Instance, name: str) -> Any:
    """Return what is known of an attribute, or MISSING where it cannot exist."""
    if isinstance(owner, Instance):
        return instance_attribute(owner, name)
    found = []
    for one in owner.objects:
        if isinstance(one, ModuleType) and not hasattr(one, name):
            with contextlib.suppress(ImportError):
                found.append(importlib.import_module(f"{one.__name__}.{name}"))
        elif hasattr(one, name):
            found.append(getattr(one, name))
        elif not isinstance(one, type | ModuleType) and not ours(type(one)):
            return None
    return Thing(tuple(found)) if found else MISSING


def ours(kind: Any) -> bool:
    """Return whether a class is this package's own."""
    return isinstance(kind, type) and kind.__module__.split(".")[0] in OURS


def instance_attribute(owner: Instance, name: str) -> Any:
    """Return what is known of an instance's attribute: a method, a property's value, a field."""
    kind = owner.kind
    if not isinstance(kind, type) or not ours(kind):
        return None
    for one in kind.__mro__:
        if name in one.__dict__:
            return member(one, one.__dict__[name], owner)
        module = sys.modules.get(one.__module__)
        annotations = one.__dict__.get("__annotations__", {})
        if name in annotations and module is not None:
            return annotated(annotations[name], module)
        if name in assigned_in(one):
            return None
    dynamic = any("__getattr__" in one.__dict__ for one in kind.__mro__) or not all(
        ours(one) or one.__module__ in ("builtins", "typing", "abc", "pydantic.main") for one in kind.__mro__
    )
    return None if dynamic or hasattr(kind, name) else MISSING


def member(kind: type, raw: Any, owner: Instance) -> Value:
    """Return what a class's entry is on an instance."""
    module = sys.modules.get(kind.__module__)
    if isinstance(raw, property | functools.cached_property):
        function = raw.fget if isinstance(raw, property) else raw.func
        text = getattr(function, "__annotations__", {}).get("return")
        return annotated(text, module) if text and module else None
    if isinstance(raw, classmethod):
        return Thing((raw.__func__,), bound=True)
    if isinstance(raw, staticmethod):
        return Thing((raw.__func__,))
    if inspect.isfunction(raw):
        return Thing((raw,), bound=True)
    return None


@functools.cache
def assigned_in(kind: type) -> frozenset[str]:
    """Collect the attributes that a class's own methods set on `self`."""
    if not ours(kind):
        return frozenset()
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    except (OSError, SyntaxError, TypeError):
        return frozenset()
    return frozenset(
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    )


def callables_of(value: Thing | Instance) -> list[Callee]:
    """Return what a call of a value would really call."""
    if isinstance(value, Instance):
        name = "forward" if hasattr(value.kind, "forward") else "__call__"
        function = getattr(value.kind, name, None) if ours(value.kind) else None
        return [Callee(function, skip_first=True)] if inspect.isfunction(function) else []
    found = []
    for one in value.objects:
        if isinstance(one, type):
            found.append(Callee(one, instance=Instance(one)))
        elif callable(one):
            found.append(Callee(one, skip_first=value.bound))
    return found


def misfit(callee: Callee, call: ast.Call) -> str | None:
    """Return why a call does not fit the signature, if it does not; `...` stands for any arguments."""
    try:
        signature = inspect.signature(callee.function)
    except (ValueError, TypeError):
        return None
    positional = [argument for argument in call.args if not is_ellipsis(argument)]
    unknown = [keyword.arg for keyword in call.keywords if keyword.arg is None]
    open_ended = (
        len(positional) < len(call.args)
        or bool(unknown)
        or any(isinstance(argument, ast.Starred) for argument in positional)
    )
    if open_ended:
        positional = [argument for argument in positional if not isinstance(argument, ast.Starred)]
    places = [None] * (len(positional) + callee.skip_first)
    keywords = {keyword.arg: None for keyword in call.keywords if keyword.arg is not None}
    try:
        (signature.bind_partial if open_ended else signature.bind)(*places, **keywords)
    except TypeError as error:
        return str(error)
    return None


def is_ellipsis(node: ast.expr) -> bool:
    """Return whether an argument is `...`."""
    return isinstance(node, ast.Constant) and node.value is Ellipsis


def result_of(callee: Callee) -> Value:
    """Return what is known of a call's result: the class's instance, or what the annotation says."""
    if callee.instance is not None:
        return callee.instance
    function = inspect.unwrap(callee.function)
    module = sys.modules.get(getattr(function, "__module__", ""))
    text = getattr(function, "__annotations__", {}).get("return")
    if module is None or not text:
        return None
    kind = annotated(text, module)
    owner = getattr(callee.function, "__self__", None)
    if text == "Self" and isinstance(owner, type):
        return Instance(owner)
    if function is not callee.function and callee.function.__code__.co_filename == contextlib.__file__:
        return Instance(contextlib.AbstractContextManager, kind.items if isinstance(kind, Instance) else ())
    return kind


def annotated(annotation: ast.expr | str | Any, module: ModuleType) -> Instance | None:
    """Read an annotation; None where it leaves the type open."""
    if isinstance(annotation, str):
        try:
            annotation = ast.parse(annotation, mode="eval").body
        except SyntaxError:
            return None
    match annotation:
        case ast.Constant(value=str() as text):
            return annotated(text, module)
        case ast.Name(id=name):
            found = looked_up(name, module)
            return class_instance(found)
        case ast.Attribute():
            return class_instance(Reader(module, {}).value(annotation))
        case ast.Subscript(value=value, slice=index):
            outer = annotated(value, module)
            parts = index.elts if isinstance(index, ast.Tuple) else [index]
            items = tuple(Ellipsis if is_ellipsis(part) else annotated(part, module) for part in parts)
            return Instance(outer.kind, items) if outer else None
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            sides = [
                side for side in (left, right) if not isinstance(side, ast.Constant) or side.value is not None
            ]
            return annotated(sides[0], module) if len(sides) == 1 else None
    return None


def class_instance(found: Value) -> Instance | None:
    """Return an instance of the one class that was found."""
    if isinstance(found, Thing) and len(found.objects) == 1 and isinstance(found.objects[0], type):
        return Instance(found.objects[0])
    return None


def item_of(value: Value, index: ast.expr | None = None) -> Value:
    """Return what is known of an item of a list, tuple or mapping."""
    if not isinstance(value, Instance) or not value.items:
        return None
    items = tuple(item for item in value.items if item is not Ellipsis)
    if value.kind is tuple and len(items) == len(value.items) > 1:
        place = index.value if isinstance(index, ast.Constant) else None
        return items[place] if isinstance(place, int) and place < len(items) else None
    if index is not None and isinstance(index, ast.Slice):
        return value
    if len(items) == 2:  # a mapping: iterated it gives keys
        return items[1] if index is not None else items[0]
    return items[0]


def entered_of(value: Value, module: ModuleType) -> Value:
    """Return what `with` binds."""
    if not isinstance(value, Instance):
        return None
    if value.kind is contextlib.AbstractContextManager:
        return value.items[0] if value.items else None
    enter = attribute_of(value, "__enter__")
    if not isinstance(enter, Thing):
        return None
    text = enter.objects[0].__annotations__.get("return")
    return value if text == "Self" else annotated(text, module) if text else None
