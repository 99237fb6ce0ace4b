"""Import a third-party PEFT adapter.

    found = open_peft("hf://alice/whisper-small-da@main", scratch)       # of `peft_sources`
    artifact = import_peft(found.folder, Path("out"), identity, base_model_pin, base_model_folder)

The tensors are copied byte for byte, without the notes of the program that wrote them, wherever they are as
PEFT writes them now (`artifact.foreign`); the config is rewritten in its canonical form, and the manifest
says `imported`: parents, data and training are unknown, and the audit says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapter_hub.artifact.effects import NO_EFFECT, has_effect
from adapter_hub.artifact.folder import Artifact, seal
from adapter_hub.artifact.foreign import BaseModelParts, read_foreign, write_plain
from adapter_hub.artifact.peft import WEIGHTS_FILE, canonical_config, shape_differences
from adapter_hub.artifact.peft_config import CONFIG_FILE
from adapter_hub.artifact.weights import value_problems
from adapter_hub.base_model.digest import (
    base_model_digest,
    linear_shapes,
    module_paths,
    stamped_digest,
    tensor_digests,
)
from adapter_hub.base_model.families import FAMILIES, family_of, family_of_architecture, refuse_lacking
from adapter_hub.base_model.finding import find_base_model, public_base_model
from adapter_hub.base_model.settings import read_config, read_settings
from adapter_hub.errors import AdapterHubError, ConflictError, IntegrityError, InvalidInputError
from adapter_hub.escaping import shown
from adapter_hub.files.writing import folder_in_the_making
from adapter_hub.formats.canonical import MAXIMUM_TEXT
from adapter_hub.formats.manifest import BaseModelPin, Language
from adapter_hub.formats.reference import check_name, check_version
from adapter_hub.speech.languages import language_tag, nearest_languages, whisper_code

_TAG = re.compile(r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8})*")


@dataclass(frozen=True)
class Identity:
    """What weights from elsewhere, a PEFT folder or a full fine-tune, do not record about themselves.

    Attributes:
        name: `namespace/name`.
        version: like `1.0.0`.
        languages: at least one.
        license: SPDX expression.
        authors: names, may be empty.
        task: `transcribe` or `translate`.
        timestamps: whether it was trained with timestamp tokens.
        source: where it was taken from, like `hf://namespace/name@<commit>`.
        named_base_model: what its own config names, where it was taken in for another all the same.
    """

    name: str
    version: str
    languages: tuple[Language, ...]
    license: str = "LicenseRef-unknown"
    authors: tuple[str, ...] = ()
    task: str = "transcribe"
    timestamps: bool = False
    source: str | None = None
    named_base_model: str | None = None


def base_model_pin(
    folder: Path, base_model_id: str, revision: str | None = None, *, cache: Path | None = None
) -> BaseModelPin:
    """Return the pin of the base model in `folder`; reads every weight once, unless the digest is remembered.

    Args:
        folder: of the base model.
        base_model_id: its Hub id, or what the user calls it.
        revision: its commit; by default the one that the folder's path or its digest names, if any.
        cache: the cache's folder, where digests and names are remembered; None reads every weight.
    """
    named = read_config(folder).get("architectures") or ["WhisperForConditionalGeneration"]
    if not (isinstance(named, list) and isinstance(named[0], str) and 0 < len(named[0]) <= MAXIMUM_TEXT):
        raise InvalidInputError(
            f"{folder / 'config.json'}: architectures is {shown(named, 60)}, expected a list of texts"
        )
    digest = base_model_digest(folder) if cache is None else stamped_digest(folder, cache)
    name, commit = public_base_model(base_model_id, folder, digest, cache)
    return BaseModelPin(id=name, revision=revision or commit, architecture=named[0], digest=digest)


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
        NotFoundError: no safetensors there. InvalidInputError: not a plain LoRA, or for a task that the base
            model's family has not.
        IntegrityError: the tensors do not fit the config or the base model, are not finite, or do nothing.
        ConflictError: `target` exists.
    """
    check_name(identity.name)
    check_version(identity.version)
    fields = imported_fields(identity, base_model)
    if target.exists():
        raise ConflictError(f"{target}: exists already; name a folder that does not")
    found = read_foreign(source, _parts(base_model_folder))
    where, adapter = f"{source / WEIGHTS_FILE} on base model {base_model.id}", found.adapter
    if differences := shape_differences(adapter, linear_shapes(base_model_folder)):
        raise IntegrityError(where, differences, "was it trained on another base model?")
    with folder_in_the_making(target) as scratch:
        config = canonical_config(adapter.modules, adapter.dropout, base_model.id, base_model.revision)
        (scratch / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
        write_plain(found, source / WEIGHTS_FILE, scratch / WEIGHTS_FILE)
        if problems := value_problems(scratch, WEIGHTS_FILE):
            raise IntegrityError(where, problems)
        if not has_effect(scratch / WEIGHTS_FILE):
            raise IntegrityError(where, [NO_EFFECT])
        seal(scratch, fields)
    return Artifact.open(target)


def _parts(folder: Path) -> BaseModelParts:
    return BaseModelParts(
        linear_shapes(folder), module_paths(folder), lambda names: tensor_digests(folder, names)
    )


def imported_fields(identity: Identity, base_model: BaseModelPin) -> dict[str, Any]:
    """Return what the manifest of an imported adapter says, apart from its files.

    Args:
        identity: of the adapter.
        base_model: that it is for.

    Raises:
        InvalidInputError: a task, or timestamps, that the base model's family has not.
    """
    asked = [identity.task, *(["timestamp tokens"] if identity.timestamps else [])]
    refuse_lacking(family_of_architecture(base_model.architecture), asked)
    return {
        "name": identity.name,
        "version": identity.version,
        "authors": list(identity.authors),
        "license": identity.license,
        "method": "imported",
        **({"source": identity.source} if identity.source else {}),
        **({"named_base_model": identity.named_base_model} if identity.named_base_model else {}),
        "task": identity.task,
        "timestamps": identity.timestamps,
        "languages": [language.to_json() for language in identity.languages],
        "base_model": base_model.to_json(),
    }


def languages_of(
    tags: Sequence[str], decode_languages: Sequence[str] = (), *, known: Sequence[str] = ()
) -> tuple[Language, ...]:
    """Pair BCP 47 tags with Whisper's tokens; a tag without one is decoded as its first part.

    Args:
        tags: BCP 47 tags, or English names.
        decode_languages: Whisper's language codes for the first of the tags.
        known: the languages that the base model has tokens for; empty where it needs none.

    Raises:
        InvalidInputError: no tag, or a language that the base model has no token for; with the nearest.

    >>> languages_of(["pt-BR"])[0].decode_language
    'pt'
    """
    if len(decode_languages) > len(tags):
        raise InvalidInputError(
            f"{len(decode_languages)} languages to decode in for {len(tags)} languages; expected one for each"
        )
    found = []
    for place, given in enumerate(tags):
        tag = language_tag(given.strip()).replace("_", "-")
        own = place < len(decode_languages)
        decode = whisper_code(decode_languages[place] if own else tag)
        if known and decode not in known:
            raise InvalidInputError(_unknown_language(decode_languages[place] if own else given, known, own))
        if not _TAG.fullmatch(tag):
            raise InvalidInputError(
                f"language {shown(repr(given), 60)}: expected a BCP 47 tag like da or pt-BR "
                f"(nearest: {nearest_languages(given, known or ('en', 'da', 'pt'))})"
            )
        found.append(Language(tag=tag, decode_language=decode))
    return tuple(found)


def _unknown_language(given: str, known: Sequence[str], own: bool) -> str:
    """Return why a language cannot be decoded, and what can."""
    near = nearest_languages(given, known)
    near = f"expected {near}" if near.startswith("one of") else f"nearest: {near}"
    if tuple(known) == ("en",):
        return f"language {shown(repr(given), 60)}: the base model is English-only; expected en"
    if own:
        return f"decode language {shown(repr(given), 60)}: the base model has no token for it ({near})"
    return (
        f"language {shown(repr(given), 60)}: the base model has no token for it ({near}); if Whisper lacks "
        "the language, name the one whose token it was trained with by --decode-language"
    )


def decode_languages_of(folder: Path) -> tuple[str, ...]:
    """Return the languages that a base model has tokens for; none for a family that needs none.

    Args:
        folder: of the base model.
    """
    if "decode_language" in FAMILIES[family_of(folder)].lacks:
        return ()
    generation = read_settings(folder).generation
    if not generation.get("is_multilingual", True):
        return ("en",)
    return tuple(sorted(token[2:-2] for token in generation.get("lang_to_id") or ()))


def other_base_model(named: str | None, pin: BaseModelPin, cache: Path) -> str | None:
    """Return the base model that an adapter names, if it is another one than it is imported for.

    A base model without a repository is another one only if the named one is here and has another digest.

    Args:
        named: Hub id, from the adapter's config or card.
        pin: of the base model that the user named.
        cache: the cache's folder.
    """
    if named is None or named.lower() == pin.id.lower():
        return None
    try:
        return named if stamped_digest(find_base_model(named, cache=cache)[0], cache) != pin.digest else None
    except AdapterHubError:  # not here, or not whole
        return named if "/" in pin.id else None
