"""`hf://namespace/name@1.0.0`: an adapter straight from its repository, past every registry.

    ref, places = open_hub_ref(AdapterRef.parse("hf://alice/da"), Places())
    resolve(ref, places.registries())

The repository's tags, manifests and statuses are read as a registry of one name, so that the same rules
decide. Its owner is trusted on first use, and remembered; a version that was seen and is in the cache
needs no request.
"""

from __future__ import annotations

import time
from dataclasses import replace

from adapter_hub.errors import NotFoundError, UnreachableError
from adapter_hub.escaping import shown
from adapter_hub.exchange.places import Places
from adapter_hub.formats.manifest import MANIFEST_FILE
from adapter_hub.formats.reference import AdapterRef, name_key
from adapter_hub.formats.registry_file import (
    Adapters,
    LoadedRegistry,
    Location,
    VersionBlock,
    empty_registry,
    with_adapters,
)
from adapter_hub.formats.versions import sort_versions
from adapter_hub.hub import RepoId
from adapter_hub.registry.contract import FRESH_SECONDS, Listing
from adapter_hub.stores.cache import Cache
from adapter_hub.stores.contract import Claims
from adapter_hub.stores.hub import HubStore
from adapter_hub.stores.known_repos import KnownRepo
from adapter_hub.stores.summary import version_block

USABLE = ("active", "deprecated")
Found = dict[str, tuple[str, VersionBlock]]  # by version: the adapter's name, and its entry


class RepositoryRegistry(Listing):
    """One repository on the Hub, as a registry of one name; read-only.

    Attributes:
        repo: the repository.
        path: a file in the cache that need not exist; no location of a repository is relative to it.
        cache_folder: what was seen of it is remembered there.
    """

    is_on_hub, is_embedded, is_repository, is_copy = True, False, True, False

    def __init__(self, repo: RepoId, blocks: Found, cache: Cache) -> None:
        """Take what was found.

        Args:
            repo: the repository.
            blocks: by version.
            cache: pulled adapters, and what was seen of repositories.
        """
        adapters: Adapters = {}
        for version, (name, block) in blocks.items():
            adapters.setdefault(name, {})[version] = block
        self.repo, self.path, self.cache_folder = repo, cache.folder / "registry.json", cache.folder
        self.warnings: tuple[str, ...] = ()
        self._content = with_adapters(empty_registry(str(repo)), adapters)

    @property
    def label(self) -> str:
        """`hf://namespace/name`."""
        return str(self.repo)

    def settle_for_copy(self) -> None:
        """Do nothing: what was found stays as it is."""

    def refresh(self) -> None:
        """Do nothing: what was found stays as it is."""

    def _state(self) -> LoadedRegistry:
        return self._content


def open_hub_ref(
    ref: AdapterRef, places: Places, *, ask: bool = False, fresh: bool = False
) -> tuple[AdapterRef, Places]:
    """Return a reference to resolve, and the places to resolve it in: its repository is the first registry.

    Args:
        ref: with or without `hf://`; without it, both come back as they are.
        places: its registries are asked for what they know of the same versions and their ancestors; its
            cache has pulled adapters, and what was seen of repositories.
        ask: ask for its status even where an exact version is in the cache; fail if that is not possible.
        fresh: the same, but use what is in the cache if the Hub cannot be reached.

    Raises:
        NotFoundError: no such repository, or no adapter in it. IntegrityError: its owner changed, or a tag
            was moved. UnreachableError: it cannot be asked, and nothing in the cache fits.
    """
    if not ref.hub:
        return ref, places
    places, cache = places.opened(), places.open_cache()
    store = HubStore(ref.name.partition("/")[0], cache=cache.folder, ask_once=True)
    store.trusted = ref.digest
    plain = replace(ref, hub=False)
    repo = RepoId(ref.name)
    blocks = {} if ask or fresh else _remembered(plain, store, repo, places)
    if not blocks:
        try:
            blocks = _asked(plain, store, repo, places)
        except UnreachableError as error:
            blocks = {} if ask else _newest_in_cache(plain, store, repo, cache)
            if not blocks and store.client.offline:
                raise UnreachableError(
                    f"hf://{plain} is not in the cache and HF_HUB_OFFLINE is set; unset it once to pull it"
                ) from None
            if not blocks:
                raise
            in_cache = f"{repo.id}@{next(iter(blocks))} from the cache, whose status is not known"
            places.warn(f"{error}; using {in_cache}")
    if blocks:  # the last one is the one to take, if any is
        plain = replace(plain, name=next(reversed(blocks.values()))[0])
        if name_key(plain.name) != name_key(ref.name):
            places.warn(f"{repo} holds {plain.name}: it goes by the name that it was published under")
    return plain, places.asking((RepositoryRegistry(repo, blocks, cache), *places.registries()))


def _remembered(ref: AdapterRef, store: HubStore, repo: RepoId, places: Places) -> Found:
    """Return an exactly named version that was seen before and is in the cache."""
    cache = places.open_cache()
    known = store.known.recall(repo)
    for tag, seen in known.tags.items():
        if tag[1:] == ref.version or (ref.version is None and seen.digest == ref.digest):
            block = _cached_block(tag[1:], known, cache)
            if block is None or (ref.digest and block[1].digest != ref.digest):
                return {}
            age = time.time() - seen.seen
            if age > FRESH_SECONDS:
                hours = f"{age / 3600:.0f} hours ago"
                places.warn(f"{repo} was last asked for {tag} {hours}; its status may have changed since")
            return {tag[1:]: block}
    return {}


def _newest_in_cache(ref: AdapterRef, store: HubStore, repo: RepoId, cache: Cache) -> Found:
    known = store.known.recall(repo)
    for version in reversed(sort_versions(tag[1:] for tag in known.tags)):
        if ref.admits(version) and (block := _cached_block(version, known, cache)):
            return {version: block}
    return {}


def _cached_block(
    version: str, known: KnownRepo, cache: Cache, claims: Claims | None = None
) -> tuple[str, VersionBlock] | None:
    tag = known.tags[f"v{version}"]
    artifact = cache.get(tag.digest)
    if artifact is None:
        return None
    place = _location(known.repo.removeprefix("hf://"), tag.commit)
    size = (artifact.path / MANIFEST_FILE).stat().st_size
    return artifact.manifest.name, version_block(
        artifact.manifest, tag.digest, claims or Claims(), [place], size
    )


def _block(
    version: str, store: HubStore, repo: RepoId, cache: Cache, claims: Claims
) -> tuple[str, VersionBlock]:
    """Return what the repository says of a version; the manifest is not requested if it is in the cache."""
    known, place = store.known.recall(repo), store.location(repo.id, version, cache.folder)
    tag = known.tags.get(f"v{version}")
    if tag and tag.commit == place.commit and (block := _cached_block(version, known, cache, claims)):
        store.known.check_tag(repo, f"v{version}", tag.commit, tag.digest)  # it was seen again
        return block
    manifest, digest = store.manifest(repo.id, version)
    return manifest.name, version_block(manifest, digest, claims, [place])


def _location(name: str, commit: str) -> Location:
    return Location(store=f"hf://{name.partition('/')[0]}", repo=name, commit=commit)


def _asked(ref: AdapterRef, store: HubStore, repo: RepoId, places: Places) -> Found:
    """Ask the repository: its owner, then the newest versions down to the first that may be used."""
    cache = places.open_cache()
    state = store.client.state(repo)
    if store.known.check_owner(repo, state, pinned=ref.digest is not None):
        places.warn(
            f"{repo} is used for the first time: its owner {repo.namespace} is trusted from now on "
            f"({store.known.path(repo)})"
        )
    if state.id != repo.id:
        if name_key(state.id) != name_key(repo.id):
            places.warn(f"{repo} was moved to hf://{shown(state.id)} by its owner, and is looked for there")
        repo = RepoId(state.id)
        trusted, store = store.trusted, HubStore(repo.namespace, cache=cache.folder, ask_once=True)
        store.trusted = trusted
    found = store.versions(repo.id)
    if not found:
        raise NotFoundError(
            f"{repo}: no version tags like v1.0.0; an ordinary PEFT adapter is imported with "
            f"`adapter-hub import {repo}`"
        )
    by_digest = ref.digest is not None and ref.version is None and ref.compatible is None
    claims = store.statuses(repo.id)
    blocks: Found = {}
    for version in reversed(found):
        if not (by_digest or ref.admits(version)):
            continue
        name, block = _block(version, store, repo, cache, claims)
        blocks[version] = name, block
        if block.status in USABLE and (not by_digest or block.digest == ref.digest):
            break
    if not blocks:
        raise NotFoundError(f"hf://{ref}: no such version; {repo} has {', '.join(found)}")
    return blocks
