"""The one reader of files from elsewhere, and the one way to show text from elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from adapter_hub.errors import InvalidInputError
from adapter_hub.escaping import escaped, shown
from adapter_hub.files.reading import read_bounded


def test_a_file_within_its_limit_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 10)

    assert read_bounded(tmp_path / "a", 10) == b"x" * 10


def test_a_larger_file_is_refused_by_name_and_limit(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 11)

    with pytest.raises(InvalidInputError, match=r"status.json: larger than 10 bytes"):
        read_bounded(tmp_path / "a", 10, where="status.json")


def test_a_pipe_in_the_place_of_a_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(InvalidInputError, match="not an ordinary file"):
        read_bounded(tmp_path / "pipe", 10)


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_a_device_is_refused_also_behind_a_link(tmp_path: Path, device: str) -> None:
    (tmp_path / "link").symlink_to(device)

    with pytest.raises(InvalidInputError, match="not an ordinary file"):
        read_bounded(tmp_path / "link", 10)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="not an ordinary file"):
        read_bounded(tmp_path, 10)


def test_a_link_is_refused_where_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "a")

    assert read_bounded(tmp_path / "link", 10) == b"x"
    with pytest.raises(InvalidInputError, match="a symbolic link"):
        read_bounded(tmp_path / "link", 10, follow=False)


def test_what_is_not_there_stays_a_file_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        read_bounded(tmp_path / "nothing", 10)


@pytest.mark.parametrize(
    ("hostile", "harmless"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("\x1b]52;c;aGk=\x07", "\\x1b]52;c;aGk=\\x07"),
        ("a\nerror: b", "a\\nerror: b"),
        ("a\rb\tc", "a\\rb\\tc"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202eabc", "\\u202eabc"),
        ("\u2028\u2029\x85", "\\u2028\\u2029\\x85"),
        ("\ufeff\U000e0041", "\\ufeff\\U000e0041"),
    ],
)
def test_what_no_one_can_see_is_escaped(hostile: str, harmless: str) -> None:
    assert escaped(hostile) == harmless
    assert escaped(harmless) == harmless


@pytest.mark.parametrize("text", ["zażółć", "می‌خواهم", "日本語", "हिन्दी", "e\u0301", "a b"])
def test_the_text_of_any_language_stays_as_it_is(text: str) -> None:
    assert escaped(text) == text


def test_a_long_value_is_cut() -> None:
    assert shown("x" * 1000, 10) == "xxxxxxxxxx…"
    assert shown(17) == "17"
