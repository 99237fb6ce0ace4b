"""What this machine saw of a registry: a version that changes or vanishes, or an older copy, is an error.

    memory = Memory(cache, place=str(path), label="registry.json")
    memory.problems(loaded)      # how it contradicts what was seen: [] if it does not
    memory.keep(loaded)

Whoever serves a registry could swap a version's digest, flip a status, hand out yesterday's file, in which a
quarantined version still is active, or put a registry of their own in its place; nothing in the file itself
can show that. So what was seen is kept twice: by the registry's id, and by the place where it was.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from adapter_hub.errors import ConflictError, IntegrityError
from adapter_hub.escaping import shown
from adapter_hub.formats.canonical import Count, Record, Sha256, Text, sha256_hex
from adapter_hub.formats.registry_file import LoadedRegistry
from adapter_hub.registry.record_file import R, RecordFile

MAXIMUM_SIZE = 256 * 2**20  # bytes; of 20 000 versions it is 2 MB


class Remembered(Record):
    """The last state seen of a registry.

    Attributes:
        sha256: of the file; absent where an earlier program did not note it.
        versions: the digest by `name@version`.
    """

    values_read: ClassVar[int] = 2_000_000
    keys_read: ClassVar[int] = 1_000_000  # versions
    schema_: Annotated[Literal["remembered/1"], Field(alias="schema")]
    registry_id: Text
    sequence: Count
    sha256: Sha256 | None = None
    versions: dict[str, str]


class RememberedPlace(Record):
    """Which registry was at a place: a path as it was named, or a repository on a Hub."""

    schema_: Annotated[Literal["remembered-place/1"], Field(alias="schema")]
    place: Text
    registry_id: Text


class Memory:
    """What was seen at one place; see the module's docstring.

    Attributes:
        place: where the registry is.
        label: what messages call it.
    """

    def __init__(self, cache: Path, place: str, label: str) -> None:
        """Name a memory without reading it."""
        self._folder, self.place, self.label = cache / "remembered", place, label
        self._recalled: dict[str, Remembered | None] = {}  # of a large registry it is large

    def of_id(self, registry_id: str) -> Path:
        """Return the file that remembers the registry with this id (which is not to be trusted as a name).

        Args:
            registry_id: of the registry.
        """
        return self._folder / f"{sha256_hex(registry_id.encode())[:32]}.json"

    def of_place(self) -> Path:
        """Return the file that remembers which registry was at the place."""
        return self._folder / f"at-{sha256_hex(self.place.encode())[:32]}.json"

    def recall(self, registry_id: str) -> Remembered | None:
        """Return what was seen of the registry with this id, or None.

        Args:
            registry_id: of the registry, wherever it was.

        Raises:
            IntegrityError: the memory is damaged.
        """
        return self._file(Remembered, self.of_id(registry_id)).read()

    def recall_place(self) -> RememberedPlace | None:
        """Return which registry was seen at the place, or None.

        Raises:
            IntegrityError: the memory is damaged.
        """
        return self._file(RememberedPlace, self.of_place()).read()

    def problems(self, loaded: LoadedRegistry) -> list[str]:
        """Return how a registry contradicts what was seen of it, or of its place.

        Args:
            loaded: the registry as it is now.

        Returns:
            One line for each contradiction; empty if there is none.

        Raises:
            IntegrityError: the memory is damaged.
        """
        there = self.recall_place()
        if there and there.registry_id != loaded.file.registry_id:
            return [another_registry(there.registry_id, loaded)]
        memory = self._recalled[loaded.file.registry_id] = self.recall(loaded.file.registry_id)
        return differences_from(memory, loaded) if memory else []

    def gone(self) -> str:
        """Return the problem of a place where nothing is any more; empty if nothing was seen there."""
        there = self.recall_place()
        memory = self.recall(there.registry_id) if there else None
        return f"it is gone; this machine saw it with sequence {memory.sequence}" if memory else ""

    def forget_place(self) -> None:
        """Forget which registry was at the place, for whoever has made it and is going to make another."""
        self.of_place().unlink(missing_ok=True)

    def refuse_loss(self) -> None:
        """Refuse to start another registry where one was seen: only a rebuild does that.

        Raises:
            IntegrityError: a registry was seen at the place.
        """
        if problem := self.gone():
            raise IntegrityError(
                f"registry {self.label}: {problem}; restore it, or rebuild it from the stores with "
                "`adapter-hub registry rebuild`"
            )

    def refuse(self, problems: list[str], registry_id: str, *others: Path) -> IntegrityError:
        """Return the error for a registry that is not what was seen before.

        Args:
            problems: how it differs.
            registry_id: the one that it has now.
            others: what else has to be deleted for it to be accepted anyway.
        """
        there = self.recall_place()
        is_another = there is not None and there.registry_id != registry_id
        files = (*others, self.of_place() if is_another else self.of_id(registry_id))
        return IntegrityError(
            f"registry {self.label} is not the one seen before",
            problems,
            "an older or a changed copy; get the current one, or, if this is meant, delete "
            f"{' and '.join(str(path) for path in files if path.exists())}",
        )

    def keep(self, loaded: LoadedRegistry) -> str:
        """Write down what was seen, unless nothing is new or another process saw a later state.

        A read-only home or a full disk must not keep anyone from reading.

        Returns:
            Why it could not be written down, in a line for the user; else an empty text.

        Raises:
            IntegrityError: the memory is damaged.
        """
        try:
            self._keep(loaded)
        except (OSError, ConflictError) as error:
            return f"could not write down which versions registry {self.label} has: {error}"
        return ""

    def _keep(self, loaded: LoadedRegistry) -> None:
        registry_id = loaded.file.registry_id
        known = registry_id in self._recalled
        memory = self._recalled.pop(registry_id) if known else self.recall(registry_id)
        there = self.recall_place()
        state = _state_of(loaded, memory)
        is_new, is_moved = memory != state, there is None or there.registry_id != registry_id
        if not is_new and not is_moved:
            return
        file = self._file(Remembered, self.of_id(registry_id))
        with file.locked():
            memory = file.read()  # with what others saw meanwhile
            if memory and memory.sequence > state.sequence:
                return
            if memory != (state := _state_of(loaded, memory)):
                file.write(state)
            if is_moved:
                schema = {"schema": "remembered-place/1"}
                place = {**schema, "place": self.place, "registry_id": registry_id}
                self._file(RememberedPlace, self.of_place()).write(RememberedPlace.model_validate(place))

    def _file(self, record: type[R], path: Path) -> RecordFile[R]:
        refuse = partial(self._damaged, path)
        return RecordFile(path, record, refuse, most=MAXIMUM_SIZE, cache=self._folder.parent)

    def _damaged(self, path: Path, problem: str) -> IntegrityError:
        return IntegrityError(
            f"registry {self.label}: what this machine remembers of it cannot be read ({problem}), so it "
            f"could be an older or another one; if you trust it as it is now, delete {path}"
        )


def another_registry(before: str, loaded: LoadedRegistry) -> str:
    """Return the problem of a place where the registry with the id `before` was.

    Args:
        before: the id of the registry that was seen there.
        loaded: the one that is there now.
    """
    return f"its id is {shown(loaded.file.registry_id)}, and was {shown(before)}: another registry"


def differences_from(memory: Remembered, loaded: LoadedRegistry) -> list[str]:
    """Return what went back, changed or vanished since `memory`; unreadable entries are left out.

    Args:
        memory: the state that was seen last.
        loaded: the registry as it is now.
    """
    file = loaded.file
    if file.sequence < memory.sequence:
        problems = [f"its sequence went back from {memory.sequence} to {file.sequence}"]
    elif file.sequence == memory.sequence and memory.sha256 not in (None, _sha256(loaded)):
        problems = [f"its content changed, but its sequence is still {file.sequence}"]
    else:
        problems = []
    now, unreadable = loaded.digests(), _unreadable(loaded)
    for ref, digest in sorted(memory.versions.items()):
        if ref in unreadable or ref.partition("@")[0] in unreadable:
            continue
        if ref not in now:
            problems.append(f"{shown(ref)} vanished")
        elif now[ref] != digest:
            problems.append(f"{shown(ref)} changed its digest from {digest[:19]}… to {now[ref][:19]}…")
    return problems


def _unreadable(loaded: LoadedRegistry) -> set[str]:
    return {f"{name}@{version}" if version else name for name, version in loaded.unreadable}


def _state_of(loaded: LoadedRegistry, before: Remembered | None) -> Remembered:
    """Return what to remember; of an entry that cannot be read now, what it was."""
    unreadable = _unreadable(loaded)
    kept = {
        ref: digest
        for ref, digest in (before.versions.items() if before and unreadable else ())
        if ref in unreadable or ref.partition("@")[0] in unreadable
    }
    state = {
        "schema": "remembered/1",
        "registry_id": loaded.file.registry_id,
        "sequence": loaded.file.sequence,
        "sha256": _sha256(loaded),
        "versions": {**loaded.digests(), **kept},
    }
    return Remembered.model_validate(state)


def _sha256(loaded: LoadedRegistry) -> str:
    """Return the hash of the file; git may give a text file the line endings of its system."""
    return sha256_hex(loaded.raw.replace(b"\r\n", b"\n"))
