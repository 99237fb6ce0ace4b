"""Several writers of one registry on the Hub, and connections that break: nothing is lost, nothing twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hub_registries import LABEL, REPO, adding, block, hub_registry, start_writer
from loopback_hub import Entry, LoopbackHub

from adapter_hub.errors import ConflictError, IntegrityError, UnreachableError
from adapter_hub.formats.registry_file import Adapters
from adapter_hub.hub import HubClient, RetryPolicy
from adapter_hub.registry.on_hub import HubRegistry

WRITERS, EACH = 8, 3


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    with LoopbackHub(tmp_path / "hub") as hub:
        yield hub


def listed(hub: LoopbackHub) -> set[str]:
    tree = json.loads(hub.files(REPO)["registry.json"])
    return {f"{name}@{version}" for name, versions in tree["adapters"].items() for version in versions}


def sequence(hub: LoopbackHub) -> int:
    return int(json.loads(hub.files(REPO)["registry.json"])["sequence"])


# several writers


@pytest.mark.slow
def test_of_eight_processes_that_write_at_once_no_write_is_lost(hub: LoopbackHub, tmp_path: Path) -> None:
    children = [start_writer(hub, tmp_path / str(n), f"n{n}", EACH) for n in range(WRITERS)]
    for child in children:
        _, told = child.communicate(timeout=120)
        assert child.returncode == 0, told
    assert listed(hub) == {f"test/n{n}@1.{i}.0" for n in range(WRITERS) for i in range(EACH)}
    assert sequence(hub) == WRITERS * EACH
    assert hub.log.count(endpoint="commit", status=200) == WRITERS * EACH
    assert hub.log.count(endpoint="commit", status=412) > 0  # they did meet
    assert hub_registry(hub, tmp_path / "0").sequence == WRITERS * EACH


def test_two_processes_that_write_at_once_both_land(hub: LoopbackHub, tmp_path: Path) -> None:
    children = [start_writer(hub, tmp_path / str(n), f"n{n}", 2) for n in range(2)]
    for child in children:
        _, told = child.communicate(timeout=60)
        assert child.returncode == 0, told
    assert listed(hub) == {f"test/n{n}@1.{i}.0" for n in range(2) for i in range(2)}
    assert sequence(hub) == 4


def test_eight_threads_with_a_copy_each_write_at_once_and_nothing_is_lost(
    hub: LoopbackHub, tmp_path: Path
) -> None:
    def write(number: int) -> None:
        registry = hub_registry(hub, tmp_path / str(number))
        for version in ("1.0.0", "1.1.0"):
            registry.update(adding(f"test/n{number}", version))

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write, range(WRITERS)))
    assert sequence(hub) == 2 * WRITERS == len(listed(hub))


def test_a_change_is_made_again_on_what_somebody_else_wrote_meanwhile(
    hub: LoopbackHub, tmp_path: Path
) -> None:
    here, other = (hub_registry(hub, tmp_path / name) for name in ("here", "other"))
    here.update(adding("test/da", "1.0.0"))
    seen: list[set[str]] = []

    def change(adapters: Adapters) -> None:
        seen.append(set(adapters))
        assert set(here.adapters) == set(adapters)  # the registry is in the state that is changed
        if len(seen) == 1:
            other.update(adding("test/el", "1.0.0"))
        adapters["test/cy"] = {"1.0.0": block("cy")}

    assert here.update(change)
    assert seen == [{"test/da"}, {"test/da", "test/el"}]
    assert listed(hub) == {"test/da@1.0.0", "test/el@1.0.0", "test/cy@1.0.0"}
    assert sequence(hub) == 3


def test_a_change_that_what_was_written_meanwhile_forbids_is_not_made(
    hub: LoopbackHub, tmp_path: Path
) -> None:
    here, other = (hub_registry(hub, tmp_path / name) for name in ("here", "other"))
    here.update(adding("test/da", "1.0.0"))

    def change(adapters: Adapters) -> None:
        if "test/el" in adapters:
            raise ConflictError("test/el exists")
        other.update(adding("test/el", "1.0.0"))
        adapters["test/el"] = {"1.0.0": block("another one")}

    with pytest.raises(ConflictError, match="test/el exists"):
        here.update(change)
    assert here.adapters["test/el"]["1.0.0"] == block("test/el@1.0.0")
    assert sequence(hub) == 2


def test_two_first_writers_do_not_make_two_registries(hub: LoopbackHub, tmp_path: Path) -> None:
    here, other = (hub_registry(hub, tmp_path / name) for name in ("here", "other"))
    ours = iter((True, False))

    def change(adapters: Adapters) -> None:
        if next(ours, False):
            other.update(adding("test/el", "1.0.0"))
        adapters["test/da"] = {"1.0.0": block("da")}

    assert here.update(change)
    assert here.registry_id == other.registry_id
    assert listed(hub) == {"test/da@1.0.0", "test/el@1.0.0"}


def test_a_hub_that_refuses_every_commit_as_stale_ends_in_one_error(hub: LoopbackHub, tmp_path: Path) -> None:
    here = hub_registry(hub, tmp_path / "here")
    here.update(adding("test/da", "1.0.0"))
    hub.faults.add("status", endpoint="commit", status=412, times=None)
    with pytest.raises(ConflictError, match=f"{LABEL}: other writers kept being faster"):
        HubRegistry(
            LABEL,
            client=HubClient(hub.endpoint, hub.token(), RetryPolicy(5.0, 5.0, 0.001)),
            cache=tmp_path / "c",
        ).update(adding("test/da", "1.1.0"))
    assert sequence(hub) == 1


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["received", "processed", "answered"])
def test_a_writer_that_is_killed_at_any_request_leaves_the_state_before_or_after(
    hub: LoopbackHub, tmp_path: Path, phase: str
) -> None:
    hub_registry(hub, tmp_path / "here").update(adding("test/da", "1.0.0"))
    for number in range(1, 50):
        before = hub.log.entries()[-1].number
        child = start_writer(hub, tmp_path / f"c{number}", f"n{number}", 1)

        def kill(now: str, entry: Entry, last: int = before + number, child: Any = child) -> None:
            if now == phase and entry.number == last:
                child.kill()

        end = hub.on_exchange(kill)
        child.communicate(timeout=60)
        end()
        wanted = {"test/da@1.0.0"} | {f"test/n{i}@1.0.0" for i in range(1, number)}
        assert listed(hub) in (wanted, wanted | {f"test/n{number}@1.0.0"})
        hub_registry(hub, tmp_path / f"c{number}").update(adding(f"test/n{number}", "1.0.0"))
        assert listed(hub) == wanted | {f"test/n{number}@1.0.0"}
        assert sequence(hub) == number + 1
        if child.returncode == 0:
            break
    assert number > 5


# connections that break


QUICK = {("lose", name) for name in ("refs", "commit", "create-repo")} | {("status", "commit")}
EVERYWHERE = [
    pytest.param(kind, endpoint, marks=[] if (kind, endpoint) in QUICK else pytest.mark.slow)
    for endpoint in ("refs", "tree", "preupload", "commit", "resolve", "create-repo")
    for kind in ("status", "drop", "lose", "reset", "stall", "stale")
]


@pytest.mark.parametrize(("kind", "endpoint"), EVERYWHERE)
def test_one_failure_anywhere_is_survived(hub: LoopbackHub, tmp_path: Path, kind: str, endpoint: str) -> None:
    fault = hub.faults.add(kind, endpoint=endpoint, status=503, seconds=0.5)
    here = hub_registry(hub, tmp_path / "here")
    assert here.update(adding("test/da", "1.0.0"))
    assert here.update(adding("test/da", "1.1.0"))
    assert fault.fired
    assert listed(hub) == {"test/da@1.0.0", "test/da@1.1.0"}
    assert sequence(hub) == 2
    assert hub_registry(hub, tmp_path / "there").sequence == 2


def test_an_answer_that_is_lost_after_the_commit_is_looked_up(hub: LoopbackHub, tmp_path: Path) -> None:
    here = hub_registry(hub, tmp_path / "here")
    here.update(adding("test/da", "1.0.0"))
    hub.faults.add("lose", endpoint="commit", times=None)
    impatient = HubClient(hub.endpoint, hub.token(), RetryPolicy(request=5.0, total=0.01, first_wait=0.02))
    again = HubRegistry(LABEL, client=impatient, cache=tmp_path / "here")
    assert again.update(adding("test/da", "1.1.0"))
    assert sequence(hub) == again.sequence == 2


def test_a_lost_answer_and_somebody_else_s_write_on_top_of_it_do_not_write_twice(
    hub: LoopbackHub, tmp_path: Path
) -> None:
    here, other = (hub_registry(hub, tmp_path / name) for name in ("here", "other"))
    here.update(adding("test/da", "1.0.0"))
    hub.faults.add("lose", endpoint="commit")

    def write() -> None:
        other.update(adding("test/el", "1.0.0"))

    hub.faults.add("before", endpoint="preupload", after=1, action=write)  # the second attempt
    here.update(adding("test/da", "1.1.0"))
    assert listed(hub) == {"test/da@1.0.0", "test/da@1.1.0", "test/el@1.0.0"}
    assert sequence(hub) == 3
    assert here.sequence == 3


def test_a_hub_that_dies_during_the_commit_leaves_an_error_that_says_what_to_do(
    hub: LoopbackHub, tmp_path: Path
) -> None:
    impatient = HubClient(hub.endpoint, hub.token(), RetryPolicy(request=2.0, total=0.1, first_wait=0.02))
    here = HubRegistry(LABEL, client=impatient, cache=tmp_path / "here")
    here.update(adding("test/da", "1.0.0"))
    hub.faults.add("lose", endpoint="commit")

    def die(phase: str, entry: Entry) -> None:
        if (phase, entry.endpoint) == ("processed", "commit"):
            hub.faults.add("drop", times=None)

    end = hub.on_exchange(die)
    with pytest.raises(UnreachableError, match=f"{LABEL}: the connection was lost.*run the command again"):
        here.update(adding("test/da", "1.1.0"))
    end()
    hub.faults.clear()
    assert not here.update(adding("test/da", "1.1.0"))
    assert sequence(hub) == 2


def test_wrong_bytes_are_asked_for_again_and_refused_if_they_stay(hub: LoopbackHub, tmp_path: Path) -> None:
    hub_registry(hub, tmp_path / "here").update(adding("test/da", "1.0.0"))
    hub.faults.add("wrong-bytes", "GET", r"registry\.json$")
    assert hub_registry(hub, tmp_path / "there").sequence == 1
    hub.faults.add("wrong-bytes", "GET", r"registry\.json$", times=None)
    with pytest.raises(IntegrityError, match=f"{LABEL}.*other bytes than"):
        hub_registry(hub, tmp_path / "third").refresh()


def test_a_hub_that_answers_with_an_old_state_for_a_moment_is_asked_again(
    hub: LoopbackHub, tmp_path: Path
) -> None:
    here = hub_registry(hub, tmp_path / "here")
    for version in ("1.0.0", "1.1.0"):
        here.update(adding("test/da", version))
    fault = hub.faults.add("stale", endpoint="refs", times=2)
    assert hub_registry(hub, tmp_path / "here").sequence == 2
    assert fault.fired == 2
    hub.faults.add("stale", endpoint="refs")
    assert here.update(adding("test/da", "1.2.0"))
    assert sequence(hub) == 3
