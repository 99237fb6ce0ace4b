"""`audit --probe`: the model is run, and what it answers is compared with what was published."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from audit_defects import forge
from making import manifest_fields
from small_whisper import write_peft

from adapter_hub.artifact.folder import Artifact, seal
from adapter_hub.cli import main
from adapter_hub.decoding.probe import measure_probe
from adapter_hub.model.base_model import BaseModel


@pytest.fixture
def proven(base: BaseModel, tmp_path: Path) -> Artifact:
    """Return an adapter of the small base model with a probe in its manifest."""
    folder = write_peft(tmp_path / "proven", base, seed=1)
    fields = manifest_fields("small/da", base_model=base.pin, probe=measure_probe(base, folder))
    return seal(folder, fields)


def codes(artifact: Artifact, base: BaseModel, capfd: pytest.CaptureFixture[str]) -> list[str]:
    capfd.readouterr()
    words = ["audit", str(artifact.path), "--probe", "--base-model", str(base.folder), "--json"]
    code = main(["--device", "cpu", *words])
    found = json.loads(capfd.readouterr().out)
    assert code == (1 if any(finding["severity"] == "error" for finding in found) else 0)
    return [finding["code"] for finding in found]


def test_an_adapter_that_answers_as_published_has_no_finding(
    proven: Artifact, base: BaseModel, capfd: pytest.CaptureFixture[str]
) -> None:
    assert codes(proven, base, capfd) == []


def test_an_adapter_that_answers_otherwise_is_found(
    proven: Artifact, base: BaseModel, capfd: pytest.CaptureFixture[str]
) -> None:
    probe = proven.manifest.to_json()["probe"]
    logits = [value + 1.0 for value in probe["adapter_logits"]]
    forge(proven.path, probe={**probe, "adapter_logits": logits})
    assert codes(proven, base, capfd) == ["probe-differs"]


def test_an_adapter_without_a_probe_is_told(
    base: BaseModel, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = write_peft(tmp_path / "unproven", base, seed=2)
    artifact = seal(folder, manifest_fields("small/da", base_model=base.pin))
    assert codes(artifact, base, capfd) == ["probe-missing"]


@pytest.mark.parametrize("place", ["Module.to", "functional.linear"])
def test_out_of_memory_is_one_line_and_no_finding(
    place: str,
    proven: Artifact,
    base: BaseModel,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(f"torch.nn.{place}", out_of_memory)
    capfd.readouterr()
    words = ["audit", str(proven.path), "--probe", "--base-model", str(base.folder)]
    assert main(["--device", "cpu", *words]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("error: out of memory")
    assert "--dtype bfloat16" in err


def out_of_memory(*_: object, **__: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
