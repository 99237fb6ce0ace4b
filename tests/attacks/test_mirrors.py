"""A mirror's source is somebody else: it may lie about dates and statuses, and take nothing away."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from command_line import Run
from making import make_artifact, make_report

from adapter_hub.artifact.folder import Artifact
from adapter_hub.formats.claims import Status, StatusEntry
from adapter_hub.stores.folder import FolderStore

DA = "test/da"


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return make_artifact(tmp_path / "da", DA)


def write_statuses(store: Path, artifact: Artifact, *entries: tuple[str, str]) -> None:
    """Write status.json as a hostile owner does: statuses with whatever dates."""
    values = [
        {"version": "1.0.0", "digest": artifact.digest, "status": status, "reason": "why", "time": at}
        for status, at in entries
    ]
    (store / DA).mkdir(parents=True, exist_ok=True)
    (store / DA / "status.json").write_text(json.dumps(values))


def both(folder: Path, artifact: Artifact) -> tuple[Path, Path]:
    for name in ("source", "target"):
        FolderStore(folder / name).push(artifact)
    return folder / "source", folder / "target"


def status(store: Path) -> str | None:
    last = FolderStore(store).claims(DA).status_of("1.0.0")
    return last.status if last else None


def weights(store: Path) -> Path:
    return store / DA / "1.0.0" / "adapter_model.safetensors"


LOOSER = [
    ("quarantined", "active", "9999-12-31T23:59:59Z"),
    ("quarantined", "active", "2026-06-01T00:00:00Z"),
    ("quarantined", "deprecated", "2026-06-01T00:00:00Z"),
    ("quarantined", "active", "2026-05-01T00:00:00Z"),  # the very same second
    ("yanked", "active", "2026-06-01T00:00:00Z"),
    ("deprecated", "active", "2026-06-01T00:00:00Z"),
    ("yanked", "deprecated", "2026-06-01T00:00:00Z"),
]


@pytest.mark.parametrize(("ours", "theirs", "at"), LOOSER)
def test_no_status_of_a_source_loosens_the_targets(
    run: Run, artifact: Artifact, tmp_path: Path, ours: str, theirs: str, at: str
) -> None:
    source, target = both(tmp_path, artifact)
    write_statuses(target, artifact, ("active", "2026-04-01T00:00:00Z"), (ours, "2026-05-01T00:00:00Z"))
    write_statuses(source, artifact, ("active", "2026-04-01T00:00:00Z"), (theirs, at))
    outcome = run("mirror", "--from", source, "--to", target)
    assert outcome.code == 0
    assert status(target) == ours
    (line,) = [line for line in outcome.err.splitlines() if line.startswith("warning: ")]
    assert "ahead of this machine's clock" in line if at > "9" else "which stays" in line
    assert run("mirror", "--from", source, "--to", target).code == 0
    assert status(target) == ours


@pytest.mark.parametrize("at", ["2026-05-01T00:00:00Z", "2026-07-01T00:00:00Z", "2026-01-01T00:00:00Z"])
def test_a_stricter_status_of_a_source_counts_at_the_target_whatever_its_date(
    run: Run, artifact: Artifact, tmp_path: Path, at: str
) -> None:
    source, target = both(tmp_path, artifact)
    write_statuses(target, artifact, ("active", "2026-04-01T00:00:00Z"), ("active", "2026-06-01T00:00:00Z"))
    write_statuses(source, artifact, ("quarantined", at))
    assert run("mirror", "--from", source, "--to", target).code == 0
    assert status(target) == "quarantined"
    before = (target / DA / "status.json").read_bytes()
    assert run("mirror", "--from", source, "--to", target).code == 0
    assert (target / DA / "status.json").read_bytes() == before


def test_the_owner_of_a_target_may_retire_after_any_date_that_a_source_wrote(
    run: Run, artifact: Artifact, tmp_path: Path
) -> None:
    source, target = both(tmp_path, artifact)
    write_statuses(source, artifact, ("deprecated", "9999-12-31T23:59:59Z"))
    write_statuses(target, artifact, ("active", "9999-12-31T23:59:59Z"))  # as older programs let it in
    assert run("mirror", "--from", source, "--to", target).code == 0
    places = ("--registry", tmp_path / "own.json", "--store", target)
    assert run(*places, "registry", "rebuild").code == 0
    for wanted in ("quarantined", "active", "yanked"):
        assert run(*places, "retire", f"{DA}@1.0.0", "--status", wanted, "--reason", "test").code == 0
        assert status(target) == wanted
    assert max(entry.time for entry in FolderStore(target).claims(DA).statuses[-3:]) < "9999"


@pytest.mark.parametrize("has_bytes", [True, False])
def test_a_withdrawal_of_a_source_deletes_nothing_unless_the_user_says_so(
    run: Run, artifact: Artifact, tmp_path: Path, has_bytes: bool
) -> None:
    source, target = both(tmp_path, artifact)
    write_statuses(source, artifact, ("withdrawn", "2026-05-01T00:00:00Z"))
    if not has_bytes:
        weights(source).unlink()
    outcome = run("mirror", "--from", source, "--to", target)
    assert outcome.code == 0
    assert "the target keeps its files; the same command with --withdraw removes" in outcome.err
    FolderStore(target).fetch(DA, "1.0.0", tmp_path / "out").verify()
    assert status(target) is None
    assert run("mirror", "--from", source, "--to", target, "--withdraw").code == 0
    assert status(target) == "withdrawn"
    assert not weights(target).exists()


DATES = ("2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:00:60Z")


@pytest.mark.parametrize("time", [*DATES, "0000-01-01T00:00:00Z", "2026-01-0١T00:00:00Z"])
def test_a_date_that_does_not_exist_is_refused_where_it_is_read(
    run: Run, artifact: Artifact, tmp_path: Path, time: str
) -> None:
    source, target = both(tmp_path, artifact)
    write_statuses(source, artifact, ("quarantined", time))
    outcome = run("mirror", "--from", source, "--to", target)
    assert outcome.code == 1
    (line,) = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert "expected a time in UTC that exists" in line or "should match pattern" in line


def test_a_status_dated_ahead_of_this_clock_cannot_be_attached(artifact: Artifact, tmp_path: Path) -> None:
    _, target = both(tmp_path, artifact)
    entry = {"version": "1.0.0", "digest": artifact.digest, "status": "active", "reason": "why"}
    with pytest.raises(Exception, match="dated 2999-01-01T00:00:00Z, this machine's clock says"):
        FolderStore(target).attach(DA, StatusEntry.model_validate({**entry, "time": "2999-01-01T00:00:00Z"}))
    assert status(target) is None


def many(count: int) -> list[tuple[Status, str]]:
    kinds: tuple[Status, ...] = ("deprecated", "active")
    return [
        (kinds[n % 2], f"2026-01-{1 + n // 1440:02}T{n // 60 % 24:02}:{n % 60:02}:00Z") for n in range(count)
    ]


def test_thousands_of_statuses_are_mirrored_in_linear_time(
    run: Run, artifact: Artifact, tmp_path: Path
) -> None:
    source, target = both(tmp_path, artifact)
    write_statuses(source, artifact, *many(8000))
    started = time.process_time()
    assert run("mirror", "--from", source, "--to", target).code == 0
    assert time.process_time() - started < 4  # 1200 took 51 s
    assert len(FolderStore(target).claims(DA).statuses) == 8000


def test_a_status_file_has_a_limit_of_entries(run: Run, artifact: Artifact, tmp_path: Path) -> None:
    source, target = both(tmp_path, artifact)
    write_statuses(source, artifact, *many(10_001))
    outcome = run("mirror", "--from", source, "--to", target)
    assert outcome.code == 1
    assert "10001 entries, at most 10000 are read" in outcome.err
    write_statuses(source, artifact, ("quarantined", "2026-02-01T00:00:00Z"))
    write_statuses(target, artifact, *many(10_000))
    outcome = run("mirror", "--from", source, "--to", target)
    assert outcome.code == 1
    assert "at most 10000 are kept for a name" in outcome.err


def test_a_report_of_a_source_comes_beside_its_statuses(run: Run, artifact: Artifact, tmp_path: Path) -> None:
    source, target = both(tmp_path, artifact)
    FolderStore(source).attach(DA, make_report(artifact))
    write_statuses(source, artifact, ("quarantined", "2026-02-01T00:00:00Z"))
    assert "reports and statuses added: 2" in run("mirror", "--from", source, "--to", target).out
