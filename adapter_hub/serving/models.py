"""The models that a server has: adapters by reference, `auto`, `base-model`, and aliases of them.

models = Models.open(options, places)
models.router("mini/da~=1.0")                   # loaded if need be; raises why it cannot be
models.refresh()                                # new versions and statuses count from now on
models.listed(), models.described("whisper-1")

All of a server's adapters are composed with one base model. A reference is resolved, judged and verified
when it is first asked for after each refresh, as `adapter_hub.load` does it. Clients may name what the
registries list; folders, repositories on the Hub and blends only where the server was started with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from adapter_hub.artifact.folder import Artifact
from adapter_hub.errors import InvalidInputError, NotFoundError
from adapter_hub.escaping import shown
from adapter_hub.exchange import Places, pull
from adapter_hub.exchange.places import warning_once
from adapter_hub.formats.reference import AUTO, BASE_MODEL, AdapterRef, parse_blend, parse_source
from adapter_hub.isolation import isolated
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.loading import ResidentAdapter
from adapter_hub.model.residents import Residents
from adapter_hub.registry.resolution import Resolved, resolve
from adapter_hub.serving.options import MEGABYTE, ServingOptions
from adapter_hub.transcription.candidates import find_candidates
from adapter_hub.transcription.opening import (
    base_model_of,
    blended_adapter,
    candidates_among,
    proven_adapter,
    route_without_adapters,
    usual_base_model,
)
from adapter_hub.transcription.routing import FixedRoute, LanguageRouter, Router

CHOOSING = (AUTO, BASE_MODEL)


@dataclass(frozen=True)
class _Source:
    """Where the bytes of a model come from: adapters with weights, or one whose weight is 1."""

    parts: tuple[tuple[AdapterRef | Path, float], ...]

    @classmethod
    def of(cls, text: str) -> _Source:
        """Read a user's words."""
        blend = parse_blend(text)
        return cls(tuple((parse_source(ref), weight) for ref, weight in blend or [(text, 1.0)]))


@dataclass
class _Findings:
    """What was found out since the registries were last read."""

    artifacts: dict[AdapterRef | Path, Artifact] = field(default_factory=dict)
    auto: LanguageRouter | None = None
    offered: Mapping[str, Resolved] | None = None


class Models:
    """What a server has; its methods may be called from several threads at once.

    Attributes:
        base: the base model of all.
        places: open registries and cache.
        options: how to serve.
        names: of the models that the server was started with, as clients say them.
        residents: the adapters in memory, by their digests and weights.
    """

    def __init__(self, base: BaseModel, places: Places, options: ServingOptions) -> None:
        """Start with nothing loaded.

        Args:
            base: the base model of all.
            places: open registries and cache.
            options: how to serve.
        """
        self.base, self.places, self.options = base, places, options
        self.residents = Residents[tuple[tuple[str, float], ...]](
            self._load, budget=int(options.resident * MEGABYTE)
        )
        self.names = [*options.aliases]
        self._named: dict[str, _Source] = {}
        self._by_digest: dict[str, Artifact] = {}
        self._found = _Findings()

    @classmethod
    def open(cls, options: ServingOptions, places: Places) -> Models:
        """Load the base model, and the models that were named.

        Args:
            options: how to serve.
            places: registries, cache and device.

        Raises:
            NotFoundError: they are of several base models. And as `adapter_hub.load`.
        """
        places = warning_once(places).opened()
        words = list(dict.fromkeys((*options.models, *options.aliases.values())))
        sources = {text: _Source.of(text) for text in words if text not in CHOOSING}
        if sources:
            first = next(iter(sources.values())).parts[0][0]
            base = base_model_of(pull(first, places), options.base_model, places)
        else:
            base = usual_base_model(options.base_model, places)
        models = cls(base, places, options)
        models.names += [text for text in options.models if text in CHOOSING]
        for text, source in sources.items():
            models._name(text, source)
            models._fixed(source)
        if AUTO in words or not words:
            models._auto()
        return models

    def router(self, name: str) -> Router:
        """Return what transcribes for a model, loaded if need be.

        Args:
            name: a reference, an alias, `auto` or `base-model`.

        Raises:
            NotFoundError: nothing of that name is served. StatusError: its status forbids it.
            IntegrityError, UnreachableError: as `adapter_hub.load`.
        """
        target = self._target(name)
        if target == AUTO:
            return self._auto()
        if isinstance(target, str):
            return route_without_adapters(self.base)
        return self._fixed(target)

    def refresh(self) -> None:
        """Read the registries again; one that cannot be read stays as it was, which is told."""
        for registry in self.places.registries():
            with isolated(f"registry {registry.label}", lambda error: self.places.warn(str(error))):
                registry.refresh()
        self._found = _Findings()

    def listed(self) -> list[dict[str, Any]]:
        """Return OpenAI's objects of the models that can be used now: those named, and those offered."""
        names = self.names if self.options.only else [*self.names, *CHOOSING, *self._offered()]
        found: list[dict[str, Any]] = []
        for name in dict.fromkeys(names):
            with isolated(name, lambda error: None):  # what is retired is not listed
                found.append(self.described(name))
        return found

    def described(self, name: str) -> dict[str, Any]:
        """Return OpenAI's object of a model, and what this project knows besides.

        Args:
            name: as for `router`.

        Raises:
            NotFoundError, StatusError: as for `router`.
        """
        target = self._target(name)
        about = {"id": name, "object": "model", "created": 0, "owned_by": "adapter_hub"}
        about["base_model"] = self.base.digest
        if isinstance(target, str):
            return about | {"adapter": target}
        ref, weight = target.parts[0]
        if len(target.parts) == 1 and isinstance(ref, AdapterRef) and not ref.hub:
            found = self._offered().get(str(ref)) or resolve(ref, self.places.registries())
            self._check_base(found.ref, found.block.base_model.id, found.block.base_model.digest)
            block = found.block
            return about | {
                "created": _seconds(block.published),
                "owned_by": found.name.partition("/")[0],
                "adapter": found.ref,
                "digest": block.digest,
                "languages": list(block.languages),
            }
        artifacts = self._artifacts(target)
        tags = [language.tag for artifact in artifacts for language in artifact.manifest.languages]
        manifest = artifacts[0].manifest
        return about | {
            "created": _seconds(manifest.created),
            "owned_by": manifest.name.partition("/")[0],
            "adapter": manifest.ref if len(artifacts) == 1 else name,
            "languages": list(dict.fromkeys(tags)),
        }

    def _name(self, text: str, source: _Source) -> None:
        """Let clients name what the server was started with; a folder by what is in it."""
        name, self._named[text] = text, source
        if isinstance(source.parts[0][0], Path) and len(source.parts) == 1:
            name = self._artifacts(source)[0].ref
            self._named[name] = source
        if text in self.options.models:
            self.names.append(name)

    def _target(self, name: str) -> _Source | str:
        """Return what a client's word for a model stands for."""
        known, target = name in self.names, self.options.aliases.get(name, name)
        if known and target in self._named:
            return self._named[target]
        if self.options.only and not known:
            raise NotFoundError(
                f"the model {shown(name, 100)!r} is not served here; expected one of the list of models"
            )
        if target in CHOOSING:
            return target
        try:
            ref = AdapterRef.parse(target)
        except InvalidInputError:
            raise NotFoundError(
                f"the model {shown(name, 100)!r} does not exist; expected namespace/name, "
                "namespace/name@1.2.0, auto or base-model, or start the server with --alias NAME=REF"
            ) from None
        if ref.hub:
            raise NotFoundError(f"the model {ref} is on the Hub, and served if the server is started with it")
        return _Source(((ref, 1.0),))

    def _fixed(self, source: _Source) -> FixedRoute:
        artifacts = self._artifacts(source)
        weights = [weight for _, weight in source.parts]
        for artifact in artifacts:
            self._by_digest[artifact.digest] = artifact
        adapter = self.residents.get(_key(artifacts, weights))
        if len(artifacts) == 1 and weights == [1.0]:
            return FixedRoute(self.base, adapter)
        spoken = {item.tag: item for artifact in artifacts for item in artifact.manifest.languages}
        return FixedRoute(self.base, adapter, languages=tuple(spoken.values()))

    def _load(self, key: tuple[tuple[str, float], ...]) -> ResidentAdapter:
        artifacts = [self._by_digest[digest] for digest, _ in key]
        if len(key) == 1 and key[0][1] == 1.0:
            return proven_adapter(self.base, artifacts[0], self.places)
        return blended_adapter(self.base, artifacts, [weight for _, weight in key], self.places)[0]

    def _auto(self) -> LanguageRouter:
        found = self._found
        if found.auto is None:
            places = self.places
            if self.options.only and self._named:
                single = {name: source for name, source in self._named.items() if len(source.parts) == 1}
                named = {name: self._artifacts(source)[0] for name, source in single.items()}
                candidates = candidates_among(named)
            else:
                candidates = find_candidates(places.registries(), self.base, places.open_cache(), places.warn)
            found.auto = LanguageRouter(self.base, candidates, self._of_candidate, tell=places.warn)
        return found.auto

    def _of_candidate(self, ref: AdapterRef | str) -> ResidentAdapter:
        source = self._named[ref] if isinstance(ref, str) else _Source(((ref, 1.0),))
        adapter = self._fixed(source).adapter
        assert adapter is not None
        return adapter

    def _artifacts(self, source: _Source) -> list[Artifact]:
        """Return verified artifacts of this base model."""
        found, artifacts = self._found, []
        for ref, _ in source.parts:
            artifact = found.artifacts.get(ref)
            if artifact is None:
                artifact = pull(ref, self.places)
                pin = artifact.manifest.base_model
                self._check_base(artifact.ref, pin.id, pin.digest)
                found.artifacts[ref] = artifact
            artifacts.append(artifact)
        return artifacts

    def _check_base(self, ref: str, wanted: str, digest: str) -> None:
        if digest != self.base.digest:
            raise NotFoundError(
                f"{ref} is for the base model {wanted} ({digest[:19]}…), and this server has "
                f"{_base_name(self.base)} ({self.base.digest[:19]}…), one for all its models; start "
                "another server for it"
            )

    def _offered(self) -> Mapping[str, Resolved]:
        """Return the adapters of the registries that can be used with the base model, by name."""
        found = self._found
        if found.offered is None:
            registries = self.places.registries()
            offered: dict[str, Resolved] = {}
            for name in sorted({name for registry in registries for name in registry.adapters}):
                with isolated(name, lambda error: None):
                    resolved = resolve(AdapterRef(name), registries)
                    if resolved.block.base_model.digest == self.base.digest:
                        offered[name] = resolved
            found.offered = offered
        return found.offered


def _key(artifacts: Sequence[Artifact], weights: Sequence[float]) -> tuple[tuple[str, float], ...]:
    return tuple((artifact.digest, weight) for artifact, weight in zip(artifacts, weights, strict=True))


def _base_name(base: BaseModel) -> str:
    """Return what clients may know of a base model's id, which may be a folder."""
    return Path(base.id).name if Path(base.id).is_absolute() else base.id


def _seconds(time: str) -> int:
    """Return a time of a record as seconds since 1970."""
    return int(datetime.fromisoformat(time).timestamp())
