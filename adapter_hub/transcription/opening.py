"""From a reference to something that runs: resolve, pull, load, prove.

load("mini/da"), load("auto"), load("base-model", language="pl"), load("./my-adapter")
model, processor = load_model("mini/da")
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from adapter_hub.artifact.folder import Artifact
from adapter_hub.base_model.families import refuse_lacking
from adapter_hub.decoding.probe import check_probe
from adapter_hub.errors import InvalidInputError, NotFoundError
from adapter_hub.exchange import Places, pull
from adapter_hub.files.ownership import is_ours, is_private
from adapter_hub.files.writing import make_private, write_atomically
from adapter_hub.formats.canonical import canonical_bytes, hex_of, sha256_hex
from adapter_hub.formats.manifest import Language
from adapter_hub.formats.reference import AUTO, BASE_MODEL, AdapterRef, parse_blend
from adapter_hub.model.base_model import BaseModel, load_base_model, load_pinned_base_model
from adapter_hub.model.blending import blended
from adapter_hub.model.loading import ResidentAdapter, load_adapter
from adapter_hub.model.memory import memory_guard
from adapter_hub.model.merging import merge_into
from adapter_hub.model.residents import Residents
from adapter_hub.reporting import Tell
from adapter_hub.speech.languages import language_tag, whisper_code
from adapter_hub.transcription.candidates import by_language, find_candidates
from adapter_hub.transcription.default_base_model import default_base_model
from adapter_hub.transcription.routing import THRESHOLD, Candidate, FixedRoute, LanguageRouter
from adapter_hub.transcription.transcriber import Transcriber, warn


def load(  # noqa: PLR0913 - the options of the public face
    ref: str | os.PathLike[str],
    *,
    language: str | None = None,
    decode_language: str | None = None,
    base_model: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    registry: str | None = None,
    cache: str | None = None,
    threshold: float = THRESHOLD,
    adapters: Sequence[str] = (),
    languages: Sequence[str] = (),
    fallback: str | None = None,
    allow_quarantined: str | None = None,
    tell: Tell | None = None,
) -> Transcriber:
    """Return a transcriber for an adapter, for `auto`, or for `base-model`.

    Args:
        ref: `namespace/name` with or without version, an artifact's folder, `auto`, `base-model`, or several
            adapters with weights, like `mini/pl*0.5+mini/it*0.5`, whose updates are summed.
        language: BCP 47 tag to transcribe; by default the adapter's, or identified by the base model, or
            `und` where that is a Parakeet, which need not be told.
        decode_language: Whisper's language to use, where it has no token for `language`.
        base_model: id or folder; by default the one that the adapter names; for `auto` and `base-model` the
            one of the adapters in the user's registries, and the embedded one if there are none.
        device: torch's name; None takes a GPU if there is one.
        dtype: float32 (None), float16 or bfloat16.
        registry: path of the registry file, or `hf://datasets/namespace/name`.
        cache: path of the cache's folder.
        threshold: for `auto`, the least probability of a language for its adapter to be used.
        adapters: for `auto`, the ones to choose among; by default all that the registries offer.
        languages: for `auto` and `base-model`, BCP 47 tags of the only ones to choose among.
        fallback: for `auto`, the adapter for languages that have none; by default the base model alone.
        allow_quarantined: digest of a quarantined version to load anyway.
        tell: called with every warning (a deprecated version, an old copy); by default `warnings.warn`.

    Raises:
        NotFoundError: no such adapter, or its base model is not here; the message names the next step.
        StatusError: the version is quarantined or withdrawn.
        IntegrityError: files, weights or probe are not those of the manifest.
        InvalidInputError: arguments that do not fit together, or an unknown language, device or dtype.
    """
    if not isinstance(ref, str | os.PathLike):
        raise InvalidInputError(
            f"{type(ref).__name__} as an adapter; expected one reference, like 'mini/da'. Several to choose "
            "among: load('auto', adapters=[…]); several at once: 'mini/pl*0.5+mini/it*0.5'"
        )
    source = ref if isinstance(ref, str) else Path(ref)  # a path is a folder, whatever its name
    places = Places(registry, cache=cache, device=device, dtype=dtype, tell=tell or warn)
    language = language and language_tag(language)
    decode_language = decode_language and whisper_code(decode_language)
    if ref != AUTO and (adapters or fallback is not None):
        raise InvalidInputError(f"{ref}: adapters to choose among, and a fallback, are for auto")
    if ref == AUTO:
        if language is not None or decode_language is not None:
            raise InvalidInputError(
                "auto identifies the language itself; name an adapter, or leave `language` out"
            )
        base, router = _router(places, base_model, adapters, fallback)
        _check_family(base, languages=languages)
        return Transcriber(base, replace(router, threshold=threshold, languages=languages), places.warn)
    if ref == BASE_MODEL:
        base = usual_base_model(base_model, places)
        if language is None and decode_language is None:
            found = route_without_adapters(base, threshold, languages)
            if isinstance(found, LanguageRouter):
                return Transcriber(base, found, places.warn)
        route = FixedRoute(base, None, language, decode_language)
    elif isinstance(source, str) and (blend := parse_blend(source)) is not None:
        artifacts = [pull(part, places) for part, _ in blend]
        base = base_model_of(artifacts[0], base_model, places)
        adapter, spoken = blended_adapter(base, artifacts, [weight for _, weight in blend], places)
        route = FixedRoute(base, adapter, language, decode_language, spoken)
    else:
        artifact = pull(source, places, allow_quarantined=allow_quarantined)
        base = base_model_of(artifact, base_model, places)
        route = FixedRoute(base, proven_adapter(base, artifact, places), language, decode_language)
    _check_family(base, languages=languages, decode_language=decode_language)
    if languages:
        raise InvalidInputError(f"{ref}: its language is known; the languages to choose among are for auto")
    _check_language(route)
    return Transcriber(base, route, places.warn)


def load_model(
    ref: str | os.PathLike[str],
    *,
    base_model: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    registry: str | None = None,
    cache: str | None = None,
) -> tuple[Any, Any]:
    """Return a plain transformers model with one adapter merged into it, and its processor.

    Args:
        ref: as in `load`, or `base-model`; not `auto`.
        base_model: as in `load`.
        device: as in `load`.
        dtype: as in `load`.
        registry: as in `load`.
        cache: as in `load`.

    Returns:
        `WhisperForConditionalGeneration` or `ParakeetForCTC`, in eval mode, and its processor. Save it,
        convert it, halve it: the adapter's updates are in its weights, its language and task in the
        generation settings. `adapter_hub.export_model` writes it for other programs, with its provenance.

    Raises:
        InvalidInputError: for `auto`; for a token-gated pair, to which no plain model is equal. And as
            `load`.
    """
    if ref == AUTO:
        raise InvalidInputError("auto has no single model; use load('auto'), or name an adapter")
    transcriber = load(ref, base_model=base_model, device=device, dtype=dtype, registry=registry, cache=cache)
    if transcriber.adapter is not None:
        merge_into(transcriber.base, transcriber.adapter)
    return transcriber.base.model, transcriber.base.processor


def usual_base_model(named: str | None, places: Places) -> BaseModel:
    """Load the base model that was named, or the one of the user's adapters.

    Args:
        named: id or folder.
        places: registries, device and cache.

    Raises:
        NotFoundError, InvalidInputError: as `load`.
    """
    return _named_base_model(named, places) if named else default_base_model(places)


def base_model_of(artifact: Artifact, named: str | None, places: Places) -> BaseModel:
    """Load the base model that was named, or the one that an adapter names.

    Args:
        artifact: of the adapter.
        named: id or folder.
        places: device and cache.

    Raises:
        NotFoundError: it is not here; the message names the next step.
    """
    pin = artifact.manifest.base_model
    if named is not None:
        return _named_base_model(named, places)
    try:
        return load_pinned_base_model(
            pin, device=places.device, dtype=places.dtype, cache=places.cache_folder
        )
    except NotFoundError as error:
        raise NotFoundError(
            f"{artifact.ref} needs its base model: {error}; or name it with --base-model"
        ) from None


def route_without_adapters(
    base: BaseModel, threshold: float = THRESHOLD, languages: Sequence[str] = ()
) -> FixedRoute | LanguageRouter:
    """Return the route of the base model alone, which identifies the language where it has to be told one.

    Args:
        base: the base model.
        threshold: least probability of a language.
        languages: BCP 47 tags of the only ones to choose among.
    """
    if base.needs_language and base.multilingual:
        return LanguageRouter(base, {}, _no_adapter, threshold, languages)
    return FixedRoute(base, None)


def blended_adapter(
    base: BaseModel, artifacts: Sequence[Artifact], weights: Sequence[float], places: Places
) -> tuple[ResidentAdapter, Sequence[Language]]:
    """Return the weighted sum of several adapters, and the languages that they are for.

    Args:
        base: that they are composed with.
        artifacts: of the adapters.
        weights: one for each.
        places: the cache, which remembers what was proven.

    Raises:
        InvalidInputError: they are for several tasks, or do not transcribe. IntegrityError: as `load`.
    """
    first = artifacts[0].manifest
    for artifact in artifacts[1:]:
        if artifact.manifest.task != first.task:
            raise InvalidInputError(
                f"{artifact.ref} is for {artifact.manifest.task}, and {first.ref} for {first.task}"
            )
    if first.task != "transcribe":
        raise InvalidInputError(f"{first.ref} is for {first.task}; only adapters that transcribe are summed")
    residents = [proven_adapter(base, artifact, places) for artifact in artifacts]
    spoken = {language.tag: language for artifact in artifacts for language in artifact.manifest.languages}
    return blended(list(zip(residents, weights, strict=True))), tuple(spoken.values())


def _named_base_model(name: str, places: Places) -> BaseModel:
    return load_base_model(name, device=places.device, dtype=places.dtype, cache=places.cache_folder)


def candidates_among(artifacts: Mapping[str, Artifact]) -> dict[str, Candidate]:
    """Return a candidate of `auto` for each language that some adapters are for.

    Args:
        artifacts: by reference, the best first.
    """
    return by_language(
        Candidate(ref, language.tag, decode_language=language.decode_language)
        for ref, artifact in artifacts.items()
        for language in artifact.manifest.languages
    )


def _router(
    places: Places, base_model: str | None, adapters: Sequence[str], fallback: str | None
) -> tuple[BaseModel, LanguageRouter]:
    """Return the base model and the router of `auto`; adapters that were named are loaded now."""
    named = {ref: pull(ref, places) for ref in [*adapters, *([fallback] if fallback else [])]}
    if named:
        base = base_model_of(next(iter(named.values())), base_model, places)
    else:
        base = usual_base_model(base_model, places)

    def load_one(ref: AdapterRef | str) -> ResidentAdapter:
        artifact = named[ref] if isinstance(ref, str) and ref in named else pull(ref, places)
        return proven_adapter(base, artifact, places)

    residents = Residents[AdapterRef | str](load_one)
    if adapters:
        candidates = candidates_among({ref: named[ref] for ref in adapters})
    else:
        candidates = find_candidates(places.registries(), base, places.open_cache(), places.warn)
    for ref in named:
        residents.get(ref)
    last = None if fallback is None else residents.get(fallback)
    return base, LanguageRouter(base, candidates, residents.get, fallback=last, tell=places.warn)


def _no_adapter(ref: AdapterRef | str) -> ResidentAdapter:
    raise NotFoundError(f"{ref}: the base model alone has no adapters; use load('auto', adapters=[…])")


def _check_family(base: BaseModel, **asked: object) -> None:
    """Refuse arguments that the base model's family has no use for."""
    refuse_lacking(base.family, [name for name, value in asked.items() if value])


def _check_language(route: FixedRoute) -> None:
    """Refuse a language that cannot be decoded, before any audio is read."""
    if route.decode_language is not None:
        route.base.check_languages([route.decode_language])
    elif route.language is not None:
        route.route(route.language)


def proven_adapter(base: BaseModel, artifact: Artifact, places: Places) -> ResidentAdapter:
    """Load an adapter and check its probe once for every base model (in float32).

    Args:
        base: that it is composed with.
        artifact: of the adapter.
        places: the cache, which remembers what was proven.

    Raises:
        IntegrityError: files, weights or probe are not those of the manifest.
        OutOfMemoryError: the base model's device has no room for it.
    """
    adapter = load_adapter(base, artifact)
    probe = artifact.manifest.probe
    if probe is None or base.dtype != torch.float32:
        return adapter
    key = sha256_hex(canonical_bytes([base.digest, artifact.digest, torch.__version__, str(base.device)]))
    note = places.cache_folder / "probed" / f"{hex_of(artifact.digest)[:16]}-{key[:16]}"
    if not (note.is_file() and is_ours(note.lstat()) and is_private(note.parent)):
        with memory_guard(f"{adapter.name} on {base.device}"):
            check_probe(base, adapter, probe)
        with suppress(OSError):  # a cache that cannot be written costs time, nothing else
            make_private(places.cache_folder)
            write_atomically(note, b"")
    return adapter
