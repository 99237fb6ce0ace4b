"""What a base model is called: its digest says which one a folder is, whatever the folder's name.

    split_claim("openai/whisper-base=./whisper")      # ("openai/whisper-base", "./whisper")
    name_of(digest, cache)                            # ("openai/whisper-base", None)

    <cache>/base_model_names/<digest>.json            repository and commit of what came from the Hub

A digest is known because it is one of OpenAI's or the embedded model's, or because this machine had that
model from the Hub before. Where it is not known, the user may say it: `ID=FOLDER`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from adapter_hub.base_model.digest import EMBEDDED_ID
from adapter_hub.errors import AdapterHubError, InvalidInputError
from adapter_hub.files.ownership import is_ours, is_private
from adapter_hub.files.reading import read_bounded
from adapter_hub.files.writing import make_private, write_atomically
from adapter_hub.formats.canonical import canonical_bytes, hex_of
from adapter_hub.formats.reference import is_local
from adapter_hub.hub import RepoId, check_commit

NAMES = "base_model_names"
MOST_NAME = 2**10  # bytes of a note
# in float32, with the generation settings that the Hub has beside them
KNOWN: Mapping[str, str] = {
    "sha256:de23934686ab8fca78126d68c0de11d508c21782bcca017775a54f2ced6ca8d2": "openai/whisper-base",
    "sha256:63afb52ffc73a562f499005feee88490067664082c1229da0cf5bbb669c146cf": "openai/whisper-tiny.en",
    "sha256:12feb4051770f98204b4af4452f2c36ec6b74bd8f552603d6c1d2937bc35acd5": EMBEDDED_ID,
}


def hub_repo(text: str) -> RepoId | None:
    """Return the repository on the Hub that a text names; None if it names none.

    Args:
        text: like `openai/whisper-small`.
    """
    try:
        return RepoId(text)
    except InvalidInputError:
        return None


def split_claim(text: str) -> tuple[str | None, str]:
    """Return the id that a user gives to a folder, and the folder, of `ID=FOLDER`; None without an id.

    Args:
        text: a user's word for a base model.
    """
    name, equals, folder = text.partition("=")
    return (name, folder) if equals and folder and hub_repo(name) else (None, text)


def id_in(text: str | Path) -> str | None:
    """Return the id in a user's word for a base model; None if it names a folder and nothing else.

    Args:
        text: an id, a folder, or `ID=FOLDER`.
    """
    if isinstance(text, Path):
        return None
    claimed, place = split_claim(text)
    return claimed or (None if is_local(place) or hub_repo(place) is None else place)


def remember_name(digest: str, name: str, commit: str, cache: Path) -> None:
    """Note what a base model of the Hub is called, so that a copy of it elsewhere is recognised.

    Args:
        digest: of the base model.
        name: of its repository.
        commit: of that repository.
        cache: the cache's folder.
    """
    note = _note(digest, cache)
    if name_of(digest, cache) is None:
        with suppress(OSError):  # a cache that cannot be written forgets
            make_private(cache)
            write_atomically(note, canonical_bytes([name, commit]))


def name_of(digest: str, cache: Path) -> tuple[str, str | None] | None:
    """Return the repository of a base model, and its commit where that is known; None for one never seen.

    Args:
        digest: of the base model.
        cache: the cache's folder.
    """
    if digest in KNOWN:
        return KNOWN[digest], None
    note = _note(digest, cache)
    with suppress(AdapterHubError, OSError, ValueError, TypeError, RecursionError):
        if is_private(note.parent) and is_ours(note.lstat()):
            name, commit = json.loads(read_bounded(note, MOST_NAME, follow=False))
            return RepoId(name).id, check_commit(commit)
    return None


def check_claim(claimed: str, digest: str, folder: Path, cache: Path) -> None:
    """Refuse a name for a folder that is known to be another model.

    Args:
        claimed: the id that the user gives to it.
        digest: of the base model in it.
        folder: of the base model.
        cache: the cache's folder.

    Raises:
        InvalidInputError: with the id that its digest has.
    """
    known = name_of(digest, cache)
    if known is not None and known[0] != claimed:
        raise InvalidInputError(
            f"{folder}: is {known[0]} by its digest {digest[:19]}…, not {claimed}; leave the id out, or name "
            "the folder of that model"
        )


def _note(digest: str, cache: Path) -> Path:
    return cache / NAMES / f"{hex_of(digest)}.json"
