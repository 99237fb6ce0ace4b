"""Everything that is known of the adapters under audit, brought together before the checks run.

Each file is read once: claims by name, base models by id, manifests by version.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

from adapter_hub import embedded
from adapter_hub.artifact.folder import Artifact
from adapter_hub.audit.checks import Absence, BaseModelFacts, KnownVersion, Subject
from adapter_hub.base_model.digest import EMBEDDED_ID, base_model_digest, linear_shapes
from adapter_hub.base_model.finding import find_pinned_base_model
from adapter_hub.cards.front_matter import licence_in_card
from adapter_hub.errors import (
    AccessError,
    AdapterHubError,
    InvalidInputError,
    NotFoundError,
    UnreachableError,
)
from adapter_hub.exchange.locations import from_first, open_location
from adapter_hub.exchange.places import Places
from adapter_hub.formats.claims import EvaluationReport
from adapter_hub.formats.manifest import MANIFEST_FILE, BaseModelPin, Manifest, is_safe_path
from adapter_hub.formats.reference import is_hub, parse_source
from adapter_hub.formats.registry_file import Location, VersionBlock
from adapter_hub.formats.versions import sort_versions
from adapter_hub.hub import RepoId, check_commit
from adapter_hub.registry.contract import Registry
from adapter_hub.registry.resolution import look_up
from adapter_hub.registry.standing import Standings
from adapter_hub.stores.contract import Claims, Store
from adapter_hub.stores.folder import FolderStore
from adapter_hub.stores.summary import version_block

Probe = Callable[[Artifact], Iterator[str]]
Recount = Callable[[EvaluationReport], Iterator[str]]
Recompute = Callable[[Artifact, Sequence[Artifact | Path]], Iterator[str]]
OpenSubject = Callable[[], Subject]  # opens one adapter version
AskedClaims = tuple[Claims | None, tuple[str, ...], str]  # with what is wrong, and why they are not known


class Opened(NamedTuple):
    """A version as far as it is here; see `Subject` for `problem` and `absence`."""

    artifact: Artifact | None
    store: Store | None = None
    problem: str = ""
    absence: Absence | None = None


class Subjects:
    """The adapter versions under audit, each opened once."""

    def __init__(
        self,
        places: Places,
        base_models: Mapping[str, Path] | None = None,
        probe: Probe | None = None,
        recount: Recount | None = None,
        recompute: Recompute | None = None,
    ) -> None:
        """Take note of where to look; nothing is read yet.

        Args:
            places: the registries, and the cache, whose adapters stand for those whose store is on the Hub.
            base_models: folders of base models at hand by id, beside the embedded one.
            probe: see `Subject.probe`.
            recount: see `Subject.recount`.
            recompute: see `Subject.recompute`.
        """
        self.registries, self.cache = places.registries(), places.open_cache()
        self.probe, self.recount, self.recompute = probe, recount, recompute
        self._ask_hub = False  # for claims of what was named; a glance at everything makes no requests
        self._folders = {EMBEDDED_ID: embedded.base_model_path(), **(base_models or {})}
        self.base_models = _base_model_facts(self._folders)
        self._cache_folder = places.cache_folder
        self._artifacts: dict[tuple[str, str, str], Opened] = {}
        self._claims: dict[tuple[str, str], AskedClaims] = {}
        self._found: dict[str, tuple[str, BaseModelFacts] | str] = {}  # by digest: base models, or why none
        self._known: dict[str, KnownVersion] | None = None

    def everything(self) -> Iterator[tuple[str, OpenSubject]]:
        """Yield every version of every registry; one that two registries list alike is yielded once."""
        seen = set()
        for registry in self.registries:
            for name in sorted(registry.adapters):
                for version in sort_versions(registry.adapters[name]):
                    block = registry.adapters[name][version]
                    if (name, version, block.digest) not in seen:
                        seen.add((name, version, block.digest))
                        yield f"{name}@{version}", partial(self.registered, registry, name, version)

    def named(self, refs: Iterable[str]) -> Iterator[tuple[str, OpenSubject]]:
        """Yield what the references name: registered versions, or artifacts' folders.

        Args:
            refs: references or artifacts' folders, as the user wrote them.

        Raises:
            NotFoundError: no such adapter.
        """
        self._ask_hub = True
        for ref in refs:
            source = parse_source(ref)
            if isinstance(source, Path):
                if not os.path.lexists(source / MANIFEST_FILE):
                    Artifact.open(source)  # raises with what is there instead
                yield ref, partial(self.local, source)
            else:
                found = look_up(source, self.registries)
                yield found.ref, partial(self.registered, found.registry, found.name, found.version)

    def local(self, folder: Path) -> Subject:
        """Return a folder as a subject; an unreadable manifest is a finding.

        Args:
            folder: of an artifact.
        """
        try:
            opened = Opened(Artifact.open(folder))
        except AdapterHubError as error:
            opened = Opened(None, None, str(error), "unreadable")
        artifact = opened.artifact
        return Subject(
            ref=str(folder),
            artifact=artifact,
            problem=opened.problem,
            absence=opened.absence,
            **self._base_models_of(artifact),
            known=self.known,
            standings=self.standings,
            probe=self.probe,
            recount=self.recount,
            components=self._components(artifact),
            full_model=self._full_model(artifact),
            recompute=self.recompute,
        )

    def registered(self, registry: Registry, name: str, version: str) -> Subject:
        """Return a version of a registry as a subject, with its claims and its other versions.

        Args:
            registry: that lists the version.
            name: of the adapter, `namespace/name`.
            version: of it, like `1.2.0`.
        """
        versions = registry.adapters[name]
        block = versions[version]
        artifact, store, problem, absence = self._open(registry, name, version, block)
        claims, problems, unasked = self._claims_of(store, name, registry) if store else (None, (), "")
        others = [
            self._open(registry, name, other, versions[other]).artifact
            for other in versions
            if other != version
        ]
        expected = None
        if artifact is not None and claims is not None:
            expected = version_block(artifact.manifest, artifact.digest, claims, block.locations)
            block = expected if registry.is_repository and artifact.digest == block.digest else block
        return Subject(
            ref=f"{name}@{version}",
            artifact=artifact,
            problem=problem,
            absence=absence,
            block=block,
            versions=tuple(_manifests(others, name)),
            expected=expected,
            claims=claims,
            claims_problems=problems,
            claims_unasked=unasked,
            **self._base_models_of(artifact),
            known=self.known,
            standings=self.standings,
            probe=self.probe,
            recount=self.recount,
            components=self._components(artifact),
            full_model=self._full_model(artifact),
            recompute=self.recompute,
        )

    @cached_property
    def standings(self) -> Standings:
        """The strictest status of any version, by the registries or as this machine remembers it."""
        return Standings(self.registries)

    @property
    def known(self) -> Mapping[str, KnownVersion]:
        """Every registered version by digest, with its strictest status."""
        if self._known is None:
            digests = {digest for registry in self.registries for digest in registry.by_digest}
            found = {digest: self.standings.of(digest) for digest in digests}
            self._known = {
                digest: KnownVersion(item.ref, item.status) for digest, item in found.items() if item
            }
        return self._known

    def _base_models_of(self, artifact: Artifact | None) -> dict[str, Any]:
        """Return the base models at hand, the pinned one among them wherever it is on this machine."""
        digests = {facts.digest for facts in self.base_models.values()}
        if artifact is None or (digest := artifact.manifest.base_model.digest) in digests:
            return {"base_models": self.base_models}
        if digest not in self._found:
            try:
                folder, _ = find_pinned_base_model(artifact.manifest.base_model, self._cache_folder)
                self._found[digest] = (
                    str(folder),
                    BaseModelFacts(digest, linear_shapes(folder), licence_in_card(folder / "README.md")),
                )
            except AdapterHubError as error:
                self._found[digest] = str(error)
        found = self._found[digest]
        if isinstance(found, str):
            return {"base_models": self.base_models, "no_base_model": found}
        return {"base_models": {**self.base_models, found[0]: found[1]}}

    def _components(self, artifact: Artifact | None) -> Mapping[str, Artifact]:
        """Open those parents of an average that are on this machine, if they are to be compared."""
        if artifact is None or self.recompute is None or artifact.manifest.method != "average":
            return {}
        wanted = (parent.digest for parent in artifact.manifest.parents)
        found = {digest: self._by_digest(digest) for digest in wanted}
        return {digest: parent for digest, parent in found.items() if parent is not None}

    def _full_model(self, artifact: Artifact | None) -> Path | None:
        """Find the model that an adapter was taken out of, if its errors are to be measured again."""
        if artifact is None or self.recompute is None or artifact.manifest.extraction is None:
            return None
        digest = artifact.manifest.extraction.digest
        for name, facts in self.base_models.items():
            if facts.digest == digest:
                return self._folders[name]
        with suppress(AdapterHubError):
            return find_pinned_base_model(_pin_of_full_model(artifact.manifest), self._cache_folder)[0]
        return None

    def _by_digest(self, digest: str) -> Artifact | None:
        for registry in self.registries:
            if entry := registry.by_digest.get(digest):
                artifact = self._open(registry, *entry).artifact
                if artifact is not None and artifact.digest == digest:
                    return artifact
        return self.cache.get(digest)

    def _open(self, registry: Registry, name: str, version: str, block: VersionBlock) -> Opened:
        key = (registry.label, name, version)
        if key not in self._artifacts:
            self._artifacts[key] = self._open_first(registry, name, version, block)
        return self._artifacts[key]

    def _claims_of(self, store: Store, name: str, registry: Registry) -> AskedClaims:
        key = (store.label(registry.path), name)
        if key not in self._claims:
            try:
                self._claims[key] = store.claims(name), (), ""
            except (UnreachableError, AccessError) as error:
                self._claims[key] = None, (), str(error)
            except AdapterHubError as error:
                self._claims[key] = None, (str(error),), ""
        return self._claims[key]

    def _open_first(self, registry: Registry, name: str, version: str, block: VersionBlock) -> Opened:
        """Open the first location that has a manifest; say why there is none otherwise."""
        elsewhere = [location.store for location in block.locations if is_hub(location.store)]

        def open_at(location: Location) -> Opened:
            if is_hub(location.store):
                return self._pulled(location, registry, block)
            store, path = open_location(location, registry), location.path or f"{name}/{version}"
            if not isinstance(store, FolderStore) or not is_safe_path(path):
                raise InvalidInputError(f"{path} is not a folder that can be opened here")
            if not (store.path / path / MANIFEST_FILE).exists():
                raise NotFoundError(f"nothing in {store.path / path}")
            try:
                return Opened(Artifact.open(store.path / path), store)
            except AdapterHubError as error:
                return Opened(None, store, str(error), "unreadable")

        try:
            return from_first("no bytes where the registry says", block.locations, open_at, hint="")
        except AdapterHubError as error:
            if elsewhere:
                return Opened(None, None, f"not on this machine, only on {elsewhere[0]}", "elsewhere")
            return Opened(None, None, str(error), "missing")

    def _pulled(self, location: Location, registry: Registry, block: VersionBlock) -> Opened:
        artifact = self.cache.get(block.digest)
        if artifact is None:
            raise NotFoundError("not in the cache")
        return Opened(artifact, open_location(location, registry) if self._ask_hub else None)


def _manifests(artifacts: Iterable[Artifact | None], name: str) -> Iterator[Manifest]:
    return (item.manifest for item in artifacts if item is not None and item.manifest.name == name)


def _pin_of_full_model(manifest: Manifest) -> BaseModelPin:
    """Return where to look for the model that an adapter was taken out of; its digest alone identifies it."""
    assert manifest.extraction is not None, manifest.ref
    name, commit = manifest.extraction.name or "full-model", None
    if manifest.source is not None:
        with suppress(AdapterHubError):
            address, _, revision = manifest.source.partition("@")
            name, commit = RepoId.parse(address).id, check_commit(revision)
    return BaseModelPin(
        id=name,
        revision=commit,
        architecture=manifest.base_model.architecture,
        digest=manifest.extraction.digest,
    )


def _base_model_facts(folders: Mapping[str, Path]) -> dict[str, BaseModelFacts]:
    """Read the base models that are there; one that is absent is reported as `base-model-absent`."""
    return {
        base_model_id: BaseModelFacts(
            base_model_digest(folder), linear_shapes(folder), licence_in_card(folder / "README.md")
        )
        for base_model_id, folder in folders.items()
        if (folder / "config.json").is_file()
    }
