"""The search gives the tokens of transformers' `generate`, for all kinds of models and options."""

from __future__ import annotations

import pytest
import torch
from reference_search import NEAR, Case, random_case, run

from adapter_hub.model.quiet import quiet


def compared(seeds: range) -> tuple[int, list[str], float]:
    """Return the number of rows, what differs, and the largest difference of scores of equal texts."""
    rows, differences, worst = 0, [], 0.0
    with quiet():
        for seed in seeds:
            case = run(random_case(seed))
            for row, ((theirs, score), (ours, own)) in enumerate(zip(case.theirs, case.ours, strict=True)):
                rows += 1
                if theirs != ours and not near(case, score, own):
                    differences.append(
                        f"seed {seed} row {row} {case.options}: {theirs} {score}, ours {ours} {own}"
                    )
                elif score is not None:
                    worst = max(worst, abs(score - own))
    return rows, differences, worst


def near(case: Case, theirs: float | None, ours: float) -> bool:
    return theirs is not None and abs(theirs - ours) < NEAR


def test_tokens_and_scores_are_those_of_transformers() -> None:
    torch.set_num_threads(1)
    rows, differences, worst = compared(range(40))
    assert rows > 80
    assert differences == []
    assert worst < NEAR


@pytest.mark.slow
def test_tokens_and_scores_are_those_of_transformers_in_500_cases() -> None:
    torch.set_num_threads(1)
    rows, differences, worst = compared(range(40, 540))
    assert rows > 1000
    assert differences == []
    assert worst < NEAR
