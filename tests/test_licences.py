"""Licences along the lineage: what is certain is pointed out, what is not is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from audit_defects import DATA, Home, make_home
from making import make_artifact, make_child

from adapter_hub.artifact.folder import Artifact
from adapter_hub.formats.licences import (
    NO_DERIVATIVES,
    NON_COMMERCIAL,
    SHARE_ALIKE,
    USE_LIMITS,
    alternatives,
    lost_conditions,
    spdx_or_none,
    unknown_ids,
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


def found(home: Home, artifact: Artifact) -> dict[str, list[str]]:
    """Return what the audit says of licences, by code."""
    messages: dict[str, list[str]] = {}
    for finding in home.audit(str(artifact.path)):
        if "licence" in finding.code:
            messages.setdefault(finding.code, []).append(finding.message)
    return messages


@pytest.mark.parametrize(
    ("source", "result", "lost"),
    [
        ("CC-BY-NC-4.0", "Apache-2.0", (NON_COMMERCIAL,)),
        ("CC-BY-NC-4.0", "CC-BY-SA-4.0", (NON_COMMERCIAL,)),
        ("CC-BY-NC-SA-4.0", "CC-BY-NC-4.0", (SHARE_ALIKE,)),
        ("CC-BY-SA-4.0", "MIT", (SHARE_ALIKE,)),
        ("CC-BY-SA-3.0", "CC-BY-4.0", (SHARE_ALIKE,)),
        ("CC-BY-ND-4.0", "MIT", (NO_DERIVATIVES,)),
        ("CC-BY-NC-ND-4.0", "CC-BY-NC-4.0", (NO_DERIVATIVES,)),
        ("GPL-3.0-only", "Apache-2.0", (SHARE_ALIKE,)),
        ("GPL-2.0-only", "GPL-3.0-only", (SHARE_ALIKE,)),
        ("AGPL-3.0-only", "GPL-3.0-only", (SHARE_ALIKE,)),
        ("OpenRAIL", "MIT", (USE_LIMITS,)),
        ("LicenseRef-creativeml-openrail-m", "CC-BY-4.0", (USE_LIMITS,)),
        ("cc-by-nc-4.0", "MIT OR CC-BY-NC-4.0", (NON_COMMERCIAL,)),  # whoever takes it may choose MIT
        ("CC-BY-NC-4.0 AND MIT", "MIT", (NON_COMMERCIAL,)),
    ],
)
def test_a_condition_that_is_dropped_is_named(source: str, result: str, lost: tuple[str, ...]) -> None:
    assert lost_conditions(source, result) == lost


@pytest.mark.parametrize(
    ("source", "result"),
    [
        ("Apache-2.0", "MIT"),
        ("CC0-1.0", "CC-BY-NC-ND-4.0"),
        ("CC-BY-4.0", "Apache-2.0"),
        ("CC-BY-NC-4.0", "CC-BY-NC-SA-4.0"),
        ("CC-BY-SA-4.0", "GPL-3.0-or-later"),
        ("CC-BY-SA-3.0", "CC-BY-SA-4.0"),
        ("GPL-2.0-or-later", "GPL-3.0-only"),
        ("GPL-3.0-only", "AGPL-3.0-only"),
        ("ODbL-1.0", "MIT"),  # a trained model is a produced work
        ("CC-BY-NC-4.0 OR MIT", "MIT"),  # whoever made it chose MIT
        ("CC-BY-SA-4.0", "(Apache-2.0) AND (CC-BY-SA-4.0)"),  # an average's: both apply
        ("GPL-2.0-only WITH Classpath-exception-2.0", "MIT"),  # exceptions allow more: unknown
        ("CC-BY-NC-4.0", "LicenseRef-mine"),
        ("CC-BY-NC-4.0", "NOASSERTION"),
        ("LicenseRef-theirs", "MIT"),
        ("ask me, please", "MIT"),
        ("CC-BY-NC-4.0", "free for all!"),
    ],
)
def test_what_is_kept_or_cannot_be_known_is_no_conflict(source: str, result: str) -> None:
    assert lost_conditions(source, result) == ()


@pytest.mark.parametrize(
    "text",
    ["", "MIT OR", "(MIT", "MIT MIT", "AND", "MIT WITH", "a\x00b", "(" * 5000, "MIT AND " * 5000 + "MIT"]
    + [" AND ".join(f"(A{n} OR B{n})" for n in range(40)), "(" * 60 + "MIT" + ")" * 60],
)
def test_what_is_no_expression_or_too_large_a_one_is_unknown(text: str) -> None:
    assert alternatives(text) == ()
    assert unknown_ids(text) == (text,)
    assert spdx_or_none(text) is None
    assert lost_conditions(text, "MIT") == lost_conditions("CC-BY-NC-4.0", text) == ()


def test_a_grandparents_data_are_told_with_the_way_they_came(home: Home) -> None:
    data = [{**DATA, "license": "CC-BY-SA-4.0"}]
    seed = make_artifact(
        home.folder / "one", "test/one", base_model=home.pin, data=data, license="CC-BY-SA-4.0"
    )
    child = make_child(home.folder / "two", seed, "test/two", base_model=home.pin, license="CC-BY-SA-4.0")
    assert found(home, child) == {}
    last = make_child(home.folder / "three", child, "test/three", base_model=home.pin, license="MIT")
    lines = found(home, last)["licence-conflict"]
    start = (
        f"MIT does not keep what CC-BY-SA-4.0 asks ({SHARE_ALIKE}): test/three@1.0.0 ← seed test/two@1.0.0"
    )
    ways = ("", " ← seed test/one@1.0.0", " ← seed test/one@1.0.0 ← data set numbers (train)")
    assert lines == [start + way for way in ways]


def test_an_ancestors_missing_licences_are_information(home: Home) -> None:
    seed = make_artifact(
        home.folder / "one", "test/one", base_model=home.pin, data=[DATA], license="NOASSERTION"
    )
    child = make_child(home.folder / "two", seed, "test/two", base_model=home.pin)
    way = "no licence on record: test/two@1.0.0 ← seed test/one@1.0.0"
    assert found(home, child) == {"licence-unknown": [way, f"{way} ← data set numbers (train)"]}


def test_the_card_of_the_base_model_names_its_licence(home: Home) -> None:
    adapter = make_artifact(home.folder / "one", "test/one", base_model=home.pin)
    card = home.base_model / "README.md"
    for licence, conflicts in (("cc-by-nc-4.0", 1), ("apache-2.0", 0), ("other", 0)):
        card.write_text(f"---\nlanguage: da\nlicense: {licence}\n---\n", encoding="utf-8")
        assert len(found(home, adapter).get("licence-conflict", [])) == conflicts
    card.write_text("no front matter", encoding="utf-8")
    assert found(home, adapter) == {}


def test_an_escape_in_a_licence_does_not_reach_the_terminal(home: Home) -> None:
    adapter = make_artifact(home.folder / "one", "test/one", base_model=home.pin, license="\x1b[31mMIT")
    (line,) = found(home, adapter)["licence-unknown"]
    assert "\x1b" not in line
