"""From a reference to something that runs: resolve, pull, load, prove.

load("mini/da"), load("auto"), load("base-model", language="pl"), load("./my-adapter")
model, processor = load_model("mini/da")
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adapter_hub.artifact import Artifact
from adapter_hub.base_model import EMBEDDED_ID
from adapter_hub.cache import Cache
from adapter_hub.canonical import canonical_bytes, hex_of, sha256_hex
from adapter_hub.errors import InvalidInputError
from adapter_hub.exchange import pull
from adapter_hub.paths import cache_folder, write_atomically
from adapter_hub.reference import AdapterRef, is_local
from adapter_hub.registry import Registry, open_registries
from adapter_hub.runtime.base_model import BaseModel, load_base_model
from adapter_hub.runtime.composition import Session
from adapter_hub.runtime.loading import ResidentAdapter, load_adapter
from adapter_hub.runtime.probe import check_probe
from adapter_hub.runtime.routing import THRESHOLD, FixedRoute, LanguageRouter, find_candidates
from adapter_hub.runtime.transcriber import Transcriber

AUTO, BASE_MODEL = "auto", "base-model"


@dataclass(frozen=True)
class Places:
    """Where to look: the registry's file and the cache's folder, None for the defaults."""

    registry: str | None = None
    cache: str | None = None

    def registries(self) -> tuple[Registry, ...]:
        """Return the registries to resolve in, in order."""
        return open_registries(self.registry)

    def fetch(self, ref: str | AdapterRef, *, allow_quarantined: str | None = None) -> Artifact:
        """Return the artifact of a reference, pulled into the cache if need be."""
        return pull(
            ref,
            registries=self.registries(),
            cache=Cache(cache_folder(self.cache)),
            allow_quarantined=allow_quarantined,
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
) -> Transcriber:
    """Return a transcriber for an adapter, for `auto`, or for `base-model`.

    Args:
        ref: `namespace/name` with or without version, an artifact's folder, `auto`, or `base-model`.
        language: BCP 47 tag to transcribe; by default the adapter's, or identified by the base model.
        decode_language: Whisper's language to use, where it has no token for `language`.
        base_model: id or folder; by default the one that the adapter names, or the embedded one.
        device: torch's name; None takes a GPU if there is one.
        dtype: float32 (None), float16 or bfloat16.
        registry: path of the registry file.
        cache: path of the cache's folder.
        threshold: for `auto`, the least probability of a language for its adapter to be used.
        allow_quarantined: digest of a quarantined version that shall be loaded nevertheless.

    Raises:
        NotFoundError, StatusError, IntegrityError, InvalidInputError: one line each.
    """
    places = Places(registry, cache)
    if ref in (AUTO, BASE_MODEL):
        base = load_base_model(base_model or EMBEDDED_ID, device=device, dtype=dtype)
        if ref == BASE_MODEL:
            route = FixedRoute(base, None, language, decode_language)
            _check_language(route)
            return Transcriber(base, route)
        if language is not None:
            raise InvalidInputError(
                "auto identifies the language itself; name an adapter, or leave the language out"
            )
        candidates = find_candidates(places.registries(), base)
        return Transcriber(
            base,
            LanguageRouter(base, candidates, lambda found: _resident(base, places.fetch(found)), threshold),
        )
    artifact = places.fetch(_parsed(ref), allow_quarantined=allow_quarantined)
    base = _base_model_of(artifact, base_model, device, dtype)
    fixed = FixedRoute(base, _resident(base, artifact), language, decode_language)
    _check_language(fixed)
    return Transcriber(base, fixed)


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


def _parsed(ref: str) -> str | AdapterRef:
    return ref if is_local(ref) or Path(ref).is_dir() else AdapterRef.parse(ref)


def _base_model_of(artifact: Artifact, named: str | None, device: str | None, dtype: str | None) -> BaseModel:
    pin = artifact.manifest.base_model
    if named is not None:
        return load_base_model(named, device=device, dtype=dtype)
    return load_base_model(pin.id, revision=pin.revision, device=device, dtype=dtype)


def _check_language(route: FixedRoute) -> None:
    """Refuse a language that cannot be decoded before any audio is read."""
    if route.decode_language is not None:
        route.base.check_languages([route.decode_language])
    elif route.language is not None:
        route.routes(torch.empty(0), [route.language])


def _resident(base: BaseModel, artifact: Artifact) -> ResidentAdapter:
    """Load an adapter and check its probe once for every base model (in float32)."""
    adapter = load_adapter(base, artifact)
    probe = artifact.manifest.probe
    if probe is None or base.dtype != torch.float32:
        return adapter
    key = sha256_hex(canonical_bytes([base.digest, artifact.digest, torch.__version__, str(base.device)]))
    note = cache_folder() / "probed" / f"{hex_of(artifact.digest)[:16]}-{key[:16]}"
    if not note.is_file():
        check_probe(base, adapter, probe)
        with suppress(OSError):  # a cache that cannot be written costs time, nothing else
            write_atomically(note, b"")
    return adapter
