"""What a bulk job is, in one file of its output: rows, settings, and every adapter by its digest.

    plan = read_plan(out)
    plan.check_same(rows, settings, out)      # before a job that was stopped goes on
    for block in plan.blocks(rows): ...       # units of work: one shard each

The plan is written before the first shard. A job that goes on takes the adapters that are pinned there, and
what was asked for has to be the same: a part of the output with other settings would be worth nothing. The
name of a shard has the digest of plan and rows in it, so no shard of another job is taken for one of this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from adapter_hub.bulk.rows import Row, rows_sha256
from adapter_hub.errors import ConflictError, InvalidInputError, few
from adapter_hub.escaping import shown
from adapter_hub.files.reading import read_bounded
from adapter_hub.files.writing import write_atomically
from adapter_hub.formats.canonical import Count, Digest, Record, Sha256, Text, sha256_hex

PLAN_FILE = "plan.json"
PLAN_BYTES = 2**26
Form = Literal["jsonl", "parquet"]


class Pin(Record):
    """An adapter of a job, to the byte.

    Attributes:
        asked: the reference as the user or a row wrote it.
        ref: the reference to that very version.
        name: what results call it.
        digest: of its manifest.
    """

    asked: Text
    ref: Text
    name: Text
    digest: Digest


class PinnedCandidate(Record):
    """An adapter among which `auto` chooses, in the order of choosing.

    Attributes:
        language: BCP 47 tag of its transcripts.
        decode_language: Whisper's token that it is told; an empty text for the one of `language`.
        ref: the reference to that very version.
    """

    language: Text
    decode_language: str
    ref: Text


class Plan(Record):
    """A job.

    Attributes:
        schema: of the file.
        rows: how many.
        rows_sha256: of all rows, in order.
        settings: what was asked for, by the names of the options.
        base_model_id: of the base model.
        base_model_digest: of the base model.
        adapters: all that rows and options name, each once.
        candidates: among which `auto` chooses; absent where nothing is left to it.
    """

    schema_: Annotated[Literal["bulk/1"], Field(alias="schema")]
    rows: Count
    rows_sha256: Sha256
    settings: dict[str, Any]
    base_model_id: Text
    base_model_digest: Digest
    adapters: tuple[Pin, ...] = ()
    candidates: tuple[PinnedCandidate, ...] | None = None

    values_read: ClassVar[int] = 2_000_000

    @property
    def form(self) -> Form:
        """The format of its shards."""
        return "parquet" if self.settings["format"] == "parquet" else "jsonl"

    @property
    def digest(self) -> str:
        """Of the plan, as 64 hexadecimal digits."""
        return sha256_hex(self.to_bytes())

    def check_same(self, rows: Sequence[Row], settings: Mapping[str, Any], out: Path) -> None:
        """Refuse to go on with other rows or settings.

        Args:
            rows: of the job that is to go on.
            settings: of it.
            out: the folder of the output.

        Raises:
            ConflictError: with what differs.
        """
        names = sorted({*self.settings, *settings})
        changed = [
            f"{name} {_brief(self.settings.get(name))}, now {_brief(settings.get(name))}"
            for name in names
            if self.settings.get(name) != settings.get(name)
        ]
        if (self.rows, self.rows_sha256) != (len(rows), rows_sha256(rows)):
            other = f"{self.rows} rows, now {len(rows)}" if self.rows != len(rows) else "other rows"
            changed.append(other)
        if changed:
            raise ConflictError(
                f"{out}: begun with {few(changed)}; go on with what it was begun with, or name another --out"
            )

    def blocks(self, rows: Sequence[Row]) -> Iterator[Block]:
        """Yield the units of work, in order.

        Args:
            rows: all.
        """
        size, plan = int(self.settings["shard_rows"]), self.digest
        for number, start in enumerate(range(0, len(rows), size)):
            some = tuple(rows[start : start + size])
            which = sha256_hex(f"{plan} {number} {rows_sha256(some)}".encode())[:12]
            yield Block(number, start, some, f"part-{number:06}-{which}.{self.form}")


@dataclass(frozen=True)
class Block:
    """A unit of work: the rows of one shard.

    Attributes:
        number: from 0.
        start: the place of its first row among all, from 0.
        rows: in order.
        name: of the shard's file.
    """

    number: int
    start: int
    rows: tuple[Row, ...]
    name: str


def read_plan(out: Path) -> Plan | None:
    """Return the plan of the job that a folder holds; None if it may be the folder of a new one.

    Args:
        out: of the output; it need not exist.

    Raises:
        InvalidInputError: other files are there, or the plan is damaged.
    """
    file = out / PLAN_FILE
    if file.is_file():
        return Plan.parse(read_bounded(file, PLAN_BYTES), str(file))
    if out.is_dir() and (others := sorted(path.name for path in out.iterdir() if path.name[0] != ".")):
        raise InvalidInputError(
            f"{out}: holds other files ({few(others, separator=', ', most=3)}) and no {PLAN_FILE}; name a "
            "folder of its own with --out"
        )
    return None


def write_plan(plan: Plan, out: Path) -> Plan:
    """Write a plan, and return it as it will be read again.

    Args:
        plan: of the job.
        out: of the output.
    """
    raw = plan.to_bytes()
    write_atomically(out / PLAN_FILE, raw)
    return Plan.parse(raw, str(out / PLAN_FILE))


def _brief(value: object) -> str:
    return "unset" if value in (None, "", [], False) else shown(repr(value), 80)
