"""Links inside what this program manages: through none is anything written, overwritten or deleted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from making import make_artifact, make_places

from adapter_hub.artifact.folder import Artifact, copy_artifact
from adapter_hub.errors import AdapterHubError, InvalidInputError
from adapter_hub.exchange import Places, lock, publish, pull, retire, sync
from adapter_hub.files.beneath import below, remove_below, write_below
from adapter_hub.files.writing import folder_in_the_making, remove_folder, remove_stale, write_atomically
from adapter_hub.formats.claims import Status
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.registry.file import FileRegistry
from adapter_hub.stores.cache import Cache
from adapter_hub.stores.folder import FolderStore
from adapter_hub.trainers.demo import demonstrate
from adapter_hub.trainers.training import clear


def listing(folder: Path) -> dict[str, bytes | None]:
    """Return everything below a folder: of files what is in them."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder of the user's own work."""
    folder = tmp_path / "work"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner/thesis.txt").write_text("years of work", encoding="utf-8")
    (folder / "README.md").write_text("mine", encoding="utf-8")
    return folder


# folders below a folder


@pytest.mark.parametrize("link", ["a", "a/b", "a/b/c"])
def test_a_path_below_a_folder_goes_through_no_link(tmp_path: Path, elsewhere: Path, link: str) -> None:
    root = tmp_path / "root"
    (root / link).parent.mkdir(parents=True)
    (root / link).symlink_to(elsewhere)
    with pytest.raises(InvalidInputError, match=f"{link}: a symbolic link"):
        below(root, "a/b", "c")
    before = listing(elsewhere)
    if link != "a/b/c":
        with pytest.raises(InvalidInputError, match=f"{link}: a symbolic link"):
            write_below(root, "a/b/c", b"x")
        with pytest.raises(InvalidInputError, match=f"{link}: a symbolic link"):
            remove_below(root, "a", ["b/inner/thesis.txt"])
    else:
        write_below(root, "a/b/c", b"x")  # the link itself gives way
        assert (root / link).read_bytes() == b"x"
    assert listing(elsewhere) == before


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "root").symlink_to("real")
    write_below(tmp_path / "root", "a/b", b"x")
    assert (tmp_path / "real/a/b").read_bytes() == b"x"
    remove_below(tmp_path / "root", "", ["a/b"])
    assert listing(tmp_path / "real") == {}


def test_only_what_is_named_is_removed_and_folders_that_are_empty_then(tmp_path: Path) -> None:
    for name in ("here/a/1", "here/a/b/2", "here/c/3", "here/c/mine"):
        write_atomically(tmp_path / name, b"x")
    remove_below(tmp_path, "here", ["a/1", "a/b/2", "c/3", "d/4"])
    assert sorted(listing(tmp_path / "here")) == ["c", "c/mine"]


def test_removing_a_link_leaves_what_it_leads_to(tmp_path: Path, elsewhere: Path) -> None:
    before = listing(elsewhere)
    (tmp_path / "link").symlink_to(elsewhere)
    remove_folder(tmp_path / "link")
    (tmp_path / ".tmp-1-0123456789ab").symlink_to(elsewhere)
    os.utime(tmp_path / ".tmp-1-0123456789ab", (1.0, 1.0), follow_symlinks=False)
    remove_stale(tmp_path)
    assert listing(elsewhere) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["work"]


def test_what_other_programs_keep_under_a_temporary_name_is_not_cleared_away(tmp_path: Path) -> None:
    for name in (".tmp-thesis", ".tmp-1", ".tmp-2020-backup"):
        (tmp_path / name).write_text("mine", encoding="utf-8")
        os.utime(tmp_path / name, (1.0, 1.0))
    make_artifact(tmp_path / "da")
    copy_artifact(Artifact.open(tmp_path / "da"), tmp_path / "copy")
    remove_stale(tmp_path)
    assert len(list(tmp_path.glob(".tmp-*"))) == 3


# stores


@pytest.fixture
def places(tmp_path: Path) -> tuple[FileRegistry, FolderStore]:
    """A registry and a store with test/da@1.0.0."""
    registry, store = make_places(tmp_path)
    publish(make_artifact(tmp_path / "da").path, Places(registry, store))
    return registry, store


def set_status(status: Status, places: tuple[FileRegistry, FolderStore]) -> list[str]:
    told: list[str] = []
    registry, store = places
    ref = AdapterRef.parse("test/da@1.0.0")
    retire(ref, status, "bad", Places(registry, store, tell=told.append))
    return told


@pytest.mark.parametrize("link", ["test", "test/da", "test/da/1.0.0"])
@pytest.mark.parametrize("status", ["withdrawn", "yanked"])
def test_retiring_deletes_and_writes_nothing_through_a_link(
    places: tuple[FileRegistry, FolderStore], elsewhere: Path, link: str, status: Status
) -> None:
    path = places[1].path / link
    path.rename(elsewhere / "moved")
    path.symlink_to(elsewhere / "moved")
    before = listing(elsewhere)
    try:
        told = set_status(status, places)  # of a version that is not there the status can be set
    except AdapterHubError as error:
        told = [str(error)]
    assert any(f"{link}: a symbolic link, and nothing below" in line for line in told)
    assert listing(elsewhere) == before


@pytest.mark.parametrize("link", ["test", "test/da"])
def test_publishing_writes_nothing_through_a_link(
    places: tuple[FileRegistry, FolderStore], elsewhere: Path, tmp_path: Path, link: str
) -> None:
    registry, store = places
    (store.path / link).rename(tmp_path / "moved")
    (store.path / link).symlink_to(elsewhere)
    before = listing(elsewhere)
    with pytest.raises(AdapterHubError, match=f"{link}: a symbolic link"):
        publish(make_artifact(tmp_path / "2", version="2.0.0", seed=3.0).path, Places(registry, store))
    assert listing(elsewhere) == before
    assert not list(elsewhere.rglob(".tmp-*"))


@pytest.mark.parametrize("name", ["README.md", "status.json", "1.1.0"])
def test_a_link_in_the_place_of_what_is_published_is_replaced_or_refused(
    places: tuple[FileRegistry, FolderStore], elsewhere: Path, tmp_path: Path, name: str
) -> None:
    registry, store = places
    path = store.path / "test/da" / name
    path.unlink(missing_ok=True)
    path.symlink_to(elsewhere / "README.md" if name != "1.1.0" else elsewhere)
    before = listing(elsewhere)
    newer = make_artifact(tmp_path / "newer", version="1.1.0", seed=3.0)
    if name == "README.md":
        publish(newer.path, Places(registry, store))
        assert not path.is_symlink()
    else:
        with pytest.raises(AdapterHubError, match=f"{name}: a symbolic link"):
            publish(newer.path, Places(registry, store))
    assert listing(elsewhere) == before


@pytest.mark.parametrize("place", ["evaluations", "evaluations/0"])
def test_reports_are_not_read_through_a_link(
    places: tuple[FileRegistry, FolderStore], elsewhere: Path, place: str
) -> None:
    (elsewhere / "1.json").write_text("{}", encoding="utf-8")
    path = places[1].path / "test/da" / place
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(elsewhere if place.endswith("0") else elsewhere.parent)
    with pytest.raises(AdapterHubError, match=f"{place}: a symbolic link"):
        places[1].claims("test/da")


def test_withdrawing_removes_the_listed_files_and_tells_what_stays(
    places: tuple[FileRegistry, FolderStore],
) -> None:
    folder = places[1].path / "test/da/1.0.0"
    (folder / "notes").mkdir()
    (folder / "notes/mine.txt").write_text("mine", encoding="utf-8")
    told = set_status("withdrawn", places)
    assert told == ["test/da@1.0.0: notes/mine.txt in its folder is not part of it and stays"]
    assert sorted(listing(folder)) == ["adapter.json", "notes", "notes/mine.txt"]


def test_a_registry_that_is_a_link_is_written_where_it_leads(
    places: tuple[FileRegistry, FolderStore], tmp_path: Path
) -> None:
    link = tmp_path / "registry.json"
    link.symlink_to("hub/registry.json")
    newer = make_artifact(tmp_path / "newer", version="1.1.0", seed=3.0)
    publish(newer.path, Places(FileRegistry(link), places[1]))
    assert link.is_symlink()
    assert "1.1.0" in FileRegistry(places[0].path).adapters["test/da"]
    assert not (tmp_path / "registry.json.lock").exists()


# what is installed for an application


@pytest.fixture
def locked(tmp_path: Path) -> Path:
    """A lock file of test/da@1.1.0, while 1.0.0 is in the application's folder `models`."""
    registry, store = make_places(tmp_path)
    for version in ("1.0.0", "1.1.0"):
        artifact = make_artifact(tmp_path / version, version=version, seed=float(version[2]) + 1)
        publish(artifact.path, Places(registry, store))
    copy_artifact(Artifact.open(tmp_path / "1.0.0"), tmp_path / "models/test/da")
    path = tmp_path / "adapters.lock"
    lock(["test/da"], Places([registry], cache=Cache(tmp_path / "cache")), path=path)
    return path


def install(path: Path, to: Path) -> list[Artifact]:
    registry = FileRegistry(path.parent / "hub/registry.json")
    return sync(path, Places([registry], cache=Cache(path.parent / "cache")), to=to)


def test_a_user_s_file_beside_an_adapter_stays_and_is_told(locked: Path) -> None:
    models = locked.parent / "models"
    (models / "test/da/notes").mkdir()
    (models / "test/da/notes/mine.txt").write_text("mine", encoding="utf-8")
    before = listing(models)
    with pytest.raises(
        AdapterHubError, match=r"test/da: holds notes/mine.txt, which is not part of test/da@1"
    ):
        install(locked, models)
    (models / ".lock").unlink()
    assert listing(models) == before
    (models / "test/da/notes/mine.txt").rename(models / "mine.txt")
    (models / "test/da/notes").rmdir()
    assert [artifact.ref for artifact in install(locked, models)] == ["test/da@1.1.0"]
    assert sorted(path.name for path in (models / "test").iterdir()) == ["da"]


@pytest.mark.parametrize("link", ["test", "test/da"])
def test_sync_installs_through_no_link_and_leaves_nothing_behind(
    locked: Path, elsewhere: Path, link: str
) -> None:
    models = locked.parent / "models"
    real = locked.parent / "real"
    (models / link).rename(real)
    (models / link).symlink_to(real)
    before = listing(real)
    with pytest.raises(AdapterHubError, match=f"{link}: a symbolic link"):
        install(locked, models)
    assert (models / link).is_symlink()
    assert listing(real) == before
    assert not list(models.rglob(".tmp-*"))


def test_the_application_s_folder_itself_may_be_a_link(locked: Path) -> None:
    link = locked.parent / "link"
    link.symlink_to("models")
    assert [artifact.ref for artifact in install(locked, link)] == ["test/da@1.1.0"]


@pytest.mark.parametrize("leads", ["to the same", "nowhere", "to work"])
def test_pull_does_not_write_through_a_link_nor_replace_it(locked: Path, elsewhere: Path, leads: str) -> None:
    target = locked.parent / "to"
    folders = {"to the same": locked.parent / "1.1.0", "nowhere": Path("missing"), "to work": elsewhere}
    target.symlink_to(folders[leads])
    before = listing(elsewhere)
    registry = FileRegistry(locked.parent / "hub/registry.json")
    with pytest.raises(InvalidInputError, match="to: a symbolic link; name the folder that it leads to"):
        pull("test/da", Places([registry], cache=Cache(locked.parent / "cache")), to=target)
    assert target.is_symlink()
    assert listing(elsewhere) == before
    assert not (locked.parent / "missing").exists()


def test_an_artifact_is_not_copied_through_a_link_in_it(tmp_path: Path, elsewhere: Path) -> None:
    artifact = make_artifact(tmp_path / "da")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (artifact.path / name).rename(elsewhere / name)
        (artifact.path / name).symlink_to(elsewhere / name)
    with pytest.raises(AdapterHubError, match=r"adapter_config.json: a symbolic link.*adapter_model"):
        copy_artifact(artifact, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("leads", ["missing", "work"])
def test_nothing_is_made_where_a_link_is(tmp_path: Path, elsewhere: Path, leads: str) -> None:
    out = tmp_path / "out"
    out.symlink_to(leads)
    before = listing(elsewhere)
    with (
        pytest.raises(InvalidInputError, match="out: a symbolic link; name the folder that it leads to"),
        folder_in_the_making(out) as made,
    ):
        (made / "file").touch()
    assert listing(elsewhere) == before
    assert not list(tmp_path.glob(".tmp-*"))


def test_what_somebody_put_beside_checkpoints_or_a_demo_s_folders_stays(tmp_path: Path) -> None:
    work = tmp_path / "out.training"
    for name in ("0123456789abcdef/state.json", "lock", "notes/mine.txt", "0123/mine.txt"):
        write_atomically(work / name, b"x")
    clear(work)
    assert sorted(listing(work)) == ["0123", "0123/mine.txt", "notes", "notes/mine.txt"]
    demo = tmp_path / "demo"
    for name in (".adapter-hub-demo", "store/x", "mine.txt"):
        write_atomically(demo / name, b"x")
    with pytest.raises(AdapterHubError, match=r"demo: holds mine\.txt, which the demo did not make"):
        demonstrate(demo, say=lambda _: None)
    assert (demo / "store/x").exists()
