"""The paper's claims, and whether they hold in a run.

What forgets less has the smaller average error on the original domain: both are compared with one base model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from adapter_hub.trainers.reproduction.claims import Ordering, compared, together
from adapter_hub.trainers.reproduction.comparing import Resampler, System, difference
from adapter_hub.trainers.reproduction.parameter_averaging.findings import PRETRAINED, Findings
from adapter_hub.trainers.reproduction.parameter_averaging.settings import DOMAINS, ORIGINAL, SETS

NOTHING = System("nothing", {})
EXPERTS = tuple(f"ft-{domain}" for domain in DOMAINS)
FIVE = ("fast", "accent", "noisy", *ORIGINAL)  # table VI
FORGETS, AVERAGE = ", original domain (forgets less)", ", average"

# table, better, worse, test sets, in words
PAIRS: tuple[tuple[int, str, str, Sequence[str], str], ...] = (
    (1, "decay-0.9", "decay-1", ORIGINAL, FORGETS),
    (1, "decay-0.8", "decay-0.9", ORIGINAL, FORGETS),
    (2, "frozen", "rate-high", ORIGINAL, FORGETS),
    (2, "rate-low", "rate-high", ORIGINAL, FORGETS),
    (2, "rate-high", "frozen", ("fast",), ", fast"),
    (3, "lora-noisy", "ft-noisy", ORIGINAL, FORGETS),
    (3, "lora-accent", "ft-accent", ORIGINAL, FORGETS),
    (3, "ft-noisy", "lora-noisy", ("noisy",), ", noisy"),
    (3, "ft-accent", "lora-accent", ("accent",), ", accent"),
    (3, "aode", "combined", SETS, AVERAGE),
    (4, "aode", "most-extreme", SETS, AVERAGE),
    (4, "most-extreme", "least-extreme", SETS, AVERAGE),
    (4, "aode", "most-extreme", ORIGINAL, FORGETS),
    (4, "most-extreme", "least-extreme", ORIGINAL, FORGETS),
    (6, "three-sequential", "three-aode", FIVE, AVERAGE),
    (6, "three-aode", "three-sequential", ORIGINAL, FORGETS),
    (7, "aode", "sequential", SETS, AVERAGE),
    (7, "aode", "sequential-back", SETS, AVERAGE),
    (7, "aode", "combined", ORIGINAL, FORGETS),
    (7, "aode", "resampled", ORIGINAL, FORGETS),
    (7, "aode-original", "aode", ORIGINAL, FORGETS),
    (7, "aode-2", "aode", SETS, AVERAGE),
    (7, "aode-3", "aode-2", SETS, AVERAGE),
    (7, "aode", "aode-2", ORIGINAL, FORGETS),
    (7, "aode-3-original", "aode-3", SETS, AVERAGE),
    (7, "aode-3-original", "aode-3", ORIGINAL, FORGETS),
)


def orderings(findings: Findings, tables: Sequence[int]) -> list[Ordering]:
    """Return the claims of some tables.

    Args:
        findings: of the run.
        tables: of the run.
    """
    sampler = findings.sampler
    found = [*_pairs(findings, sampler), *_experts(findings, sampler), *_four_times(findings, sampler)]
    return sorted((claim for claim in found if claim.table in tables), key=lambda claim: claim.table)


def _system(findings: Findings, row: str) -> System:
    return findings.systems.get(row, NOTHING)


def _pairs(findings: Findings, sampler: Resampler) -> Iterator[Ordering]:
    for table, better, worse, sets, words in PAIRS:
        found = difference(sampler, _system(findings, better), _system(findings, worse), sets)
        yield compared(better, worse, words, table, found)


def _experts(findings: Findings, sampler: Resampler) -> Iterator[Ordering]:
    """Experts at home and abroad, and the average of them."""
    for domain in DOMAINS:
        own = _system(findings, f"ft-{domain}")
        others = [PRETRAINED, *(row for row in EXPERTS if row != f"ft-{domain}")]
        pairs = [difference(sampler, own, _system(findings, row), (domain,)) for row in others]
        yield together(7, f"ft-{domain} best at home, {domain}", others, pairs)
    average = _system(findings, "aode")
    pairs = [difference(sampler, average, _system(findings, row), SETS) for row in EXPERTS]
    yield together(7, "aode below every expert, average", EXPERTS, pairs)
    easy = [row for row in EXPERTS if row != "ft-phrases"]
    pairs = [
        difference(sampler, _system(findings, row), _system(findings, "ft-phrases"), ORIGINAL) for row in easy
    ]
    yield together(7, "ft-phrases (memorisable) forgets more than every other expert", easy, pairs)


def _four_times(findings: Findings, sampler: Resampler) -> Iterator[Ordering]:
    """A component that counts four times helps its own domain."""
    for domain in DOMAINS:
        pair = (_system(findings, f"x4-{domain}"), _system(findings, "aode-3-original"))
        found = difference(sampler, *pair, (domain,))
        yield compared(f"x4-{domain}", "aode-3-original", f", {domain}", 8, found)
    pair = (_system(findings, "x4-original"), _system(findings, "aode-3-original"))
    yield compared("x4-original", "aode-3-original", FORGETS, 8, difference(sampler, *pair, ORIGINAL))
