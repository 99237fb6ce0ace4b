"""Take in somebody's PEFT adapter: `adapter-hub import FOLDER --language da --base-model ID`.

    artifact = import_peft(Path("their-lora"), Path("out"), identity, base_model_folder)

The weights' bytes are copied as they are, the config is written anew in one spelling, and the manifest
says `imported`: parents, data and training are unknown, and the audit says so.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapter_hub.artifact import Artifact, seal
from adapter_hub.base_model import base_model_digest, linear_shapes, read_config
from adapter_hub.errors import ConflictError, IntegrityError
from adapter_hub.manifest import BaseModelPin, Language
from adapter_hub.paths import folder_in_the_making
from adapter_hub.peft_format import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    canonical_config,
    has_effect,
    read_peft,
    shape_differences,
)
from adapter_hub.reference import check_name, check_version
from adapter_hub.weights import value_problems


@dataclass(frozen=True)
class Identity:
    """What a PEFT folder does not say of itself.

    Attributes:
        name: `namespace/name`.
        version: like `1.0.0`.
        languages: at least one.
        license: SPDX expression.
        authors: names, may be empty.
        task: `transcribe` or `translate`.
        timestamps: whether it was trained with timestamp tokens.
    """

    name: str
    version: str
    languages: tuple[Language, ...]
    license: str = "LicenseRef-unknown"
    authors: tuple[str, ...] = ()
    task: str = "transcribe"
    timestamps: bool = False


def base_model_pin(folder: Path, base_model_id: str, revision: str | None = None) -> BaseModelPin:
    """Return the pin of the base model in `folder`; reads every weight once."""
    architectures = read_config(folder).get("architectures") or ["WhisperForConditionalGeneration"]
    return BaseModelPin(
        id=base_model_id,
        revision=revision,
        architecture=architectures[0],
        digest=base_model_digest(folder),
    )


def import_peft(
    source: Path, target: Path, identity: Identity, base_model: BaseModelPin, base_model_folder: Path
) -> Artifact:
    """Make an artifact of a PEFT adapter; `target` appears whole or not at all.

    Args:
        source: folder with adapter_config.json and adapter_model.safetensors.
        target: folder that does not exist yet.
        identity: name, version, languages and licence.
        base_model: the pin of the base model, see `base_model_pin`.
        base_model_folder: where the base model is.

    Raises:
        NotFoundError: no safetensors there. InvalidInputError: not a plain LoRA.
        IntegrityError: the tensors do not fit the config or the base model, are not finite, or do nothing.
        ConflictError: `target` exists.
    """
    check_name(identity.name)
    check_version(identity.version)
    if target.exists():
        raise ConflictError(f"{target}: exists already; name a folder that does not")
    adapter = read_peft(source)
    differences = [
        *shape_differences(adapter, linear_shapes(base_model_folder)),
        *value_problems(source, WEIGHTS_FILE),
        *([] if has_effect(source / WEIGHTS_FILE) else ["every update is zero: it changes nothing"]),
    ]
    if differences:
        raise IntegrityError(
            f"{source / WEIGHTS_FILE} on base model {base_model.id}",
            differences,
            "was it trained on another base model?",
        )
    with folder_in_the_making(target) as scratch:
        config = canonical_config(adapter, base_model.id, base_model.revision)
        (scratch / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
        shutil.copyfile(source / WEIGHTS_FILE, scratch / WEIGHTS_FILE)
        seal(scratch, _fields(identity, base_model))
    return Artifact.open(target)


def _fields(identity: Identity, base_model: BaseModelPin) -> dict[str, Any]:
    return {
        "name": identity.name,
        "version": identity.version,
        "authors": list(identity.authors),
        "license": identity.license,
        "method": "imported",
        "task": identity.task,
        "timestamps": identity.timestamps,
        "languages": [language.to_json() for language in identity.languages],
        "base_model": base_model.to_json(),
    }


def languages_of(tags: Sequence[str], decode_languages: Sequence[str] = ()) -> tuple[Language, ...]:
    """Pair BCP 47 tags with Whisper's tokens; a tag without one is decoded as its first part.

    >>> languages_of(["pt-BR"])[0].decode_language
    'pt'
    """
    decoded = [*decode_languages, *(tag.split("-")[0].lower() for tag in tags[len(decode_languages) :])]
    return tuple(
        Language(tag=tag, decode_language=decode) for tag, decode in zip(tags, decoded, strict=False)
    )
