"""Tags that were deleted or moved, and repositories that are gone, freeze nothing: each has a way out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_line import Outcome, Run
from loopback_hub import LoopbackHub
from making import make_artifact

from adapter_hub.registry.file import FileRegistry

NAME = "alice/da"
Damage = Callable[[LoopbackHub, Path], object]


def delete_tag(hub: LoopbackHub, folder: Path) -> None:
    hub.move_tag(NAME, "v1.0.0", None)


def move_tag(hub: LoopbackHub, folder: Path) -> None:
    hub.move_tag(NAME, "v1.0.0", hub.refs(NAME).tags["v1.1.0"])


def move_tag_to_other_bytes(hub: LoopbackHub, folder: Path) -> None:
    other = make_artifact(folder / "evil", NAME, seed=66.0)
    files = {path.name: path.read_bytes() for path in other.path.iterdir()}
    hub.move_tag(NAME, "v1.0.0", hub.write(NAME, dict(files)))


def delete_repository(hub: LoopbackHub, folder: Path) -> None:
    hub.delete(NAME)


def create_it_again(hub: LoopbackHub, folder: Path) -> None:
    hub.recreate(NAME)


DAMAGES = [delete_tag, move_tag, move_tag_to_other_bytes, delete_repository, create_it_again]


class There:
    """alice/da 1.0.0 and 1.1.0 on a Hub, listed in a registry file."""

    def __init__(self, hub: LoopbackHub, folder: Path, run: Run) -> None:
        self.hub, self.folder, self.run = hub, folder, run
        self.first = make_artifact(folder / "first", NAME)
        self.second = make_artifact(folder / "second", NAME, "1.1.0", seed=2.0)
        for artifact in (self.first, self.second):
            fine(run("publish", artifact.path))

    def listed(self) -> dict[str, dict[str, object]]:
        tree = json.loads((self.folder / "registry.json").read_bytes())
        return dict(tree["adapters"][NAME])


def fine(outcome: Outcome) -> Outcome:
    assert outcome.code == 0, outcome
    return outcome


@pytest.fixture
def there(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[There]:
    with LoopbackHub(tmp_path / "hub") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("HF_TOKEN", hub.token("alice"))
        monkeypatch.setenv("ADAPTER_HUB_STORE", "hf://alice")
        monkeypatch.setenv("ADAPTER_HUB_RETRY_SECONDS", "1")
        yield There(hub, tmp_path, run)


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_same_bytes_published_again_restore_a_version_and_its_tag(there: There, damage: Damage) -> None:
    damage(there.hub, there.folder)
    again = fine(there.run("publish", there.first.path))
    assert "its files were missing from the store; they have been restored" in again.err
    there.run("publish", there.second.path)
    fine(there.run("registry", "check"))
    fine(there.run("--cache", there.folder / "new", "pull", f"{NAME}@1.0.0"))
    assert there.listed()["1.0.0"]["digest"] == there.first.digest
    assert len(there.listed()["1.0.0"]["locations"]) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize("damage", DAMAGES)
def test_other_versions_can_be_published_and_a_rebuild_keeps_what_is_lost(
    there: There, damage: Damage
) -> None:
    damage(there.hub, there.folder)
    before = there.listed()
    checked = there.run("registry", "check", "--json")
    assert [item["ref"] for item in checked.json].count(f"{NAME}@1.0.0") == 1
    rebuilt = there.run("registry", "rebuild")
    assert rebuilt.code == 1
    assert {v: b["digest"] for v, b in there.listed().items()} == {v: b["digest"] for v, b in before.items()}
    fine(there.run("publish", make_artifact(there.folder / "next", NAME, "1.2.0", seed=9.0).path))
    fine(there.run("--cache", there.folder / "new", "pull", NAME))


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("status", ["quarantined", "withdrawn"])
def test_a_lost_version_can_be_retired(there: There, damage: Damage, status: str) -> None:
    damage(there.hub, there.folder)
    told = fine(there.run("retire", f"{NAME}@1.0.0", "--status", status, "--reason", "lost"))
    assert "does not have its bytes" in told.err
    assert ("noted in the registry alone" in told.err) == (damage is delete_repository)
    assert there.listed()["1.0.0"]["status"] == status
    assert there.run("pull", f"{NAME}@1.0.0").code == 1


# a repository without a registry: what is in the cache is the same entry as what is asked for


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("status", ["", "deprecated", "yanked", "quarantined"])
def test_an_audit_of_a_repository_s_version_is_the_same_cached_or_not(
    there: There, cached: bool, status: str
) -> None:
    ref = f"hf://{NAME}@1.0.0"
    FileRegistry(there.folder / "nothing.json").update(lambda _: None)
    machine = ("--registry", there.folder / "nothing.json", "--cache", there.folder / "machine")
    if cached:
        fine(there.run(*machine, "pull", ref))
    if status:
        fine(there.run("retire", f"{NAME}@1.0.0", "--status", status, "--reason", "a reason"))
    for _ in range(2):
        found = there.run(*machine, "audit", ref, "--json").json
        assert {item["code"] for item in found if item["severity"] == "error"} <= {"license-missing"}, found
        entry = fine(there.run(*machine, "show", ref, "--json")).json["entry"]
        assert (entry["status"], entry["digest"]) == (status or "active", there.first.digest)
        told = fine(there.run(*machine, "lineage", ref, "--json")).json
        assert told["nodes"][0]["status"] == (status or "active")


def test_a_repository_that_cannot_be_asked_is_shown_from_the_cache_with_a_warning(there: There) -> None:
    ref = f"hf://{NAME}@1.0.0"
    FileRegistry(there.folder / "nothing.json").update(lambda _: None)
    machine = ("--registry", there.folder / "nothing.json", "--cache", there.folder / "machine")
    fine(there.run(*machine, "pull", ref))
    there.hub.stop()
    shown = fine(there.run(*machine, "lineage", ref))
    assert "whose status is not known" in shown.err


# a digest under another name


@pytest.mark.parametrize("name", ["alice/da", "mini/xx"])
@pytest.mark.parametrize("version", ["1.0.0", "1.9.0"])
def test_a_digest_in_the_cache_is_never_served_under_another_name(
    there: There, name: str, version: str
) -> None:
    if (name, version) == (NAME, "1.0.0"):
        return
    run, folder = there.run, there.folder
    fine(run("pull", f"{NAME}@1.0.0"))
    tree = json.loads((folder / "registry.json").read_bytes())
    block = tree["adapters"][NAME]["1.0.0"]
    evil = {"schema": "registry/1", "registry_id": "evil", "sequence": 1}
    evil["adapters"] = {name: {version: block}}  # type: ignore[assignment]
    (folder / "evil.json").write_text(json.dumps(evil))
    namespace = name.partition("/")[0]  # or its names would not count at all
    fine(run("--registry", folder / "evil.json", "registry", "trust", "--namespace", namespace))
    for words in (
        ("pull", name),
        ("pull", f"{name}@{version}"),
        ("lock", f"{name}@{version}", "--file", str(folder / "adapters.lock")),
    ):
        refused = run("--registry", folder / "evil.json", *words)
        assert refused.code == 1
        assert refused.err.startswith("error: ")
        assert refused.err.count("\n") == 1
        assert f"which is that of {NAME}@1.0.0" in refused.err
    assert not (folder / "adapters.lock").exists()


def test_a_lock_file_with_another_name_for_a_digest_is_refused(there: There) -> None:
    run, path = there.run, there.folder / "adapters.lock"
    fine(run("lock", f"{NAME}@1.0.0", "--file", path))
    text = path.read_text().replace(f'"{NAME}@1.0.0"', '"alice/xx@1.0.0"')
    path.write_text(text.replace(f'"name": "{NAME}"', '"name": "alice/xx"'))
    shutil.copyfile(path, there.folder / "copy")
    for words in (("sync", "--locked"), ("sync",)):
        refused = run(*words, "--file", path)
        assert refused.code == 1
        assert f"which is that of {NAME}@1.0.0" in refused.err or "vanished" in refused.err
        assert "Traceback" not in refused.err


def test_one_adapter_can_be_locked_from_the_registry_and_from_its_repository(there: There) -> None:
    path = there.folder / "adapters.lock"
    fine(there.run("lock", f"{NAME}@1.0.0", f"hf://{NAME}@1.0.0", "--file", path))
    fine(there.run("sync", "--locked", "--file", path))
