"""Evaluation reports, status entries and findings: the claims about adapters.

A report keeps counts beside rates, so that anything can be pooled or recomputed, and names the
digests of the adapter's function, the base model and the data that it measured.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import FailFast, Field, StringConstraints, field_validator, model_validator

from adapter_hub.formats.canonical import Count, Digest, Record, Sha256, Text, UtcTime
from adapter_hub.formats.manifest import Name, VersionText

Status = Literal["active", "deprecated", "yanked", "quarantined", "withdrawn"]
PUBLISHED = "published"  # the reason of a version's first status entry
STRICTNESS: tuple[Status, ...] = ("active", "deprecated", "yanked", "withdrawn", "quarantined")
Severity = Literal["error", "warning", "info"]
MetricName = Literal["wer", "cer"]
_COUNTS = ("hits", "substitutions", "deletions", "insertions")


def strictness(status: Status) -> int:
    """Return a number that is the larger the less a status allows."""
    return STRICTNESS.index(status)


class ErrorCounts(Record):
    """Pooled counts of an alignment: word or character errors against the reference's length."""

    hits: Count
    substitutions: Count
    deletions: Count
    insertions: Count

    @property
    def reference_length(self) -> int:
        """Words or characters in the references."""
        return self.hits + self.substitutions + self.deletions

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors per reference word or character; above 1 with many insertions."""
        return self.errors / self.reference_length

    def __add__(self, other: ErrorCounts) -> ErrorCounts:
        return ErrorCounts(
            hits=self.hits + other.hits,
            substitutions=self.substitutions + other.substitutions,
            deletions=self.deletions + other.deletions,
            insertions=self.insertions + other.insertions,
        )


class UtteranceRow(Record):
    """One utterance: what was said, what was heard, and the errors after normalising."""

    id: Text
    audio_sha256: Sha256
    seconds: Annotated[float, Field(ge=0.0)]
    language: Text
    speaker: str | None = None
    reference: str
    hypothesis: str
    words: ErrorCounts
    characters: ErrorCounts


class Interval(Record):
    """A 95 % interval by resampling speakers (or utterances, where no speaker is known)."""

    low: Annotated[float, Field(ge=0.0)]
    high: Annotated[float, Field(ge=0.0)]
    resamples: Annotated[int, Field(ge=1)]
    unit: Literal["speaker", "utterance"]
    random_seed: int


class Decoding(Record):
    """How the text was searched for."""

    beams: Annotated[int, Field(ge=1)]
    timestamps: bool
    language: Text  # the decode language given, or "auto"


class Subject(Record):
    """What was evaluated: an adapter, by its function digest, or the base model alone (all absent)."""

    name: Name | None = None
    version: VersionText | None = None
    function_digest: Digest | None = None


class EvaluationReport(Record):
    """The outcome of one evaluation, bound to the bytes that took part in it."""

    schema_: Annotated[Literal["evaluation/1"], Field(alias="schema")]
    created: UtcTime
    subject: Subject
    base_model_digest: Digest
    data: Text
    data_sha256: Sha256
    split: Text
    languages: tuple[Text, ...]
    normaliser: Text
    decoding: Decoding
    primary: MetricName
    words: ErrorCounts
    characters: ErrorCounts
    interval: Interval
    seconds: Annotated[float, Field(ge=0.0)]  # of audio
    wall_seconds: Annotated[float, Field(ge=0.0)]
    packages: dict[str, str]
    rows: Annotated[tuple[UtteranceRow, ...], Field(min_length=1), FailFast()]

    values_read: ClassVar[int] = 2_000_000  # about 20 an utterance

    @model_validator(mode="after")
    def _pooled(self) -> Self:
        for name in ("words", "characters"):
            counts = [getattr(row, name) for row in self.rows]
            pooled = {field: sum(getattr(count, field) for count in counts) for field in _COUNTS}
            if pooled != {field: getattr(getattr(self, name), field) for field in _COUNTS}:
                raise ValueError(f"{name}: the pooled counts are not the sum of the rows'")
        if self.words.reference_length == 0:
            raise ValueError("words: no reference words at all")
        return self

    @property
    def value(self) -> float:
        """The primary metric as a fraction."""
        return (self.words if self.primary == "wer" else self.characters).rate


class StatusEntry(Record):
    """One line of `status.json`, a list that only grows; the latest entry of a version counts."""

    version: VersionText
    digest: Digest
    status: Status
    reason: Text
    time: UtcTime


class Finding(Record):
    """One result of an audit check."""

    code: Text
    severity: Severity
    ref: Text
    message: Annotated[str, StringConstraints(min_length=1)]
    hint: str = ""

    @field_validator("ref", "message", "hint", mode="before")
    @classmethod
    def _written_down(cls, text: object) -> object:
        """Spell what is no UTF-8: file names may hold any byte."""
        return text.encode("utf-8", "backslashreplace").decode() if isinstance(text, str) else text
