"""The bill of materials: valid to CycloneDX's own judge, complete, the same every time, and nothing local."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from audit_defects import DATA, Home, attach_report, make_home
from command_line import Run
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from making import make_artifact, make_child

from adapter_hub.artifact.folder import Artifact
from adapter_hub.cards.bom import bill_of_materials


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


@pytest.fixture(scope="module")
def judge() -> JsonStrictValidator:
    return JsonStrictValidator(SchemaVersion.V1_6)


def component(bom: dict[str, Any]) -> dict[str, Any]:
    value = bom["metadata"]["component"]
    assert isinstance(value, dict)
    return value


def of_folder(artifact: Artifact) -> dict[str, Any]:
    return bill_of_materials(artifact.manifest, artifact.digest, artifact.ancestors())


@pytest.mark.parametrize("ref", ["mini/da", "mini/da-pair", "mini/pl", "mini/da-scratch"])
def test_bills_of_the_catalogue_are_valid(ref: str, run: Run, judge: JsonStrictValidator) -> None:
    text = run("bom", ref).out
    assert judge.validate_str(text) is None
    assert run("bom", ref, "--json").out == text


def test_what_it_was_made_from_is_there_with_digests_and_licences(home: Home) -> None:
    data = [{**DATA, "license": "cc-by-4.0", "revision": "v1"}]
    seed = make_artifact(home.folder / "one", "test/one", base_model=home.pin, data=data)
    middle = make_child(home.folder / "two", seed, "test/two", base_model=home.pin, license="ask me")
    child = make_child(home.folder / "three", middle, "test/three", base_model=home.pin)
    bom = of_folder(child)
    ancestors = component(bom)["pedigree"]["ancestors"]
    assert [(item["name"], item["bom-ref"]) for item in ancestors] == [
        ("two", middle.digest),
        ("one", seed.digest),
    ]
    assert ancestors[0]["licenses"] == [{"license": {"name": "ask me"}}]
    base, data_set = bom["components"]
    assert base["hashes"] == [{"alg": "SHA-256", "content": home.pin["digest"].removeprefix("sha256:")}]
    assert (data_set["type"], data_set["name"], data_set["version"]) == ("data", "numbers", "v1")
    assert data_set["licenses"] == [{"expression": "CC-BY-4.0"}]
    made_from = {item["ref"]: item.get("dependsOn") for item in bom["dependencies"]}
    assert made_from[child.digest] == [base["bom-ref"], middle.digest]
    assert made_from[seed.digest] == [base["bom-ref"], data_set["bom-ref"]]
    assert bom["compositions"][0]["aggregate"] == "complete"


def test_every_file_has_its_sha256_and_the_manifest_too(home: Home) -> None:
    artifact = Artifact.open(home.folder / "pl")
    files = {
        item["name"]: item["hashes"][0]["content"] for item in component(of_folder(artifact))["components"]
    }
    assert files == {
        "adapter.json": artifact.digest.removeprefix("sha256:"),
        **{entry.path: entry.sha256 for entry in artifact.manifest.files},
    }


def test_scores_come_from_the_reports_of_this_function(home: Home) -> None:
    attach_report(home)
    artifact = Artifact.open(home.place("test/pl"))
    reports = home.store.claims("test/pl").reports
    bom = bill_of_materials(artifact.manifest, artifact.digest, {}, reports)
    (metric,) = component(bom)["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert (metric["type"], float(metric["value"])) == ("wer", pytest.approx(reports[0].value))
    assert metric["confidenceInterval"] == {"lowerBound": "0.000000", "upperBound": "0.500000"}
    child = Artifact.open(home.place("test/da"))
    other = bill_of_materials(child.manifest, child.digest, child.ancestors(), reports)
    assert component(other)["modelCard"]["quantitativeAnalysis"]["performanceMetrics"] == []


def test_a_parent_whose_manifest_is_not_at_hand_is_named_and_the_gap_said(
    home: Home, judge: JsonStrictValidator
) -> None:
    artifact = Artifact.open(home.folder / "da")
    bom = bill_of_materials(artifact.manifest, artifact.digest, {})
    assert [item["name"] for item in component(bom)["pedigree"]["ancestors"]] == ["pl"]
    assert bom["compositions"][0]["aggregate"] == "incomplete"
    assert judge.validate_str(json.dumps(bom)) is None
    imported = make_artifact(home.folder / "i", "test/i", base_model=home.pin, method="imported")
    assert of_folder(imported)["compositions"][0]["aggregate"] == "incomplete"


def test_texts_of_others_stay_texts(home: Home, judge: JsonStrictValidator) -> None:
    strange = "\x1b[2J</script>\u202e" * 3
    data = [{**DATA, "id": strange, "license": strange}, {**DATA, "license": "NOASSERTION"}, {**DATA}]
    artifact = make_artifact(
        home.folder / "s", "test/s", base_model=home.pin, data=data, license=strange, authors=[strange]
    )
    assert judge.validate_str(json.dumps(of_folder(artifact))) is None


def test_it_is_the_same_every_time_and_holds_nothing_of_this_machine(
    home: Home, run: Run, tmp_path: Path, judge: JsonStrictValidator
) -> None:
    out = tmp_path / "bom.json"
    run("bom", str(home.folder / "da"), "--out", str(out))
    text = out.read_text(encoding="utf-8")
    assert judge.validate_str(text) is None
    assert run("bom", str(home.folder / "da")).out == text
    assert str(tmp_path) not in text
    bom = json.loads(text)
    assert bom["metadata"]["timestamp"] == Artifact.open(home.folder / "da").manifest.created
    assert bom["serialNumber"] != of_folder(Artifact.open(home.folder / "pl"))["serialNumber"]


def test_an_unknown_adapter_has_no_bill_and_leaves_no_file(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "bom.json"
    failed = run("bom", "test/nobody", "--out", str(out))
    assert failed.code == 1
    assert failed.err.count("error:") == 1
    assert not out.exists()
