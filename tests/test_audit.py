"""The audit: sound adapters give no finding, and every check finds the defect that it is named after."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from audit_defects import DEFECTS, Home, attach_report, flipped_byte, make_home
from making import make_artifact

from adapter_hub.artifact.folder import Artifact
from adapter_hub.audit import EXPLANATIONS, audit
from adapter_hub.audit.checks import CHECKS
from adapter_hub.errors import NotFoundError
from adapter_hub.exchange import Places, publish, retire
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.formats.versions import sort_versions
from adapter_hub.registry.file import FileRegistry
from adapter_hub.stores.folder import FolderStore

# with tests of their own: below, in test_hub_commands.py and in attacks/
ELSEWHERE = {
    "average-differs",
    "average-unchecked",
    "bytes-elsewhere",
    "check-failed",
    "claims-elsewhere",
    "extraction-differs",
    "extraction-unchecked",
    "forgetting-unsupported",
    "machine-path",
    "modules-idle",
    "pair-differs",
    "people-named",
    "report-miscounted",
    "probe-differs",
    "probe-missing",
    "secret-published",
    "version-conflict",
}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


def test_a_sound_registry_has_no_findings(home: Home) -> None:
    attach_report(home)
    assert home.audit() == []


@pytest.mark.parametrize("code", sorted(DEFECTS))
def test_a_defect_is_found_under_its_code(code: str, home: Home) -> None:
    ref = DEFECTS[code](home)
    findings = home.audit(*([ref] if ref else []))
    assert code in [finding.code for finding in findings]
    severities = {finding.severity for finding in findings if finding.code == code}
    assert code not in CHECKS or severities == {CHECKS[code].severity}


def test_every_check_has_a_defect_that_it_finds() -> None:
    assert {*DEFECTS, *ELSEWHERE} == set(EXPLANATIONS)


def test_every_check_explains_itself_and_says_what_to_do() -> None:
    for code, text in EXPLANATIONS.items():
        assert len(text) > 40, code
        assert text[0].isupper() or text.startswith(("adapter.json", "--")), code
    assert all(check.hint for check in CHECKS.values())


def test_a_changed_file_is_one_finding_not_ten(home: Home) -> None:
    assert [finding.code for finding in home.audit(flipped_byte(home))] == ["files-differ"]


def test_two_registries_that_disagree_on_a_version_are_told(home: Home) -> None:
    other = FileRegistry(home.folder / "other" / "registry.json")
    artifact = make_artifact(home.folder / "fake", "test/pl", seed=3.0, base_model=home.pin)
    publish(artifact.path, Places(other, FolderStore(home.folder / "other" / "store")))
    findings = audit([], Places((home.registry, other)))
    assert [finding.ref for finding in findings if finding.code == "version-conflict"] == ["test/pl@1.0.0"]


def test_a_withdrawn_version_needs_no_files(home: Home) -> None:
    retire(AdapterRef.parse("test/da@1.0.0"), "withdrawn", "by request", Places(home.registry, home.store))
    assert home.audit() == []


def test_a_location_cannot_lead_out_of_its_store(home: Home) -> None:
    def lead_out(adapters: dict[str, Any]) -> None:
        adapters["test/pl"]["1.0.0"]["locations"] = [{"store": "./store", "path": "../pl"}]

    home.edit_registry(lead_out)
    assert [finding.code for finding in home.audit("test/pl")] == ["bytes-missing"]


def test_an_unknown_reference_is_an_error_not_a_finding(home: Home) -> None:
    with pytest.raises(NotFoundError, match="test/nobody: no such adapter"):
        home.audit("test/nobody")
    with pytest.raises(NotFoundError, match=r"no adapter\.json"):
        home.audit(str(home.folder / "empty") + "/adapter.json")


def test_the_probe_runs_only_when_asked_for_and_its_differences_are_findings(home: Home) -> None:
    def differs(artifact: Artifact) -> Iterator[str]:
        yield f"{artifact.ref}: logits are off"

    findings = home.audit("test/pl", probe=differs)
    assert [finding.code for finding in findings] == ["probe-missing", "probe-differs"]
    assert findings[1].message == "test/pl@1.0.0: logits are off"


def test_findings_come_in_the_order_of_names_and_versions(home: Home) -> None:
    for version in ("1.10.0", "1.2.0"):
        folder = home.folder / version
        make_artifact(
            folder,
            "test/pl",
            version,
            seed=float(version.split(".")[1]),
            base_model=home.pin,
            license="LicenseRef-unknown",
        )
    home.publish(home.folder / "1.2.0")
    home.publish(home.folder / "1.10.0")
    refs = [finding.ref for finding in home.audit()]
    assert refs == [f"test/pl@{version}" for version in sort_versions(["1.10.0", "1.2.0"])]
