"""From a reference to something that runs: resolve, pull, load, prove.

load("mini/da"), load("auto"), load("base-model", language="pl"), load("./my-adapter")
model, processor = load_model("mini/da")
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adapter_hub.artifact import Artifact
from adapter_hub.base_model import EMBEDDED_ID
from adapter_hub.cache import Cache
from adapter_hub.canonical import canonical_bytes, hex_of, sha256_hex
from adapter_hub.errors import InvalidInputError, NotFoundError
from adapter_hub.exchange import pull
from adapter_hub.paths import cache_folder, write_atomically
from adapter_hub.reference import AdapterRef, is_local
from adapter_hub.registries import open_registries
from adapter_hub.registry import Registry
from adapter_hub.runtime.base_model import BaseModel, load_base_model
from adapter_hub.runtime.composition import Session
from adapter_hub.runtime.loading import ResidentAdapter, load_adapter
from adapter_hub.runtime.probe import check_probe
from adapter_hub.runtime.residents import Residents
from adapter_hub.runtime.routing import THRESHOLD, FixedRoute, LanguageRouter, find_candidates
from adapter_hub.runtime.transcriber import Transcriber

AUTO, BASE_MODEL = "auto", "base-model"


Tell = Callable[[str], None]


@dataclass(frozen=True)
class Places:
    """Where to look, and whom to tell: the registry's file and the cache's folder, None for the defaults."""

    registry: str | None = None
    cache: str | None = None
    tell: Tell = warnings.warn

    @property
    def folder(self) -> Path:
        """The cache's folder."""
        return cache_folder(self.cache)

    def registries(self) -> tuple[Registry, ...]:
        """Return the registries to resolve in, in order."""
        return open_registries(self.registry, cache=self.folder)

    def fetch(self, ref: str | AdapterRef, *, allow_quarantined: str | None = None) -> Artifact:
        """Return the artifact of a reference, pulled into the cache if need be."""
        return pull(
            ref if isinstance(ref, AdapterRef) or is_local(ref) else AdapterRef.parse(ref),
            registries=self.registries(),
            cache=Cache(self.folder),
            allow_quarantined=allow_quarantined,
            tell=self.tell,
        )


def load(  # noqa: PLR0913 - the options of the public face
    ref: str,
    *,
    language: str | None = None,
    decode_language: str | None = None,
    base_model: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    registry: str | None = None,
    cache: str | None = None,
    threshold: float = THRESHOLD,
    allow_quarantined: str | None = None,
    tell: Tell | None = None,
) -> Transcriber:
    """Return a transcriber for an adapter, for `auto`, or for `base-model`.

    Args:
        ref: `namespace/name` with or without version, an artifact's folder, `auto`, or `base-model`.
        language: BCP 47 tag to transcribe; by default the adapter's, or identified by the base model.
        decode_language: Whisper's language to use, where it has no token for `language`.
        base_model: id or folder; by default the one that the adapter names, or the embedded one.
        device: torch's name; None takes a GPU if there is one.
        dtype: float32 (None), float16 or bfloat16.
        registry: path of the registry file, or `hf://datasets/namespace/name`.
        cache: path of the cache's folder.
        threshold: for `auto`, the least probability of a language for its adapter to be used.
        allow_quarantined: digest of a quarantined version that shall be loaded nevertheless.
        tell: called with every warning (a deprecated version, an old copy); by default `warnings.warn`.

    Raises:
        NotFoundError, StatusError, IntegrityError, InvalidInputError: one line each.
    """
    places = Places(registry, cache, tell or warnings.warn)
    if ref in (AUTO, BASE_MODEL):
        base = load_base_model(base_model or EMBEDDED_ID, device=device, dtype=dtype, cache=places.folder)
        if ref == AUTO:
            return Transcriber(base, _router(base, places, language, threshold))
        route = FixedRoute(base, None, language, decode_language)
    else:
        artifact = places.fetch(ref, allow_quarantined=allow_quarantined)
        base = _base_model_of(artifact, base_model, device, dtype, places)
        route = FixedRoute(base, _resident(base, artifact, places), language, decode_language)
    _check_language(route)
    return Transcriber(base, route)


def load_model(
    ref: str,
    *,
    base_model: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    registry: str | None = None,
    cache: str | None = None,
) -> tuple[Any, Any]:
    """Return a transformers model with one adapter in it, and its processor, for those who want the parts.

    Args: as `load`; `ref` may be `base-model`, not `auto`.

    Returns:
        `WhisperForConditionalGeneration` for batches of any size, and `WhisperProcessor`.
    """
    if ref == AUTO:
        raise InvalidInputError("auto has no single model; use load('auto'), or name an adapter")
    transcriber = load(ref, base_model=base_model, device=device, dtype=dtype, registry=registry, cache=cache)
    session = Session(transcriber.base)
    session.seat_all(transcriber.adapter)
    return session.model, transcriber.base.processor


def _base_model_of(
    artifact: Artifact, named: str | None, device: str | None, dtype: str | None, places: Places
) -> BaseModel:
    pin = artifact.manifest.base_model
    if named is not None:
        return load_base_model(named, device=device, dtype=dtype, cache=places.folder)
    try:
        return load_base_model(pin.id, revision=pin.revision, device=device, dtype=dtype, cache=places.folder)
    except NotFoundError as error:
        raise NotFoundError(
            f"{artifact.ref} needs its base model: {error}; or name it with --base-model"
        ) from None


def _router(base: BaseModel, places: Places, language: str | None, threshold: float) -> LanguageRouter:
    if language is not None:
        raise InvalidInputError(
            "auto identifies the language itself; name an adapter, or leave --language out"
        )
    candidates = find_candidates(places.registries(), base)
    residents = Residents[AdapterRef](lambda ref: _resident(base, places.fetch(ref), places))
    return LanguageRouter(base, candidates, residents.get, threshold)


def _check_language(route: FixedRoute) -> None:
    """Refuse a language that cannot be decoded before any audio is read."""
    if route.decode_language is not None:
        route.base.check_languages([route.decode_language])
    elif route.language is not None:
        route.routes(torch.empty(0), [route.language])


def _resident(base: BaseModel, artifact: Artifact, places: Places) -> ResidentAdapter:
    """Load an adapter and check its probe once for every base model (in float32)."""
    adapter = load_adapter(base, artifact)
    probe = artifact.manifest.probe
    if probe is None or base.dtype != torch.float32:
        return adapter
    key = sha256_hex(canonical_bytes([base.digest, artifact.digest, torch.__version__, str(base.device)]))
    note = places.folder / "probed" / f"{hex_of(artifact.digest)[:16]}-{key[:16]}"
    if not note.is_file():
        check_probe(base, adapter, probe)
        with suppress(OSError):  # a cache that cannot be written costs time, nothing else
            write_atomically(note, b"")
    return adapter
