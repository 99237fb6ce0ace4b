"""CITATION.cff is a valid citation of this version, and names the papers whose methods are implemented."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def citation() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8")))


def test_the_citation_has_the_fields_that_the_format_requires(citation: dict[str, Any]) -> None:
    # https://github.com/citation-file-format/citation-file-format/blob/1.2.0/schema-guide.md
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    for work in (citation, *citation["references"]):
        assert isinstance(work["title"], str)
        assert work["authors"]
        for author in work["authors"]:
            assert author.keys() in ({"name"}, {"family-names", "given-names"})
    assert citation["message"].endswith(".")


def test_the_citation_is_of_this_version_and_licence(citation: dict[str, Any]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert [author["name"] for author in citation["authors"]] == [a["name"] for a in project["authors"]]


def test_both_papers_are_referred_to_and_can_be_found(citation: dict[str, Any]) -> None:
    papers = {work["title"]: work for work in citation["references"]}
    assert set(papers) == {
        "LoRA-Whisper: Parameter-Efficient and Extensible Multilingual ASR",
        "Parameter Averaging Is All You Need to Prevent Forgetting",
    }
    for title, paper in papers.items():
        assert paper["type"] in ("article", "conference-paper"), title
        assert paper["year"] == 2024, title
        assert len(paper["authors"]) >= 4, title
        arxiv = re.fullmatch(r"https://arxiv\.org/abs/\d{4}\.\d{5}", paper.get("url", ""))
        assert arxiv or re.fullmatch(r"10\.\d{4,}/\S+", paper.get("doi", "")), title
