"""The command line as users meet it: output, exit codes, one line for every error."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import Outcome, Run
from filelock import FileLock
from making import make_artifact, make_child, make_report

from adapter_hub.artifact.folder import Artifact
from adapter_hub.cli.terminal.tables import size_text
from adapter_hub.exchange import Places, attach
from adapter_hub.registry.file import FileRegistry
from adapter_hub.speech.normalisers import NORMALISERS
from adapter_hub.stores.folder import FolderStore

COMMAND = (sys.executable, "-m", "adapter_hub")


@pytest.fixture
def published(run: Run, tmp_path: Path) -> Run:
    """The same with `test/pl` and its child `test/da`, published, the first one evaluated."""
    parent = make_artifact(tmp_path / "pl", "test/pl", languages=[{"tag": "pl", "decode_language": "pl"}])
    make_child(tmp_path / "da", parent, "test/da")
    assert run("publish", "pl").code == 0
    assert run("publish", "da").code == 0
    registry = FileRegistry(tmp_path / "registry.json")
    attach(make_report(parent, errors=2), Places(registry, FolderStore(tmp_path / "store")))
    return run


def own_rows(outcome: Outcome) -> list[dict[str, Any]]:
    return [row for row in outcome.json if row["name"].startswith("test/")]


def test_list_shows_name_method_parent_score_and_status(published: Run) -> None:
    lines = published("list").out.splitlines()
    assert lines[0].split() == ["adapter", "language", "method", "rank", "from", "score", "size", "status"]
    child = next(line for line in lines if line.startswith("test/da@1.0.0")).split()
    assert child[1:5] == ["da", "warm-start", "2", "test/pl@1.0.0"]
    parent = next(line for line in lines if line.startswith("test/pl@1.0.0"))
    assert "WER 20.0 %" in parent


def test_list_shows_from_best_to_worst_where_an_adapter_was_measured_on_several_sets(
    published: Run, tmp_path: Path
) -> None:
    places = Places(FileRegistry(tmp_path / "registry.json"), FolderStore(tmp_path / "store"))
    attach(make_report(Artifact.open(tmp_path / "pl"), errors=4, data="noisy", data_sha256="1" * 64), places)
    line = next(line for line in published("list").out.splitlines() if line.startswith("test/pl@1.0.0"))
    assert "WER 20.0 to 40.0 % (2 sets)" in line
    assert "WER 40.0 %" in published("list", "--data", "noisy").out


def test_list_as_json_is_name_version_and_the_registry_s_entry(published: Run, tmp_path: Path) -> None:
    row = next(row for row in own_rows(published("list", "--json")) if row["name"] == "test/da")
    assert row["version"] == "1.0.0"
    assert row["registry"] == str(tmp_path / "registry.json")
    assert row["digest"] == Artifact.open(tmp_path / "da").digest


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--language", "DA"], ["test/da"]),
        (["--method", "lora"], ["test/pl"]),
        (["--status", "yanked"], []),
        (["--base-model", "test/tiny"], ["test/da", "test/pl"]),
        (["--sort", "wer", "--data", "numbers"], ["test/pl", "test/da"]),
    ],
    ids=lambda value: " ".join(value) or "nothing",
)
def test_list_filters_and_sorts(options: list[str], names: list[str], published: Run) -> None:
    assert [row["name"] for row in own_rows(published("list", "--json", *options))] == names


def test_list_sorted_without_a_data_set_is_wrong_usage(published: Run) -> None:
    outcome = published("list", "--sort", "wer")
    assert outcome.code == 2
    assert "--sort needs --data ID" in outcome.err


def test_list_names_what_a_newer_program_wrote(published: Run, tmp_path: Path) -> None:
    tree = json.loads((tmp_path / "registry.json").read_bytes())
    tree["adapters"]["test/da"]["1.0.0"]["schema"] = "version/9"
    tree["sequence"] += 1
    (tmp_path / "registry.json").write_text(json.dumps(tree), encoding="utf-8")
    lines = published("list").out.splitlines()
    assert next(line for line in lines if line.startswith("test/da")).split() == [
        "test/da@1.0.0",
        "unreadable",
    ]


def test_show_tells_where_it_comes_from_and_how_good_it_is(published: Run) -> None:
    text = published("show", "test/pl").out
    assert re.search(r"WER 20.0 % \(.* to .*, 95 % over .*\) on numbers test, 1 utterance", text)
    shown = published("show", "test/da", "--json").json
    assert shown["ref"] == "test/da@1.0.0"
    assert shown["manifest"]["parents"][0]["name"] == "test/pl"
    assert shown["entry"]["status"] == "active"


def test_list_and_show_state_one_size(published: Run) -> None:
    size = published("show", "test/pl", "--json").json["entry"]["size"]
    shown = next(line for line in published("show", "test/pl").out.splitlines() if line.startswith("size"))
    assert shown.split(maxsplit=1)[1] == size_text(size)
    row = next(line for line in published("list").out.splitlines() if line.startswith("test/pl"))
    assert f" {size_text(size)} " in row
    assert shown in published("show", "./pl").out


def test_show_reads_an_artifact_s_folder_too(published: Run) -> None:
    shown = published("show", "./da", "--json").json
    assert shown["ref"] == "test/da@1.0.0"
    assert shown["entry"] is None


def test_diff_lists_the_fields_that_differ(published: Run) -> None:
    fields = published("diff", "test/pl", "test/da", "--json").json
    assert fields["method"] == ["lora", "warm-start"]
    assert fields["parents[seed].name"] == [None, "test/pl"]
    assert "license" not in fields
    assert "are identical" in published("diff", "test/pl", "./pl").err


def test_lineage_goes_up_and_down_in_three_formats(published: Run) -> None:
    assert published("lineage", "test/da").out == (
        "test/da@1.0.0 (warm-start, da)\n└─ seed: test/pl@1.0.0 (lora, pl)\n"
    )
    down = published("lineage", "test/pl", "--descendants", "--json").json
    assert [node["ref"] for node in down["nodes"]] == ["test/pl@1.0.0", "test/da@1.0.0"]
    assert published("lineage", "./da", "--format", "mermaid").out.startswith("flowchart TD\n")


def test_a_card_is_printed_ready_to_be_a_readme(published: Run, tmp_path: Path) -> None:
    text = published("card", "test/pl").out
    assert text.startswith("---\nlanguage:\n")
    assert text == (tmp_path / "store/test/pl/README.md").read_text(encoding="utf-8")
    assert published("card", "test/pl", "--json").json["card"] == text


def test_publishing_the_same_bytes_again_says_so(published: Run) -> None:
    outcome = published("publish", "pl", "--json")
    assert outcome.json["new"] is False
    assert outcome.code == 0


def test_publishing_under_another_name_needs_a_version(published: Run) -> None:
    assert published("publish", "pl", "--as", "test/copy@2.0.0").out.startswith("test/copy@2.0.0  sha256:")
    outcome = published("publish", "pl", "--as", "test/copy")
    assert outcome.code == 1
    assert outcome.err == "error: --as test/copy: expected NAME@VERSION, like test/copy@1.0.0\n"


def test_pull_prints_where_it_is_and_copies_with_to(published: Run, tmp_path: Path) -> None:
    assert published("pull", "test/da", "--to", "out").out == "test/da@1.0.0  out\n"
    Artifact.open(tmp_path / "out").verify()
    rows = published("pull", "test/da", "test/pl", "--to", "both", "--json").json
    assert [row["path"] for row in rows] == ["both/test/da", "both/test/pl"]


def test_retire_tells_the_descendants_and_pull_then_refuses(published: Run) -> None:
    outcome = published("retire", "test/pl@1.0.0", "--status", "yanked", "--reason", "bad data")
    assert outcome.out == "test/pl@1.0.0 is yanked\ndescendant: test/da@1.0.0\n"
    refused = published("pull", "test/pl")
    assert refused.code == 1
    assert refused.err.startswith("error: test/pl@1.0.0 is yanked (bad data)")
    warned = published("pull", "test/da")
    assert warned.code == 0
    assert "warning: test/da@1.0.0 was made from a retired version" in warned.err


def test_audit_exits_with_1_for_an_error_and_names_the_code(published: Run, tmp_path: Path) -> None:
    assert published("audit", "test/pl").code == 0
    (tmp_path / "store/test/pl/1.0.0/extra.txt").write_text("planted", encoding="utf-8")
    outcome = published("audit", "test/pl", "--json")
    assert outcome.code == 1
    assert {"files-differ"} == {f["code"] for f in outcome.json if f["severity"] == "error"}
    shown = published("audit", "test/pl").out
    assert "error: test/pl@1.0.0: extra.txt: not listed in the manifest [files-differ]" in shown


def test_audit_explains_a_code_and_lists_the_codes_for_an_unknown_one(run: Run) -> None:
    assert run("audit", "--explain", "lineage").out.startswith("lineage: A parent's manifest is missing")
    outcome = run("audit", "--explain", "nonsense")
    assert outcome.code == 1
    assert "error: no check has the code 'nonsense'; the codes are ancestor-quarantined" in outcome.err


def test_a_warning_fails_the_audit_only_when_it_is_strict(run: Run, tmp_path: Path) -> None:
    make_artifact(tmp_path / "unlicensed", license="LicenseRef-unknown")
    assert run("audit", "./unlicensed").code == 0
    assert run("audit", "./unlicensed", "--strict").code == 1


def test_the_registry_can_be_checked_and_rebuilt_from_its_stores(published: Run, tmp_path: Path) -> None:
    before = json.loads((tmp_path / "registry.json").read_bytes())["adapters"]
    assert published("registry", "check").code == 0
    edited = json.loads((tmp_path / "registry.json").read_bytes())
    edited["adapters"]["test/pl"]["1.0.0"]["license"] = "MIT"
    edited["sequence"] += 1
    (tmp_path / "registry.json").write_text(json.dumps(edited), encoding="utf-8")
    outcome = published("registry", "check", "--json")
    assert outcome.code == 1
    assert [finding["ref"] for finding in outcome.json] == ["test/pl@1.0.0"]
    assert published("registry", "rebuild", "--json").json["changed"] is True
    assert json.loads((tmp_path / "registry.json").read_bytes())["adapters"] == before


def test_the_cache_is_listed_verified_and_pruned(published: Run, tmp_path: Path) -> None:
    assert published("cache", "list").err == "the cache is empty\n"
    path = Path(published("pull", "test/pl", "--json").json[0]["path"])
    assert [row["ref"] for row in published("cache", "list", "--json").json] == ["test/pl@1.0.0"]
    assert published("cache", "verify").code == 0
    (path / "adapter_config.json").write_text("{}", encoding="utf-8")
    assert published("cache", "verify").code == 1
    assert published("cache", "prune", "--unused-days", "0").out == "removed test/pl@1.0.0\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show", "test/nobody"], "test/nobody: no such adapter"),
        (["show", "Not A Name"], "adapter reference 'Not A Name'|adapter name 'Not A Name'"),
        (["show", "./nowhere"], "nowhere: no adapter.json"),
        (["publish", "nowhere"], "nowhere: no adapter.json"),
        (["pull", "test/pl@9.9.9"], "test/pl@9.9.9: no such"),
        (["retire", "test/pl", "--status", "yanked", "--reason", "x"], "name the version to retire"),
        (["retire", "mini/da@1.0.0", "--status", "yanked", "--reason", "x"], "which cannot be changed"),
        (["retire", "mini/da@9.0.0", "--status", "yanked", "--reason", "x"], "no such adapter"),
        (
            ["pull", "mini/da", "--to", "."],
            "--to .: exists and is not an artifact; name a folder that does not",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_error_is_one_line_on_stderr_with_exit_code_1(words: list[str], message: str, run: Run) -> None:
    outcome = run(*words)
    assert outcome.code == 1
    assert outcome.out == ""
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    assert any(part in outcome.err for part in message.split("|"))


@pytest.mark.parametrize("words", [["frobnicate"], ["show"], ["list", "--what"], ["--dtype", "int3", "list"]])
def test_wrong_usage_exits_with_2(words: list[str], run: Run) -> None:
    assert run(*words).code == 2


def test_a_registry_file_that_cannot_be_read_is_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "registry.json").write_text('{"adapters": ', encoding="utf-8")
    outcome = run("list")
    assert outcome.code == 1
    assert outcome.err.startswith(f"error: {tmp_path / 'registry.json'}: ")
    assert outcome.err.count("\n") == 1


def test_what_the_operating_system_refuses_is_one_line(run: Run, tmp_path: Path) -> None:
    make_artifact(tmp_path / "pl", "test/pl")
    (tmp_path / "store").write_text("a file where the store should be", encoding="utf-8")
    outcome = run("publish", "pl")
    assert outcome.code == 1
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, "audit", "--explain", "lineage"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("error: no space left on device")
    assert done.stderr.count("\n") == 1


def test_ctrl_c_is_one_line_and_exit_code_130(tmp_path: Path) -> None:
    make_artifact(tmp_path / "pl", "test/pl")
    registry = tmp_path / "registry.json"
    with FileLock(f"{registry}.lock"):  # so that publish waits for its turn
        process = subprocess.Popen(
            [*COMMAND, "--registry", str(registry), "publish", "pl"],
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        with pytest.raises(subprocess.TimeoutExpired, match="timed out"):
            process.communicate(timeout=2)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert err.strip() == "error: interrupted"
    assert process.returncode == 130
    assert not registry.exists()


@pytest.mark.parametrize("group", ["recipe", "data", "base-model", "registry", "cache"])
def test_the_lines_of_a_group_s_help_are_whole(group: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    commands = run(group, "--help").out.partition("Commands:")[2].strip().splitlines()
    assert commands
    assert all(line.endswith(".") and not line.endswith("...") for line in commands)


def test_the_help_of_evaluate_names_every_normaliser(run: Run) -> None:
    text = run("evaluate", "--help").out
    assert all(name.partition("+")[0] in text for name in NORMALISERS)
    assert "--script [simplified]" in text


@pytest.mark.parametrize("command", ["demo", "reproduce"])
def test_a_command_that_needs_an_extra_says_so(command: str, run: Run) -> None:
    assert "pip install '.[demo]'" in run(command, "--help").out


def test_the_global_options_can_come_from_the_environment(
    published: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    monkeypatch.setenv("ADAPTER_HUB_STORE", str(elsewhere))
    make_artifact(tmp_path / "cy", "test/cy", seed=4.0)
    assert published("publish", "cy").code == 0
    assert (elsewhere / "test/cy/1.0.0/adapter.json").is_file()
    assert published("--registry", tmp_path / "registry.json", "list", "--language", "cy", "--json").json


def test_list_names_a_parent_that_the_filter_leaves_out(published: Run) -> None:
    lines = published("list", "--method", "warm-start").out.splitlines()
    child = next(line for line in lines if line.startswith("test/da@1.0.0")).split()
    assert child[4] == "test/pl@1.0.0"
