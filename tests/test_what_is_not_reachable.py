"""What cannot be reached is said to be so, accuses nobody, and keeps nothing else from being checked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Run
from making import MODULES, make_artifact, make_report
from small_whisper import make_adapter, write_peft

from adapter_hub.artifact.folder import Artifact
from adapter_hub.audit import audit
from adapter_hub.errors import UnreachableError
from adapter_hub.exchange import Places, attach, check, publish, rebuild
from adapter_hub.model.base_model import BaseModel, load_base_model
from adapter_hub.registry.file import FileRegistry
from adapter_hub.stores.cache import Cache
from adapter_hub.stores.folder import FolderStore
from adapter_hub.stores.hub import HubStore


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileRegistry:
    """A registry with `near/da` in a folder, and `far/pl` on a Hub that does not answer, pulled before."""
    monkeypatch.setenv("ADAPTER_HUB_RETRY_SECONDS", "0.1")
    path = tmp_path / "registry.json"
    places = Places(FileRegistry(path), FolderStore(tmp_path / "store"))
    for name in ("near/da", "far/pl"):
        made = make_artifact(tmp_path / name.replace("/", "-"), name)
        publish(made.path, places)
        attach(make_report(made), places)
    tree = json.loads(path.read_text())
    block = tree["adapters"]["far/pl"]["1.0.0"]
    block["locations"] = [{"store": "hf://far", "repo": "far/pl", "commit": "a" * 40}]
    tree["sequence"] += 1
    path.write_text(json.dumps(tree))
    held = tmp_path / "store" / "far" / "pl" / "1.0.0"
    Cache(tmp_path / "cache").add(Artifact.open(held))
    for item in sorted((tmp_path / "store" / "far").rglob("*"), reverse=True):
        item.rmdir() if item.is_dir() else item.unlink()
    return FileRegistry(path)


def test_an_audit_without_a_connection_says_what_it_did_not_check(
    offline: FileRegistry, tmp_path: Path
) -> None:
    found = audit(["far/pl"], Places((offline,), cache=tmp_path / "cache"))
    (line,) = [finding for finding in found if finding.code == "claims-elsewhere"]
    assert line.severity == "info"
    assert line.message.startswith("not reachable, not checked: ")
    assert not {finding.code for finding in found} & {
        "score-unsupported",
        "claim-unreadable",
        "score-missing",
    }
    assert not any("registry rebuild" in finding.hint for finding in found)
    everything = audit((), Places((offline,), cache=tmp_path / "cache"))
    assert not {finding.code for finding in everything} & {"score-unsupported", "claim-unreadable"}


def stores(tmp_path: Path) -> list[FolderStore | HubStore]:
    return [HubStore("far"), FolderStore(tmp_path / "store")]


def test_one_store_that_does_not_answer_does_not_hide_the_others(
    offline: FileRegistry, tmp_path: Path
) -> None:
    found = check(offline, stores(tmp_path))
    assert [(finding.code, finding.severity, finding.ref) for finding in found] == [
        ("registry-unasked", "info", "far/pl")
    ]
    assert found[0].message.startswith("not reachable, not checked: ")
    before = offline.adapters["far/pl"]
    tree = json.loads(offline.path.read_text())
    tree["adapters"]["near/da"]["1.0.0"]["scores"] = []
    tree["sequence"] += 1
    offline.path.write_text(json.dumps(tree))
    registry = FileRegistry(offline.path)
    assert "registry-stale" in [finding.code for finding in check(registry, stores(tmp_path))]
    rebuilt = rebuild(registry, stores(tmp_path))
    assert rebuilt.changed
    assert [finding.code for finding in rebuilt.findings] == ["registry-unasked"]
    assert registry.adapters["near/da"]["1.0.0"].scores
    assert registry.adapters["far/pl"] == before


def test_registry_commands_succeed_for_what_can_be_reached(offline: FileRegistry, run: Run) -> None:
    for command, outcome in (("check", "registry and stores agree"), ("rebuild", "unchanged, 2 versions")):
        said = run("--store", "store", "registry", command)
        assert said.code == 0, said.err
        assert outcome in said.out + said.err
        assert "1 not checked" in said.out + said.err


def test_a_registry_of_which_nothing_can_be_asked_is_an_error(offline: FileRegistry) -> None:
    tree = json.loads(offline.path.read_text())
    del tree["adapters"]["near/da"]
    far = offline.path.with_name("far.json")
    far.write_text(json.dumps({**tree, "registry_id": "far"}))
    with pytest.raises(UnreachableError, match="the Hub's list of models: .* cannot be used"):
        check(FileRegistry(far), [HubStore("far")])


def test_a_base_model_that_was_named_once_is_checked_against_by_default(
    base: BaseModel, tmp_path: Path
) -> None:
    good = make_adapter(tmp_path / "good", base, seed=1)
    bad = make_artifact(tmp_path / "bad", base_model=base.pin, modules=MODULES)
    places = Places(FileRegistry(tmp_path / "registry.json"), cache=tmp_path / "cache")
    codes = {finding.code: finding for finding in audit([str(good.path), str(bad.path)], places)}
    assert "is not here" in codes["base-model-absent"].message
    load_base_model(base.folder, device="cpu", cache=tmp_path / "cache")
    assert "base-model-absent" not in {finding.code for finding in audit([str(good.path)], places)}
    wrong = [finding for finding in audit([str(bad.path)], places) if finding.code == "module-shapes"]
    assert wrong


def test_a_base_model_named_for_an_import_is_found_by_the_audit(
    base: BaseModel, tmp_path: Path, run: Run
) -> None:
    write_peft(tmp_path / "theirs", base, seed=3)
    options = [
        "--language",
        "da",
        "--base-model",
        base.folder,
        "--license",
        "CC0-1.0",
        "--author",
        "A. Tester",
    ]
    assert run("import", tmp_path / "theirs", *options, "--out", "ours").code == 0
    said = run("audit", "./ours", "--json")
    assert "base-model-absent" not in {finding["code"] for finding in said.json}
