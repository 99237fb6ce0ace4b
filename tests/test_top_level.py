"""What a newcomer types first: names of the package, and --help with something to copy."""

from __future__ import annotations

import importlib.metadata
import shlex
from pathlib import Path

import click
import pytest
from command_line import Run
from making import make_artifact
from test_docs import ALL

import adapter_hub
from adapter_hub.cli import main

CLIPS = Path(__file__).parent / "clips"
LEAVES = [path for path, command in ALL.items() if not isinstance(command, click.Group)]


def test_the_version_is_that_of_the_package() -> None:
    assert adapter_hub.__version__ == importlib.metadata.version("adapter-hub")


def test_the_verbs_are_in_the_package(run: Run, tmp_path: Path) -> None:
    made = make_artifact(tmp_path / "a", "test/da")
    assert adapter_hub.publish(made.path).ref == "test/da@1.0.0"
    rows = adapter_hub.list(language="da")
    assert rows[0]["name"] == "test/da"
    assert {row["name"].partition("/")[0] for row in rows} == {"test", "mini"}
    assert rows == run("list", "--language", "da", "--json").json
    assert adapter_hub.pull("test/da").digest == made.digest
    with pytest.raises(adapter_hub.AdapterHubError, match="no such recipe"):
        adapter_hub.train("absent.toml", "out")
    assert {"list", "train", "__version__"} <= set(dir(adapter_hub))


@pytest.mark.parametrize("path", LEAVES)
def test_the_help_of_every_command_ends_with_an_example(
    path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*path.split()[1:], "--help"]) == 0
    *_, heading, example = capsys.readouterr().out.rstrip().splitlines()
    assert heading.strip() == "Example:"
    assert shlex.split(example)[: len(path.split())] == path.split()


def test_the_probability_of_a_language_is_one_number(run: Run) -> None:
    words = ("--beams", "1", "--json")
    for ref in ("auto", "base-model"):
        (row,) = run("transcribe", ref, CLIPS / "da.flac", *words).json
        assert row["language_probability"] == row["language_probabilities"][row["language"]]
