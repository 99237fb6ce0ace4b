"""A cache, or a folder of notes, that somebody else can write to: what lies there is not believed unseen."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from making import make_artifact
from other_user import NOBODY, as_nobody, as_root

from adapter_hub.artifact.folder import Artifact
from adapter_hub.errors import InvalidInputError
from adapter_hub.exchange import Places, pull
from adapter_hub.files.ownership import is_private
from adapter_hub.files.writing import Stamp
from adapter_hub.stores.cache import Cache

SOMEBODY = 12345
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def own() -> Iterator[Path]:
    """A folder of this user's that everybody can enter, unlike `tmp_path`."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        (Path(name) / "own").mkdir(mode=0o755)
        yield Path(name) / "own"


# who can write into a folder, or put something in its place


def folder_of(own: Path, *modes: int) -> Path:
    """Return a folder in folders, from the outermost one with these modes."""
    place = own
    for number, mode in enumerate(modes):
        place = place / str(number)
        place.mkdir()
        place.chmod(mode)
    return place


@pytest.mark.parametrize(
    ("modes", "private"),
    [
        ((0o755,), True),
        ((0o700,), True),
        ((0o777,), False),
        ((0o1777,), False),  # others can add files
        ((0o777, 0o755), False),  # others can put another folder in its place
        ((0o1777, 0o755), True),  # as in /tmp
        ((0o755, 0o700, 0o777, 0o777), True),  # nobody gets there
        ((0o711, 0o777), False),
    ],
)
def test_a_folder_is_private_if_no_mode_on_the_way_lets_others_write(
    own: Path, modes: tuple[int, ...], private: bool
) -> None:
    assert is_private(folder_of(own, *modes)) is private


def test_a_group_of_others_counts_and_the_user_s_own_group_does_not(own: Path) -> None:
    folder = folder_of(own, 0o775)
    assert is_private(folder)
    if os.geteuid() == 0:
        os.chown(folder, -1, 1)
        assert not is_private(folder)


@as_root
def test_a_folder_of_somebody_else_is_not_private_nor_is_what_lies_in_it(own: Path) -> None:
    folder = folder_of(own, 0o755, 0o755)
    os.chown(folder.parent, NOBODY, -1)
    assert not is_private(folder)


@pytest.mark.parametrize(
    ("target", "private"),
    [("closed", True), ("open", False), ("open/inner", False), ("link", False), ("missing", False)],
)
def test_a_link_is_as_private_as_where_it_leads(own: Path, target: str, private: bool) -> None:
    for name, mode in {"closed": 0o755, "open": 0o777, "open/inner": 0o755}.items():
        (own / name).mkdir()
        (own / name).chmod(mode)
    link = own / "link"
    link.symlink_to(f"../own/{target}")
    assert is_private(link) is private


def test_going_up_out_of_a_closed_folder_leaves_it(own: Path) -> None:
    folder_of(own, 0o777, 0o700)
    assert is_private(own / "0/1") is False
    (own / "0").chmod(0o755)
    assert is_private(own / "0/1")
    (own / "open").mkdir()
    (own / "open").chmod(0o777)
    (own / "0/1/up").symlink_to("../../open")
    assert not is_private(own / "0/1/up")


# stamps


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return make_artifact(tmp_path / "da")


def swap_and_forge(cache: Cache, digest: str) -> None:
    """Exchange the weights of a cached adapter, and write the stamp that such files would have got."""
    folder = cache.place(digest)
    raw = bytearray((folder / WEIGHTS).read_bytes())
    raw[-1] ^= 1
    (folder / WEIGHTS).write_bytes(raw)
    rows = [(path.name, Stamp.of(path.lstat())) for path in sorted(folder.iterdir())]
    stamp = cache.folder / "stamps" / f"{folder.name}.json"
    stamp.write_text(json.dumps({"digest": digest, "files": rows}), encoding="utf-8")


@pytest.mark.parametrize("opened", ["", "artifacts", "stamps"])
def test_where_others_can_write_no_stamp_is_believed(own: Path, artifact: Artifact, opened: str) -> None:
    for name in ("", "artifacts", "stamps"):
        (own / name).mkdir(exist_ok=True)
        (own / name).chmod(0o777 if name == opened else 0o755)
    Cache(own).add(artifact)
    found = Cache(own).get(artifact.digest)  # a genuine run
    assert found is not None
    assert found.stamps == {}  # so that whoever loads it hashes what is read
    swap_and_forge(Cache(own), artifact.digest)
    assert Cache(own).get(artifact.digest) is None


def test_one_cache_object_does_not_believe_them_either(own: Path, artifact: Artifact) -> None:
    own.chmod(0o777)
    cache = Cache(own)
    cache.add(artifact)
    assert cache.get(artifact.digest) is not None
    swap_and_forge(cache, artifact.digest)
    assert cache.get(artifact.digest) is None


def test_a_cache_that_is_closed_later_believes_nothing_written_while_it_was_open(
    own: Path, artifact: Artifact
) -> None:
    own.chmod(0o777)
    Cache(own).add(artifact)
    own.chmod(0o700)
    folder = Cache(own).place(artifact.digest)
    raw = bytearray((folder / WEIGHTS).read_bytes())
    (folder / WEIGHTS).write_bytes(bytes([*raw[:-1], raw[-1] ^ 1]))
    assert Cache(own).get(artifact.digest) is None


@as_root
@pytest.mark.parametrize("which", ["stamp", "weights", "folder"])
def test_what_somebody_else_put_into_a_closed_cache_is_hashed(
    own: Path, artifact: Artifact, which: str
) -> None:
    cache = Cache(own / "cache")
    folder = cache.add(artifact).path
    stamp = cache.folder / "stamps" / f"{folder.name}.json"
    swap_and_forge(cache, artifact.digest)
    os.chown({"stamp": stamp, "weights": folder / WEIGHTS, "folder": folder}[which], NOBODY, -1)
    rows = [
        (path.name, Stamp.of(path.lstat())) for path in sorted(folder.iterdir())
    ]  # chown counts as change
    data = json.dumps({"digest": artifact.digest, "files": rows})
    with stamp.open("w", encoding="utf-8") as file:
        file.write(data)
    assert Cache(cache.folder).get(artifact.digest) is None


def test_a_stamp_speaks_of_one_adapter_alone(own: Path, artifact: Artifact, tmp_path: Path) -> None:
    cache = Cache(own / "cache")
    cache.add(artifact)
    other = cache.add(make_artifact(tmp_path / "other", version="1.1.0", seed=2.0))
    stamps = cache.folder / "stamps"
    swap_and_forge(cache, other.digest)
    first, second = (stamps / f"{cache.place(item.digest).name}.json" for item in (artifact, other))
    first.write_bytes(second.read_bytes())
    shutil.rmtree(cache.place(artifact.digest))
    shutil.copytree(cache.place(other.digest), cache.place(artifact.digest))
    assert Cache(cache.folder).get(artifact.digest) is None


def test_a_cache_that_is_made_is_closed_to_others_and_what_is_in_it_has_the_user_s_modes(
    own: Path, artifact: Artifact
) -> None:
    cache = Cache(own / "deep/cache")
    folder = cache.add(artifact).path
    assert (own / "deep").stat().st_mode & 0o777 == 0o755
    assert cache.folder.stat().st_mode & 0o777 == 0o700
    assert (folder / WEIGHTS).stat().st_mode & 0o777 == 0o644
    found = Cache(cache.folder).get(artifact.digest)
    assert found is not None
    assert WEIGHTS in found.stamps


def test_a_user_s_umask_that_lets_all_write_costs_nothing_in_a_closed_cache(
    own: Path, artifact: Artifact
) -> None:
    before = os.umask(0)
    try:
        cache = Cache(own / "cache")
        cache.add(artifact)
    finally:
        os.umask(before)
    assert cache.place(artifact.digest).stat().st_mode & 0o777 == 0o777
    found = Cache(cache.folder).get(artifact.digest)
    assert found is not None
    assert WEIGHTS in found.stamps


# links in a cache


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder of old files of the user's own."""
    folder = tmp_path / "work"
    for name in ("thesis.txt", "a/weights.safetensors", "a/dataset.json", "a/adapter.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("years of work", encoding="utf-8")
        os.utime(folder / name, (1.0, 1.0))
    return folder


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("place", ["features", "datasets", "downloads", "stamps"])
@pytest.mark.parametrize("inner", ["", "x"])
def test_pruning_does_not_go_through_a_link(own: Path, elsewhere: Path, place: str, inner: str) -> None:
    (own / place / inner).parent.mkdir(exist_ok=True)
    (own / place / inner).symlink_to(elsewhere / "a" if inner else elsewhere)
    before = names(elsewhere)
    Cache(own).prune(unused_days=0.0)
    assert names(elsewhere) == before


def test_artifacts_behind_a_link_are_no_cache(own: Path, elsewhere: Path, artifact: Artifact) -> None:
    (own / "artifacts").symlink_to(elsewhere)
    cache = Cache(own)
    for action in (
        cache.entries,
        cache.prune,
        lambda: cache.get(artifact.digest),
        lambda: cache.add(artifact),
    ):
        with pytest.raises(InvalidInputError, match="artifacts: a symbolic link, and nothing below"):
            action()


def test_an_adapter_s_folder_that_became_a_link_is_dropped_and_what_it_leads_to_stays(
    own: Path, artifact: Artifact, tmp_path: Path
) -> None:
    cache = Cache(own / "cache")
    folder = cache.add(artifact).path
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    assert [(entry.ref, entry.size) for entry in cache.entries()] == [("damaged", 0)]
    before = names(tmp_path / "moved")
    assert cache.get(artifact.digest) is None
    assert not folder.is_symlink()
    assert names(tmp_path / "moved") == before
    assert cache.add(artifact).path == folder


@pytest.mark.parametrize("what", ["extra file", "extra link", "weights are a link", "extra folder"])
def test_a_changed_set_of_files_is_dropped(own: Path, artifact: Artifact, what: str) -> None:
    cache = Cache(own / "cache")
    folder = cache.add(artifact).path
    if what == "extra file":
        (folder / "extra.txt").write_text("x", encoding="utf-8")
    elif what == "extra folder":
        (folder / "extra").mkdir()
        (folder / "extra/extra.txt").touch()
    else:
        name = "extra.json" if what == "extra link" else WEIGHTS
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(artifact.path / WEIGHTS)
    assert Cache(cache.folder).get(artifact.digest) is None
    assert cache.add(artifact).path == folder
    assert (artifact.path / WEIGHTS).exists()


# caches of somebody else


def pull_danish(cache: Path) -> str:
    artifact = pull("mini/da", Places(cache / "registry.json", cache=cache))
    return f"{artifact.path} {dict(artifact.stamps)}"


@as_root
def test_an_adapter_of_a_folder_is_usable_with_a_cache_that_cannot_be_written(
    own: Path, tmp_path: Path
) -> None:
    pull_danish(tmp_path / "cache")  # so that everything is imported
    answer = as_nobody(lambda: pull_danish(own))
    assert "embedded/store/mini/da" in answer
    assert answer.endswith(" {}")  # so that whoever loads it hashes what is read


@as_root
def test_a_cache_of_somebody_else_is_readable_and_everything_in_it_is_hashed(own: Path) -> None:
    own.chmod(0o755)
    path, _, stamps = pull_danish(own).partition(" ")
    assert WEIGHTS in stamps
    for place in (own, *own.rglob("*")):
        os.chown(place, SOMEBODY, -1)
    assert as_nobody(lambda: pull_danish(own)) == f"{path} {{}}"


def test_a_cache_shares_no_bytes_on_the_disk_with_a_store(own: Path, artifact: Artifact) -> None:
    folder = Cache(own / "cache").add(artifact).path
    assert (folder / WEIGHTS).stat().st_ino != (artifact.path / WEIGHTS).stat().st_ino
    assert (folder / WEIGHTS).stat().st_nlink == 1
