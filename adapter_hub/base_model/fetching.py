"""A base model from the Hub into the cache: its folder appears whole and hashed, or not at all.

    folder, commit = fetch_base_model("openai/whisper-small", "973a…")

Where it lands, and how it is found there again: `adapter_hub.base_model.finding`.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from adapter_hub.base_model.digest import stamped_digest
from adapter_hub.base_model.finding import REFS, client_copies, hub_place, read_refs
from adapter_hub.base_model.naming import remember_name
from adapter_hub.base_model.repairs import PICKLES, hub_lines
from adapter_hub.base_model.tensors import WEIGHTS
from adapter_hub.errors import AdapterHubError, IntegrityError, InvalidInputError, NotFoundError
from adapter_hub.files.locks import held
from adapter_hub.files.writing import TEMPORARY, make_folder, sync_file, sync_folder, write_atomically
from adapter_hub.formats.canonical import canonical_bytes
from adapter_hub.hub import HubClient, RemoteFile, RepoId, check_commit
from adapter_hub.paths import cache_folder
from adapter_hub.reporting import Downloading

# What transformers reads of a model: no pickles, no other frameworks' weights, no adapter, which it
# would load along with the base model that its config names.
NEEDED = re.compile(
    r"(added_tokens|config|generation_config|normalizer|preprocessor_config|processor_config|"
    r"special_tokens_map|tokenizer|tokenizer_config|vocab|model\.safetensors\.index)\.json|merges\.txt|"
    r"model(-\d{1,5}-of-\d{1,5})?\.safetensors"
)
MOST_WEIGHTS = 32 * 2**30  # bytes; whisper-large in float32 has 6.2 GB
MOST_TEXT = 64 * 2**20  # bytes of one of the other files; vocabularies have some
LOCK_SECONDS = 3600.0


@dataclass(frozen=True)
class Fetch:
    """Files of a commit to fetch; `progress` is called while bytes arrive, from several threads."""

    client: HubClient
    repo: RepoId
    commit: str
    files: tuple[RemoteFile, ...]
    progress: Downloading | None = None


def fetch_base_model(
    repo_id: str,
    revision: str | None = None,
    *,
    cache: Path | None = None,
    client: HubClient | None = None,
    progress: Downloading | None = None,
) -> tuple[Path, str]:
    """Bring a base model from the Hub into the cache, at one commit, every file hashed.

    Args:
        repo_id: like `openai/whisper-small`.
        revision: branch, tag or commit; the newest by default.
        cache: the cache's folder; the user's by default.
        client: of the Hub; by default that of HF_ENDPOINT.
        progress: called while bytes arrive, from several threads.

    Returns:
        The folder, and the commit.

    Raises:
        NotFoundError: no such repository or revision, or no safetensors. IntegrityError: the Hub keeps
            damaged files, or more than a base model has. InvalidInputError: no room for it.
        AccessError, UnreachableError.
    """
    repo, client, revision = RepoId(repo_id), client or HubClient(), revision or "main"
    cache = cache or cache_folder()
    commit = client.state(repo, revision).commit
    files = tuple(files_of_base_model(repo, commit, client.tree(repo, commit)))
    fetch = Fetch(client, repo, commit, files, progress)
    folder = _in_clients_cache(fetch) or fetch_files(fetch, hub_place(repo, cache, client.endpoint), revision)
    with suppress(AdapterHubError, OSError, ValueError):  # no base model: who loads it says so
        remember_name(stamped_digest(folder, cache), repo.id, commit, cache)
    return folder, commit


def _in_clients_cache(fetch: Fetch) -> Path | None:
    """Return the folder of the Hub's client in which all files of a commit are."""
    for there in client_copies(fetch.repo):
        here = [there.folder / file.path for file in fetch.files]
        whole = there.commit == fetch.commit and all(path.is_file() for path in here)
        if whole and all(file.expected.holds(path) for file, path in zip(fetch.files, here, strict=True)):
            return there.folder
    return None


def files_of_base_model(repo: RepoId, commit: str, tree: Mapping[str, RemoteFile]) -> list[RemoteFile]:
    """Return what belongs to a base model of a commit's files.

    Args:
        repo: the repository.
        commit: of it.
        tree: its files by path.

    Raises:
        NotFoundError: no safetensors. IntegrityError: larger than any base model.
    """
    where = f"{repo}@{commit[:12]}"
    files = [file for path, file in sorted(tree.items()) if NEEDED.fullmatch(path)]
    weights = [file for file in files if file.path.endswith(".safetensors")]
    if not weights:
        raise NotFoundError(f"{where}: no {WEIGHTS}; {_why_none(repo, commit, tree)}")
    if (size := sum(file.size for file in weights)) > MOST_WEIGHTS:
        raise IntegrityError(f"{where}: {size} bytes of weights, at most {MOST_WEIGHTS} are fetched")
    if large := [file.path for file in files if file not in weights and file.size > MOST_TEXT]:
        raise IntegrityError(f"{where}: {', '.join(large)}: more than {MOST_TEXT} bytes")
    return files


def _why_none(repo: RepoId, commit: str, tree: Mapping[str, RemoteFile]) -> str:
    """Say why a repository has no weights that are read, and what to do."""
    if there := next((name for name in PICKLES if name in tree), None):
        target = f"./{repo.id.rpartition('/')[2]}"
        lines = hub_lines(repo.id, commit, target)
        return f"{there} is a pickle, {lines}, and name {target} as the base model"
    return "only safetensors are read, never pickles"


def fetch_files(fetch: Fetch, place: Path, revision: str) -> Path:
    """Bring files of a commit into `<place>/<commit>`; an interrupted fetch goes on where it was.

    Args:
        fetch: what to bring.
        place: the repository's folder in the cache, see `hub_place`.
        revision: branch, tag or commit as the user named it.

    Raises:
        IntegrityError: other bytes came, every time. InvalidInputError: no room for them.
        AccessError, UnreachableError, OSError.
    """
    make_folder(place)
    with held(place / ".lock", LOCK_SECONDS, f"base model in {place}"):
        folder, work = place / check_commit(fetch.commit), place / f"{TEMPORARY}{fetch.commit}"
        if not _holds(folder, fetch.files):
            if folder.exists():  # damaged: what is right of it is kept
                shutil.rmtree(work, ignore_errors=True)
                folder.rename(work)
            _check_room(fetch, place, work)
            _download(fetch, work)
            work.rename(folder)
            sync_folder(place)
        refs = {**read_refs(place), revision: fetch.commit}
        if revision != fetch.commit and refs != read_refs(place):
            write_atomically(place / REFS, canonical_bytes(refs))
    return folder


def _holds(folder: Path, files: tuple[RemoteFile, ...]) -> bool:
    """Tell whether a folder has these files and nothing else, hashed again."""
    if not folder.is_dir() or folder.is_symlink():
        return False
    names = {path.name for path in folder.iterdir()}
    return names == {file.path for file in files} and all(
        file.expected.is_at(folder / file.path) for file in files
    )


def _check_room(fetch: Fetch, place: Path, work: Path) -> None:
    size = sum(file.size for file in fetch.files)
    here = sum(path.stat().st_size for path in work.glob("*")) if work.is_dir() else 0
    if size - here > (free := shutil.disk_usage(place).free):
        raise InvalidInputError(
            f"{fetch.repo}: has {size} bytes, {free} are free in {place}; make room, or name another folder "
            "with --cache"
        )


def _download(fetch: Fetch, work: Path) -> None:
    """Bring the files into `work`, and remove everything else in it."""
    size = sum(file.size for file in fetch.files)
    wanted = {file.path: file.expected for file in fetch.files}

    def arrived(count: int) -> None:
        if fetch.progress:
            fetch.progress(fetch.repo.id, count, size)

    fetch.client.download(fetch.repo, fetch.commit, wanted, work, arrived)
    for path in work.iterdir():
        if path.name in wanted:
            sync_file(path)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    sync_folder(work)
