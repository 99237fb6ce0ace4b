"""A cache, or a folder of notes, that somebody else can write to: what lies there is not believed unseen."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapter_hub.paths import is_private

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to somebody else")


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
