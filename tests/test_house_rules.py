"""Rules of the house that no tool checks: size, names, words, and what must not be in the code."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("adapter_hub", "trainers", "cards", "tests", "benchmarks")
VAGUE = {"utils", "common", "helpers", "types", "misc", "base"}


def sources(*folders: str) -> list[Path]:
    """Return the Python files, without going through the links to trainers and cards."""
    found = [
        path
        for folder in folders or FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not any(parent.is_symlink() for parent in path.parents)
    ]
    assert found
    return found


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


SCREEN = 70  # lines, parameters included and the docstring not


def test_every_function_fits_a_screen() -> None:
    long = {}
    for path in sources():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[0]
                documented = ast.get_docstring(node) is not None
                described = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
                length = (node.end_lineno or 0) - node.lineno + 1 - described
                if length > SCREEN:
                    long[f"{path.relative_to(ROOT)}:{node.name}"] = length
    assert not long


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert not [path for path in sources() if path.stem in VAGUE or path.parent.name in VAGUE]


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in sources()
        if path.read_text(encoding="utf-8").strip() and not ast.get_docstring(parsed(path))
    ]
    assert not silent


def test_every_pytest_raises_says_which_message() -> None:
    bare = []
    for path in sources("tests"):
        for node in ast.walk(parsed(path)):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "raises"
                and not any(keyword.arg == "match" for keyword in node.keywords)
            ):
                bare.append(f"{path.name}:{node.lineno}")
    assert not bare


def test_nothing_is_unpickled_evaluated_or_run_through_a_shell() -> None:
    banned = {"eval", "exec", "__import__"}
    modules = {"pickle", "marshal", "shelve", "joblib", "dill"}
    found = []
    for path in sources("adapter_hub", "trainers", "cards"):
        for node in ast.walk(parsed(path)):
            name = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in banned:
                found.append(name)
            if isinstance(node, ast.Import) and {alias.name for alias in node.names} & modules:
                found.append(name)
            if isinstance(node, ast.ImportFrom) and node.module in modules:
                found.append(name)
            if isinstance(node, ast.keyword) and node.arg == "shell":
                found.append(name)
    assert not found


PRINTING = {"echo", "secho", "style", "confirm", "prompt", "progressbar", "pause", "clear"}


def test_commands_print_through_the_one_module_that_escapes() -> None:
    found = []
    for path in sources("adapter_hub/cli"):
        if path.name == "echo.py":
            continue
        for node in ast.walk(parsed(path)):
            where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Attribute):
                owner = ast.unparse(node.value)
                if owner == "click" and node.attr in PRINTING:
                    found.append(f"{where} click.{node.attr}")
                if owner in ("sys.stdout", "sys.stderr") and node.attr in ("write", "writelines", "buffer"):
                    found.append(f"{where} {owner}.{node.attr}")
            if isinstance(node, ast.Name) and node.id in ("print", "input", "tqdm"):
                found.append(f"{where} {node.id}")
            if isinstance(node, ast.ImportFrom) and node.module in ("click", "click.termui", "click.utils"):
                found.append(f"{where} from {node.module}: write click.…, so that this test can read it")
    assert not found, "print with adapter_hub.cli.terminal.echo, which escapes what is not ours"


# where files are ours alone or the user's own choice, and why reading them needs no limit
READ_FREELY = {
    "adapter_hub/cli/reproduce.py": "results that this very command has just written",
    "adapter_hub/formats/schemas/__init__.py": "part of this package",
    "adapter_hub/serving/api.py": "part of this package",
}
ELSEWHERE = (
    "speech",
    "data",
    "model",
    "decoding",
    "transcription",
    "hub",
    "evaluation",
    "trainers",
    "cards",
)  # packages with readers of their own


def test_files_that_somebody_may_have_put_there_are_read_through_the_one_reader() -> None:
    found = []
    for path in sources("adapter_hub"):
        place = path.relative_to(ROOT).as_posix()
        if (
            place == "adapter_hub/files/reading.py"
            or place.split("/")[1] in ELSEWHERE
            or place in READ_FREELY
        ):
            continue
        found += [f"{place}:{line}" for line in readings(parsed(path))]
    assert not found


def readings(tree: ast.AST) -> list[int]:
    """Return the lines that read, copy or open a file for reading."""
    whole = {"read_bytes", "read_text", "copyfile", "copy2"}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    lines = []
    for call in calls:
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        owner = getattr(call.func.value, "id", "") if isinstance(call.func, ast.Attribute) else "builtins"
        modes = [item.value for item in call.args if isinstance(item, ast.Constant)]
        to_read = name == "open" and (not modes or modes in (["r"], ["rb"]))
        opens_a_file = to_read and owner not in {"os", "cls"} and not owner[:1].isupper()  # Artifact.open
        if name in whole or opens_a_file:
            lines.append(call.lineno)
    return lines
