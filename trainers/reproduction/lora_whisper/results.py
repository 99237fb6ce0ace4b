"""Every number of a run as plain data, for `results.json` and the plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from adapter_hub.trainers.reproduction.claims import Ordering
from adapter_hub.trainers.reproduction.comparing import Resampler, System, interval
from adapter_hub.trainers.reproduction.lora_whisper.findings import Findings
from adapter_hub.trainers.reproduction.lora_whisper.settings import paper_numbers
from adapter_hub.trainers.reproduction.run import Run

RELATIVE = (
    ("E8", "E5", "new"),
    ("E8", "E7", "new"),
    ("E9", "E7", "new"),
    ("E5", "E2", "base"),
    ("E6", "E2", "base"),
)


def results(findings: Findings, claims: Sequence[Ordering], sampler: Resampler, run: Run) -> dict[str, Any]:
    """Return all that was found, as JSON data; rates are fractions.

    Args:
        findings: of the run.
        claims: the paper's, each with its verdict.
        sampler: of speakers and seeds.
        run: opened.
    """
    settings = findings.settings
    groups = {"base": settings.base_languages, "new": settings.new_languages}
    systems = {}
    for name, system in sorted(findings.systems.items()):
        systems[name] = _system(system, sampler) | {
            "averages": {
                group: _average(system, languages, sampler)
                for group, languages in groups.items()
                if system.average(languages) is not None
            }
        }
    return {
        "schema": "reproduction-results/1",
        "settings": settings.to_json(),
        "paper": paper_numbers(),
        "starts": run.starts(),
        "gaps": findings.gaps,
        "systems": systems,
        "ranks": {
            str(r): _rank(findings, r, system, sampler) for r, system in sorted(findings.ranks.items())
        },
        "initialisations": {
            language: {
                name: _system(system, sampler)["languages"][language] for name, system in found.items()
            }
            for language, found in sorted(findings.initialisations.items())
        },
        "nearest": findings.known.nearest,
        "similarity": {
            language: findings.outcomes[f"similarity/{language}"]["similarity"]
            for language in findings.known.nearest
        },
        "choices": {name: choice.to_json() for name, choice in sorted(findings.choices.items())},
        "orderings": [asdict(claim) for claim in claims],
        "forgetting": _forgetting(findings),
        "relative_changes": _relative_changes(findings),
        "untouched": {
            language: findings.outcomes[f"untouched/{language}"]
            for language in settings.base_languages
            if f"untouched/{language}" in findings.outcomes
        },
        "training_times": _times(findings),
        "seconds": sum(record["seconds"] for record in run.records.values()),
    }


def _system(system: System, sampler: Resampler) -> dict[str, Any]:
    languages = {}
    for language, scores in system.scores.items():
        low, high = interval(sampler, system, (language,))
        languages[language] = {
            "mean": system.value(language),
            "seeds": system.values(language),
            "low": low,
            "high": high,
            "metric": next(iter(scores.values())).metric,
        }
    return {"languages": languages}


def _average(system: System, languages: Sequence[str], sampler: Resampler) -> dict[str, Any]:
    low, high = interval(sampler, system, languages)
    return {"mean": system.average(languages), "low": low, "high": high}


def _rank(findings: Findings, rank: int, system: System, sampler: Resampler) -> dict[str, Any]:
    language = findings.settings.rank_sweep.language
    found: dict[str, Any] = _system(system, sampler)["languages"][language]
    return found


def _forgetting(findings: Findings) -> dict[str, Any]:
    """Return the base languages' average after expansion against before: E2's, and E4's for E7 to E9."""
    base, found = findings.settings.base_languages, {}
    for system, against in (("E5", "E2"), ("E6", "E2")):
        one, before = findings.systems.get(system), findings.systems.get(against)
        after = one.average(base) if one else None
        start = before.average(base) if before else None
        if after is not None and start is not None:
            found[system] = {
                "average": after,
                "before": start,
                "against": against,
                "change": 100 * (after - start),
            }
    return found


def _relative_changes(findings: Findings) -> list[dict[str, Any]]:
    """Return the relative changes that the paper's text speaks of, where both averages are known."""
    settings, paper, found = findings.settings, paper_numbers(), []
    groups = {"base": settings.base_languages, "new": settings.new_languages}
    for system, against, group in RELATIVE:
        one, other = findings.systems.get(system), findings.systems.get(against)
        ours = one.average(groups[group]) if one else None
        theirs = other.average(groups[group]) if other else None
        if ours is not None and theirs:
            printed = paper[group][system]["avg"] / paper[group][against]["avg"] - 1
            row = {"system": system, "against": against, "group": group}
            found.append({**row, "change": ours / theirs - 1, "paper": round(printed, 4)})
    return found


def _times(findings: Findings) -> dict[str, Any]:
    times: dict[str, list[tuple[float, float]]] = {}
    for cell in findings.cells:
        found = findings.outcomes.get(cell.name)
        if cell.kind == "training" and found is not None and not found.get("diverged"):
            times.setdefault(cell.work.system, []).append((found["steps"], found["training_seconds"]))
    return {
        system: {
            "trainings": len(rows),
            "steps": fmean(steps for steps, _ in rows),
            "seconds": fmean(seconds for _, seconds in rows),
            "seconds_per_step": sum(seconds for _, seconds in rows) / sum(steps for steps, _ in rows),
        }
        for system, rows in sorted(times.items())
    }
