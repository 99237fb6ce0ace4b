"""Adapters with one defect each: what somebody did to them, named after it, and the code that finds it.

Each function damages a sound home and returns the reference to ask the audit about; "" is everything.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from making import (
    MODULES,
    lora_tensors,
    make_artifact,
    make_child,
    make_report,
    manifest_bytes,
    peft_config,
    write_safetensors,
)

from adapter_hub.artifact.contents import entry_of, listed_paths
from adapter_hub.artifact.folder import Artifact
from adapter_hub.artifact.safetensors_file import weights_digest
from adapter_hub.audit import audit
from adapter_hub.base_model.digest import base_model_digest
from adapter_hub.base_model.settings import read_settings
from adapter_hub.base_model.tensors import whisper_shapes
from adapter_hub.exchange import Places, attach, publish, retire
from adapter_hub.formats.canonical import digest_of
from adapter_hub.formats.claims import Finding
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.registry.file import FileRegistry
from adapter_hub.stores.folder import FolderStore

DATA = {"id": "numbers", "split": "train", "hours": 0.1, "utterances": 3, "sha256": "0" * 64}


@dataclass
class Home:
    """A registry with its store, a base model, and the two adapters `test/pl` and its child `test/da`."""

    folder: Path
    registry: FileRegistry
    store: FolderStore
    base_model: Path
    pin: dict[str, str]

    def place(self, name: str, version: str = "1.0.0") -> Path:
        return self.store.path / name / version

    def publish(self, folder: Path) -> None:
        publish(folder, Places(self.registry, self.store))

    def audit(self, *refs: str, **options: Any) -> list[Finding]:
        registries = (FileRegistry(self.registry.path),)
        return audit(refs, Places(registries), base_models={"test/tiny": self.base_model}, **options)

    def edit_registry(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change registry.json as another program would."""
        change((tree := json.loads(self.registry.path.read_bytes()))["adapters"])
        text = json.dumps({**tree, "sequence": tree["sequence"] + 1})
        self.registry.path.write_text(text, encoding="utf-8")


def make_small_model(folder: Path) -> Path:
    """Write a Whisper of four dimensions, whole, without torch."""
    folder.mkdir(parents=True)
    sizes = {"d_model": 4, "vocab_size": 8, "max_target_positions": 2}
    sizes |= {
        f"{side}_{what}": 1 for side in ("encoder", "decoder") for what in ("layers", "attention_heads")
    }
    ids = dict.fromkeys(("decoder_start_token_id", "bos_token_id", "eos_token_id", "pad_token_id"), 1)
    config = {"model_type": "whisper", **sizes, **ids, "encoder_ffn_dim": 4, "decoder_ffn_dim": 4}
    languages = {
        "lang_to_id": {f"<|{code}|>": 2 + i for i, code in enumerate(("da", "en", "es", "pl", "sw"))}
    }
    for name, values in (
        ("config.json", config),
        ("generation_config.json", languages),
        ("tokenizer.json", {}),
    ):
        (folder / name).write_text(json.dumps(values), encoding="utf-8")
    shapes = whisper_shapes(read_settings(folder).config)
    tensors = {name: (shape, [0.5] * math.prod(shape)) for name, shape in shapes.items()}
    write_safetensors(folder / "model.safetensors", tensors)
    return folder


def make_home(folder: Path) -> Home:
    base_model = make_small_model(folder / "base_model")
    pin = {
        "id": "test/tiny",
        "architecture": "WhisperForConditionalGeneration",
        "digest": base_model_digest(base_model),
    }
    home = Home(
        folder, FileRegistry(folder / "registry.json"), FolderStore(folder / "store"), base_model, pin
    )
    parent = make_artifact(folder / "pl", "test/pl", base_model=pin)
    make_child(folder / "da", parent, "test/da", base_model=pin)
    home.publish(folder / "pl")
    home.publish(folder / "da")
    return home


def forge(folder: Path, **changes: Any) -> Path:
    """Write a manifest that agrees with the files as they are, with `changes`: a forger who can hash."""
    value = json.loads((folder / "adapter.json").read_bytes())
    paths = listed_paths(folder)[0]
    value["files"] = [entry_of(folder, path).to_json() for path in paths]
    value["weights_digest"] = weights_digest(folder, [p for p in paths if p.endswith(".safetensors")])
    (folder / "adapter.json").write_bytes(manifest_bytes({**value, **changes}))
    return folder


def unpublished(home: Home, **changes: Any) -> Path:
    """Return the folder of another sound adapter."""
    return make_artifact(home.folder / "more", "test/more", base_model=home.pin, **changes).path


def rewrite_weights(folder: Path, tensors: Any) -> Path:
    write_safetensors(folder / "adapter_model.safetensors", tensors)
    return forge(folder)


def edited_manifest(home: Home) -> str:
    path = home.place("test/pl") / "adapter.json"
    path.write_bytes(path.read_bytes().replace(b'"A. Tester"', b'"A. Tester", "B. Tester"'))
    return "test/pl"


def removed_folder(home: Home) -> str:
    shutil.rmtree(home.place("test/da"))
    return "test/da"


def replaced_version(home: Home) -> str:
    forge(home.place("test/pl"), authors=["Somebody Else"])
    return "test/pl"


def wrong_summary(home: Home) -> str:
    home.edit_registry(lambda adapters: adapters["test/pl"]["1.0.0"].update(license="MIT"))
    return "test/pl"


def patch_with_other_weights(home: Home) -> str:
    folder = make_artifact(
        home.folder / "patch",
        "test/pl",
        "1.0.1",
        seed=9.0,
        base_model=home.pin,
        created="2026-01-02T00:00:00Z",
    ).path
    shutil.copytree(folder, home.place("test/pl", "1.0.1"))

    def add(adapters: dict[str, Any]) -> None:
        block = {**adapters["test/pl"]["1.0.0"], "digest": Artifact.open(folder).digest}
        block["function_digest"] = Artifact.open(folder).manifest.function_digest
        block["locations"] = [{"store": "./store", "path": "test/pl/1.0.1"}]
        adapters["test/pl"]["1.0.1"] = block

    home.edit_registry(add)
    return "test/pl@1.0.1"


def flipped_byte(home: Home) -> str:
    path = home.place("test/pl") / "adapter_model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    return "test/pl"


def planted_pickle(home: Home) -> str:
    (home.place("test/pl") / "adapter_model.bin").write_bytes(b"\x80\x04.")
    return "test/pl"


def tensors_in_a_wrong_place(home: Home) -> str:
    folder = unpublished(home)
    shutil.copyfile(folder / "adapter_model.safetensors", folder / "more.safetensors")
    return str(forge(folder))


def wrong_weights_digest(home: Home) -> str:
    return str(forge(unpublished(home), weights_digest=digest_of(b"other")))


def wrong_rank_in_the_config(home: Home) -> str:
    folder = unpublished(home)
    (folder / "adapter_config.json").write_text(json.dumps(peft_config(rank=3)), encoding="utf-8")
    return str(forge(folder))


def nan_in_the_weights(home: Home) -> str:
    tensors = dict(lora_tensors())
    name = f"base_model.model.{MODULES[0]}.lora_A.weight"
    tensors[name] = (tensors[name][0], [float("nan"), *tensors[name][1][1:]])
    return str(rewrite_weights(unpublished(home), tensors))


def untrained(home: Home) -> str:
    tensors = {
        name: (shape, [0.0] * len(values) if "lora_B" in name else values)
        for name, (shape, values) in lora_tensors().items()
    }
    return str(rewrite_weights(unpublished(home), tensors))


def swapped_base_model(home: Home) -> str:
    (home.base_model / "tokenizer.json").write_text('{"model": {"vocab": {"another": 1}}}', encoding="utf-8")
    return "test/pl"


def unknown_base_model(home: Home) -> str:
    return str(
        forge(unpublished(home), base_model={**home.pin, "id": "test/other", "digest": digest_of(b"x")})
    )


def module_that_the_base_model_lacks(home: Home) -> str:
    return str(unpublished(home, modules=[*MODULES, "model.encoder.layers.7.fc1"]))


def damaged_ancestor(home: Home) -> str:
    folder = home.folder / "da"
    ancestor = next((folder / "ancestors").iterdir())
    ancestor.write_bytes(ancestor.read_bytes().replace(b"A. Tester", b"Z. Tester"))
    return str(forge(folder))


def child_older_than_its_parent(home: Home) -> str:
    return str(forge(home.folder / "da", created="2025-01-01T00:00:00Z"))


def parent_in_quarantine(home: Home) -> str:
    retire(AdapterRef.parse("test/pl@1.0.0"), "quarantined", "poisoned", Places(home.registry, home.store))
    return "test/da"


def parent_yanked(home: Home) -> str:
    retire(AdapterRef.parse("test/pl@1.0.0"), "yanked", "bad data", Places(home.registry, home.store))
    return "test/da"


def parent_that_no_registry_knows(home: Home) -> str:
    stranger = make_artifact(home.folder / "stranger", "far/away", base_model=home.pin)
    return str(make_child(home.folder / "orphan", stranger, "test/orphan", base_model=home.pin).path)


def attach_report(home: Home, **changes: Any) -> None:
    report = make_report(Artifact.open(home.place("test/pl")), errors=2, **changes)
    attach(report, Places(home.registry, home.store))


def edited_report(home: Home) -> str:
    attach_report(home)
    path = next(home.store.path.glob("test/pl/evaluations/*/*.json"))
    path.write_bytes(path.read_bytes().replace(b"en to fire", b"en to tre"))
    return "test/pl"


def report_on_another_base_model(home: Home) -> str:
    report = make_report(Artifact.open(home.place("test/pl")), base_model_digest=digest_of(b"other"))
    home.store.attach("test/pl", report)
    return "test/pl"


def interval_beside_its_value(home: Home) -> str:
    interval = {"low": 0.6, "high": 0.7, "resamples": 10, "unit": "utterance", "random_seed": 1}
    attach_report(home, interval=interval)
    return "test/pl"


def embellished_score(home: Home) -> str:
    attach_report(home)
    home.edit_registry(lambda adapters: adapters["test/pl"]["1.0.0"]["scores"][0].update(value=0.01))
    return "test/pl"


def hidden_score(home: Home) -> str:
    attach_report(home)
    home.edit_registry(lambda adapters: adapters["test/pl"]["1.0.0"].update(scores=[]))
    return "test/pl"


def unquarantined_by_hand(home: Home) -> str:
    parent_in_quarantine(home)
    home.edit_registry(lambda adapters: adapters["test/pl"]["1.0.0"].update(status="active"))
    return "test/pl"


def status_of_other_bytes(home: Home) -> str:
    path = home.store.path / "test/pl/status.json"
    entries = json.loads(path.read_bytes())
    entries.insert(0, {**entries[0], "digest": digest_of(b"other")})
    path.write_text(json.dumps(entries), encoding="utf-8")
    return "test/pl"


def shorter_input_than_its_parent(home: Home) -> str:
    parent = make_artifact(home.folder / "long", "test/long", base_model=home.pin, input_seconds=30.0)
    child = home.folder / "short"
    return str(make_child(child, parent, "test/short", base_model=home.pin, input_seconds=3.0).path)


def imported(home: Home) -> str:
    return str(unpublished(home, method="imported"))


def without_a_licence(home: Home) -> str:
    return str(unpublished(home, license="LicenseRef-unknown"))


def data_without_a_licence(home: Home) -> str:
    return str(unpublished(home, data=[DATA]))


def under_a_licence_that_its_data_forbid(home: Home) -> str:
    data = [{**DATA, "license": "CC-BY-NC-4.0"}]
    return str(unpublished(home, data=data))


def under_a_licence_of_its_own(home: Home) -> str:
    return str(unpublished(home, license="LicenseRef-ask-me"))


def trained_by_changed_code(home: Home) -> str:
    training = {
        "steps": 1,
        "random_seed": 1,
        "hardware": "2 cores",
        "wall_seconds": 1.0,
        "packages": {},
        "dirty": True,
    }
    return str(unpublished(home, training=training))


def entry_of_a_newer_program(home: Home) -> str:
    home.edit_registry(lambda adapters: adapters["test/da"]["1.0.0"].update(schema="version/9"))
    return ""


DEFECTS: dict[str, Callable[[Home], str]] = {
    "ancestor-quarantined": parent_in_quarantine,
    "ancestor-retired": parent_yanked,
    "ancestor-unregistered": parent_that_no_registry_knows,
    "ancestor-unsound": damaged_ancestor,
    "base-model-absent": unknown_base_model,
    "base-model-digest": swapped_base_model,
    "bytes-missing": removed_folder,
    "claim-unreadable": edited_report,
    "code-changed": trained_by_changed_code,
    "data-licence-missing": data_without_a_licence,
    "digest-differs": replaced_version,
    "entry-differs": wrong_summary,
    "entry-unreadable": entry_of_a_newer_program,
    "files-differ": flipped_byte,
    "input-shorter": shorter_input_than_its_parent,
    "layout": tensors_in_a_wrong_place,
    "licence-conflict": under_a_licence_that_its_data_forbid,
    "licence-missing": without_a_licence,
    "licence-unknown": under_a_licence_of_its_own,
    "lineage": child_older_than_its_parent,
    "lora-differs": wrong_rank_in_the_config,
    "manifest-unreadable": edited_manifest,
    "module-shapes": module_that_the_base_model_lacks,
    "no-effect": untrained,
    "provenance-unknown": imported,
    "report-differs": report_on_another_base_model,
    "quarantine-elsewhere": unquarantined_by_hand,
    "report-inconsistent": interval_beside_its_value,
    "score-missing": hidden_score,
    "score-unsupported": embellished_score,
    "status-differs": unquarantined_by_hand,
    "status-foreign": status_of_other_bytes,
    "unsafe-file": planted_pickle,
    "version-rule": patch_with_other_weights,
    "weights-digest": wrong_weights_digest,
    "weights-not-finite": nan_in_the_weights,
}
