"""What decides the text is inside the digests: other scaling, gate, task or language is another adapter."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from audit_defects import Home, forge, make_home
from making import (
    MODULES,
    make_artifact,
    make_places,
    make_report,
    manifest_bytes,
    manifest_fields,
    parent_of,
    peft_config,
    write_safetensors,
    write_weights,
)

from adapter_hub.artifact.folder import Artifact, seal, write_ancestors
from adapter_hub.artifact.weights import lora_section
from adapter_hub.errors import IntegrityError, InvalidInputError, NotFoundError
from adapter_hub.exchange import Places, attach, publish
from adapter_hub.formats.canonical import digest_of, hex_of
from adapter_hub.formats.manifest import Manifest
from adapter_hub.formats.reference import AdapterRef

CONFIG = "adapter_config.json"


def scaled(folder: Path, version: str, factor: float, **changes: Any) -> Artifact:
    """The tensors of `make_artifact(folder)`, with every module's scaling `factor` times as large."""
    write_weights(folder, lora_alpha=4 * factor)
    return seal(folder, manifest_fields(version=version, **changes))


@pytest.mark.parametrize("factor", [40, 1.5, 1 / 3, 1.0000001])
def test_the_same_tensors_with_another_scaling_are_no_patch(factor: float, tmp_path: Path) -> None:
    registry, store = make_places(tmp_path)
    first = make_artifact(tmp_path / "first")
    publish(first.path, Places(registry, store))
    attach(make_report(first), Places(registry, store))
    other = scaled(tmp_path / "other", "1.0.1", factor)
    assert other.manifest.weights_digest == first.manifest.weights_digest
    assert other.manifest.function_digest != first.manifest.function_digest
    with pytest.raises(
        InvalidInputError, match=r"the scaling changed between 1\.0\.0 and 1\.0\.1, .*1\.1\.0"
    ):
        publish(other.path, Places(registry, store))
    publish(scaled(tmp_path / "minor", "1.1.0", factor).path, Places(registry, store))
    assert registry.adapters["test/da"]["1.0.0"].scores
    assert registry.adapters["test/da"]["1.1.0"].scores == ()  # what was measured was another adapter


def pattern(folder: Path, **config: Any) -> Manifest:
    write_weights(folder, **config)
    return seal(folder, manifest_fields()).manifest


def test_one_scaling_has_one_function_digest_however_the_config_spells_it(tmp_path: Path) -> None:
    plain = pattern(tmp_path / "plain")
    spelt = [
        pattern(tmp_path / "float", lora_alpha=4.0),
        pattern(tmp_path / "pattern", lora_alpha=1, alpha_pattern=dict.fromkeys(MODULES, 4)),
        pattern(tmp_path / "root", lora_alpha=2 * 2**0.5, use_rslora=True),
    ]
    assert {manifest.function_digest for manifest in spelt} == {plain.function_digest}


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another weights digest": lambda m: m.update(weights_digest=digest_of(b"other")),
    "another scaling": lambda m: m["lora"][0]["modules"][0].update(scaling=3.0),
    "another rank": lambda m: m["lora"][0]["modules"][0].update(rank=7),
    "another module": lambda m: m["lora"][0]["modules"].pop(),
    "another role": lambda m: m["lora"][0].update(role="child"),
    "a gate": lambda m: m.update(gate={"kind": "token", "parameters": 1}),
    "another task": lambda m: m.update(task="translate"),
    "another decode language": lambda m: m["languages"][0].update(decode_language="no"),
    "one more language": lambda m: m["languages"].append({"tag": "nb", "decode_language": "no"}),
    "timestamps": lambda m: m.update(timestamps=True),
}


@pytest.mark.parametrize("what", CHANGES)
def test_whatever_decides_the_text_is_in_the_function_digest(what: str, tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "a")
    values = artifact.manifest.to_json()
    CHANGES[what](values)
    changed = Manifest.parse(manifest_bytes(values), "changed")
    assert changed.function_digest != artifact.manifest.function_digest
    stale = changed.to_json() | {"function_digest": artifact.manifest.function_digest}
    (tmp_path / "a" / "adapter.json").write_bytes(json.dumps(stale).encode())
    with pytest.raises(
        InvalidInputError, match="function_digest: sha256:.*but weights, modules, scaling, gate"
    ):
        Artifact.open(tmp_path / "a")


@pytest.mark.parametrize("what", ["dtype of training", "name", "licence", "authors", "data"])
def test_what_does_not_decide_the_text_is_not_in_it(what: str, tmp_path: Path) -> None:
    changes: dict[str, dict[str, Any]] = {
        "dtype of training": {"training": None},
        "name": {"name": "other/da"},
        "licence": {"license": "MIT"},
        "authors": {"authors": []},
        "data": {"languages": [{"tag": "da-DK", "decode_language": "da"}]},
    }
    first = make_artifact(tmp_path / "a").manifest
    other = make_artifact(tmp_path / "b", **{"name": "test/da", **changes[what]}).manifest
    assert other.function_digest == first.function_digest


def test_an_adapter_without_its_function_digest_is_unreadable(tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "a").path
    values = json.loads((folder / "adapter.json").read_bytes())
    del values["function_digest"]
    (folder / "adapter.json").write_text(json.dumps(values, sort_keys=True, separators=(",", ":")))
    with pytest.raises(InvalidInputError, match="missing field 'function_digest'"):
        Artifact.open(folder)


def test_the_audit_does_not_believe_a_function_digest(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    folder = make_artifact(home.folder / "x", "test/x", base_model=home.pin).path
    forge(folder, function_digest=Artifact.open(home.folder / "pl").manifest.function_digest)
    raw = json.loads((folder / "adapter.json").read_bytes())
    raw["function_digest"] = digest_of(b"claimed")
    (folder / "adapter.json").write_text(json.dumps(raw, sort_keys=True, separators=(",", ":")))
    assert [finding.code for finding in home.audit(str(folder))] == ["manifest-unreadable"]


def test_a_scaling_that_only_the_manifest_or_only_the_config_has_is_found(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    folder = make_artifact(home.folder / "x", "test/x", base_model=home.pin).path
    (folder / CONFIG).write_text(json.dumps(peft_config(lora_alpha=4 * (1 + 1e-9))))
    forge(folder)
    with pytest.raises(IntegrityError, match=r"scaling 2\.0 in the manifest, 2\.000000002 in the config"):
        Artifact.open(folder).verify()
    assert {finding.code for finding in home.audit(str(folder))} == {"lora-differs"}


def make_pair(folder: Path, home: Home, **parent_config: Any) -> Path:
    """A static pair whose frozen half has its parent's tensors, and this configuration."""
    parent = Artifact.open(home.folder / "pl")
    shutil.copytree(parent.path, folder / "experts/parent", ignore=shutil.ignore_patterns("adapter.json"))
    if parent_config:
        (folder / "experts/parent" / CONFIG).write_text(json.dumps(peft_config(**parent_config)))
    write_weights(folder / "experts/child", 5.0)
    write_safetensors(folder / "gate.safetensors", {f"{path}.bias": ((2,), [0.0, 1.0]) for path in MODULES})
    write_ancestors(folder, [parent])
    fields = manifest_fields(
        "test/pair",
        created="2026-01-02T00:00:00Z",
        base_model=home.pin,
        method="expert-pair",
        lora=[lora_section(folder / f"experts/{role}", role) for role in ("parent", "child")],
        gate={"kind": "static", "parameters": 4},
        parents=[parent_of(parent, "expert")],
    )
    return seal(folder, fields).path


def test_a_pair_with_its_parents_tensors_and_another_scaling_is_refused_everywhere(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    scaled_parent = r"experts/parent: model\.decoder.* is rank 2, scaling 60\.0 here, rank 2, scaling 2\.0 in"
    with pytest.raises(IntegrityError, match=scaled_parent):
        make_pair(tmp_path / "sealed", home, lora_alpha=120)
    pair = make_pair(tmp_path / "pair", home)
    (pair / "experts/parent" / CONFIG).write_text(json.dumps(peft_config(lora_alpha=120)))
    section = lora_section(pair / "experts/parent", "parent").to_json()
    child = lora_section(pair / "experts/child", "child").to_json()
    forge(pair, lora=[section, child])  # whoever can hash writes a manifest that agrees
    with pytest.raises(IntegrityError, match=r"scaling 60\.0 here, .*2 modules differ"):
        Artifact.open(pair).verify()
    with pytest.raises(IntegrityError, match=scaled_parent):
        publish(pair, Places(home.registry, home.store))
    assert [finding.code for finding in home.audit(str(pair))] == ["pair-differs"]


def test_a_parent_named_with_another_function_digest_is_refused(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    folder = home.folder / "da"
    values = json.loads((folder / "adapter.json").read_bytes())
    values["parents"][0]["function_digest"] = digest_of(b"other")
    forge(folder, parents=values["parents"])
    with pytest.raises(IntegrityError, match="its function_digest is not the one that its manifest has"):
        Artifact.open(folder).verify()


def test_a_report_belongs_to_the_function_that_it_measured(tmp_path: Path) -> None:
    registry, store = make_places(tmp_path)
    first = make_artifact(tmp_path / "first")
    publish(first.path, Places(registry, store))
    louder = scaled(tmp_path / "louder", "1.1.0", 40)
    with pytest.raises(
        NotFoundError, match=r"no version of test/da has the function digest .*publish it first"
    ):
        attach(make_report(louder), Places(registry, store))
    attach(make_report(first), Places(registry, store))
    (place,) = (tmp_path / "hub/store/test/da/evaluations").iterdir()
    assert place.name == hex_of(first.manifest.function_digest)


def test_publishing_under_another_name_keeps_the_function_digest(tmp_path: Path) -> None:
    registry, store = make_places(tmp_path)
    artifact = make_artifact(tmp_path / "a")
    publish(artifact.path, Places(registry, store), rename=AdapterRef.parse("test/other@2.0.0"))
    block = registry.adapters["test/other"]["2.0.0"]
    assert block.function_digest == artifact.manifest.function_digest
