"""`audit --probe` computes an average again from the bytes of its components."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from audit_defects import forge
from command_line import Run
from safetensors.torch import load_file, save_file

from adapter_hub.artifact.peft import WEIGHTS_FILE
from adapter_hub.audit import audit
from adapter_hub.exchange import Places
from adapter_hub.registry.file import FileRegistry


@pytest.fixture
def averaged(run: Run, tmp_path: Path) -> Path:
    """Return the folder of an average of two shipped adapters, truncated to rank 8."""
    words = ["mini/pl", "mini/it", "--rank", "8", "--as", "test/average@1.0.0", "--out", "out"]
    assert run("average", *words).code == 0
    return tmp_path / "out"


def found(run: Run, *words: str) -> list[tuple[str, str]]:
    outcome = run("audit", "./out", "--json", *words)
    findings = outcome.json
    assert outcome.code == (1 if any(finding["severity"] == "error" for finding in findings) else 0)
    return [(finding["code"], finding["message"]) for finding in findings]


def test_an_average_that_is_what_it_says_has_no_finding(averaged: Path, run: Run) -> None:
    assert found(run, "--probe") == []


def test_weights_that_the_components_do_not_give_are_found(averaged: Path, run: Run) -> None:
    tensors = load_file(averaged / WEIGHTS_FILE)
    name = next(name for name in sorted(tensors) if ".lora_B." in name)
    tensors[name] = tensors[name] + 0.05 * torch.randn(tensors[name].shape, generator=torch.manual_seed(0))
    save_file(tensors, averaged / WEIGHTS_FILE, metadata={"format": "pt"})
    forge(averaged)
    findings = [message for code, message in found(run, "--probe") if code == "average-differs"]
    assert len(findings) == 1
    assert findings[0].startswith(name.removeprefix("base_model.model.").removesuffix(".lora_B.weight"))
    assert "from what the components give" in findings[0]
    assert "average-differs" not in [code for code, _ in found(run)]


def test_other_weights_of_the_parents_than_the_recorded_ones_are_found(averaged: Path, run: Run) -> None:
    parents = json.loads((averaged / "adapter.json").read_bytes())["parents"]
    parents[0]["weight"], parents[1]["weight"] = 0.75, 0.25
    forge(averaged, parents=parents)
    assert {code for code, _ in found(run, "--probe")} >= {"average-differs"}


def test_a_component_that_is_not_here_is_told_not_skipped(averaged: Path, tmp_path: Path) -> None:
    def never(*_: object) -> Iterator[str]:
        raise AssertionError("computed without its components")

    places = Places((FileRegistry(tmp_path / "empty.json"),), cache=tmp_path / "no-cache")
    missing = audit([str(averaged)], places, recompute=never)
    told = [finding.message for finding in missing if finding.code == "average-unchecked"]
    assert len(told) == 2
    assert told[0].startswith("mini/pl@1.0.0 (")
    assert told[0].endswith("a component, is not on this machine")
    assert {finding.severity for finding in missing} == {"info"}


def test_components_of_a_plain_adapter_are_not_asked_for(run: Run) -> None:
    assert run("audit", "mini/pl", "--probe").code == 0
