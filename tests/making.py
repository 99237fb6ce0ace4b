"""Tiny adapters for tests, made byte by byte without torch: real files, real digests."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adapter_hub.artifact.folder import Artifact, seal, write_ancestors
from adapter_hub.formats.canonical import canonical_bytes, digest_of, sha256_hex
from adapter_hub.formats.claims import EvaluationReport
from adapter_hub.formats.manifest import Draft, Parent, function_digest
from adapter_hub.registry.file import FileRegistry
from adapter_hub.stores.folder import FolderStore

MODULES = ("model.decoder.layers.0.self_attn.q_proj", "model.encoder.layers.0.fc1")
WIDTH = 4
BASE = digest_of(b"a base model")
OTHER_BASE = digest_of(b"another base model")
Tensors = Mapping[str, tuple[Sequence[int], Sequence[float]]]


def write_safetensors(path: Path, tensors: Tensors) -> None:
    """Write float32 tensors: `{name: (shape, values)}`."""
    header: dict[str, Any] = {}
    body = b""
    for name, (shape, values) in tensors.items():
        raw = struct.pack(f"<{len(values)}f", *values)
        header[name] = {
            "dtype": "F32",
            "shape": list(shape),
            "data_offsets": [len(body), len(body) + len(raw)],
        }
        body += raw
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def lora_tensors(seed: float = 1.0, rank: int = 2, modules: Sequence[str] = MODULES) -> Tensors:
    """Return small LoRA matrices whose values depend on `seed`."""
    tensors: dict[str, tuple[Sequence[int], Sequence[float]]] = {}
    for number, module in enumerate(modules):
        start = f"base_model.model.{module}"
        values = [seed + number + i / 8 for i in range(rank * WIDTH)]
        tensors[f"{start}.lora_A.weight"] = ((rank, WIDTH), values)
        tensors[f"{start}.lora_B.weight"] = ((WIDTH, rank), values)
    return tensors


def peft_config(rank: int = 2, modules: Sequence[str] = MODULES, **changes: Any) -> dict[str, Any]:
    """Return an `adapter_config.json` as plain data."""
    return {
        "peft_type": "LORA",
        "task_type": None,
        "r": rank,
        "lora_alpha": 2 * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": list(modules),
        **changes,
    }


def write_weights(
    folder: Path, seed: float = 1.0, rank: int = 2, modules: Sequence[str] = MODULES, **config: Any
) -> None:
    """Write both of PEFT's files."""
    write_safetensors(folder / "adapter_model.safetensors", lora_tensors(seed, rank, modules))
    text = json.dumps(peft_config(rank, modules, **config), indent=2)
    (folder / "adapter_config.json").write_text(text)


def manifest_fields(name: str = "test/da", version: str = "1.0.0", **changes: Any) -> dict[str, Any]:
    """Return what `seal` needs to be told."""
    return {
        "name": name,
        "version": version,
        "created": "2026-01-01T00:00:00Z",
        "authors": ["A. Tester"],
        "license": "Apache-2.0",
        "method": "lora",
        "task": "transcribe",
        "timestamps": False,
        "languages": [{"tag": "da", "decode_language": "da"}],
        "base_model": {
            "id": "test/tiny",
            "architecture": "WhisperForConditionalGeneration",
            "digest": BASE,
        },
        **changes,
    }


def manifest_bytes(values: Mapping[str, Any]) -> bytes:
    """Return the bytes of a manifest with the function digest that follows from the rest of `values`."""
    rest = {name: value for name, value in values.items() if name != "function_digest"}
    draft = Draft.parse(canonical_bytes(rest), "a test's manifest")
    return canonical_bytes({**rest, "function_digest": function_digest(draft)})


def make_artifact(
    folder: Path,
    name: str = "test/da",
    version: str = "1.0.0",
    *,
    seed: float = 1.0,
    rank: int = 2,
    modules: Sequence[str] = MODULES,
    **changes: Any,
) -> Artifact:
    """Make and seal an adapter; `changes` replace fields of the manifest."""
    write_weights(folder, seed, rank, modules)
    return seal(folder, manifest_fields(name, version, **changes))


def parent_of(artifact: Artifact, role: Any = "seed", weight: float | None = None) -> Parent:
    """Return the manifest's entry for `artifact` as a parent."""
    manifest = artifact.manifest
    return Parent(
        role=role,
        name=manifest.name,
        version=manifest.version,
        digest=artifact.digest,
        weights_digest=manifest.weights_digest,
        function_digest=manifest.function_digest,
        weight=weight,
    )


def make_child(
    folder: Path, parent: Artifact, name: str = "test/child", version: str = "1.0.0", **changes: Any
) -> Artifact:
    """Make a warm-start child of `parent`, created a day later."""
    seed = changes.pop("seed", 7.0)
    write_weights(folder, seed)
    write_ancestors(folder, [parent])
    fields = {"created": "2026-01-02T00:00:00Z", "method": "warm-start", "parents": [parent_of(parent)]}
    return seal(folder, manifest_fields(name, version, **{**fields, **changes}))


def make_report(artifact: Artifact, errors: int = 1, **changes: Any) -> EvaluationReport:
    """Make a report on `artifact`: one utterance of 10 words, `errors` of them wrong."""
    from adapter_hub.evaluation.scoring import count_errors

    wanted = ["en", "to", "tre", "ni", "seks", "syv", "otte", "fem", "ti", "elve"]
    recognised = [*wanted[: 10 - errors], *("x" for _ in range(errors))]
    if errors:
        recognised[2:3], recognised[-1:] = ["fire"], wanted[-1:]
    texts = {"reference": " ".join(wanted), "hypothesis": " ".join(recognised)}
    words, characters = count_errors(*texts.values(), "basic/1", "da")
    row = {
        "id": "1",
        "audio_sha256": sha256_hex(b"audio"),
        "seconds": 2.0,
        "language": "da",
        **texts,
        "words": words.to_json(),
        "characters": characters.to_json(),
    }
    value = {
        "schema": "evaluation/1",
        "created": "2026-01-03T00:00:00Z",
        "subject": {
            "name": artifact.manifest.name,
            "version": artifact.manifest.version,
            "function_digest": artifact.manifest.function_digest,
        },
        "base_model_digest": artifact.manifest.base_model.digest,
        "data": "numbers",
        "data_sha256": sha256_hex(b"data"),
        "split": "test",
        "languages": ["da"],
        "normaliser": "basic/1",
        "decoding": {"beams": 1, "timestamps": False, "language": "da"},
        "primary": "wer",
        "words": words.to_json(),
        "characters": characters.to_json(),
        "interval": {"low": 0.0, "high": 0.5, "resamples": 10, "unit": "utterance", "random_seed": 1},
        "seconds": 2.0,
        "wall_seconds": 1.0,
        "packages": {},
        "rows": [row],
        **changes,
    }
    return EvaluationReport.parse(json.dumps(value).encode(), "a test's report")


def make_places(folder: Path) -> tuple[FileRegistry, FolderStore]:
    """Return an empty registry and its store."""
    return FileRegistry(folder / "hub" / "registry.json"), FolderStore(folder / "hub" / "store")
