"""The families of base models, by the `model_type` of config.json: what reads the settings of each.

family_of(folder)               # "whisper" or "parakeet_ctc"
settings_record(folder)         # what enters the digest, beside the weights
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from adapter_hub.base_model import parakeet, settings

WHISPER, PARAKEET = "whisper", parakeet.MODEL_TYPE


class FamilySettings(Protocol):
    """The effective values of a base model of any family."""

    def record(self) -> dict[str, Any]:
        """Return all that decides the text, but for the weights, as plain JSON data."""
        ...

    def tensor_problems(self, found: Mapping[str, tuple[int, ...]]) -> list[str]:
        """Return what is wrong with the tensors of the weights, in a few words each.

        Args:
            found: the shapes of the tensors in the files, by name.
        """
        ...


@dataclass(frozen=True)
class SettingsFamily:
    """One family.

    Attributes:
        title: what messages and docs call it.
        read: returns the settings of a folder.
        schema: of the record that the digest is made of.
    """

    title: str
    read: Callable[[Path], FamilySettings]
    schema: str


FAMILIES = {
    WHISPER: SettingsFamily("Whisper", settings.read_settings, "base-model/2"),
    PARAKEET: SettingsFamily("Parakeet CTC", parakeet.read_parakeet_settings, "parakeet-base-model/1"),
}


def family_of(folder: Path) -> str:
    """Return the key of a base model's family; whatever is none of the others is read as a Whisper.

    Args:
        folder: of the base model.

    Raises:
        NotFoundError: no config.json. InvalidInputError: it is no JSON object.
    """
    kind = settings.read_config(folder).get("model_type")
    return kind if isinstance(kind, str) and kind in FAMILIES else WHISPER


def settings_record(folder: Path) -> dict[str, Any]:
    """Return the record of a base model's effective settings, with the digest's schema of its family.

    Args:
        folder: of the base model.

    Raises:
        NotFoundError: a file is missing. InvalidInputError: a value cannot be.
    """
    family = FAMILIES[family_of(folder)]
    return {"schema": family.schema, **family.read(folder).record()}


def tensor_problems(folder: Path, found: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Return what is wrong with the tensors of a base model's weights; none if they are whole.

    Args:
        folder: of the base model.
        found: the shapes of the tensors in its files, by name.

    Raises:
        NotFoundError: a file is missing. InvalidInputError: a value cannot be.
    """
    return FAMILIES[family_of(folder)].read(folder).tensor_problems(found)
