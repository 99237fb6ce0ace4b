"""The paper's claims, one by one, and whether they hold in a run: held, not held, or cannot tell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from adapter_hub.trainers.reproduction.claims import Ordering, any_of, compared, points, together
from adapter_hub.trainers.reproduction.comparing import Resampler, System, Verdict, difference
from adapter_hub.trainers.reproduction.lora_whisper.findings import SCRATCH, Findings
from adapter_hub.trainers.reproduction.lora_whisper.settings import paper_numbers
from adapter_hub.trainers.reproduction.lora_whisper.untouched import is_untouched

# better, worse, on which languages, where the paper says so
PAIRS = (
    ("E2", "E1", "base", 3),
    ("E1", "E2", "zh", 3),
    ("E3", "E2", "base", 3),
    ("E4", "E2", "base", 3),
    ("E3", "E4", "base", 3),
    ("E4", "E1", "base", 3),
    ("E5", "E1", "new", 4),
    ("E5", "E6", "new", 4),
    ("E7", "E5", "new", 4),
    ("E7", "E6", "new", 4),
    ("E8", "E5", "new", 4),
    ("E9", "E5", "new", 4),
    ("E8", "E7", "new", 4),
    ("E9", "E7", "new", 4),
    ("E2", "E5", "base", 4),
    ("E6", "E5", "base", 4),
    ("E2", "E6", "base", 4),
    ("E4", "E6", "base", 4),
)
NOTHING = System("nothing", {})
PAPER_RANK = 32


def orderings(findings: Findings, sampler: Resampler) -> list[Ordering]:
    """Return the claims of the chosen tables.

    Args:
        findings: of the run.
        sampler: of speakers and seeds.
    """
    found = [*_pairs(findings, sampler)]
    if 4 in findings.tables:
        found.append(_equivalence(findings, sampler))
        found.append(_untouched(findings))
    if 5 in findings.tables:
        found += _initialisations(findings, sampler)
    if 2 in findings.tables:
        found += _ranks(findings, sampler)
    return found


def _pairs(findings: Findings, sampler: Resampler) -> Iterator[Ordering]:
    settings = findings.settings
    groups = {"base": settings.base_languages, "new": settings.new_languages}
    words = {"base": ", average of the base languages", "new": ", average of the new languages"}
    for better, worse, where, table in PAIRS:
        languages = groups.get(where, (where,))
        if table in findings.tables and set(languages) <= set(settings.languages):
            one, other = (findings.systems.get(name, NOTHING) for name in (better, worse))
            found = difference(sampler, one, other, languages)
            ordering = compared(better, worse, words.get(where, f", {where}"), table, found)
            yield _settled(ordering, better, worse, findings)


def _settled(found: Ordering, better: str, worse: str, findings: Findings) -> Ordering:
    """Withhold a verdict that a wider grid of learning rates could turn round: the loser's is at an edge."""
    loser = {"held": worse, "not held": better}.get(found.verdict, "")
    choice = findings.choices.get(loser)
    if choice is None or not choice.at_the_edge:
        return found
    why = f"; withheld, as the learning rate of {loser} is at an edge of its grid"
    return replace(found, verdict="cannot tell", evidence=found.evidence + why)


def _equivalence(findings: Findings, sampler: Resampler) -> Ordering:
    margin = findings.settings.statistics.equivalence_margin
    claim = f"E8 and E9 equal within {100 * margin:g} points, average of the new languages"
    one, other = (findings.systems.get(name, NOTHING) for name in ("E8", "E9"))
    found = difference(sampler, one, other, findings.settings.new_languages)
    if found is None:
        return Ordering(4, claim, "not measured", "")
    evidence = f"{points(found)}; 90 %: {100 * found.low90:+.2f} to {100 * found.high90:+.2f}"
    return Ordering(4, claim, found.equivalent(margin), evidence, (found,))


def _untouched(findings: Findings) -> Ordering:
    claim = "base languages untouched by E7, E8 and E9 (every bit of tokens, scores and logits)"
    names = [f"untouched/{language}" for language in findings.settings.base_languages]
    found = [findings.outcomes[name] for name in names if name in findings.outcomes]
    if len(found) < len(names):
        return Ordering(4, claim, "not measured", "")
    count = sum(outcome["utterances"] for outcome in found)
    verdict: Verdict = "held" if all(map(is_untouched, found)) else "not held"
    largest = max(outcome["largest_logit_difference"] for outcome in found)
    return Ordering(4, claim, verdict, f"{count} utterances, largest difference of a logit {largest:g}")


def _initialisations(findings: Findings, sampler: Resampler) -> Iterator[Ordering]:
    for language in findings.settings.new_languages:
        systems = findings.initialisations.get(language, {})
        nearest = findings.known.nearest.get(language, "")
        best = systems.get(nearest, NOTHING)
        scratch = systems.get(SCRATCH, NOTHING)
        others = [k for k in findings.settings.base_languages if k != nearest]
        found = difference(sampler, best, scratch, (language,))
        start = compared(f"{language} from {nearest} (nearest)", "from scratch", "", 5, found)
        yield _settled(start, "E8", "E7", findings)
        pairs = [difference(sampler, best, systems.get(k, NOTHING), (language,)) for k in others]
        claim = f"{language} from {nearest} (nearest) below every other base language"
        yield together(5, claim, others, pairs)
        if _harmful_start_in_the_paper(language):
            worse = [difference(sampler, scratch, systems.get(k, NOTHING), (language,)) for k in others]
            claim = f"{language}: some less similar base language is a worse start than none"
            yield _settled(any_of(5, claim, others, worse), "E7", "E8", findings)


def _harmful_start_in_the_paper(language: str) -> bool:
    """Whether the paper's table 5 has a base language that is worse for this one than no start at all."""
    rates = dict(paper_numbers()["table5"].get(language, {}))
    rates.pop("most_similar", None)
    return bool(rates) and max(rates.values()) > rates[SCRATCH]


def _ranks(findings: Findings, sampler: Resampler) -> Iterator[Ordering]:
    language, ranks = findings.settings.rank_sweep.language, findings.settings.rank_sweep.ranks
    middle = ranks[len(ranks) // 2]
    best = findings.ranks.get(middle, NOTHING)
    others = [rank for rank in ranks if rank != middle]
    pairs = [difference(sampler, best, findings.ranks.get(rank, NOTHING), (language,)) for rank in others]
    quarter = " (a quarter of the paper's 32)" if 4 * middle == PAPER_RANK else ""
    claim = f"rank {middle}{quarter} below every other"
    yield together(2, claim, [f"rank {rank}" for rank in others], pairs)
    found = difference(sampler, best, findings.ranks.get(ranks[0], NOTHING), (language,))
    yield compared(f"rank {middle}", f"rank {ranks[0]}", "", 2, found)
