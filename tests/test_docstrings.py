"""What docstrings show is true: examples run, shown calls fit, and the modules that they name exist."""

from __future__ import annotations

import doctest
import inspect
import re
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from shown_calls import Instance, annotated, modules, problems_of, resolved, shown_blocks

ROOMS = sorted({name.split(".")[1] for name in modules() if name.count(".") >= 1})


def documented(module: ModuleType) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Find every docstring of a module, with its place and the variables that it may use."""
    yield module.__name__, module.__doc__ or "", {}
    for name, value in vars(module).items():
        if getattr(value, "__module__", None) != module.__name__ or not hasattr(value, "__doc__"):
            continue
        if isinstance(value, type):
            yield f"{module.__name__}.{name}", value.__doc__ or "", {}
            for member, raw in vars(value).items():
                function = getattr(raw, "__func__", getattr(raw, "fget", raw))
                if inspect.isfunction(function) and function.__doc__:
                    known = parameters(function, module) | {"self": Instance(value)}
                    yield f"{module.__name__}.{name}.{member}", function.__doc__, known
        elif inspect.isfunction(value):
            yield f"{module.__name__}.{name}", value.__doc__ or "", parameters(value, module)


def parameters(function: Any, module: ModuleType) -> dict[str, Any]:
    function = inspect.unwrap(function)
    hints = getattr(function, "__annotations__", {})
    return {
        name: annotated(hints[name], module) if name in hints else None
        for name in inspect.signature(function).parameters
    }


@pytest.mark.parametrize("room", ROOMS)
def test_every_example_of_a_docstring_gives_what_it_says(room: str) -> None:
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    said: list[str] = []
    for name, module in modules().items():
        if name.split(".")[1:2] == [room]:
            for example in doctest.DocTestFinder(exclude_empty=True).find(module, name):
                runner.run(example, out=said.append)
    assert not said


def test_examples_were_found() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [example for name, module in modules().items() for example in finder.find(module, name)]
    assert sum(len(test.examples) for test in found) > 30


@pytest.mark.parametrize("room", ["", *ROOMS])
def test_every_call_that_a_docstring_shows_exists_and_takes_what_is_passed(room: str) -> None:
    wrong = [
        f"{place}: {problem}"
        for name, module in modules().items()
        if "".join(name.split(".")[1:2]) == room
        for place, text, known in documented(module)
        for block in shown_blocks(text)
        for problem in problems_of(block, module, known)
    ]
    assert not wrong, "\n" + "\n".join(wrong)


def test_calls_were_found() -> None:
    blocks = [block for module in modules().values() for block in shown_blocks(module.__doc__ or "")]
    assert sum("(" in block for block in blocks) > 80


# a backticked dotted name that starts with the package, or with one of its rooms
NAMED = re.compile(
    r"`(adapter_hub(?:\.\w+)+|(?:" + "|".join(ROOMS) + r")(?:\.(?!json|toml|py\b|jsonl)[a-z_]+)+)`"
)


def test_every_module_that_a_docstring_names_exists() -> None:
    missing = []
    for name, module in modules().items():
        for place, text, known in documented(module):
            for mention in NAMED.findall(text):
                first = mention.split(".")[0]
                dotted = mention if first == "adapter_hub" else f"adapter_hub.{mention}"
                variable = first in known or (first != "adapter_hub" and first in vars(module))
                if not variable and resolved(dotted) is None and name:
                    missing.append(f"{place}: {mention}")
    assert not missing


class Shelf:
    """A class for docstrings to be wrong about."""

    books: list[str]

    def lend(self, book: str, *, days: int = 7) -> Shelf:
        """Lend a book."""
        return self


def shelf_of(name: str) -> Shelf:
    """Find a shelf."""
    return Shelf()


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        ("borrow('x')", "there is no borrow"),
        ("shelf = Bookcase", "there is no Bookcase"),
        ("shelf_of('a', 'b')", "too many positional arguments"),
        ("shelf_of()", "missing a required argument: 'name'"),
        ("shelf_of(title='a')", "missing a required argument: 'name'"),
        ("shelf_of('a', title='b')", "got an unexpected keyword argument 'title'"),
        ("shelf = shelf_of(…)\nshelf.borrow('x')", "a Shelf has no borrow"),
        ("shelf = Shelf()\nshelf.lend('x', weeks=2)", "got an unexpected keyword argument 'weeks'"),
        (
            "with open('x') as file:\n    shelf_of('a').lend('b').lend()",
            "missing a required argument: 'book'",
        ),
        ("adapter-hub list\nshelf_of('a', 'b')   # after a line that is not Python", "too many positional"),
        ("import adapter_hub\nadapter_hub.unload('x')", "adapter_hub has no unload"),
        ("shelf.borrow('x')", "a Shelf has no borrow"),
        ("shelf = shelves['x']\nshelf.books('x')", "a list is called"),
        ("from adapter_hub.errors import Trouble", "there is no adapter_hub.errors.Trouble"),
    ],
)
def test_a_docstring_that_shows_a_wrong_call_is_found(block: str, problem: str) -> None:
    text = f"Say what it does.\n\n    {block.replace(chr(10), chr(10) + '    ')}\n\nMore words."
    (shown,) = shown_blocks(text)
    module = sys.modules[__name__]
    problems = problems_of(shown, module)
    assert len(problems) == 1
    assert problem in problems[0]


@pytest.mark.parametrize(
    "block",
    [
        "shelf_of('a').lend('b', days=1).books",
        "found = shelf_of(…)\nfound.lend(book, days=...)",
        "for one in shelves:\n    one.anything(1, 2)",
        "<cache>/datasets/<key>/dataset.json       which files of which commit",
        "y = W·x + g₀(x)·s_p·B_p·A_p·x",
        "adapter-hub --registry my/registry.json show mini/da",
    ],
)
def test_a_docstring_that_shows_a_right_call_is_let_pass(block: str) -> None:
    assert not problems_of(block, sys.modules[__name__])


def test_a_block_that_lost_its_indentation_is_found() -> None:
    assert list(shown_blocks("Find shelves.\n\nshelf = shelf_of('a')\nshelf.books\n")) == [
        "shelf = shelf_of('a')\nshelf.books"
    ]


def test_text_of_a_section_is_not_an_example() -> None:
    assert not list(shown_blocks("Say it.\n\nArgs:\n    name: The name, as nobody(knows) it.\n"))
