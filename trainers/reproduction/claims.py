"""The claims of a paper, one by one, and whether they hold in a run: held, not held, or cannot tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adapter_hub.trainers.reproduction.comparing import Difference, Verdict
from adapter_hub.trainers.reproduction.pages import GAP, markdown

LEVEL = 0.05  # of the verdicts: their intervals have 95 %


@dataclass(frozen=True)
class Ordering:
    """A claim of the paper and what became of it.

    Attributes:
        table: where the paper shows it.
        claim: in a few words.
        verdict: held, not held, cannot tell, or not measured.
        evidence: the numbers, in percentage points with their 95 % interval.
        differences: the comparisons behind it.
    """

    table: int
    claim: str
    verdict: Verdict
    evidence: str
    differences: tuple[Difference, ...] = ()


def compared(better: str, worse: str, where: str, table: int, found: Difference | None) -> Ordering:
    """Return the verdict on "`better` has fewer errors than `worse`".

    Args:
        better: the system that should have fewer errors.
        worse: the other.
        where: on which languages, as the claim says it.
        table: of the paper.
        found: the first average minus the second; None if not measured.
    """
    claim = f"{better} below {worse}{where}"
    if found is None:
        return Ordering(table, claim, "not measured", "")
    return Ordering(table, claim, found.lower, points(found), (found,))


def points(found: Difference) -> str:
    """Return a difference in percentage points."""
    return f"{100 * found.value:+.2f} ({100 * found.low:+.2f} to {100 * found.high:+.2f})"


def claims_text(claims: Sequence[Ordering]) -> str:
    """Return the claims with their verdicts as Markdown.

    Args:
        claims: of a run.
    """
    counts = {v: sum(c.verdict == v for c in claims) for v in ("held", "not held", "cannot tell")}
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    rows = [[str(c.table), c.claim, f"**{c.verdict}**", c.evidence or GAP] for c in claims]
    return (
        f"Of {len(claims)}: {said}. Differences in percentage points with 95 % intervals: speakers "
        "resampled (utterances of a test set with fewer than three), random seeds by Student's t, both "
        "paired. `held` and `not held` only where the interval excludes 0; where a claim is decided by one "
        "of several comparisons, at 5 % divided by their number. Where a system was trained once, its "
        "interval does not cover random seeds. No correction is made for the number of claims: of 20 "
        "without any difference, one may look decided.\n\n"
    ) + markdown(["Table", "Claim", "Verdict", "Difference"], rows)


def together(table: int, claim: str, names: Sequence[str], pairs: Sequence[Difference | None]) -> Ordering:
    """Return "below all of them": held if below each, not held if above one.

    Args:
        table: of the paper.
        claim: in a few words.
        names: of the others, for the evidence.
        pairs: its difference from each of them.
    """
    return _joined(table, claim, names, pairs, one="not held", each="held")


def any_of(table: int, claim: str, names: Sequence[str], pairs: Sequence[Difference | None]) -> Ordering:
    """Return "below one of them": held if below one, not held if above each.

    Args:
        table: of the paper.
        claim: in a few words.
        names: of the others, for the evidence.
        pairs: its difference from each of them.
    """
    return _joined(table, claim, names, pairs, one="held", each="not held")


def _joined(
    table: int,
    claim: str,
    names: Sequence[str],
    pairs: Sequence[Difference | None],
    *,
    one: Verdict,
    each: Verdict,
) -> Ordering:
    """Return the verdict `one` if one comparison says so, `each` if all say that.

    One of several says so sooner by chance: it has to be as sure as their number asks for (Bonferroni).
    """
    known = tuple(pair for pair in pairs if pair is not None)
    if len(known) < len(pairs):
        return Ordering(table, claim, "not measured", "")
    verdict: Verdict = "cannot tell"
    if any(pair.lower == one and pair.p * len(known) < LEVEL for pair in known):
        verdict = one
    elif all(pair.lower == each for pair in known):
        verdict = each
    return Ordering(table, claim, verdict, _listed(names, known), known)


def _listed(names: Sequence[str], pairs: Sequence[Difference]) -> str:
    return "; ".join(f"{name} {points(pair)}" for name, pair in zip(names, pairs, strict=True))
