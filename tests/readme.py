"""What the documentation shows, made: `python tests/readme.py` writes it, tests/test_docs.py compares it.

In the README a `console` block starts with `$ adapter-hub …`, a `python` block holds `>>>` lines; what is
below them is what they print. Blocks of other kinds are not run. The catalogue's tables, a few rows in the
README and all in docs/catalogue.md, are rendered from registry.json, those of docs/recipe.md from the code,
docs/commands.md from the help texts; `python_page` makes docs/python.md, `notebook_page` docs/tour.ipynb.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import commands_page
import formats_page
import notebook_page
import python_page
import recipe_page

from adapter_hub import embedded
from adapter_hub.cards import with_catalogue
from adapter_hub.cli import main
from adapter_hub.registry.file import FileRegistry

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
SHOWN = ("mini/it", "mini/da", "mini/da-pair")  # the README's rows: a seed, a warm start, an expert pair
BLOCK = re.compile(r"^```(?P<kind>console|python)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


def readme(text: str) -> str:
    """Return the README with every block's output and its rows of the catalogue as they are now."""
    adapters = FileRegistry(embedded.registry_path(), read_only=True).adapters
    names: dict[str, Any] = {"__name__": "readme"}

    def run(match: re.Match[str]) -> str:
        body = _console(match["body"]) if match["kind"] == "console" else _python(match["body"], names)
        return f"```{match['kind']}\n{body}```"

    with contextlib.chdir(ROOT):
        return with_catalogue(BLOCK.sub(run, text), {name: adapters[name] for name in SHOWN})


def catalogue(text: str) -> str:
    """Return docs/catalogue.md with a row for every version."""
    return with_catalogue(text, FileRegistry(embedded.registry_path(), read_only=True).adapters)


def python_api(text: str) -> str:
    """Return docs/python.md with every block's output and the reference as they are now."""
    return python_page.python_page(text, _python, BLOCK)


PAGES: Mapping[Path, Callable[[str], str]] = {
    README: readme,
    ROOT / "docs/catalogue.md": catalogue,
    ROOT / "docs/commands.md": commands_page.page,
    ROOT / "docs/recipe.md": recipe_page.with_tables,
    ROOT / "docs/formats.md": formats_page.with_tables,
    ROOT / "docs/python.md": python_api,
    ROOT / "docs/tour.ipynb": notebook_page.notebook,
}


def _console(body: str) -> str:
    line = body.splitlines()[0]
    prompt, command, *words = shlex.split(line)
    assert (prompt, command) == ("$", "adapter-hub"), line
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(words) == 0, line
    return f"{line}\n{out.getvalue()}"


def _python(body: str, names: dict[str, Any]) -> str:
    lines = []
    examples = doctest.DocTestParser().get_examples(body)
    assert examples, f"a python block without >>> lines would be emptied; indent what is not run: {body}"
    for example in examples:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(example.source, str(README), "single"), names)
        lines += [
            f"{'...' if number else '>>>'} {part}".rstrip()
            for number, part in enumerate(example.source.splitlines())
        ]
        lines += out.getvalue().splitlines()
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    os.environ["COLUMNS"] = "100"
    for page, rendered in PAGES.items():
        page.write_text(rendered(page.read_text(encoding="utf-8")), encoding="utf-8")
    sys.exit(0)
