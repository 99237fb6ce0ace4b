"""Which checkpoints a training may resume from: those that this user's trainings wrote, unchanged.

    kept = Checkpoints(work, cache / "trainings")
    kept.note(work / "checkpoint-5")        # once it is written
    kept.newest(tell)                       # the newest unchanged one; None: start from scratch

The checkpoints of a training are beside its output folder: anybody who passes on such a folder can put a
"finished" checkpoint into it, which would be sealed as trained by this recipe. So what was written is noted
by content elsewhere, in the user's own cache. The notes prove nothing to others: whoever can write to the
cache can forge them, and what a published adapter says about its training is its author's word.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerState

from adapter_hub.errors import AdapterHubError, ConflictError
from adapter_hub.files.reading import file_sha256, read_bounded
from adapter_hub.files.writing import make_folder, write_atomically
from adapter_hub.formats.canonical import canonical_bytes, sha256_hex
from adapter_hub.reporting import Tell
from adapter_hub.trainers.loop.process_group import ProcessGroup

TRUST = "ADAPTER_HUB_TRUST_CHECKPOINTS"  # 1: resume from checkpoints without notes, written elsewhere
NOTE_BYTES = 2**20
STATE = "trainer_state.json"
STATE_BYTES = 2**28  # at most: losses of millions of steps


class Checkpoints:
    """The checkpoints in a folder, and the notes about them.

    Args:
        work: holds `checkpoint-<step>`.
        notes: the folder of notes about all trainings.
    """

    def __init__(self, work: Path, notes: Path) -> None:
        self.work = work.absolute()
        self.path = notes / f"{sha256_hex(canonical_bytes(str(self.work)))[:32]}.json"

    def newest(self, tell: Tell = lambda _: None) -> Path | None:
        """Return the newest checkpoint that is as it was noted; half-written or changed ones are removed.

        Args:
            tell: receives a line for each checkpoint that is removed.

        Raises:
            ConflictError: there are checkpoints, but no notes of a training here.
        """
        found = sorted(
            (path for path in self.work.glob("checkpoint-*") if _step(path)), key=_step, reverse=True
        )
        known = self._read()
        if known is None and found and os.environ.get(TRUST) != "1":
            raise ConflictError(
                f"{self.work}: {found[0].name} was not written by a training of yours on this machine, "
                f"according to {self.path.parent}; remove {self.work} to start from scratch, or set "
                f"{TRUST}=1 to resume from it if you wrote it elsewhere"
            )
        for path in found:
            if known is None or known.get(path.name) == _digest(path):
                return path
            state = "was changed since it was written" if path.name in known else "was not written completely"
            tell(f"{path} {state}; it is removed")
            _remove(path)
        if known is None:
            self._write({})
        return None

    def note(self, checkpoint: Path) -> None:
        """Note a checkpoint that was just written; notes of those that are gone are removed.

        Args:
            checkpoint: a folder in `work`.
        """
        known = {name: value for name, value in (self._read() or {}).items() if (self.work / name).is_dir()}
        self._write(known | {checkpoint.name: _digest(checkpoint)})

    def forget(self) -> None:
        """Remove the notes: the training is over."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any] | None:
        try:
            note = json.loads(read_bounded(self.path, NOTE_BYTES))
        except (OSError, ValueError, RecursionError):
            return None
        known = note.get("checkpoints") if isinstance(note, dict) else None
        return known if isinstance(known, dict) else None

    def _write(self, known: dict[str, Any]) -> None:
        make_folder(self.path.parent)
        record = {"folder": str(self.work), "run": secrets.token_hex(8), "checkpoints": known}
        write_atomically(self.path, canonical_bytes(record))


def last_checkpoint(work: Path, kept: Checkpoints | None = None, tell: Tell = lambda _: None) -> Path | None:
    """Return the newest complete checkpoint in `work`; remove what a killed training left half-written.

    transformers writes `trainer_state.json` last: a checkpoint without a readable one is not complete.

    Args:
        work: the folder.
        kept: the notes of what was written here; None to accept any checkpoint.
        tell: receives a line for each checkpoint that is removed because it changed.

    Raises:
        ConflictError: as `Checkpoints.newest`.
    """
    found = [path for path in work.glob("checkpoint-*") if path.name.rpartition("-")[2].isdecimal()]
    for path in sorted(found, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True):
        try:
            state = json.loads(read_bounded(path / STATE, STATE_BYTES))
        except (OSError, ValueError, RecursionError):
            state = None
        if isinstance(state, dict):
            return path if kept is None else kept.newest(tell)
        shutil.rmtree(path)
    return None if kept is None else kept.newest(tell)


class NoteCheckpoints(TrainerCallback):
    """Notes every checkpoint once all processes have written their part."""

    def __init__(self, kept: Checkpoints, processes: ProcessGroup) -> None:
        self.kept, self.processes = kept, processes

    def on_save(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Note the newest one."""
        with self.processes.synchronised():
            pass
        with self.processes.synchronised():
            if self.processes.is_main:
                self.kept.note(self.kept.work / f"checkpoint-{state.global_step}")


def _step(path: Path) -> int:
    found = re.fullmatch(r"checkpoint-(\d{1,15})", path.name)
    return int(found[1]) if found else 0


def _digest(checkpoint: Path) -> str:
    """Return a digest of all files of a checkpoint; it matches no other if a file cannot be read."""
    rows = []
    for path in sorted(checkpoint.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        try:
            digest = file_sha256(path, follow=False)
        except (AdapterHubError, OSError):
            digest = secrets.token_hex(32)
        rows.append([os.fsencode(path.relative_to(checkpoint)).hex(), digest])
    return sha256_hex(canonical_bytes(rows))


def _remove(checkpoint: Path) -> None:
    if checkpoint.is_symlink() or not checkpoint.is_dir():
        checkpoint.unlink()
    else:
        shutil.rmtree(checkpoint)
