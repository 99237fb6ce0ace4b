"""Comparing systems on the same test sets: speakers are resampled, random seeds spread as Student's t.

    sampler = Resampler(resamples=10_000, random_seed=0)
    difference(sampler, a, b, ("da", "el"))        # Difference(value=-0.012, low=-0.02, high=-0.004, …)

A draw takes speakers with replacement, the same ones for both systems and all their seeds, and for all
languages that have the same speakers; of a test set with fewer than three speakers it takes utterances. Rates
are pooled over a test set, averaged over seeds, then over languages, as the paper's averages are. To each
draw the spread of the mean over random seeds is added: a handful of seeds, drawn again and again, would look
too much alike, so it comes from Student's t with their degrees of freedom (Welch and Satterthwaite's over
several languages). Seeds are paired: one seed gives all systems of a language the same order of utterances
and the same masks, and some orders are better than others for every system.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, variance
from typing import Literal

import numpy as np

from adapter_hub.errors import InvalidInputError
from adapter_hub.evaluation.intervals import Array, blocks_of, summed
from adapter_hub.formats.claims import EvaluationReport

Verdict = Literal["held", "not held", "cannot tell", "not measured"]


@dataclass(frozen=True, eq=False)
class TestScore:
    """The errors of one model on one test set, by block: a speaker, or an utterance where there are few.

    Attributes:
        value: the pooled rate, a fraction.
        blocks: the names of the blocks, sorted.
        errors: `[blocks]`.
        lengths: `[blocks]`, reference words or characters.
        seconds: of audio.
        metric: wer or cer.
    """

    value: float
    blocks: tuple[str, ...]
    errors: Array
    lengths: Array
    seconds: float
    metric: str

    @classmethod
    def of(cls, report: EvaluationReport) -> TestScore:
        """Sum a report's rows by speaker, or leave them apart where there are too few to be resampled."""
        unit, _ = blocks_of([row.speaker for row in report.rows])
        names = [str(row.speaker) if unit == "speaker" else row.id for row in report.rows]
        blocks, place = np.unique(np.asarray(names), return_inverse=True)
        sums = summed(
            place,
            [
                (row.counts(report.primary).errors, row.counts(report.primary).reference_length)
                for row in report.rows
            ],
        ).T
        return cls(report.value, tuple(map(str, blocks)), sums[0], sums[1], report.seconds, report.primary)


@dataclass(frozen=True)
class System:
    """One row of a table: its scores by language and random seed.

    Attributes:
        name: for messages.
        scores: by language, then by random seed; a language that is not measured is absent.
        seeds: how many random seeds are planned.
    """

    name: str
    scores: Mapping[str, Mapping[int, TestScore]]
    seeds: int = 1

    def values(self, language: str) -> list[float]:
        """Return the rates on a test set, in the order of the seeds."""
        return [score.value for _, score in sorted(self.scores.get(language, {}).items())]

    def value(self, language: str) -> float | None:
        """Return the mean rate over the seeds."""
        values = self.values(language)
        return fmean(values) if values else None

    def average(self, languages: Sequence[str]) -> float | None:
        """Return the average over languages, or None if one is not measured."""
        values = [self.value(language) for language in languages]
        known = [value for value in values if value is not None]
        return fmean(known) if known and len(known) == len(values) else None

    def only(self, language: str, seeds: Collection[int]) -> Mapping[int, TestScore]:
        """Return the scores of some seeds on a language.

        Args:
            language: of the test set.
            seeds: those to keep.
        """
        return {seed: score for seed, score in self.scores[language].items() if seed in seeds}


@dataclass(frozen=True)
class Difference:
    """How much higher the first system's average error rate is, as a fraction.

    Attributes:
        value: as measured.
        low: of the 95 % interval.
        high: of the 95 % interval.
        low90: of the 90 % interval, for tests of equivalence at 5 %.
        high90: of the 90 % interval.
        p: two-sided, of no difference.
    """

    value: float
    low: float
    high: float
    low90: float
    high90: float
    p: float

    @property
    def lower(self) -> Verdict:
        """Whether the first system is better."""
        if self.high < 0:
            return "held"
        return "not held" if self.low > 0 else "cannot tell"

    def equivalent(self, margin: float) -> Verdict:
        """Whether the two differ by less than `margin` (two one-sided tests at 5 %)."""
        if -margin < self.low90 and self.high90 < margin:
            return "held"
        return "not held" if self.low90 > margin or self.high90 < -margin else "cannot tell"


@dataclass(frozen=True)
class Spread:
    """What random seeds do to a mean over them.

    Attributes:
        variance: of the mean.
        freedom: degrees of freedom that it is estimated with.
    """

    variance: float
    freedom: int

    @classmethod
    def of(cls, values: Sequence[float], languages: int) -> list[Spread]:
        """Return the part of an average over so many languages; none for a single seed, which has no spread.

        Args:
            values: one for each seed.
            languages: how many the average is over.
        """
        if len(values) < 2:
            return []
        return [cls(variance(values) / len(values) / languages**2, len(values) - 1)]


def common_blocks(scores: Collection[TestScore], where: str) -> tuple[str, ...]:
    """Return the blocks of some tests.

    Args:
        scores: at least one.
        where: which tests, for the message.

    Raises:
        InvalidInputError: they are not the same ones; `where` says which tests.
    """
    blocks = next(iter(scores)).blocks
    if any(score.blocks != blocks for score in scores):
        raise InvalidInputError(f"{where}: tests of different utterances")
    return blocks


@dataclass
class Resampler:
    """Draws, the same ones whenever the same speakers come again.

    Attributes:
        resamples: how many.
        random_seed: of the draws.
    """

    resamples: int
    random_seed: int
    _weights: dict[tuple[str, ...], Array] = field(default_factory=dict)

    def rates(self, scores: Collection[TestScore], where: str) -> Array:
        """Return the mean rate of some models on one test set in every draw of speakers, `[resamples]`.

        Args:
            scores: of one test set.
            where: which tests, for the message.

        Raises:
            InvalidInputError: see `common_blocks`.
        """
        weights = self._draws(common_blocks(scores, where))
        rates = [weights @ score.errors / (weights @ score.lengths) for score in scores]
        mean: Array = np.mean(rates, axis=0)
        return mean

    def spread(self, parts: Sequence[Spread]) -> Array:
        """Return what random seeds add in every draw, `[resamples]`: Student's t of the summed variances."""
        total = sum(part.variance for part in parts)
        if total == 0:
            return np.zeros(self.resamples)
        freedom = total**2 / sum(part.variance**2 / part.freedom for part in parts)
        return np.sqrt(total) * self._generator("random seeds").standard_t(freedom, self.resamples)

    def _draws(self, blocks: tuple[str, ...]) -> Array:
        """Return how often every draw takes each block, `[resamples, blocks]`."""
        if blocks not in self._weights:
            generator = self._generator("speakers", *blocks)
            share = np.full(len(blocks), 1 / len(blocks))
            self._weights[blocks] = generator.multinomial(len(blocks), share, self.resamples).astype(float)
        return self._weights[blocks]

    def _generator(self, *names: str) -> np.random.Generator:
        return np.random.default_rng([self.random_seed, *(zlib.crc32(name.encode()) for name in names)])


def interval(sampler: Resampler, system: System, languages: Sequence[str]) -> tuple[float, float]:
    """Return the 95 % interval of a system's average.

    Args:
        sampler: of speakers and seeds.
        system: whose average.
        languages: that the average is over.
    """
    return _bounds(_averages(sampler, system, languages))


def increase_interval(
    sampler: Resampler, system: System, base: System, languages: Sequence[str]
) -> tuple[float, float]:
    """Return the 95 % interval of how much higher a system's average is than a base model's, a share of it.

    Args:
        sampler: of speakers and seeds.
        system: whose average.
        base: tested on the same utterances, with at least one error in every draw.
        languages: that the averages are over.

    Raises:
        InvalidInputError: tests of different utterances.
    """
    for language in languages:
        both = [*system.scores[language].values(), *base.scores[language].values()]
        common_blocks(both, f"{system.name} and {base.name}, {language}")
    after, before = _averages(sampler, system, languages), _averages(sampler, base, languages)
    return _bounds(after / before - 1)


def _averages(sampler: Resampler, system: System, languages: Sequence[str]) -> Array:
    """Return a system's average in every draw, `[resamples]`."""
    rates, parts = [], []
    for language in languages:
        rates.append(sampler.rates(system.scores[language].values(), f"{system.name}, {language}"))
        parts += Spread.of(system.values(language), len(languages))
    mean: Array = np.mean(rates, axis=0)
    return mean + sampler.spread(parts)


def _bounds(drawn: Array) -> tuple[float, float]:
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def difference(sampler: Resampler, one: System, other: System, languages: Sequence[str]) -> Difference | None:
    """Return the difference of two averages, or None where something is not measured.

    Where both systems have several seeds, those that both have are compared, each with itself.

    Args:
        sampler: of speakers and seeds.
        one: whose average counts positively.
        other: whose average is subtracted.
        languages: that the averages are over.
    """
    if one.average(languages) is None or other.average(languages) is None:
        return None
    values, rates, parts = [], [], []
    for language in languages:
        first, second = _comparable(one, other, language)
        where = f"{one.name} and {other.name}, {language}"
        common_blocks([*first.values(), *second.values()], where)
        rates.append(sampler.rates(first.values(), where) - sampler.rates(second.values(), where))
        ours, theirs = ([scores[seed].value for seed in sorted(scores)] for scores in (first, second))
        values.append(fmean(ours) - fmean(theirs))
        if first.keys() == second.keys():
            parts += Spread.of([a - b for a, b in zip(ours, theirs, strict=True)], len(languages))
        else:
            parts += Spread.of(ours, len(languages)) + Spread.of(theirs, len(languages))
    draws = np.mean(rates, axis=0) + sampler.spread(parts)
    low, low90, high90, high = map(float, np.percentile(draws, [2.5, 5, 95, 97.5]))
    tail = (1 + min(int((draws <= 0).sum()), int((draws >= 0).sum()))) / (1 + len(draws))
    return Difference(fmean(values), low, high, low90, high90, min(1.0, 2 * tail))


def _comparable(
    one: System, other: System, language: str
) -> tuple[Mapping[int, TestScore], Mapping[int, TestScore]]:
    """Return the scores to compare: of the seeds that both have, if both have several."""
    first, second = one.scores[language], other.scores[language]
    common = first.keys() & second.keys()
    if min(len(first), len(second)) > 1 and len(common) > 1:
        return one.only(language, common), other.only(language, common)
    return first, second
