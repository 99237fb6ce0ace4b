"""Comparing systems on the same test sets: paired resampling of speakers and random seeds.

    sampler = Resampler(resamples=10_000, random_seed=0)
    difference(sampler, a, b, ("da", "el"))        # Difference(value=-0.012, low=-0.02, high=-0.004, …)

A draw takes speakers with replacement, the same ones for both systems and all their seeds, and random seeds
with replacement, the same ones for all systems that have as many: one seed gives their trainings on a
language the same order of utterances and the same masks, and some orders are better than others for every
system. Rates are pooled over a test set, averaged over seeds, then over languages, as the paper's averages
are. A handful of seeds is few: such an interval is somewhat too narrow.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from adapter_hub.errors import InvalidInputError
from adapter_hub.report import EvaluationReport

Array = NDArray[np.float64]
Verdict = Literal["held", "not held", "cannot tell", "not measured"]


@dataclass(frozen=True, eq=False)
class TestScore:
    """The errors of one model on one test set, by block: a speaker, or an utterance if unknown.

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
        """Sum a report's rows by speaker."""
        named = all(row.speaker for row in report.rows)
        names = [str(row.speaker) if named else row.id for row in report.rows]
        blocks, place = np.unique(np.asarray(names), return_inverse=True)
        sums = np.zeros((2, len(blocks)))
        for i, row in zip(place, report.rows, strict=True):
            counts = row.words if report.primary == "wer" else row.characters
            sums[:, i] += counts.errors, counts.reference_length
        return cls(report.value, tuple(map(str, blocks)), sums[0], sums[1], report.seconds, report.primary)


@dataclass(frozen=True)
class System:
    """One row of a table: its scores by language, one per random seed.

    Attributes:
        name: for messages.
        scores: by language, one per random seed, in the order of the settings' seeds; a language that is not
            measured is absent.
    """

    name: str
    scores: Mapping[str, Sequence[TestScore]]

    def value(self, language: str) -> float | None:
        """Return the mean rate over the seeds."""
        found = self.scores.get(language)
        return sum(score.value for score in found) / len(found) if found else None

    def average(self, languages: Sequence[str]) -> float | None:
        """Return the average over languages, or None if one is not measured."""
        values = [self.value(language) for language in languages]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known and len(known) == len(values) else None


@dataclass(frozen=True)
class Difference:
    """How much higher the first system's average error rate is, as a fraction.

    Attributes:
        value: as measured.
        low: of the 95 % interval.
        high: of the 95 % interval.
        low90: of the 90 % interval, for tests of equivalence at 5 %.
        high90: of the 90 % interval.
    """

    value: float
    low: float
    high: float
    low90: float
    high90: float

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


@dataclass
class Resampler:
    """Draws, the same ones whenever a test set or a system comes again.

    Attributes:
        resamples: how many.
        random_seed: of the draws.
    """

    resamples: int
    random_seed: int
    _weights: dict[tuple[str, tuple[str, ...]], Array] = field(default_factory=dict)

    def rates(self, system: System, language: str) -> Array:
        """Return a system's rate on a test set in every draw, `[resamples]`."""
        scores = system.scores[language]
        blocks = scores[0].blocks
        if any(score.blocks != blocks for score in scores):
            raise InvalidInputError(f"{system.name}, {language}: tests of different utterances")
        weights = self._draws(language, blocks)
        rates = np.stack([weights @ score.errors / (weights @ score.lengths) for score in scores])
        chosen = self._generator("random seeds", language).integers(
            0, len(scores), (len(scores), self.resamples)
        )
        mean: Array = np.take_along_axis(rates, chosen, axis=0).mean(axis=0)
        return mean

    def _draws(self, language: str, blocks: tuple[str, ...]) -> Array:
        """Return how often every draw takes each block, `[resamples, blocks]`."""
        key = (language, blocks)
        if key not in self._weights:
            generator = self._generator("speakers", language)
            share = np.full(len(blocks), 1 / len(blocks))
            self._weights[key] = generator.multinomial(len(blocks), share, self.resamples).astype(float)
        return self._weights[key]

    def _generator(self, *names: str) -> np.random.Generator:
        return np.random.default_rng([self.random_seed, *(zlib.crc32(name.encode()) for name in names)])


def interval(sampler: Resampler, system: System, languages: Sequence[str]) -> tuple[float, float]:
    """Return the 95 % interval of a system's average."""
    draws = np.mean([sampler.rates(system, language) for language in languages], axis=0)
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def difference(sampler: Resampler, one: System, other: System, languages: Sequence[str]) -> Difference | None:
    """Return the difference of two averages, or None where something is not measured."""
    first, second = one.average(languages), other.average(languages)
    if first is None or second is None:
        return None
    draws = np.mean(
        [sampler.rates(one, language) - sampler.rates(other, language) for language in languages], axis=0
    )
    low, low90, high90, high = map(float, np.percentile(draws, [2.5, 5, 95, 97.5]))
    return Difference(first - second, low, high, low90, high90)
