"""Documentation that is run: the README's blocks, every command line shown, every command's help, recipes."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import recipe_page
from readme import BLOCK, PAGES, README, ROOT

from adapter_hub.cli import COMMANDS, cli, main
from adapter_hub.trainers.recipe_tables import TABLES, SourceTable

DOCUMENTS = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
every_document = pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: str(page.name))


def commands(group: click.Group = cli, path: str = "adapter-hub") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")


def shown(kind: str) -> list[str]:
    """Return the bodies of all blocks of a kind."""
    block = re.compile(rf"^```{kind}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [body for page in DOCUMENTS for body in block.findall(page.read_text(encoding="utf-8"))]


ALL = dict(commands())
LINES = [line for body in shown("sh") for line in body.splitlines() if line.startswith("adapter-hub ")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))
def test_what_a_page_shows_is_what_comes_out(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    text = page.read_text(encoding="utf-8")
    assert PAGES[page](text) == text, "run `make readme`"


def test_the_readme_has_blocks_of_both_kinds() -> None:
    kinds = [match["kind"] for match in BLOCK.finditer(README.read_text(encoding="utf-8"))]
    assert {"console", "python"} <= set(kinds)


@pytest.mark.parametrize("line", LINES)
def test_every_command_line_that_is_shown_can_be_typed(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    for path, command in ALL.items():
        if not isinstance(command, click.Group):
            monkeypatch.setattr(command, "callback", lambda path=path, **_: ran.append(path))
    words = shlex.split(line, comments=True)[1:]
    assert main(words) == 0
    assert len(ran) == 1


def test_the_readme_s_table_names_every_command_once() -> None:
    text = README.read_text(encoding="utf-8")
    table = re.search(r"^\| to \| commands \|\n\| --- \| --- \|\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert table
    named = re.findall(r"`([a-z-]+)(?: ([a-z]+))?`", table[1])
    groups = {name for name, _ in named if isinstance(ALL[f"adapter-hub {name}"], click.Group)}
    assert sorted({name for name, _ in named}) == sorted(COMMANDS)
    assert all(f"adapter-hub {name} {inner}" in ALL for name, inner in named if name in groups)


def test_every_table_and_source_of_a_recipe_that_is_shown_is_valid() -> None:
    shown_tables = [tomllib.loads(body) for body in shown("toml")]
    for tables in shown_tables:
        for name in tables.keys() - {"data"}:
            TABLES[name].model_validate(tables[name], strict=False)
    sources = [source for tables in shown_tables for source in tables.get("data", {}).get("train", ())]
    assert len([SourceTable.model_validate(source, strict=False) for source in sources]) >= 2


def test_every_key_of_a_recipe_has_a_meaning_and_a_section() -> None:
    meanings = recipe_page.meanings()
    assert set(recipe_page.SECTIONS.values()) == set(TABLES.values()) | {SourceTable}
    for table in recipe_page.SECTIONS.values():
        for key in table.model_fields:
            assert meanings[table.__name__][key], f"{table.__name__}.{key} needs a comment on its line"


@pytest.mark.parametrize("path", ALL)
def test_every_command_and_every_option_has_help(path: str) -> None:
    command = ALL[path]
    assert command.help, path
    assert command.help[0].isupper(), path
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{path} {parameter.opts[-1]}"


@pytest.mark.parametrize(
    "path", [path for path, command in ALL.items() if not isinstance(command, click.Group)]
)
def test_every_command_that_prints_data_takes_json(path: str) -> None:
    # a story, a TOML file, and a word to be remembered
    silent = {"adapter-hub demo", "adapter-hub recipe new", "adapter-hub registry trust"}
    options = {option for parameter in ALL[path].params for option in parameter.opts}
    assert ("--json" in options) != (path in silent)


def test_every_global_option_has_an_environment_variable() -> None:
    for parameter in cli.params:
        if isinstance(parameter, click.Option) and parameter.name != "version":
            assert parameter.envvar == f"ADAPTER_HUB_{str(parameter.name).upper()}"


def test_the_lines_of_the_help_end_in_a_full_stop_and_fit() -> None:
    assert all(about.endswith(".") and len(about) <= 51 for about in COMMANDS.values())


@every_document
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"\bmake ([a-z][a-z-]*)(?=`|\s*#|\s*$)", page.read_text("utf-8"), re.M):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@every_document
def test_every_command_that_is_named_exists(page: Path) -> None:
    for words in re.findall(r"adapter-hub ([a-z][a-z-]*(?: [a-z]+)?)", page.read_text("utf-8")):
        first, _, second = words.partition(" ")
        group = ALL.get(f"adapter-hub {first}")
        assert group is not None, words
        if isinstance(group, click.Group):
            assert f"adapter-hub {first} {second}" in ALL, words


@every_document
def test_the_paths_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for path in re.findall(r"\b(?:tests|trainers|adapter_hub)/[\w./-]+", text):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", text):
        assert (page.parent / path).exists(), path
