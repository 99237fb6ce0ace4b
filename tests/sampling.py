"""A sample of a large matrix of cases for `make test`; the rest runs in `make test-slow`.

@pytest.mark.parametrize("damage", sampled(DAMAGES, lambda damage: damage is remove))
@pytest.mark.parametrize(("damage", "status"), sampled(product(DAMAGES, STATUSES), is_typical))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def sampled(cases: Iterable[Any], is_quick: Callable[..., bool]) -> list[Any]:
    """Mark every case as slow that `is_quick` does not choose; a tuple is passed as arguments.

    Raises:
        ValueError: no case was chosen, or all were.
    """
    parameters = []
    for case in cases:
        values = case if isinstance(case, tuple) else (case,)
        marks = () if is_quick(*values) else (pytest.mark.slow,)
        parameters.append(pytest.param(*values, marks=marks))
    chosen = sum(not parameter.marks for parameter in parameters)
    if not 0 < chosen < len(parameters):
        raise ValueError(f"{chosen} of {len(parameters)} cases are quick")
    return parameters
