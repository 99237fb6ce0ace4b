"""The report of an audit: every check with its outcome, in one file that loads and runs nothing."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from audit_defects import DATA, Home, attach_report, flipped_byte, make_home, removed_folder
from command_line import Run
from making import make_artifact

from adapter_hub.audit import AuditRecord
from adapter_hub.audit.checks import CHECKS
from adapter_hub.cards.audit_report import render_audit
from adapter_hub.exchange import Places, retire
from adapter_hub.formats.reference import AdapterRef

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>\x1b[2J\u202e|`a`\n# no <!-- x'


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


def report_on(home: Home, *refs: str) -> dict[str, Any]:
    record = AuditRecord()
    home.audit(*refs, record=record)
    return record.to_json()


def outcomes(subject: dict[str, Any]) -> dict[str, str]:
    return {item["code"]: item["outcome"] for item in subject["checks"]}


class Tags(HTMLParser):
    """Every tag with its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_every_check_is_there_with_what_it_found_or_why_it_was_not_made(home: Home) -> None:
    attach_report(home)
    known = report_on(home)
    assert [subject["ref"] for subject in known["subjects"]] == ["test/da@1.0.0", "test/pl@1.0.0"]
    child, parent = known["subjects"]
    for subject in (child, parent):
        assert set(outcomes(subject)) == set(CHECKS) == set(known["explanations"])
        assert all(item["reason"] for item in subject["checks"] if item["outcome"] == "not made")
    assert outcomes(parent)["files-differ"] == outcomes(parent)["score-unsupported"] == "passed"
    reasons = {item["code"]: item["reason"] for item in parent["checks"]}
    assert reasons["probe-differs"] == "the model was not run: --probe was not asked for"
    assert reasons["pair-differs"] == "it is not an expert pair"
    assert {item["code"]: item["reason"] for item in child["checks"]}["report-differs"] == (
        "no report is attached"
    )


def test_it_names_digests_scores_lineage_and_licences(home: Home) -> None:
    attach_report(home)
    child, parent = report_on(home)["subjects"]
    (score,) = parent["scores"]
    assert list((home.store.path / "test/pl/evaluations").glob(f"*/{score['report_sha256']}.json"))
    assert child["lineage"]["edges"] == [
        {"child": child["digest"], "parent": parent["digest"], "role": "seed"}
    ]
    assert child["mermaid"].startswith("flowchart TD\n")
    assert child["licences"] == [
        {
            "what": "seed test/pl@1.0.0",
            "licence": "Apache-2.0",
            "path": "test/da@1.0.0 ← seed test/pl@1.0.0",
        }
    ]


def test_what_could_not_be_looked_at_is_said(home: Home) -> None:
    removed_folder(home)
    flipped_byte(home)
    child, parent = report_on(home)["subjects"]
    assert outcomes(child)["bytes-missing"] == "error"
    assert outcomes(child)["weights-digest"] == "not made"
    assert outcomes(parent)["files-differ"] == "error"
    reasons = {item["code"]: item["reason"] for item in parent["checks"]}
    assert reasons["weights-digest"] == "its files are not the listed ones"
    evidence = {item["code"]: item["evidence"] for item in parent["checks"]}
    assert "adapter_model.safetensors" in evidence["files-differ"][0]


def test_a_withdrawn_version_is_in_it_without_its_files(home: Home) -> None:
    retire(AdapterRef.parse("test/da@1.0.0"), "withdrawn", "by request", Places(home.registry, home.store))
    child, _ = report_on(home)["subjects"]
    assert child["status"] == "withdrawn"
    assert outcomes(child)["weights-digest"] == "not made"
    assert "test/da@1.0.0" in render_audit({**report_on(home)}, "html")


def test_texts_of_others_stay_texts_and_nothing_is_loaded(home: Home) -> None:
    data = [{**DATA, "id": HOSTILE, "license": HOSTILE}]
    adapter = make_artifact(
        home.folder / "x", "test/x", base_model=home.pin, data=data, license=HOSTILE, authors=[HOSTILE]
    )
    known = report_on(home, str(adapter.path))
    page = render_audit(known, "html")
    reader = Tags()
    reader.feed(page)
    assert not {tag for tag, _ in reader.found} & {"script", "img", "iframe", "link", "object"}
    for _, attributes in reader.found:
        assert not any(name.startswith("on") or name == "src" for name in attributes)
        assert (attributes.get("href") or "#").startswith("#")
    text = render_audit(known, "md")
    for form in (page, text):
        assert "\x1b" not in form
        assert "\u202e" not in form
    assert "\n# no" not in text


@pytest.mark.parametrize("form", ["html", "md", "json"])
def test_the_command_writes_each_form(form: str, run: Run, tmp_path: Path) -> None:
    done = run("audit", "mini/da-pair", "--report", f"report.{form}")
    assert done.code == 0
    text = (tmp_path / f"report.{form}").read_text(encoding="utf-8")
    assert "mini/da-pair@1.0.0" in text
    assert "licence-conflict" in text
    assert str(tmp_path) not in text
    if form == "json":
        assert json.loads(text)["outcomes"].keys() == {"not made", "passed"}


def test_a_report_whose_form_is_unknown_is_refused_before_anything_is_checked(
    run: Run, tmp_path: Path
) -> None:
    failed = run("audit", "mini/da", "--report", "report.pdf")
    assert failed.code != 0
    assert "expected a name that ends in .html, .md, .json" in failed.err
    assert not list(tmp_path.glob("report*"))
