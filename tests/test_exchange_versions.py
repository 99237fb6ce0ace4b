"""What may a new version change? MAJOR, MINOR and PATCH, enforced by publish."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from making import MODULES, OTHER_BASE, make_artifact, make_places

from adapter_hub.errors import InvalidInputError
from adapter_hub.exchange import Places, publish
from adapter_hub.formats.versions import check_version_step, sort_versions

OTHER_MODEL = {"id": "test/tiny", "architecture": "WhisperForConditionalGeneration", "digest": OTHER_BASE}
NEW_WEIGHTS: dict[str, Any] = {"seed": 5.0}
CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "the base model": ({"base_model": OTHER_MODEL}, "2.0.0"),
    "the languages": ({"languages": [{"tag": "nb", "decode_language": "no"}]}, "2.0.0"),
    "the module set": ({"modules": MODULES[:1]}, "2.0.0"),
    "the weights": (NEW_WEIGHTS, "1.1.0"),
    "the licence": ({"license": "MIT"}, "1.1.0"),
    "the rank": ({"rank": 1}, "1.1.0"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_version_that_promises_less_than_changed_is_refused_with_one_that_fits(
    tmp_path: Path, what: str
) -> None:
    changes, fits = CHANGES[what]
    registry, store = make_places(tmp_path)
    publish(make_artifact(tmp_path / "old").path, Places(registry, store))
    too_small = "1.1.0" if fits == "2.0.0" else "1.0.1"
    small = make_artifact(tmp_path / "small", version=too_small, **changes)
    with pytest.raises(InvalidInputError, match=rf"{what}.* changed between 1\.0\.0 and .*, like {fits}"):
        publish(small.path, Places(registry, store))
    assert list(registry.adapters["test/da"]) == ["1.0.0"]
    right = make_artifact(tmp_path / "right", version=fits, **changes)
    assert publish(right.path, Places(registry, store)).is_new


def test_a_patch_keeps_the_weights(tmp_path: Path) -> None:
    old = make_artifact(tmp_path / "a").manifest
    new = make_artifact(tmp_path / "b", version="1.0.1", authors=["Somebody else"]).manifest
    check_version_step([old], new)


def test_a_version_between_two_others_has_to_fit_both(tmp_path: Path) -> None:
    first = make_artifact(tmp_path / "a", version="1.1.1").manifest
    new = make_artifact(tmp_path / "b", version="1.1.0", **NEW_WEIGHTS).manifest
    with pytest.raises(InvalidInputError, match=r"changed between 1\.1\.0 and 1\.1\.1"):
        check_version_step([first], new)


def test_a_fix_of_an_old_line_is_compared_with_that_line(tmp_path: Path) -> None:
    old = make_artifact(tmp_path / "a").manifest
    newest = make_artifact(tmp_path / "b", version="2.0.0", base_model=OTHER_MODEL).manifest
    fix = make_artifact(tmp_path / "c", version="1.1.0", **NEW_WEIGHTS).manifest
    check_version_step([old, newest], fix)


def test_candidates_of_one_release_may_differ(tmp_path: Path) -> None:
    first = make_artifact(tmp_path / "a", version="1.0.0rc1").manifest
    second = make_artifact(tmp_path / "b", version="1.0.0rc2", modules=MODULES[:1]).manifest
    check_version_step([first], second)
    check_version_step([first, second], make_artifact(tmp_path / "c").manifest)


def test_versions_are_sorted_as_numbers() -> None:
    assert sort_versions(["1.10.0", "1.9.0", "1.10.0b1", "1.10.0a2"]) == [
        "1.9.0",
        "1.10.0a2",
        "1.10.0b1",
        "1.10.0",
    ]
