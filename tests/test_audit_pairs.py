"""Audits of expert pairs that are made byte by byte: another parent's weights, gates that do not fit."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from audit_defects import Home, forge, make_home
from making import (
    MODULES,
    WIDTH,
    Tensors,
    lora_tensors,
    manifest_bytes,
    manifest_fields,
    parent_of,
    write_safetensors,
    write_weights,
)

from adapter_hub.artifact.folder import Artifact, seal, write_ancestors
from adapter_hub.artifact.weights import lora_section
from adapter_hub.errors import IntegrityError
from adapter_hub.exchange import Places, publish

ONE, OTHER = MODULES  # the parent adapts both, the child the first
GATE = "gate.safetensors"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


def gate(kind: str, *paths: str) -> dict[str, Any]:
    weights = {f"{path}.weight": ((2, WIDTH), [0.5] * 2 * WIDTH) for path in paths if kind == "token"}
    return weights | {f"{path}.bias": ((2,), [0.0, 1.0]) for path in paths}


def make_pair(folder: Path, home: Home, kind: str = "token", tensors: Tensors | None = None) -> Path:
    """Make and seal a pair of `test/pl` and a child."""
    parent = Artifact.open(home.folder / "pl")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / "experts/parent").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(parent.path / name, folder / "experts/parent" / name)
    write_weights(folder / "experts/child", 5.0, modules=[ONE])
    tensors = tensors or gate(kind, ONE, OTHER)
    write_safetensors(folder / GATE, tensors)
    write_ancestors(folder, [parent])
    fields = manifest_fields(
        "test/pair",
        created="2026-01-02T00:00:00Z",
        base_model=home.pin,
        method="expert-pair",
        lora=[lora_section(folder / f"experts/{role}", role) for role in ("parent", "child")],
        gate={"kind": kind, "parameters": sum(len(values) for _, values in tensors.values())},
        parents=[parent_of(parent, "expert")],
    )
    return seal(folder, fields).path


@pytest.mark.parametrize("kind", ["token", "static"])
def test_a_sound_pair_has_no_findings(kind: str, home: Home, tmp_path: Path) -> None:
    folder = make_pair(tmp_path / "pair", home, kind)
    assert home.audit(str(folder)) == []
    publish(folder, Places(home.registry, home.store))
    assert home.audit("test/pair") == []


def test_a_gate_of_weights_alone_is_sound(home: Home, tmp_path: Path) -> None:
    weights = {name: value for name, value in gate("token", ONE, OTHER).items() if name.endswith("weight")}
    assert home.audit(str(make_pair(tmp_path / "pair", home, tensors=weights))) == []


def test_a_pair_with_other_weights_than_its_parents_is_found(home: Home, tmp_path: Path) -> None:
    folder = make_pair(tmp_path / "pair", home)
    write_safetensors(folder / "experts/parent/adapter_model.safetensors", lora_tensors(9.0))
    found = {finding.code: finding for finding in home.audit(str(forge(folder)))}
    assert "its weights are not those of test/pl@1.0.0" in found["pair-differs"].message
    with pytest.raises(IntegrityError, match="its weights are not those of test/pl@1.0.0"):
        Artifact.open(folder).verify()


SHORT = {f"{ONE}.weight": ((2, 3), [0.5] * 6)}
DEFECTS: dict[str, tuple[Callable[[], Tensors], str]] = {
    "an entry is missing": (lambda: gate("token", ONE), f"{OTHER}.weight: missing"),
    "a bias is missing": (
        lambda: {name: v for name, v in gate("token", ONE, OTHER).items() if name != f"{OTHER}.bias"},
        f"{OTHER}.bias: missing",
    ),
    "an entry too many": (
        lambda: {**gate("token", ONE, OTHER), "stray.bias": ((2,), [0.0, 1.0])},
        "stray.bias: no place for it in a token gate",
    ),
    "another width": (
        lambda: {**gate("token", ONE, OTHER), **SHORT},
        rf"{ONE}.weight: shape \[2, 3\], expected \[2, 4\]",
    ),
    "another kind": (lambda: gate("static", ONE, OTHER), f"{ONE}.weight: missing"),
}


@pytest.mark.parametrize("what", DEFECTS)
def test_a_gate_that_does_not_fit_is_found_and_cannot_be_sealed(
    what: str, home: Home, tmp_path: Path
) -> None:
    tensors, message = DEFECTS[what]
    with pytest.raises(IntegrityError, match=message):
        make_pair(tmp_path / "pair", home, tensors=tensors())
    folder = make_pair(tmp_path / "sound", home)
    write_safetensors(folder / GATE, tensors())
    findings = home.audit(str(forge(folder)))
    assert [finding.code for finding in findings if finding.severity == "error"][:1] == ["pair-differs"]


def test_a_gate_of_another_size_than_the_manifest_says_is_found(home: Home, tmp_path: Path) -> None:
    folder = make_pair(tmp_path / "pair", home)
    found = home.audit(str(forge(folder, gate={"kind": "token", "parameters": 7})))
    assert "20 parameters, the manifest says 7" in found[0].message


@pytest.mark.parametrize("part", ["experts/parent", "experts/child", GATE])
def test_a_pair_without_one_of_its_parts_is_found(part: str, home: Home, tmp_path: Path) -> None:
    folder = make_pair(tmp_path / "pair", home)
    lost = folder / part
    shutil.rmtree(lost) if lost.is_dir() else lost.unlink()
    assert "files-differ" in [finding.code for finding in home.audit(str(folder))]
    forge(folder)  # somebody also takes it out of the manifest
    assert "layout" in [finding.code for finding in home.audit(str(folder))]


def test_a_manifest_with_a_gate_is_a_pairs(home: Home, tmp_path: Path) -> None:
    fields = manifest_fields("test/x", base_model=home.pin, gate={"kind": "static", "parameters": 2})
    write_weights(tmp_path / "x")
    with pytest.raises(IntegrityError, match="the manifest describes a gate, but its method is lora"):
        seal(tmp_path / "x", fields)
    folder = make_pair(tmp_path / "pair", home)
    value = Artifact.open(folder).manifest.model_copy(update={"gate": None}).to_json()
    (folder / "adapter.json").write_bytes(manifest_bytes(value))
    with pytest.raises(IntegrityError, match="describes no gate, but its method is expert-pair"):
        Artifact.open(folder).verify()
