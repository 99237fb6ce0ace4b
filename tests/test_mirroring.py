"""Mirror: the same versions and claims in another store, whatever was there before."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hub_places import hub_store
from loopback_hub import LoopbackHub
from making import make_artifact, make_child, make_places, make_report
from sampling import sampled
from test_concurrent_publishers import all_at_once

from adapter_hub.artifact.folder import Artifact
from adapter_hub.cli import main
from adapter_hub.embedded import store_path
from adapter_hub.errors import InvalidInputError, NotFoundError
from adapter_hub.exchange import Mirrored, Places, check, mirror, publish, rebuild, retire
from adapter_hub.formats.claims import Status, StatusEntry
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.registry.file import FileRegistry
from adapter_hub.stores.contract import Store
from adapter_hub.stores.folder import FolderStore

PAIRS = ("folder to folder", "folder to hub", "hub to folder")
DAY = "2026-03-{:02}T00:00:00Z"


class Pair:
    """A store with test/pl, its child test/da 1.0.0 and 1.1.0, with claims, and an empty one."""

    def __init__(self, folder: Path, source: Store, target: Store) -> None:
        self.folder, self.source, self.target = folder, source, target
        self.told: list[str] = []
        self.parent = make_artifact(folder / "pl", "test/pl")
        self.child = make_child(folder / "da", self.parent, "test/da")
        self.newer = make_child(folder / "newer", self.parent, "test/da", "1.1.0", seed=9.0)
        for artifact in (self.parent, self.child, self.newer):
            source.push(artifact)
            self.say(source, artifact, "active", 1, "published")
        source.attach("test/da", make_report(self.child))

    def say(self, store: Store, artifact: Artifact, status: Status, day: int, reason: str = "why") -> None:
        version, time = artifact.manifest.version, DAY.format(day)
        entry = StatusEntry(version=version, digest=artifact.digest, status=status, reason=reason, time=time)
        store.attach(artifact.manifest.name, entry)

    def mirror(self, *refs: str, back: bool = False, withdraw: bool = False) -> list[Mirrored]:
        source, target = (self.target, self.source) if back else (self.source, self.target)
        return mirror(refs, Places(tell=self.told.append), source=source, target=target, withdraw=withdraw)

    def outcomes(self, *refs: str, back: bool = False, withdraw: bool = False) -> list[tuple[str, str]]:
        return [(item.ref, item.outcome) for item in self.mirror(*refs, back=back, withdraw=withdraw)]

    def status(self, store: Store, artifact: Artifact) -> str | None:
        last = store.claims(artifact.manifest.name).status_of(artifact.manifest.version)
        return last.status if last else None


def stores_of(kinds: str, folder: Path, stack: ExitStack) -> list[Store]:
    stores: list[Store] = []
    for number, kind in enumerate(kinds.split(" to ")):
        if kind == "folder":
            stores.append(FolderStore(folder / f"store{number}"))
        else:
            hub = stack.enter_context(LoopbackHub(folder / f"hub{number}"))
            stores.append(hub_store(hub))
    return stores


@pytest.fixture(params=PAIRS)
def every_pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    """Each kind of source and target, in `make test`, too."""
    with ExitStack() as stack:
        yield Pair(tmp_path, *stores_of(request.param, tmp_path, stack))


@pytest.fixture(params=sampled(PAIRS, lambda kinds: kinds == "folder to folder"))
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    """Two folders; in the slow suite each kind of source and target."""
    with ExitStack() as stack:
        yield Pair(tmp_path, *stores_of(request.param, tmp_path, stack))


@pytest.fixture
def folders(tmp_path: Path) -> Pair:
    return Pair(tmp_path, FolderStore(tmp_path / "store0"), FolderStore(tmp_path / "store1"))


def test_everything_is_in_the_target_afterwards_with_its_claims(every_pair: Pair) -> None:
    pair = every_pair
    for day, status in ((2, "quarantined"), (3, "active"), (4, "yanked")):
        pair.say(pair.source, pair.child, status, day)  # type: ignore[arg-type]
    assert dict(pair.outcomes()) == dict.fromkeys(
        ("test/pl@1.0.0", "test/da@1.0.0", "test/da@1.1.0"), "copied"
    )
    for artifact in (pair.parent, pair.child, pair.newer):
        name, version = artifact.manifest.name, artifact.manifest.version
        assert pair.target.manifest(name, version) == (artifact.manifest, artifact.digest)
        pair.target.fetch(name, version, pair.folder / "out" / name / version, digest=artifact.digest)
    for name in ("test/da", "test/pl"):
        here, there = pair.source.claims(name), pair.target.claims(name)
        assert (here.statuses, here.reports) == (there.statuses, there.reports)


def test_ancestors_come_first_and_other_versions_stay(pair: Pair) -> None:
    assert pair.outcomes("test/da@1.0.0") == [("test/pl@1.0.0", "copied"), ("test/da@1.0.0", "copied")]
    assert pair.target.versions("test/da") == ["1.0.0"]


def test_said_again_it_copies_nothing_and_brings_what_is_new(pair: Pair) -> None:
    pair.mirror("test/da@1.0.0")
    assert [(item.outcome, item.claims) for item in pair.mirror("test/da@1.0.0")] == [("present", 0)] * 2
    pair.say(pair.source, pair.child, "deprecated", 2)
    again = {item.ref: (item.outcome, item.claims) for item in pair.mirror()}
    assert again["test/da@1.0.0"] == ("present", 1)
    assert again["test/da@1.1.0"] == ("copied", 1)
    assert pair.status(pair.target, pair.child) == "deprecated"


def test_there_and_back_changes_nothing_at_the_source(pair: Pair) -> None:
    pair.mirror()
    before = pair.source.claims("test/da")
    assert {outcome for _, outcome in pair.outcomes(back=True)} == {"present"}
    assert pair.source.claims("test/da") == before


def test_mirroring_never_undoes_a_quarantine_made_at_the_target(every_pair: Pair) -> None:
    pair = every_pair
    pair.mirror()
    pair.say(pair.target, pair.child, "quarantined", 5)
    pair.say(pair.source, pair.child, "deprecated", 3)
    pair.mirror()
    statuses = [entry.status for entry in pair.target.claims("test/da").statuses if entry.version == "1.0.0"]
    assert statuses == ["active", "deprecated", "quarantined"]
    assert pair.status(pair.target, pair.child) == "quarantined"
    pair.mirror(back=True)
    assert pair.source.claims("test/da").statuses == pair.target.claims("test/da").statuses


def test_of_two_statuses_of_one_second_the_stricter_one_stays(folders: Pair) -> None:
    folders.mirror()
    folders.say(folders.target, folders.child, "quarantined", 5)
    folders.say(folders.source, folders.child, "deprecated", 5)
    folders.mirror()
    assert folders.status(folders.target, folders.child) == "quarantined"
    assert folders.told == [
        "test/da@1.0.0: the source says deprecated and the target quarantined (why), which stays; "
        "`adapter-hub retire test/da@1.0.0 --status deprecated --reason …` with the target's registry "
        "changes it"
    ]
    folders.mirror(back=True)
    assert folders.status(folders.source, folders.child) == "quarantined"


def test_other_bytes_at_the_target_are_an_error_for_that_version_and_its_descendants(pair: Pair) -> None:
    other = make_artifact(pair.folder / "other", "test/pl", seed=5.0)
    alone = make_artifact(pair.folder / "el", "test/el", seed=6.0)
    pair.target.push(other)
    pair.source.push(alone)
    found = {item.ref: item for item in pair.mirror()}
    assert {ref: item.outcome for ref, item in found.items()} == {
        "test/da@1.0.0": "failed",
        "test/da@1.1.0": "failed",
        "test/el@1.0.0": "copied",
        "test/pl@1.0.0": "failed",
    }
    assert "the target has it with other bytes" in found["test/pl@1.0.0"].problem
    assert f"was made from test/pl@1.0.0 with digest {pair.parent.digest}" in found["test/da@1.0.0"].problem
    assert pair.target.manifest("test/pl", "1.0.0")[1] == other.digest


def test_what_was_withdrawn_is_not_copied_and_with_the_option_withdrawn_where_it_is(every_pair: Pair) -> None:
    pair = every_pair
    pair.mirror("test/da@1.0.0")
    for artifact in (pair.child, pair.newer):
        pair.say(pair.source, artifact, "withdrawn", 4, "licence")
        pair.source.withdraw("test/da", artifact.manifest.version)
    assert pair.outcomes("test/da", withdraw=True) == [
        ("test/pl@1.0.0", "present"),
        ("test/da@1.0.0", "present"),
        ("test/da@1.1.0", "withdrawn"),
    ]
    assert pair.told == ["test/da@1.1.0 was withdrawn (licence): its files are gone, so it is not mirrored"]
    assert pair.status(pair.target, pair.child) == "withdrawn"
    assert pair.target.versions("test/da") == ["1.0.0"]
    assert {outcome for _, outcome in pair.outcomes(back=True)} == {"present"}


def test_a_version_withdrawn_at_the_target_does_not_come_back(pair: Pair) -> None:
    pair.mirror("test/pl")
    pair.say(pair.target, pair.parent, "withdrawn", 4)
    pair.target.withdraw("test/pl", "1.0.0")
    assert pair.outcomes("test/pl") == [("test/pl@1.0.0", "present")]
    assert pair.status(pair.target, pair.parent) == "withdrawn"


def test_a_grandparent_comes_although_the_source_lacks_the_parent(folders: Pair) -> None:
    grandchild = make_child(
        folders.folder / "grand", folders.child, "test/cy", seed=3.0, created="2026-01-03T00:00:00Z"
    )
    folders.source.push(grandchild)
    shutil.rmtree(folders.folder / "store0/test/da/1.0.0")
    assert folders.outcomes("test/cy") == [("test/pl@1.0.0", "copied"), ("test/cy@1.0.0", "copied")]


def test_damaged_bytes_do_not_get_into_the_target(folders: Pair) -> None:
    weights = folders.folder / "store0/test/pl/1.0.0/adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    found = {item.ref: item for item in folders.mirror()}
    assert found["test/pl@1.0.0"].outcome == "failed"
    assert "adapter_model.safetensors" in found["test/pl@1.0.0"].problem
    assert found["test/da@1.0.0"].outcome == "copied"
    assert folders.target.names() == ["test/da"]


def test_a_damaged_status_keeps_its_versions_from_being_copied(folders: Pair) -> None:
    (folders.folder / "store0/test/pl/status.json").write_text("{", encoding="utf-8")
    assert folders.outcomes("test/pl") == [("test/pl@1.0.0", "failed")]
    assert folders.target.names() == []


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("test/xx", "test/xx: not in the source; it has no version of this name"),
        ("test/da@3.0.0", r"test/da@3\.0\.0: not in the source; it has 1\.0\.0, 1\.1\.0"),
        (f"test/da#sha256:{'0' * 64}", "not in the source"),
    ],
)
def test_what_the_source_does_not_have_is_an_error_before_anything_is_copied(
    pair: Pair, ref: str, message: str
) -> None:
    with pytest.raises(NotFoundError, match=message):
        pair.mirror("test/pl", ref)
    assert pair.target.names() == []


@pytest.mark.parametrize(
    ("ref", "message"),
    [("hf://test/da@1.0.0", "name the store with --from hf://"), ("./da", "a folder; publish it")],
)
def test_what_is_no_name_in_a_store_is_refused(folders: Pair, ref: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        folders.mirror(ref)


def test_the_embedded_catalogue_is_a_source_and_never_a_target(folders: Pair) -> None:
    embedded = FolderStore(store_path())
    with pytest.raises(InvalidInputError, match="mirror to another store"):
        mirror(source=folders.source, target=embedded)
    mirror(["mini/da"], source=embedded, target=folders.target)
    for path in (folders.folder / "store1/mini").rglob("*"):
        same = store_path() / path.relative_to(folders.folder / "store1")
        assert path.is_dir() or path.read_bytes() == same.read_bytes()


def test_a_registry_made_from_a_mirror_says_what_the_first_one_says(tmp_path: Path) -> None:
    registry, store = make_places(tmp_path)
    parent = make_artifact(tmp_path / "pl", "test/pl")
    for artifact in (parent, make_child(tmp_path / "da", parent, "test/da")):
        publish(artifact.path, Places(registry, store))
    retire(AdapterRef.parse("test/pl@1.0.0"), "quarantined", "bad", Places(registry, store))
    target = FolderStore(tmp_path / "airgap")
    mirror(source=store, target=target)
    rebuilt = FileRegistry(tmp_path / "airgap" / "registry.json")
    rebuild(rebuilt, [target])
    assert check(rebuilt, [target]) == []
    for name, versions in registry.adapters.items():
        for version, block in versions.items():
            assert rebuilt.adapters[name][version].model_copy(update={"locations": block.locations}) == block


def test_processes_that_mirror_at_once_all_succeed(folders: Pair) -> None:
    def run() -> None:
        assert {item.outcome for item in folders.mirror()} <= {"copied", "present"}

    assert all_at_once([run] * 4) == [0] * 4
    assert folders.target.claims("test/da") == folders.source.claims("test/da")
    folders.target.fetch("test/da", "1.1.0", folders.folder / "out").verify()


# the command line


def test_the_command_prints_each_version_and_the_next_step_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["mirror", "mini/da", "--from", "embedded", "--to", "./airgap"]) == 0
    out, err = capfd.readouterr()
    assert out.splitlines() == [
        "mini/it@1.0.0  copied, reports and statuses added: 2",
        "mini/da@1.0.0  copied, reports and statuses added: 2",
    ]
    words = err.split("`")[1].split()
    assert words[0] == "adapter-hub"
    assert main(words[1:]) == 0
    assert main(["mirror", "mini/da", "--from", "embedded", "--to", "./airgap", "--json"]) == 0
    rows = json.loads(capfd.readouterr().out.partition("sequence 1\n")[2])
    assert [(row["ref"], row["outcome"]) for row in rows] == [
        ("mini/it@1.0.0", "present"),
        ("mini/da@1.0.0", "present"),
    ]


def test_the_command_tells_every_failure_and_exits_with_1(
    folders: Pair, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folders.folder)
    folders.target.push(make_artifact(folders.folder / "other", "test/da", seed=5.0))
    assert main(["mirror", "--from", "store0", "--to", "store1"]) == 1
    out, err = capfd.readouterr()
    assert out.splitlines() == [
        "test/pl@1.0.0  copied, reports and statuses added: 1",
        "test/da@1.1.0  copied, reports and statuses added: 1",
    ]
    assert err.startswith("error: test/da@1.0.0: the target has it with other bytes")
    assert err.count("\n") == 1
    for words, message in (
        (["--from", "nowhere", "--to", "x"], "store nowhere: there is no such folder"),
        (["--from", "da", "--to", "x"], "nothing to mirror: the source holds no adapters"),
        (["--from", "store0", "--to", "s3://x"], "store s3://x: expected a folder, or hf://namespace"),
    ):
        assert main(["mirror", *words]) == 1
        assert message in capfd.readouterr().err
