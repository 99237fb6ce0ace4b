"""Two reports on the same utterances, side by side: their errors by speaker, so that they stay paired.

    pair = Pair.of(before, after)
    pair.rates, pair.unit, pair.totals

Utterances are matched by the bytes of their audio and their text, not by name: a published report has digests
for names and numbers for speakers.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Literal

from adapter_hub.errors import InvalidInputError
from adapter_hub.escaping import shown
from adapter_hub.evaluation.intervals import Array, blocks_of, summed
from adapter_hub.formats.claims import EvaluationReport, UtteranceRow


@dataclass(frozen=True, eq=False)
class Pair:
    """What two models did on one test set.

    Attributes:
        data: the test set, with its split, like `numbers/test`.
        metric: wer or cer.
        unit: what is taken to be independent.
        speakers: how many are known.
        totals: `[blocks, 4]`: errors and reference length of the first report, then of the second.
    """

    data: str
    metric: str
    unit: Literal["speaker", "utterance"]
    speakers: int
    totals: Array

    @classmethod
    def of(cls, before: EvaluationReport, after: EvaluationReport) -> Pair:
        """Match the rows of two reports.

        Args:
            before: the one that is compared with.
            after: the other.

        Raises:
            InvalidInputError: they were not made on the same data in the same way, or their rows are not
                those of the data that they name.
        """
        refuse_different(before, after)
        pairs = list(zip(_sorted(before), _sorted(after), strict=False))
        if len(before.rows) != len(after.rows) or any(_key(one) != _key(other) for one, other in pairs):
            raise InvalidInputError(
                f"{name_of(before)}: two reports name the same data, but hold different utterances; "
                "evaluate again"
            )
        ours, theirs = ([pair[side].speaker for pair in pairs] for side in (0, 1))
        known = theirs if None in ours else ours
        unit, place = blocks_of(known)
        counts = [[row.counts(before.primary) for row in pair] for pair in pairs]
        rows = [[n for item in pair for n in (item.errors, item.reference_length)] for pair in counts]
        speakers = len(set(known) - {None})
        return cls(name_of(before), before.primary, unit, speakers, summed(place, rows))

    @property
    def rates(self) -> tuple[float, float]:
        """The pooled error rates of the two reports, as fractions."""
        errors, length, later_errors, later_length = map(float, self.totals.sum(axis=0))
        return errors / length, later_errors / later_length


def name_of(report: EvaluationReport) -> str:
    """Return the test set of a report, for messages and tables: what others wrote is escaped."""
    return shown(f"{report.data}/{report.split}")


def refuse_different(before: EvaluationReport, after: EvaluationReport) -> None:
    """Refuse two reports whose error rates cannot be compared.

    Raises:
        InvalidInputError: other data, split, normaliser, metric or decoding.
    """
    for what, one, other in (
        ("data", before.data_sha256[:12], after.data_sha256[:12]),
        ("split", before.split, after.split),
        ("normaliser", before.normaliser, after.normaliser),
        ("metric", before.primary, after.primary),
        ("beams", before.decoding.beams, after.decoding.beams),
        ("timestamps", before.decoding.timestamps, after.decoding.timestamps),
        ("temperatures", _listed(before), _listed(after)),
    ):
        if one != other:
            raise InvalidInputError(
                f"{name_of(before)}: {what} {shown(str(one))} and {shown(str(other))}; "
                f"reports are compared only on the same {what}: evaluate again"
            )


def _listed(report: EvaluationReport) -> str:
    return ",".join(f"{value:g}" for value in report.decoding.temperatures or (0.0,))


def _sorted(report: EvaluationReport) -> list[UtteranceRow]:
    return sorted(report.rows, key=_key)


def _key(row: UtteranceRow) -> tuple[str, str]:
    return row.audio_sha256, unicodedata.normalize("NFC", row.reference)
