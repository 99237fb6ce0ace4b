"""What this machine was told of statuses: a quarantine stays although whoever said so says it no more.

    memory = StatusMemory(cache_folder())
    memory.hear([Told(…)])
    memory.about(digest), memory.quarantines(function_digest)

A registry may be replaced by an older one, a status file emptied, the same weights published under
another name; nothing in what is served then shows that they were in quarantine. So every status that
forbids something is written down by the version's digest and by its function digest, with who said it,
why and since when. Of what several say the strictest counts. It is loosened only by him who said it,
with a status entry of his own that is later and not ahead of this clock.

The file is append-only, a line for each statement, under a lock; a reader needs none. Half a line at its
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
COMPACT_SIZE = 4 * 2**20  # a larger file is written anew if most of its lines were replaced by later ones


class Told(Record):
    """What one source said of one version.

    Attributes:
        digest: of the version.
        function_digest: of what it does, whatever it is called.
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

    statements: dict[tuple[str, str, str], Told] = field(default_factory=dict)
    by_digest: dict[str, set[tuple[str, str, str]]] = field(default_factory=dict)
    by_function: dict[str, set[tuple[str, str, str]]] = field(default_factory=dict)
    lines: int = 0
    damaged: list[int] = field(default_factory=list)

    def takes(self, new: Told) -> bool:
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

    def take(self, new: Told) -> None:
        self.statements[new.key] = new
        self.by_digest.setdefault(new.digest, set()).add(new.key)
        self.by_function.setdefault(new.function_digest, set()).add(new.key)


_loaded: dict[Path, tuple[Stamp, _State]] = {}
_guard = threading.RLock()


class StatusMemory:
    """The statuses that this machine was told of.

    Attributes:
        path: the file; missing means that nothing was told.
    """

    def __init__(self, cache: Path) -> None:
        """Name the memory of a cache folder without reading it."""
        self.path = cache / "remembered" / "statuses.jsonl"
        self._problem = ""
        self._unwritten: dict[tuple[str, str, str], Told] = {}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know of the memory itself: that it is damaged, or cannot be written."""
        state = self._state()
        found = [self._problem] if self._problem else []
        if state.damaged:
            more = f" and {len(state.damaged) - 1} more" if len(state.damaged) > 1 else ""
            found.append(
                f"{self.path}, line {state.damaged[0]}{more}: damaged, so a quarantine may be forgotten; "
                "remove the line once you have looked what it says"
            )
        return tuple(found)

    def about(self, digest: str) -> list[Told]:
        """Return what each source said last of a version, but what is `active`."""
        return self._those(self._state().by_digest.get(digest, ()))

    def quarantines(self, function_digest: str) -> list[Told]:
        """Return the quarantines of whatever does the same as this function digest says."""
        found = self._those(self._state().by_function.get(function_digest, ()))
        return [told for told in found if told.status == "quarantined"]

    def hear(self, statements: Iterable[Told]) -> None:
        """Write down what is new; what cannot be written counts for this process, with a warning."""
        state = self._state()
        new = [told for told in statements if state.takes(told)]
        if not new:
            return
        try:
            self._write(new)
        except (OSError, InvalidInputError, ConflictError) as error:
            self._problem = (
                f"could not write down {len(new)} statuses ({error}); they are forgotten with this command"
            )
            with _guard:
                for told in new:
                    self._unwritten[told.key] = told

    def _those(self, keys: Iterable[tuple[str, str, str]]) -> list[Told]:
        state = self._state()
        found = [state.statements[key] for key in sorted(keys)]
        return [told for told in found if told.status != "active"]

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
                    f"statuses that this machine was told of cannot be read ({error}), so a quarantine may "
                    f"be forgotten; move {self.path} away to start anew"
                )
                state = _State()
            for told in self._unwritten.values():
                if state.takes(told):
                    state.take(told)
            return state

    def _write(self, new: Sequence[Told]) -> None:
        with locked_beside(self.path, f"{self.path.name}.lock", self.path.parent.parent), _guard:
            state = self._state()  # with what others wrote meanwhile
            fresh = [told for told in new if state.takes(told)]
            if len(state.statements) + len(fresh) > MAXIMUM_STATEMENTS:
                raise InvalidInputError(f"{self.path} may hold {MAXIMUM_STATEMENTS} statements, no more")
            _append(self.path, fresh)
            self._compact()

    def _compact(self) -> None:
        if self.path.stat().st_size < COMPACT_SIZE:
            return
        state = self._state()
        if state.lines > 2 * len(state.statements) and not state.damaged:
            write_atomically(self.path, b"".join(_line(told) for told in state.statements.values()))


def _line(told: Told) -> bytes:
    return told.to_bytes() + b"\n"


def _append(path: Path, statements: Sequence[Told]) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    with os.fdopen(descriptor, "r+b") as file:
        end = _whole_lines(file.read(MAXIMUM_SIZE))
        file.truncate(end)
        file.seek(end)
        file.write(b"".join(_line(told) for told in statements))
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
            told = Told.parse(line, f"{path}, line {number}")
        except InvalidInputError:
            state.damaged.append(number)
            continue
        if state.takes(told):
            state.take(told)
    return state


@dataclass(frozen=True)
class Said:
    """What a source says of a version.

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


def statement(said: Said, ref: str, source: str, source_id: str = "store") -> Told | None:
    """Return what a source says of a version as a statement, or None if it says nothing that counts.

    A status that loosens needs a time. One that forbids counts as given now where it has none or is dated
    ahead of this clock, so that its owner can take it back.

    Args:
        said: the status.
        ref: `namespace/name@version`.
        source: the registry's or store's label.
        source_id: the registry's id.
    """
    since = None if said.since is None or is_ahead(said.since) else said.since
    if said.status == "active" and since is None:
        return None
    return Told(
        digest=said.digest,
        function_digest=said.function_digest,
        ref=ref,
        status=said.status,
        reason=said.reason[:300],
        since=since or utc_now(),
        source=source[:1000],
        source_id=source_id[:200],
    )
