"""Where base models are on this machine; nothing here makes a request.

    folder, commit = find_base_model("openai/whisper-small", "973a…")     # what a user calls it
    folder, commit = find_pinned_base_model(manifest.base_model, cache)   # what was published

    <cache>/base_model_files/<hash of the Hub's address>/openai--whisper-small/<commit>/    the files alone
    <cache>/base_model_files/<hash of the Hub's address>/openai--whisper-small/refs.json    branches, tags
    <cache>/base_model_folders/<digest>.json                                    folders that a user named

A folder may be named together with the id that it has (`naming`): `openai/whisper-base=./whisper`.
Every name in there is ours or was checked; what the Hub's client keeps in a cache of its own is read, and
never written. `namespace/name` is the Hub's and a folder is named with `./` or `/`, or a folder that is in
the current one would take the place of a model without a word. A published pin was written by others: it
never names a folder, and its digest alone decides which copy is the one.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from adapter_hub import embedded
from adapter_hub.artifact.privacy import plain_name
from adapter_hub.base_model.digest import EMBEDDED_ID, stamped_digest, weight_files
from adapter_hub.base_model.families import FAMILIES, family_of
from adapter_hub.base_model.naming import check_claim, hub_repo, id_in, name_of, split_claim
from adapter_hub.errors import AdapterHubError, InvalidInputError, NotFoundError
from adapter_hub.escaping import shown
from adapter_hub.files.ownership import is_ours, is_private
from adapter_hub.files.reading import read_bounded
from adapter_hub.files.writing import write_atomically
from adapter_hub.formats.canonical import canonical_bytes, hex_of, sha256_hex
from adapter_hub.formats.full_fine_tune import FullFineTune
from adapter_hub.formats.manifest import BaseModelPin
from adapter_hub.formats.reference import is_local
from adapter_hub.hub import HubClient, RepoId, check_commit
from adapter_hub.paths import cache_folder

FILES, FOLDERS = "base_model_files", "base_model_folders"
REFS, MOST_REFS = "refs.json", 2**20  # bytes
SMALL = 2**20  # bytes of a file of ours
MOST_FOLDERS = 8  # that are remembered for one digest
_HUB_CACHE = re.compile(r"models--([\w.-]+?)--([\w.-]+)/snapshots/([0-9a-f]{40})")
_OWN_CACHE = re.compile(r"[0-9a-f]{16}/([\w.-]+?)--([\w.-]+)/([0-9a-f]{40})")


@dataclass(frozen=True)
class Copy:
    """A base model of the Hub on this machine.

    Attributes:
        folder: where it is.
        commit: of the Hub's repository.
        names: branches and tags that named it when it was fetched.
    """

    folder: Path
    commit: str
    names: tuple[str, ...]


def find_base_model(
    words: str | Path, revision: str | None = None, *, cache: Path | None = None
) -> tuple[Path, str | None]:
    """Return the folder of a base model that the user named, and its commit if it is the Hub's; no request.

    Args:
        words: the embedded model's id, a Hub id, a folder, or `ID=FOLDER`, which says what a folder is; a
            folder `a/b` is written `./a/b`.
        revision: of the Hub's repository; a commit for `ID=FOLDER`.
        cache: the cache's folder; the user's by default.

    Raises:
        NotFoundError: it is not here; the message holds the command that gets it.
        InvalidInputError: a revision of `ID=FOLDER` that is not a commit.
    """
    text = str(words)
    if text == EMBEDDED_ID:
        return embedded.base_model_path(), None
    claimed, place = (None, text) if isinstance(words, Path) else split_claim(text)
    if claimed is not None:
        return _folder(place), None if revision is None else check_commit(revision)
    repo = None if isinstance(words, Path) or is_local(text) else hub_repo(text)
    if repo is None:
        return _folder(text), None
    copies = list(_copies(repo, cache or cache_folder()))
    fitting = [item for item in copies if revision in (None, item.commit, *item.names)]
    if not fitting:
        here = f"; the folder here is named ./{text}" if Path(text).is_dir() else ", or name a folder"
        raise NotFoundError(f"{_missing(text, revision)}{here}")
    chosen = min(fitting, key=lambda item: "main" not in item.names) if revision is None else fitting[0]
    return chosen.folder, chosen.commit


def find_pinned_base_model(pin: BaseModelPin, cache: Path) -> tuple[Path, str | None]:
    """Return the folder of a base model with a pin's digest, and its commit if it is the Hub's; no request.

    The pinned commit, any other copy of that model, or a folder that the user named before.

    Args:
        pin: of a manifest: its id and revision say where to look, its digest which one it is.
        cache: the cache's folder.

    Raises:
        NotFoundError: none is here; the message says which others are, and the command that gets it.
    """
    others: list[str] = []
    for folder, commit in _candidates(pin, cache):
        try:
            digest = stamped_digest(folder, cache)
        except (AdapterHubError, OSError, ValueError):
            continue  # not whole
        if digest == pin.digest:
            return folder, commit
        others.append(f"{commit[:12] if commit else folder} has {digest[:19]}…")
    name = shown(pin.id, 120)
    wrong = f" with digest {pin.digest[:19]}…; here {', '.join(others[:4])}" if others else ""
    if pin.id == EMBEDDED_ID:
        raise NotFoundError(
            f"base model {name} is not here{wrong}; take the release that the adapter is from"
        )
    if hub_repo(pin.id) is None:
        raise NotFoundError(
            f"base model {name} is not here{wrong}: it is not on the Hub, and no folder was named for it "
            "before"
        )
    raise NotFoundError(_missing(name, pin.revision, wrong))


def public_base_model(
    words: str | Path, folder: Path, digest: str | None = None, cache: Path | None = None
) -> tuple[str, str | None]:
    """Return what a base model is called in public, and its commit where that shows.

    A folder goes by the repository that the Hub's client or this library keeps in it, or that its digest is
    known to be; else by the name of the full fine-tune that it is, else by its own last name, which is no
    place on the Hub: the digest is what identifies it.

    Args:
        words: as the user named it: an id, a folder, or `ID=FOLDER`.
        folder: where it is.
        digest: of it; computed if it is not given.
        cache: the cache's folder; the user's by default.

    Raises:
        InvalidInputError: the user gives it an id, and its digest is another one's.
    """
    cache = cache or cache_folder()
    named = id_in(words)
    if named is not None and named == words:
        return named, None
    with suppress(AdapterHubError, OSError, ValueError):  # not whole: who loads it says so
        digest = digest or stamped_digest(folder, cache)
    if named is not None:
        if digest is not None:
            check_claim(named, digest, folder, cache)
        return named, None
    last = "/".join(folder.resolve().parts[-3:])
    if kept := _HUB_CACHE.fullmatch(last) or _OWN_CACHE.fullmatch(last):
        return f"{kept[1]}/{kept[2]}", kept[3]
    if digest is not None and (known := name_of(digest, cache)):
        return known
    try:
        return FullFineTune.read(folder).name, None
    except (AdapterHubError, OSError):
        name = plain_name(folder.resolve().name, "")
        return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip(".-")[:96] or "base-model", None


def identified(words: str | Path, folder: Path, digest: str, cache: Path) -> tuple[str, str | None]:
    """Return what a base model is called in public, and remember where it is, for what is made for it.

    Args:
        words: as the user named it.
        folder: where it is.
        digest: of it.
        cache: the cache's folder.

    Raises:
        InvalidInputError: as `public_base_model`.
    """
    public = public_base_model(words, folder, digest, cache)
    if id_in(words) != words:  # one that its id finds needs no note
        remember_folder(folder, digest, cache)
    return public


def _missing(name: str, revision: str | None, wrong: str = "") -> str:
    place, option = (f" at {revision}", f" --revision {revision}") if revision else ("", "")
    return (
        f"base model {name}{place} is not on this machine{wrong}; fetch it with "
        f"`adapter-hub base-model fetch {name}{option}`"
    )


def remember_folder(folder: Path, digest: str, cache: Path) -> None:
    """Note that the user named a folder for a base model, so that what was made for it finds it again.

    Args:
        folder: of the base model.
        digest: of the base model in it.
        cache: the cache's folder.
    """
    note = cache / FOLDERS / f"{hex_of(digest)}.json"
    known = _folders(note)
    path = str(folder.absolute())
    if known[:1] != [path]:
        kept = [path, *(item for item in known if item != path)][:MOST_FOLDERS]
        with suppress(OSError):  # a cache that cannot be written forgets
            write_atomically(note, canonical_bytes(kept))


def _folder(text: str) -> Path:
    what = "no such folder"
    with suppress(RuntimeError, ValueError, OSError):  # ~nosuchuser, a NUL, a name that is too long
        folder = Path(text).expanduser()
        if text and folder.is_dir():
            return folder
        what = "is a file" if folder.is_file() else what
    raise NotFoundError(
        f"{shown(text)}: {what}; expected the folder of a base model as transformers saves it"
    )


def read_refs(place: Path) -> dict[str, str]:
    """Return which commit a branch or tag named when it was fetched; nothing where that is damaged.

    Args:
        place: the repository's folder in the cache.
    """
    with suppress(AdapterHubError, OSError, ValueError, RecursionError):
        known = json.loads(read_bounded(place / REFS, MOST_REFS, follow=False))
        if isinstance(known, dict):
            return {name: check_commit(str(commit)) for name, commit in known.items()}
    return {}


def hub_place(repo: RepoId, cache: Path, endpoint: str) -> Path:
    """Return the folder of the cache for a repository of the Hub at an address.

    Args:
        repo: the repository.
        cache: the cache's folder.
        endpoint: the Hub's address.
    """
    return cache / FILES / sha256_hex(endpoint.encode())[:16] / repo.id.replace("/", "--")


def _copies(repo: RepoId, cache: Path) -> Iterator[Copy]:
    """Yield the whole copies: of the Hub that is in use, then in its client's cache, newest first.

    The user's own cache is looked through, too, where another one is named, like that of a reproduction.
    """
    endpoint = HubClient().endpoint
    for folder in dict.fromkeys((cache, cache_folder())):
        place = hub_place(repo, folder, endpoint)
        yield from _below(place, read_refs(place), fetched=True)
    yield from client_copies(repo)


def client_copies(repo: RepoId) -> Iterator[Copy]:
    """Yield the whole copies in the cache of the Hub's own client, newest first."""
    place = _client_cache() / f"models--{repo.id.replace('/', '--')}"
    refs: dict[str, str] = {}
    with suppress(AdapterHubError, OSError, ValueError):
        refs["main"] = check_commit(read_bounded(place / "refs" / "main", 100).decode("ascii").strip())
    yield from _below(place / "snapshots", refs, fetched=False)


def _client_cache() -> Path:
    """Return the cache of the Hub's own client, as the environment says: its import takes long."""
    if (constants := sys.modules.get("huggingface_hub.constants")) is not None:
        return Path(constants.HF_HUB_CACHE)
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if folder := os.environ.get(name):
            return Path(os.path.expandvars(folder)).expanduser()
    home = os.environ.get("HF_HOME")
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expandvars(home or f"{caches}/huggingface")).expanduser() / "hub"


def _below(place: Path, refs: dict[str, str], *, fetched: bool) -> Iterator[Copy]:
    """Yield the copies in a folder of commits, newest first; `fetched` ones have all that the Hub has."""
    found: list[tuple[float, Path]] = []
    with suppress(OSError):
        for folder in place.iterdir():
            with suppress(InvalidInputError, OSError):
                check_commit(folder.name)
                if _is_whole(folder, fetched):
                    found.append((folder.stat().st_mtime, folder))
    for _, folder in sorted(found, reverse=True):
        yield Copy(folder, folder.name, tuple(name for name, commit in refs.items() if commit == folder.name))


def _is_whole(folder: Path, fetched: bool) -> bool:
    try:
        family = FAMILIES[family_of(folder)]
        instead = family.instead if fetched else {}
        return bool(weight_files(folder)) and all(
            (folder / name).is_file()
            or (name in instead and all((folder / other).is_file() for other in instead[name]))
            for name in family.needed
        )
    except AdapterHubError:
        return False


def _candidates(pin: BaseModelPin, cache: Path) -> Iterator[tuple[Path, str | None]]:
    if pin.id == EMBEDDED_ID:
        yield embedded.base_model_path(), None
    if repo := hub_repo(pin.id):
        copies = [*_copies(repo, cache), *_of_other_hubs(repo, cache)]
        for copy in sorted(copies, key=lambda item: item.commit != pin.revision):
            yield copy.folder, copy.commit
    for path in _folders(cache / FOLDERS / f"{hex_of(pin.digest)}.json"):
        if (folder := Path(path)).is_dir():
            yield folder, None


def _of_other_hubs(repo: RepoId, cache: Path) -> Iterator[Copy]:
    """Yield copies from any address, for those who compare the digest."""
    name = hub_place(repo, cache, "").name
    with suppress(OSError):
        for hub in sorted((cache / FILES).iterdir()):
            yield from _below(hub / name, {}, fetched=True)


def _folders(note: Path) -> list[str]:
    with suppress(AdapterHubError, OSError, ValueError, RecursionError):
        if is_private(note.parent) and is_ours(note.lstat()):
            known = json.loads(read_bounded(note, SMALL, follow=False))
            if isinstance(known, list) and all(isinstance(item, str) and "\0" not in item for item in known):
                return known[:MOST_FOLDERS]
    return []
