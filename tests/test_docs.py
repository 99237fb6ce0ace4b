"""Documentation that is run: the README's blocks, the help of every command, the targets of make."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from readme import BLOCK, README, ROOT, rendered

from adapter_hub.cli import COMMANDS, cli


def commands(group: click.Group = cli, path: str = "adapter-hub") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")


ALL = dict(commands())


def test_the_readme_s_blocks_print_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    text = README.read_text(encoding="utf-8")
    assert rendered(text) == text, "run `make readme`"


def test_the_readme_has_blocks_of_both_kinds() -> None:
    kinds = [match["kind"] for match in BLOCK.finditer(README.read_text(encoding="utf-8"))]
    assert {"console", "python"} <= set(kinds)


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
    silent = {"adapter-hub demo", "adapter-hub recipe new"}  # a story, and a TOML file
    options = {option for parameter in ALL[path].params for option in parameter.opts}
    assert ("--json" in options) != (path in silent)


def test_every_global_option_has_an_environment_variable() -> None:
    for parameter in cli.params:
        if isinstance(parameter, click.Option) and parameter.name != "version":
            assert parameter.envvar == f"ADAPTER_HUB_{str(parameter.name).upper()}"


def test_the_lines_of_the_help_end_in_a_full_stop_and_fit() -> None:
    assert all(about.endswith(".") and len(about) <= 50 for _, about in COMMANDS.values())


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_every_make_target_that_is_named_exists(name: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"\bmake ([a-z][a-z-]*)(?=`|\s*#|\s*$)", (ROOT / name).read_text("utf-8"), re.M):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_every_command_that_is_named_exists(name: str) -> None:
    for words in re.findall(r"adapter-hub ([a-z]+(?: [a-z]+)?)", (ROOT / name).read_text(encoding="utf-8")):
        first, _, second = words.partition(" ")
        group = ALL.get(f"adapter-hub {first}")
        assert group is not None, words
        if isinstance(group, click.Group):
            assert f"adapter-hub {first} {second}" in ALL, words


def test_the_paths_that_the_readme_names_exist() -> None:
    text = README.read_text(encoding="utf-8")
    for path in re.findall(r"(?:tests|trainers|adapter_hub)/[\w./-]+", text):
        assert (Path(ROOT) / path).exists(), path
