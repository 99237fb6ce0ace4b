"""Loading an adapter: one verified read into the adapter's own buffer (invariant 5).

    adapter = load_adapter(base, artifact)

PEFT loads an adapter with missing tensors, NaN or another base model without a word; here everything is
compared with the manifest and the base model first, and all differences are listed at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from adapter_hub.artifact.folder import Artifact
from adapter_hub.artifact.peft import WEIGHTS_FILE
from adapter_hub.artifact.weights import lora_section
from adapter_hub.base_model.families import FAMILIES
from adapter_hub.errors import IntegrityError
from adapter_hub.formats.manifest import LoraSection, Manifest
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.layout import AdapterLayout
from adapter_hub.model.lora_file import read_file, read_lora
from adapter_hub.model.memory import SMALLER, memory_guard
from adapter_hub.model.pairs import load_pair


@dataclass(frozen=True, eq=False)
class ResidentAdapter:
    """An adapter in memory: its weights in one buffer, on the base model's device and in its dtype.

    Attributes:
        name: what to call it in results: the ref, or the folder of weights without a manifest.
        layout: where each module's matrices are.
        buffer: `[layout.size]`.
        manifest: the record; None for bare weights (during training).
        digest: the version's identity; None for bare weights.
    """

    name: str
    layout: AdapterLayout
    buffer: Tensor
    manifest: Manifest | None = None
    digest: str | None = None

    @property
    def bytes(self) -> int:
        """The memory that it takes, in bytes."""
        return self.buffer.numel() * self.buffer.element_size()


def load_adapter(base: BaseModel, artifact: Artifact) -> ResidentAdapter:
    """Load an artifact's weights after checking them against its manifest and the base model.

    Args:
        base: that the adapter is composed with.
        artifact: of any method that has weights; a pair's halves and gate become one buffer.

    Returns:
        The adapter on the base model's device and in its dtype.

    Raises:
        IntegrityError: every difference: base model, file, keys, shapes, dtype, values, no effect.
        OutOfMemoryError: the base model's device has no room for it.
    """
    manifest = artifact.manifest
    differences = _base_model_differences(base, manifest)
    if manifest.method == "expert-pair":
        layout, buffer = load_pair(base, artifact, differences)
    else:
        section = next((section for section in manifest.lora if section.role == "self"), None)
        if section is None:
            raise IntegrityError(
                manifest.ref, [*differences, "the manifest has no lora section of role self"]
            )
        layout, buffer = read_lora(base, artifact, section, differences)
    return ResidentAdapter(
        manifest.ref, layout, _moved(base, buffer, manifest.ref), manifest, artifact.digest
    )


def load_weights(base: BaseModel, folder: Path, section: LoraSection | None = None) -> ResidentAdapter:
    """Load a folder in PEFT's format that has no manifest yet, with the same checks.

    Args:
        base: the base model that it was trained on.
        folder: with `adapter_config.json` and `adapter_model.safetensors`.
        section: what it holds; None reads it from the folder.

    Raises:
        IntegrityError: as `load_adapter`.
    """
    layout, buffer = read_file(base, folder / WEIGHTS_FILE, section or lora_section(folder), str(folder))
    return ResidentAdapter(str(folder), layout, _moved(base, buffer, str(folder)))


def _moved(base: BaseModel, buffer: Tensor, name: str) -> Tensor:
    """Return an adapter's weights on the base model's device."""
    with memory_guard(f"{name} on {base.device}", f"fewer adapters at once, {SMALLER}"):
        return buffer.to(base.device)


def _base_model_differences(base: BaseModel, manifest: Manifest) -> list[str]:
    """Return one line if the adapter was made for another base model, or does what this one cannot."""
    pin = manifest.base_model
    if pin.digest == base.digest:
        lacks = FAMILIES[base.family].lacks
        return [f"made for {lacks[manifest.task]}, which {base.id} has not"] if manifest.task in lacks else []
    return [
        f"made for base model {pin.id} ({_short(pin.digest)}), "
        f"but {base.id} ({_short(base.digest)}) is loaded"
    ]


def _short(digest: str) -> str:
    return digest[: len("sha256:") + 12] + "…"
