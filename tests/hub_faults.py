"""Faults at the requests of publish and pull, once and for good; each is judged, removed, and tried again.

`fault_table.py` tries them all and writes down what came of it.
"""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hub_trials import Trial
from loopback_hub import Entry, LoopbackHub

from adapter_hub.errors import AdapterHubError
from adapter_hub.hub import RetryPolicy

OPERATIONS = (
    "publish",
    "publish with a registry file",
    "publish an older version",
    "pull",
    "pull with a registry file",
    "pull without a registry",
)
FAULTS: dict[str, dict[str, Any]] = {
    "500": {"kind": "status", "status": 500},
    "502 with HTML": {"kind": "status", "status": 502},
    "503": {"kind": "status", "status": 503},
    "429, Retry-After 1": {"kind": "status", "status": 429, "retry_after": 1},
    "dropped": {"kind": "drop"},
    "answer lost": {"kind": "lose"},
    "body truncated": {"kind": "truncate"},
    "reset in the body": {"kind": "reset"},
    "stalled": {"kind": "stall", "seconds": 4.0},
    "stalled in the body": {"kind": "stall-body", "seconds": 4.0},
    "carried out late": {"kind": "before", "action": partial(time.sleep, 2.0)},  # when nobody waits any more
    "wrong bytes": {"kind": "wrong-bytes"},
    "stale refs": {"kind": "stale"},
}
IN_BODY = ("truncate", "reset", "stall-body", "wrong-bytes")
WITHOUT_BODY = ("resolve-head", "lfs-upload")
WITH_REFS = ("refs", "info")
# files are hashed and asked for again; a flipped bit in another answer may make it a wrong one, and a state
# from before the first publish holds nothing
MAY_REFUSE = ("wrong bytes", "stale refs")
HASHED = ("resolve", "contents")


@dataclass(frozen=True)
class Case:
    """A fault at one request of an operation, or at it and all of its kind that follow.

    Attributes:
        operation: of `hub_trials`.
        endpoint: of the loopback Hub; with `*` for the registry's repository.
        fault: of FAULTS.
        number: how many requests of the kind come before.
        always: whether it stays until it is removed.
    """

    operation: str
    endpoint: str
    fault: str
    number: int
    always: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of a case; `error` is None if nobody noticed."""

    error: str | None
    line: str
    seconds: float
    fired: int


def kind_of(entry: Entry) -> str:
    return entry.endpoint + ("*" if "/datasets/" in entry.path else "")


def profile(hub: LoopbackHub, folder: Path, operation: str, namespace: str) -> Counter[str]:
    """Return how many requests of each kind an operation makes when nothing goes wrong."""
    trial = Trial(hub, folder, namespace, operation)
    trial.prepare()
    first = len(hub.log)
    trial.act(RetryPolicy(20.0, 20.0))
    found = Counter(kind_of(entry) for entry in list(hub.log)[first:])
    trial.judge_finished()
    return found


def cases(operation: str, requests: Counter[str], most: int = 1000) -> Iterator[Case]:
    """Yield all that can happen: every fault once at every request, and for good from the first of a kind.

    Of many requests of one kind, `most` are taken, the first and the last among them.
    """
    for endpoint, count in sorted(requests.items()):
        bare = endpoint.removesuffix("*")
        for fault, settings in FAULTS.items():
            if settings["kind"] in IN_BODY and bare in WITHOUT_BODY:
                continue
            if settings["kind"] == "stale" and bare not in WITH_REFS:
                continue
            steps = min(count, most)
            for number in sorted({round(step * (count - 1) / max(steps - 1, 1)) for step in range(steps)}):
                yield Case(operation, endpoint, fault, number)
            yield Case(operation, endpoint, fault, 0, always=True)


def sample(found: list[Case], number: int, seed: str) -> list[Case]:
    """Return some cases, each time the same ones, half of them for good."""
    choice = random.Random(seed)
    always, once = ([case for case in found if case.always is wanted] for wanted in (True, False))
    return [case for pool in (always, once) for case in choice.sample(pool, min(number // 2, len(pool)))]


def patience_for(case: Case) -> RetryPolicy:
    if case.fault.startswith(("stalled", "carried out late")):
        return RetryPolicy(request=1.0, total=0.3 if case.always else 8.0, first_wait=0.02)
    if case.always:
        return RetryPolicy(request=1.5, total=0.3, first_wait=0.02)
    return RetryPolicy(request=15.0, total=15.0, first_wait=0.02)


def may_refuse(case: Case) -> bool:
    """Tell whether one failure may end in an error: the rest has to be survived without a word."""
    return case.fault in MAY_REFUSE and case.endpoint.removesuffix("*") not in HASHED


def carry_out(hub: LoopbackHub, folder: Path, namespace: str, case: Case) -> Outcome:
    """Let the fault happen, judge; remove it, let the same machine try again, judge.

    Raises:
        AssertionError: something is lost, wrong, half done or badly said.
    """
    trial = Trial(hub, folder, namespace, case.operation)
    trial.prepare()
    settings = FAULTS[case.fault]
    inside = r"^(?=.*/datasets/)" if case.endpoint.endswith("*") else r"^(?!.*/datasets/)"
    fault = hub.faults.add(
        settings["kind"],
        path=inside,
        endpoint=case.endpoint.removesuffix("*"),
        times=None if case.always else 1,
        after=case.number,
        **{name: value for name, value in settings.items() if name != "kind"},
    )
    started = time.monotonic()
    error: BaseException | None = None
    try:
        trial.act(patience_for(case))
    except (AdapterHubError, OSError) as found:
        error = found
    finally:
        hub.faults.clear()
    seconds = time.monotonic() - started
    line = "" if error is None else str(error)
    assert error is None or isinstance(error, AdapterHubError), f"{case}: {error!r}"
    assert "\n" not in line, line
    assert not re.search(r"Traceback|object at 0x|<html", line), line
    trial.judge()
    if error is None:
        trial.judge_finished()
    else:
        assert case.always or may_refuse(case), f"{case}: {line}"
    trial.act(RetryPolicy(20.0, 20.0, 0.02))
    trial.judge_finished()
    return Outcome(error and type(error).__name__, line, seconds, fault.fired)
