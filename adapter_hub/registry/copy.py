"""This machine's copy of a registry that is on the Hub: the file, and which commit it is from.

    copy = RegistryCopy(cache / "registries" / key)
    copy.keep(raw, commit, loaded.file)
    copy.read().raw

The file is whole by itself. `state.json` beside it counts only as long as it names the file's sha256, so
that a crash between the two, or two processes at once, leave a file of unknown commit and nothing worse.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from adapter_hub.errors import ConflictError, InvalidInputError
from adapter_hub.files.reading import read_bounded
from adapter_hub.files.writing import remove_stale, write_atomically
from adapter_hub.formats.canonical import Count, Record, Sha256, Text, sha256_hex
from adapter_hub.formats.registry_file import MAXIMUM_SIZE, RegistryFile, parse_registry
from adapter_hub.registry.record_file import RecordFile

MAXIMUM_STATE = 2**16  # bytes
CONFIRM_SECONDS = 60.0  # a copy that was fetched less than this ago is not stamped again


class _State(Record):
    """What `state.json` says of the file with this sha256."""

    schema_: Annotated[Literal["registry-copy/1"], Field(alias="schema")]
    sha256: Sha256
    commit: Text
    fetched: Annotated[float, Field(ge=0.0)]
    registry_id: Text
    sequence: Count


@dataclass(frozen=True)
class Copied:
    """A copy as it is on the disk.

    Attributes:
        raw: the file.
        commit: that it is from; None if that is unknown.
        fetched: when it was last the newest, as `time.time()`.
    """

    raw: bytes
    commit: str | None
    fetched: float


@dataclass(frozen=True)
class Known:
    """Which registry was copied: the Hub's must have this id, and no lower sequence."""

    registry_id: str
    sequence: int


class RegistryCopy:
    """A folder with the copy of one registry.

    Attributes:
        folder: made when the first copy is kept.
    """

    def __init__(self, folder: Path) -> None:
        """Name a copy without touching it."""
        self.folder = folder
        self.path = folder / "registry.json"
        self._file = RecordFile(
            folder / "state.json",
            _State,
            InvalidInputError,
            most=MAXIMUM_STATE,
            cache=folder.parent.parent,
        )

    def read(self) -> Copied | None:
        """Return the copy, or None if there is none, or a damaged one."""
        try:
            raw = read_bounded(self.path, MAXIMUM_SIZE)
            written = self.path.stat().st_mtime
            state = self._state()
            if state is not None and state.sha256 == sha256_hex(raw):
                return Copied(raw, state.commit, state.fetched)
            parse_registry(raw, str(self.path))
            return Copied(raw, None, written)
        except (FileNotFoundError, NotADirectoryError, InvalidInputError):
            return None

    def known(self) -> Known | None:
        """Return which registry was copied, also if the copy is damaged; None if none was."""
        if state := self._state():
            return Known(state.registry_id, state.sequence)
        if copy := self.read():
            file = parse_registry(copy.raw, str(self.path)).file
            return Known(file.registry_id, file.sequence)
        return None

    def keep(self, raw: bytes, commit: str, file: RegistryFile) -> None:
        """Keep what was read, unless another process has kept a later state meanwhile.

        Args:
            raw: the file.
            commit: that it is from, the newest one right now.
            file: its records.

        Raises:
            OSError: the cache cannot be written.
        """
        with suppress(ConflictError), self._file.locked():
            self._keep(raw, commit, file)  # a process that holds the lock for so long keeps a copy, too

    def _keep(self, raw: bytes, commit: str, file: RegistryFile) -> None:
        now, sha256 = time.time(), sha256_hex(raw)
        there = self._state() if self.path.is_file() else None
        if there is not None and there.registry_id == file.registry_id and there.sequence > file.sequence:
            return
        same = there is not None and (there.commit, there.sha256) == (commit, sha256)
        same = (
            same and sha256_hex(read_bounded(self.path, MAXIMUM_SIZE)) == sha256
        )  # the disk may have changed it
        if there is not None and same and 0.0 <= now - there.fetched < CONFIRM_SECONDS:
            return
        if not same:
            remove_stale(self.folder)
            write_atomically(self.path, raw)
        state = {
            "schema": "registry-copy/1",
            "sha256": sha256,
            "commit": commit,
            "fetched": now,
            "registry_id": file.registry_id,
            "sequence": file.sequence,
        }
        self._file.write(_State.model_validate(state))

    def _state(self) -> _State | None:
        try:
            return self._file.read()
        except InvalidInputError:
            return None
