"""The families of base models, by the `model_type` of config.json: what their files are, and what each lacks.

family_of(folder)                         # "whisper" or "parakeet_ctc"
settings_record(folder)                   # what enters the digest, beside the weights
refuse_lacking(PARAKEET, ["beams"])       # what only another family has, in one line

What computes with a family is in tables by the same keys: `adapter_hub.model.base_model.ASSEMBLERS`,
`adapter_hub.decoding.probe.ANSWERS`, `adapter_hub.transcription.window_decoding.DECODERS`; of training
`adapter_hub.trainers.data.rows.ROWS` and `adapter_hub.trainers.loop.families.FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from adapter_hub.base_model import parakeet, settings
from adapter_hub.errors import InvalidInputError

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
class BaseModelFamily:
    """One family.

    Attributes:
        title: what messages and docs call it.
        read: returns the settings of a folder.
        schema: of the record that the digest is made of.
        architecture: transformers' class, which manifests name.
        needed: the JSON files of every copy, beside the weights.
        beams: of the search, where nobody asks for others; 1 is greedy.
        instead: the files that a repository may have in place of one that is needed, maybe none.
        lacks: what other families have and this one has not, by the word for it in options and recipes.
    """

    title: str
    read: Callable[[Path], FamilySettings]
    schema: str
    architecture: str
    needed: tuple[str, ...]
    beams: int
    instead: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    lacks: Mapping[str, str] = field(default_factory=dict)


FAMILIES = {
    WHISPER: BaseModelFamily(
        title="Whisper",
        read=settings.read_settings,
        schema="base-model/2",
        architecture="WhisperForConditionalGeneration",
        needed=("config.json", "generation_config.json", "tokenizer.json"),
        beams=5,
        instead={"generation_config.json": (), "tokenizer.json": (settings.VOCABULARY, settings.MERGES)},
    ),
    PARAKEET: BaseModelFamily(
        title="Parakeet CTC",
        read=parakeet.read_parakeet_settings,
        schema="parakeet-base-model/1",
        architecture="ParakeetForCTC",
        needed=("config.json", "tokenizer.json"),
        beams=1,
        lacks={
            "beams": "beam search",
            "decode_language": "language tokens",
            "expert-pair": "expert pairs",
            "label_smoothing": "label smoothing",
            "languages": "language identification",
            "nearest": "language identification",
            "no_speech": "a token for no speech",
            "previous_text": "prompts",
            "prompt": "prompts",
            "temperatures": "sampling",
            "timestamp tokens": "timestamp tokens",
            "translate": "translation",
        },
    ),
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


def family_of_architecture(architecture: str) -> str:
    """Return the key of the family that a manifest names by its class; an unknown class counts as a Whisper.

    Args:
        architecture: `manifest.base_model.architecture`.
    """
    return next((key for key, item in FAMILIES.items() if item.architecture == architecture), WHISPER)


def refuse_lacking(family: str, asked: Iterable[str]) -> None:
    """Refuse what a family of base models does not have.

    Args:
        family: of `FAMILIES`.
        asked: what the caller wants, by the keys of `lacks`; others are no concern of this function.

    Raises:
        InvalidInputError: one line with all that is lacking.
    """
    about = FAMILIES[family]
    if lacking := [word for word in asked if word in about.lacks]:
        without = ", ".join(dict.fromkeys(about.lacks[word] for word in lacking))
        raise InvalidInputError(
            f"{', '.join(lacking)}: a {about.title} has no {without}; leave that out, or use a base model of "
            "another family"
        )


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
