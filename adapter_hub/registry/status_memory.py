"""The statuses that this machine has seen: a quarantine holds even where its source no longer mentions it.

    memory = StatusMemory(cache_folder())
    memory.remember(statements)
    memory.about(digest), memory.quarantines(function_digest)

A registry may be replaced by an older one, a status file emptied, the same weights published under
another name; nothing in what is served then shows that they were in quarantine. So every status that
forbids something is written down by the version's digest and by its function digest, with its source,
reason and time. If sources disagree, the strictest counts. Only the source of a statement can loosen it,
with a status entry that is later and not ahead of this clock.

The file is append-only, one line per statement, under a lock; a reader needs none. Half a line at its
end was being written when a process died, and the next writer removes it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from adapter_hub.errors import ConflictError, InvalidInputError
from adapter_hub.files.reading import read_bounded
from adapter_hub.files.writing import Stamp, write_atomically
from adapter_hub.formats.canonical import Digest, Record, Text, UtcTime
from adapter_hub.formats.claims import Status, strictness
from adapter_hub.formats.times import is_ahead, utc_now
from adapter_hub.registry.record_file import locked_beside

MAXIMUM_SIZE = 64 * 2**20  # bytes of the file
MAXIMUM_STATEMENTS = 50_000  # of versions by sources, each counted once
COMPACT_SIZE = 4 * 2**20  # a larger file is rewritten if most of its lines were replaced by later ones


class StatusStatement(Record):
    """The status that one source gave one version.

    Attributes:
        digest: of the version.
        function_digest: of what it does, under any name.
        ref: `namespace/name@version`.
        status: `active` where the source took an earlier statement back.
        reason: the source's.
        since: when it was given its status.
        source: the registry's or store's label.
        source_id: the registry's id; `store` for a store.
    """

    digest: Digest
    function_digest: Digest
    ref: Text
    status: Status
    reason: str
    since: UtcTime
    source: Text
    source_id: Text

    @property
    def key(self) -> tuple[str, str, str]:
        """What a later statement has to share to replace this one."""
        return self.digest, self.source, self.source_id


@dataclass
class _State:
    """The statements that count, and what is wrong with the file."""

    statements: dict[tuple[str, str, str], StatusStatement] = field(default_factory=dict)
    by_digest: dict[str, set[tuple[str, str, str]]] = field(default_factory=dict)
    by_function: dict[str, set[tuple[str, str, str]]] = field(default_factory=dict)
    lines: int = 0
    damaged: list[int] = field(default_factory=list)

    def accepts(self, new: StatusStatement) -> bool:
        """Tell whether a statement says something new that counts."""
        old = self.statements.get(new.key)
        if old is None:
            return new.status != "active"
        if strictness(new.status) > strictness(old.status):
            return True
        if is_ahead(new.since) or new.since <= old.since:
            return False
        kept = (
            old.status == "quarantined" and new.status == "withdrawn"
        )  # gone here; its bytes go round still
        return not kept and (new.status, new.reason) != (old.status, old.reason)

    def add(self, new: StatusStatement) -> None:
        self.statements[new.key] = new
        self.by_digest.setdefault(new.digest, set()).add(new.key)
        self.by_function.setdefault(new.function_digest, set()).add(new.key)


_loaded: dict[Path, tuple[Stamp, _State]] = {}
_guard = threading.RLock()


class StatusMemory:
    """The statuses that this machine has seen.

    Attributes:
        path: the file; missing means that none was seen.
    """

    def __init__(self, cache: Path) -> None:
        """Name the memory of a cache folder without reading it."""
        self.path = cache / "remembered" / "statuses.jsonl"
        self._problem = ""
        self._unwritten: dict[tuple[str, str, str], StatusStatement] = {}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know about the memory itself: that it is damaged, or cannot be written."""
        state = self._state()
        found = [self._problem] if self._problem else []
        if state.damaged:
            more = f" and {len(state.damaged) - 1} more" if len(state.damaged) > 1 else ""
            found.append(
                f"{self.path}, line {state.damaged[0]}{more}: damaged, so a quarantine may be forgotten; "
                "remove the line once you have read what it says"
            )
        return tuple(found)

    def about(self, digest: str) -> list[StatusStatement]:
        """Return the latest statement of each source about a version, if it is not `active`.

        Args:
            digest: of the version.
        """
        return self._in_force(self._state().by_digest.get(digest, ()))

    def quarantines(self, function_digest: str) -> list[StatusStatement]:
        """Return the quarantines of versions that do the same, by their function digest.

        Args:
            function_digest: of what the weights do.
        """
        found = self._in_force(self._state().by_function.get(function_digest, ()))
        return [item for item in found if item.status == "quarantined"]

    def remember(self, statements: Iterable[StatusStatement]) -> None:
        """Write down what is new; what cannot be written counts for this process, with a warning.

        Args:
            statements: of any number of versions and sources; those that say nothing new are
                left out.
        """
        state = self._state()
        new = [item for item in statements if state.accepts(item)]
        if not new:
            return
        try:
            self._write(new)
        except (OSError, InvalidInputError, ConflictError) as error:
            lost = f"could not write down {len(new)} statuses ({error})"
            self._problem = f"{lost}; they will be forgotten after this command"
            with _guard:
                for item in new:
                    self._unwritten[item.key] = item

    def _in_force(self, keys: Iterable[tuple[str, str, str]]) -> list[StatusStatement]:
        state = self._state()
        found = [state.statements[key] for key in sorted(keys)]
        return [item for item in found if item.status != "active"]

    def _state(self) -> _State:
        with _guard:
            try:
                stamp = Stamp.of(self.path.stat())
                before = _loaded.get(self.path)
                if before is None or before[0] != stamp:
                    before = _loaded[self.path] = (stamp, _read(self.path))
                state = before[1]
            except (FileNotFoundError, NotADirectoryError):
                state = _State()
            except (OSError, InvalidInputError) as error:
                self._problem = (
                    f"the statuses that this machine has seen cannot be read ({error}), so a quarantine "
                    f"may be forgotten; move {self.path} away to start over"
                )
                state = _State()
            for item in self._unwritten.values():
                if state.accepts(item):
                    state.add(item)
            return state

    def _write(self, new: Sequence[StatusStatement]) -> None:
        with locked_beside(self.path, f"{self.path.name}.lock", self.path.parent.parent), _guard:
            state = self._state()  # with what others wrote meanwhile
            fresh = [item for item in new if state.accepts(item)]
            if len(state.statements) + len(fresh) > MAXIMUM_STATEMENTS:
                raise InvalidInputError(f"{self.path} can hold at most {MAXIMUM_STATEMENTS} statements")
            _append(self.path, fresh)
            self._compact()

    def _compact(self) -> None:
        if self.path.stat().st_size < COMPACT_SIZE:
            return
        state = self._state()
        if state.lines > 2 * len(state.statements) and not state.damaged:
            write_atomically(self.path, b"".join(_line(item) for item in state.statements.values()))


def _line(item: StatusStatement) -> bytes:
    return item.to_bytes() + b"\n"


def _append(path: Path, statements: Sequence[StatusStatement]) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    with os.fdopen(descriptor, "r+b") as file:
        end = _whole_lines(file.read(MAXIMUM_SIZE))
        file.truncate(end)
        file.seek(end)
        file.write(b"".join(_line(item) for item in statements))
        file.flush()
        os.fsync(file.fileno())


def _whole_lines(raw: bytes) -> int:
    """Return the length of what ends with a line break: the rest was being written when a process died."""
    return raw.rfind(b"\n") + 1


def _read(path: Path) -> _State:
    raw = read_bounded(path, MAXIMUM_SIZE, follow=False)
    state = _State()
    for number, line in enumerate(raw[: _whole_lines(raw)].split(b"\n"), 1):
        if not line.strip():
            continue
        state.lines += 1
        try:
            item = StatusStatement.parse(line, f"{path}, line {number}")
        except InvalidInputError:
            state.damaged.append(number)
            continue
        if state.accepts(item):
            state.add(item)
    return state


@dataclass(frozen=True)
class GivenStatus:
    """The status of a version as its source gives it.

    Attributes:
        digest: of the version.
        function_digest: of the version.
        status: the source's.
        reason: why.
        since: the time of its status entry, if there is one.
    """

    digest: str
    function_digest: str
    status: Status
    reason: str
    since: str | None


def statement(given: GivenStatus, ref: str, source: str, source_id: str = "store") -> StatusStatement | None:
    """Return the status that a source gives a version as a statement, or None if it does not count.

    A status that loosens needs a time. One that forbids counts as given now if it has none or is dated
    ahead of this clock, so that its owner can take it back.

    Args:
        given: the status.
        ref: `namespace/name@version`.
        source: the registry's or store's label.
        source_id: the registry's id.
    """
    since = None if given.since is None or is_ahead(given.since) else given.since
    if given.status == "active" and since is None:
        return None
    return StatusStatement(
        digest=given.digest,
        function_digest=given.function_digest,
        ref=ref,
        status=given.status,
        reason=given.reason[:300],
        since=since or utc_now(),
        source=source[:1000],
        source_id=source_id[:200],
    )
