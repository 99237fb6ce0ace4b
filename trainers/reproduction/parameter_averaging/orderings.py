"""The paper's claims, and whether they hold in a run.

What forgets less has the smaller average error on the original domain: both are compared with one base model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from adapter_hub.trainers.reproduction.claims import Ordering, compared, together
from adapter_hub.trainers.reproduction.comparing import Resampler, System, difference
from adapter_hub.trainers.reproduction.parameter_averaging.findings import PRETRAINED, Findings
from adapter_hub.trainers.reproduction.parameter_averaging.settings import ORIGINAL, Settings

NOTHING = System("nothing", {})
FIVE = ("fast", "accent", "noisy", *ORIGINAL)  # table VI
FORGETS, AVERAGE = ", original domain (forgets less)", ", average"

SETS: Sequence[str] = ()  # stands for all test sets of the settings

# table, better, worse, test sets, in words; a row of the last round is named by `LAST`
LAST = "aode-{rounds}"
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
    (7, f"{LAST}-original", LAST, SETS, AVERAGE),
    (7, f"{LAST}-original", LAST, ORIGINAL, FORGETS),
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
    settings = findings.settings
    for table, *rows, sets, words in PAIRS:
        better, worse = (str(row).format(rounds=settings.rounds) for row in rows)
        if not _planned(settings, table, better, worse):
            continue
        pair = _system(findings, better), _system(findings, worse)
        yield compared(better, worse, words, table, difference(sampler, *pair, sets or settings.sets))


def _planned(settings: Settings, table: int, *rows: str) -> bool:
    """Whether rows are in a table of these settings: it may have fewer domains or rounds than the paper."""
    return set(rows) <= settings.rows(table).keys()


def _experts(findings: Findings, sampler: Resampler) -> Iterator[Ordering]:
    """Experts at home and abroad, and the average of them."""
    names, sets = findings.settings.names, findings.settings.sets
    experts = tuple(f"ft-{domain}" for domain in names)
    for domain in names:
        own = _system(findings, f"ft-{domain}")
        others = [PRETRAINED, *(row for row in experts if row != f"ft-{domain}")]
        pairs = [difference(sampler, own, _system(findings, row), (domain,)) for row in others]
        yield together(7, f"ft-{domain} best at home, {domain}", others, pairs)
    average = _system(findings, "aode")
    pairs = [difference(sampler, average, _system(findings, row), sets) for row in experts]
    yield together(7, "aode below every expert, average", experts, pairs)
    if "phrases" in names:
        easy, others = _system(findings, "ft-phrases"), [row for row in experts if row != "ft-phrases"]
        pairs = [difference(sampler, _system(findings, row), easy, ORIGINAL) for row in others]
        yield together(7, "ft-phrases (memorisable) forgets more than every other expert", others, pairs)


def _four_times(findings: Findings, sampler: Resampler) -> Iterator[Ordering]:
    """A component that counts four times helps its own domain."""
    once = f"{LAST}-original".format(rounds=findings.settings.rounds)
    for domain in findings.settings.names:
        pair = (_system(findings, f"x4-{domain}"), _system(findings, once))
        yield compared(f"x4-{domain}", once, f", {domain}", 8, difference(sampler, *pair, (domain,)))
    pair = (_system(findings, "x4-original"), _system(findings, once))
    yield compared("x4-original", once, FORGETS, 8, difference(sampler, *pair, ORIGINAL))
