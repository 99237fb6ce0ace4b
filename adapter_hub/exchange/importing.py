"""Import a third-party PEFT adapter, from a folder or from the Hub.

    found = download_peft("hf://alice/whisper-small-da@main", folder)
    artifact = import_peft(folder, Path("out"), identity, base_model_pin, base_model_folder)

The tensors are copied byte for byte, without the notes of the program that wrote them; the config is
rewritten in its canonical form, and the manifest says `imported`: parents, data and training are unknown, and
the audit says so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from adapter_hub.artifact.effects import NO_EFFECT, has_effect
from adapter_hub.artifact.folder import Artifact, seal
from adapter_hub.artifact.peft import WEIGHTS_FILE, canonical_config, read_peft, shape_differences
from adapter_hub.artifact.peft_config import CONFIG_FILE, MAXIMUM_CONFIG, read_peft_config
from adapter_hub.artifact.safetensors_file import copy_without_notes
from adapter_hub.artifact.weights import value_problems
from adapter_hub.base_model.digest import base_model_digest, linear_shapes
from adapter_hub.base_model.families import family_of_architecture, refuse_lacking
from adapter_hub.base_model.finding import public_base_model
from adapter_hub.base_model.settings import read_config
from adapter_hub.errors import ConflictError, IntegrityError, InvalidInputError, NotFoundError, few
from adapter_hub.escaping import shown
from adapter_hub.files.writing import folder_in_the_making
from adapter_hub.formats.canonical import MAXIMUM_TEXT, explain
from adapter_hub.formats.manifest import BaseModelPin, Language
from adapter_hub.formats.reference import check_name, check_version
from adapter_hub.hub import HubClient, RepoId, check_revision
from adapter_hub.speech.languages import language_tag, whisper_code

MAXIMUM_WEIGHTS = 2 * 2**30  # bytes; rank 256 on every linear of whisper-large-v3 in float32 is 1.3 GB


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
    """

    name: str
    version: str
    languages: tuple[Language, ...]
    license: str = "LicenseRef-unknown"
    authors: tuple[str, ...] = ()
    task: str = "transcribe"
    timestamps: bool = False
    source: str | None = None


@dataclass(frozen=True)
class PeftSource:
    """What a PEFT adapter records about itself.

    Attributes:
        source: `hf://namespace/name@<commit>`, or None for a folder.
        languages: of the card, as written there.
        license: the Hub's spelling.
        base_model: the Hub id, from the adapter's config or the card.
        base_model_revision: from the config.
    """

    source: str | None
    languages: tuple[str, ...] = ()
    license: str | None = None
    base_model: str | None = None
    base_model_revision: str | None = None


def download_peft(text: str, folder: Path, client: HubClient | None = None) -> PeftSource:
    """Download a third-party PEFT adapter: its two files and nothing else, hashed on this machine.

    Args:
        text: `hf://namespace/name`, with `@` and a branch, tag or commit if need be.
        folder: where the files go.
        client: of the Hub; by default that of HF_ENDPOINT.

    Raises:
        NotFoundError: no such repository or revision, or no safetensors in it. AccessError, UnreachableError.
        InvalidInputError: not such a text, or files too large for an adapter.
    """
    address, _, revision = text.partition("@")
    repo, client = RepoId.parse(address), client or HubClient()
    state = client.state(repo, check_revision(revision or "main"))
    source = f"{repo}@{state.commit}"
    tree = client.tree(repo, state.commit)
    if missing := [name for name in (CONFIG_FILE, WEIGHTS_FILE) if name not in tree]:
        pickles = [path for path in tree if path.endswith((".bin", ".pt", ".pth"))]
        instead = f" but {', '.join(pickles)}, and pickles are never read" if pickles else ""
        raise NotFoundError(
            f"{source}: no {', '.join(missing)}{instead}; expected a PEFT adapter as safetensors"
        )
    for name, limit in ((CONFIG_FILE, MAXIMUM_CONFIG), (WEIGHTS_FILE, MAXIMUM_WEIGHTS)):
        if tree[name].size > limit:
            raise InvalidInputError(f"{source}: {name} has {tree[name].size} bytes, expected at most {limit}")
    wanted = {name: tree[name].expected for name in (CONFIG_FILE, WEIGHTS_FILE)}
    client.download(repo, state.commit, wanted, folder)
    config = read_peft_config(folder)
    licences, bases = state.card_texts("license"), state.card_texts("base_model")
    return PeftSource(
        source,
        state.languages,
        licences[0] if licences else None,
        config.base_model_name_or_path or (bases[0] if len(bases) == 1 else None),
        check_revision(config.revision) if config.revision else None,
    )


def base_model_pin(folder: Path, base_model_id: str, revision: str | None = None) -> BaseModelPin:
    """Return the pin of the base model in `folder`; reads every weight once.

    Args:
        folder: of the base model.
        base_model_id: its Hub id, or what the user calls it.
        revision: its commit; by default the one that the folder's path names, if any.
    """
    named = read_config(folder).get("architectures") or ["WhisperForConditionalGeneration"]
    if not (isinstance(named, list) and isinstance(named[0], str) and 0 < len(named[0]) <= MAXIMUM_TEXT):
        raise InvalidInputError(
            f"{folder / 'config.json'}: architectures is {shown(named, 60)}, expected a list of texts"
        )
    name, commit = public_base_model(base_model_id, folder)
    return BaseModelPin(
        id=name,
        revision=revision or commit,
        architecture=named[0],
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
    adapter = read_peft(source)
    differences = [
        *shape_differences(adapter, linear_shapes(base_model_folder)),
        *value_problems(source, WEIGHTS_FILE),
        *([] if has_effect(source / WEIGHTS_FILE) else [NO_EFFECT]),
    ]
    if differences:
        raise IntegrityError(
            f"{source / WEIGHTS_FILE} on base model {base_model.id}",
            differences,
            "was it trained on another base model?",
        )
    with folder_in_the_making(target) as scratch:
        config = canonical_config(adapter.modules, adapter.dropout, base_model.id, base_model.revision)
        (scratch / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
        copy_without_notes(source / WEIGHTS_FILE, scratch / WEIGHTS_FILE)
        seal(scratch, fields)
    return Artifact.open(target)


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
        "task": identity.task,
        "timestamps": identity.timestamps,
        "languages": [language.to_json() for language in identity.languages],
        "base_model": base_model.to_json(),
    }


def languages_of(tags: Sequence[str], decode_languages: Sequence[str] = ()) -> tuple[Language, ...]:
    """Pair BCP 47 tags with Whisper's tokens; a tag without one is decoded as its first part.

    Args:
        tags: BCP 47 tags, or English names.
        decode_languages: Whisper's language codes for the first of the tags.

    Raises:
        InvalidInputError: an empty tag, or one of thousands of characters.

    >>> languages_of(["pt-BR"])[0].decode_language
    'pt'
    """
    tags = [language_tag(tag) for tag in tags]
    decoded = [*map(whisper_code, decode_languages), *map(whisper_code, tags[len(decode_languages) :])]
    try:
        return tuple(
            Language(tag=tag, decode_language=decode) for tag, decode in zip(tags, decoded, strict=False)
        )
    except ValidationError as error:
        raise InvalidInputError(f"languages {few(tags, separator=', ', most=3)}: {explain(error)}") from None
