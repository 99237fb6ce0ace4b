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
MIN_SPEAKERS = 3  # fewer say nothing of other speakers: intervals are over utterances then
FEW_SPEAKERS = 10  # an interval over fewer is wide, and rests on how alike they happen to be
_COUNTS = ("hits", "substitutions", "deletions", "insertions")


def strictness(status: Status) -> int:
    """Return a number that is the larger the less a status allows.

    Args:
        status: one of `STRICTNESS`.
    """
    return STRICTNESS.index(status)


class ErrorCounts(Record):
    """Pooled counts of an alignment: word or character errors against the references.

    Attributes:
        hits: words or characters that are right.
        substitutions: that were replaced.
        deletions: that are missing.
        insertions: that are too many.
    """

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
    """One utterance: reference and hypothesis, and the errors after normalising both.

    Attributes:
        id: of the utterance; in a published report the sha256 of its audio.
        audio_sha256: of the audio file.
        seconds: of audio.
        language: BCP 47 tag.
        speaker: who speaks; in a published report `speaker-1`, `speaker-2`, ….
        domain: what the data set calls this kind of speech, like `noisy`; absent where it does not say.
        reference: what is said, as the data set has it.
        hypothesis: what was transcribed.
        words: errors by word.
        characters: errors by character.
    """

    id: Text
    audio_sha256: Sha256
    seconds: Annotated[float, Field(ge=0.0)]
    language: Text
    speaker: str | None = None
    domain: Text | None = None
    reference: str
    hypothesis: str
    words: ErrorCounts
    characters: ErrorCounts

    def counts(self, metric: MetricName) -> ErrorCounts:
        """Return the errors that a metric counts.

        Args:
            metric: wer for words, cer for characters.
        """
        return self.words if metric == "wer" else self.characters


def sample_of(unit: Literal["speaker", "utterance"], utterances: int, speakers: int | None) -> str:
    """Return what an interval is over, for people.

    >>> sample_of("speaker", 240, 12), sample_of("utterance", 1, 1), sample_of("utterance", 40, 0)
    ('12 speakers', '1 utterance of 1 speaker', '40 utterances')

    Args:
        unit: what was taken to be independent.
        utterances: how many.
        speakers: how many; 0 or None where that is unknown.
    """
    spoken, known = (
        f"{count} {noun}{'' if count == 1 else 's'}"
        for count, noun in ((utterances, "utterance"), (speakers or 0, "speaker"))
    )
    if unit == "speaker":
        return known if speakers else "speakers"
    return f"{spoken} of {known}" if speakers else spoken


def few_speakers(speakers: int | None) -> str:
    """Return the warning of an interval over few speakers; empty where there are enough or it is unknown.

    Args:
        speakers: how many; 0 or None where that is unknown.
    """
    if not speakers or speakers >= FEW_SPEAKERS:
        return ""
    of = "one speaker" if speakers == 1 else f"{speakers} speakers"
    if speakers < MIN_SPEAKERS:
        return f"the interval of {of} says nothing of other speakers; test at least {FEW_SPEAKERS}"
    return f"an interval of {of} is rough; test at least {FEW_SPEAKERS}"


class Uncertain(Record):
    """How an interval was computed: by Student's t, or, in older reports, by resampling.

    Attributes:
        unit: what was taken to be independent: speakers, or utterances where too few speakers are known.
        method: absent in older reports: percentiles of a bootstrap, far too narrow where speakers are few.
        resamples: how many draws; absent by Student's t.
        random_seed: of the draws; absent by Student's t.
    """

    unit: Literal["speaker", "utterance"]
    method: Literal["jackknife-t"] | None = None
    resamples: Annotated[int, Field(ge=1)] | None = None
    random_seed: int | None = None

    @model_validator(mode="after")
    def _by_one_method(self) -> Self:
        drawn = {self.resamples is not None, self.random_seed is not None}
        if drawn != {self.method is None}:
            raise ValueError("an interval has a method, or resamples and random_seed")
        return self


class Interval(Uncertain):
    """A 95 % interval of the primary metric.

    Attributes:
        low: as a fraction.
        high: as a fraction.
    """

    low: Annotated[float, Field(ge=0.0)]
    high: Annotated[float, Field(ge=0.0)]


class Decoding(Record):
    """How the text was searched for.

    Attributes:
        beams: 1 for greedy search.
        timestamps: whether timestamp tokens were decoded.
        language: the decode language given, or `auto`.
        temperatures: of sampling, tried in order while a text repeats itself or is improbable; absent where
            texts are those of the search alone.
    """

    beams: Annotated[int, Field(ge=1)]
    timestamps: bool
    language: Text  # the decode language given, or "auto"
    temperatures: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=2)] | None = None


class Subject(Record):
    """What was evaluated: an adapter, or the base model alone (all fields absent).

    Attributes:
        name: of the adapter.
        version: of the adapter.
        function_digest: of the adapter, which is what binds the report to it.
    """

    name: Name | None = None
    version: VersionText | None = None
    function_digest: Digest | None = None


class Beside(Record):
    """What another model made of a report's utterances, to be shown beside the report's own rates.

    Attributes:
        subject: what was evaluated; the base model alone has no fields, nor has a full model.
        model_digest: of a full model, see base model digest; absent: an adapter, or the report's base model.
        words: sum over all utterances.
        characters: sum over all utterances.
        low: of the 95 % interval of the report's primary rate minus this model's, of paired speakers.
        high: of the same interval.
    """

    subject: Subject
    model_digest: Digest | None = None
    words: ErrorCounts
    characters: ErrorCounts
    low: float
    high: float

    @property
    def is_base_model(self) -> bool:
        """Whether it is the report's own base model."""
        return self.subject == Subject() and self.model_digest is None

    def rate(self, metric: MetricName) -> float:
        """Return the error rate by a metric as a fraction.

        Args:
            metric: wer for words, cer for characters.
        """
        return (self.words if metric == "wer" else self.characters).rate


class ForgottenSet(Record):
    """The errors on one test set of the original domain, by the primary metric of the report.

    Attributes:
        data: the data set's name, or its repository on the Hub.
        split: like `test`.
        data_sha256: of the rows, see data digest.
        before: of the base model.
        after: of the adapter.
    """

    data: Text
    split: Text
    data_sha256: Sha256
    before: ErrorCounts
    after: ErrorCounts


class ForgettingSection(Uncertain):
    """How much worse than its base model an adapter is on the original domain, over all its test sets.

    Attributes:
        sets: the test sets, each once.
        low: of the 95 % interval of `percent`, of paired speakers of all sets.
        high: of the same interval; absent where it has no limit.
        speakers: how many are known, of the set with the fewest; absent in older reports.
    """

    sets: Annotated[tuple[ForgottenSet, ...], Field(min_length=1, max_length=100)]
    low: float
    high: float | None = None
    speakers: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _comparable(self) -> Self:
        if len({item.data_sha256 for item in self.sets}) != len(self.sets):
            raise ValueError("a test set occurs twice")
        for item in self.sets:
            if (
                item.before.reference_length != item.after.reference_length
                or not item.before.reference_length
            ):
                raise ValueError(f"{item.data}: errors of other references before than after")
        if not sum(item.before.errors for item in self.sets):
            raise ValueError("no error before, so that no relative increase is defined")
        if self.high is not None and not self.low <= self.high:
            raise ValueError(f"interval from {self.low} to {self.high}")
        return self

    @property
    def percent(self) -> float:
        """The relative increase of the sum of the sets' error rates."""
        before = sum(item.before.rate for item in self.sets)
        return 100 * (sum(item.after.rate for item in self.sets) / before - 1)


class EvaluationReport(Record):
    """The outcome of one evaluation, bound to the bytes that took part in it.

    Attributes:
        schema: of this record.
        created: when it was finished.
        subject: what was evaluated.
        base_model_digest: of the base model.
        data: the data set's name, or its repository on the Hub.
        data_sha256: of the rows, see data digest.
        split: like `test`.
        languages: BCP 47 tags of the rows.
        normaliser: of texts before they are compared, like `basic/2`.
        decoding: how the text was searched for.
        primary: the metric that counts for this language.
        words: sum of the rows' counts.
        characters: sum of the rows' counts.
        interval: of the primary metric.
        seconds: of audio.
        wall_seconds: duration of the evaluation.
        packages: versions by package.
        beside: what other models made of the same utterances; absent where none was compared.
        forgetting: of an adapter, over this test set and others; in the reports on all of them.
        rows: one for each utterance.
    """

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
    beside: Annotated[tuple[Beside, ...], Field(min_length=1, max_length=100)] | None = None
    forgetting: ForgettingSection | None = None
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
        for other in self.beside or ():
            for name in ("words", "characters"):
                if getattr(other, name).reference_length != getattr(self, name).reference_length:
                    raise ValueError(f"beside: {name} of other references than the rows'")
            if not other.low <= other.high:
                raise ValueError(f"beside: interval from {other.low} to {other.high}")
        own = self.words if self.primary == "wer" else self.characters
        sets = self.forgetting.sets if self.forgetting else ()
        if sets and [item.after for item in sets if item.data_sha256 == self.data_sha256] != [own]:
            raise ValueError("forgetting: not of this report's counts")
        return self

    @property
    def speakers(self) -> int:
        """How many speakers the rows name; 0 if a row names none."""
        named = {row.speaker for row in self.rows}
        return 0 if None in named else len(named)

    @property
    def value(self) -> float:
        """The primary metric as a fraction."""
        return (self.words if self.primary == "wer" else self.characters).rate


class StatusEntry(Record):
    """One line of `status.json`, a list that only grows; the latest entry of a version counts.

    Attributes:
        version: that it is about.
        digest: of that version's manifest.
        status: what the version may be used for from then on.
        reason: for people; `published` for the first entry of a version.
        time: when it was set.
    """

    version: VersionText
    digest: Digest
    status: Status
    reason: Text
    time: UtcTime


class Finding(Record):
    """One result of an audit check.

    Attributes:
        code: of the check, which `audit --explain` describes.
        severity: how grave it is.
        ref: of what was checked.
        message: what is wrong.
        hint: what to do about it.
    """

    code: Text
    severity: Severity
    ref: Text
    message: Annotated[str, StringConstraints(min_length=1)]
    hint: str = ""

    @field_validator("ref", "message", "hint", mode="before")
    @classmethod
    def _written_down(cls, text: object) -> object:
        """Spell what is not UTF-8: file names may hold any byte."""
        return text.encode("utf-8", "backslashreplace").decode() if isinstance(text, str) else text
