"""What this machine saw of a registry: a version that changes or vanishes, or an older copy, is an error.

    check_remembered(folder, loaded)   # IntegrityError, or nothing
    remember(folder, loaded)

Whoever serves a registry could swap a version's digest or hand out yesterday's file, in which a
quarantined version still is active; nothing in the file itself can show that.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import Field

from adapter_hub.canonical import Count, Record, Text, sha256_hex
from adapter_hub.errors import IntegrityError, InvalidInputError
from adapter_hub.paths import write_atomically
from adapter_hub.registry_file import LoadedRegistry


class Remembered(Record):
    """The last state seen: `versions` maps `name@version` to the digest."""

    schema_: Annotated[str, Field(alias="schema", pattern=r"^remembered/1$")]
    registry_id: Text
    sequence: Count
    versions: dict[str, str]


def memory_path(cache: Path, registry_id: str) -> Path:
    """Return the file that remembers the registry with this id (which is not to be trusted as a name)."""
    return cache / "remembered" / f"{sha256_hex(registry_id.encode())[:32]}.json"


def recall(cache: Path, registry_id: str) -> Remembered | None:
    """Return what was seen of a registry, or None; a damaged memory counts as none."""
    path = memory_path(cache, registry_id)
    try:
        return Remembered.parse(path.read_bytes(), str(path))
    except (FileNotFoundError, NotADirectoryError, InvalidInputError):
        return None


def differences_from(memory: Remembered, loaded: LoadedRegistry) -> list[str]:
    """Return what went back, changed or vanished since `memory`."""
    problems = []
    if loaded.file.sequence < memory.sequence:
        problems.append(f"its sequence went back from {memory.sequence} to {loaded.file.sequence}")
    now = loaded.digests()
    for ref, digest in sorted(memory.versions.items()):
        if ref not in now:
            problems.append(f"{ref} vanished")
        elif now[ref] != digest:
            problems.append(f"{ref} changed its digest from {digest[:19]}… to {now[ref][:19]}…")
    return problems


def refuse(label: str, problems: list[str], *memories: Path) -> IntegrityError:
    """Return the error for a registry that is not what was seen before.

    Args:
        label: what messages call it.
        problems: how it differs.
        memories: what to delete for it to be accepted all the same.
    """
    return IntegrityError(
        f"registry {label} is not the one seen before",
        problems,
        "an older or a changed copy; get the current one, or, if this is meant, delete "
        f"{' and '.join(str(path) for path in memories)}",
    )


def remember(cache: Path, loaded: LoadedRegistry, before: Remembered | None) -> None:
    """Write down what was seen, unless nothing is new.

    Raises:
        OSError: the cache folder cannot be written.
    """
    file = loaded.file
    if before and before.sequence == file.sequence and before.versions == loaded.digests():
        return
    state = {
        "schema": "remembered/1",
        "registry_id": file.registry_id,
        "sequence": file.sequence,
        "versions": loaded.digests(),
    }
    text = json.dumps(state, indent=1, sort_keys=True)
    write_atomically(memory_path(cache, file.registry_id), text.encode())
