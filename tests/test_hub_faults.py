"""A fault at any request of publish or pull is survived, or one line says so and saying it again helps.

Here some of each kind; all of them by `python tests/fault_table.py`, which is the slow test.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hub_faults import FAULTS, OPERATIONS, Case, carry_out, cases, profile, sample
from hub_trials import Trial
from loopback_hub import LoopbackHub

from adapter_hub.errors import UnreachableError
from adapter_hub.hub import RetryPolicy

FAULT_TABLE = Path(__file__).with_name("fault_table.py")
PATIENT = RetryPolicy(20.0, 20.0, 0.02)
EACH = 2
_numbers = count()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackHub]:
    with LoopbackHub(tmp_path_factory.mktemp("hub") / "hub", redirect=True) as running:
        yield running


@pytest.fixture(scope="module")
def possible(hub: LoopbackHub, tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    """Return every case; the requests of an operation are counted on a run of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADAPTER_HUB_CACHE", str(tmp_path_factory.mktemp("cache")))
        found = []
        for number, name in enumerate(OPERATIONS):
            folder = tmp_path_factory.mktemp("profile")
            found += cases(name, profile(hub, folder, name, f"p{number}"))
        return found


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_survived_or_said_in_one_line_and_trying_again_finishes(
    hub: LoopbackHub, possible: list[Case], tmp_path: Path, fault: str
) -> None:
    outcomes = []
    for case in sample([case for case in possible if case.fault == fault], EACH, fault):
        namespace = f"t{next(_numbers)}"
        outcomes.append(carry_out(hub, tmp_path / namespace, namespace, case))
    assert any(outcome.fired for outcome in outcomes)


def test_every_kind_of_request_and_every_fault_is_in_the_product(possible: list[Case]) -> None:
    endpoints = {case.endpoint.removesuffix("*") for case in possible}
    assert endpoints >= {"refs", "tree", "resolve", "contents", "create-repo", "preupload"}
    assert endpoints >= {"lfs-batch", "lfs-upload", "lfs-verify", "validate-yaml", "commit", "create-tag"}
    assert endpoints >= {"create-branch", "delete-branch", "info"}
    assert {case.fault for case in possible} == set(FAULTS)
    assert len(possible) > 2000


# single faults that were not survived once


def trial_of(hub: LoopbackHub, folder: Path, operation: str) -> Trial:
    trial = Trial(hub, folder, f"s{next(_numbers)}", operation)
    trial.prepare()
    return trial


def test_a_flipped_bit_in_a_manifest_is_not_taken_for_what_the_tag_named(
    hub: LoopbackHub, tmp_path: Path
) -> None:
    trial = trial_of(hub, tmp_path, "pull without a registry")
    fault = hub.faults.add("wrong-bytes", "GET", rf"{trial.namespace}/da/resolve/.*/adapter\.json")
    trial.act(PATIENT)
    assert fault.fired == 1
    trial.judge_finished()


def test_a_flipped_bit_in_a_status_file_is_not_written_back(hub: LoopbackHub, tmp_path: Path) -> None:
    trial = trial_of(hub, tmp_path, "publish an older version")
    before = json.loads(hub.files(trial.name)["status.json"])
    fault = hub.faults.add("wrong-bytes", "GET", r"/status\.json", times=2)
    trial.act(PATIENT)
    assert fault.fired == 2
    assert [entry for entry in json.loads(hub.files(trial.name)["status.json"]) if entry in before] == before
    trial.judge_finished()


def test_an_answer_that_makes_no_sense_is_one_line(hub: LoopbackHub, tmp_path: Path) -> None:
    trial = trial_of(hub, tmp_path, "publish")
    hub.faults.add("wrong-bytes", endpoint="preupload", times=None)
    try:
        with pytest.raises(
            UnreachableError, match=r"cannot be used \(its response is malformed: [^\n]*again later$"
        ):
            trial.act(RetryPolicy(5.0, 0.1, 0.02))
    finally:
        hub.faults.clear()
    trial.act(PATIENT)
    trial.judge_finished()


def test_weights_that_cannot_be_reached_are_not_called_damaged(hub: LoopbackHub, tmp_path: Path) -> None:
    trial = trial_of(hub, tmp_path, "pull")
    hub.faults.add("status", endpoint="contents", status=503, times=None)
    try:
        with pytest.raises(UnreachableError, match=r"cannot be used \(answers 503\); try again later$"):
            trial.act(RetryPolicy(5.0, 0.1, 0.02))
    finally:
        hub.faults.clear()


def test_what_the_client_says_of_its_own_attempts_stays_unsaid(
    hub: LoopbackHub, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    trial = trial_of(hub, tmp_path, "pull")
    hub.faults.add("status", endpoint="resolve", status=503)
    hub.faults.add("drop", endpoint="contents")
    trial.act(PATIENT)
    assert "ticket=" not in caplog.text + capfd.readouterr().err  # an address that lets anybody download


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_all_faults_at_all_kinds_of_requests(tmp_path: Path) -> None:
    command = [sys.executable, str(FAULT_TABLE), "--out", str(tmp_path), "--kills", "0"]
    paths = f"{FAULT_TABLE.parent}:{FAULT_TABLE.parent.parent}"
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "0 failed" in (tmp_path / "hub_faults.md").read_text()
