"""A full disk while publishing or pulling, and what unfinished pulls leave behind: a retry finishes."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hub_trials import Trial, user_of
from killing import in_child
from loopback_hub import LoopbackHub

from adapter_hub.errors import AdapterHubError, UnreachableError
from adapter_hub.hub import RetryPolicy
from adapter_hub.stores.cache import Cache

PATIENT = RetryPolicy(20.0, 20.0, 0.02)
DONE, REFUSED = 0, 3
SIZES = (0, 100, 300, 700, 1100, 1500, 3000, 6000)  # bytes; no file can grow beyond


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    with LoopbackHub(tmp_path / "hub", redirect=True) as hub:
        yield hub


def prepared(hub: LoopbackHub, folder: Path, operation: str) -> Trial:
    trial = Trial(hub, folder, "alice", operation)
    trial.prepare()
    return trial


# a full disk


def on_a_full_disk(size: int, action: Callable[[], None]) -> int:
    """Carry out `action` in a process whose files cannot grow beyond `size`; an error has to be one line."""

    def act() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        try:
            action()
        except (AdapterHubError, OSError) as error:
            told = str(error)
        else:
            return
        assert "\n" not in told
        assert "File too large" in told, told
        os._exit(REFUSED)

    return os.waitstatus_to_exitcode(in_child(act))


@pytest.mark.parametrize("operation", ["publish", "pull", "pull without a registry"])
def test_a_full_disk_is_one_line_and_leaves_nothing_half(
    hub: LoopbackHub, tmp_path: Path, operation: str
) -> None:
    trial = prepared(hub, tmp_path, operation)
    codes = []
    for size in SIZES:
        codes.append(on_a_full_disk(size, lambda: trial.act(PATIENT)))
        trial.judge()
        if codes[-1] == DONE:
            break
    assert codes == [REFUSED] * (len(codes) - 1) + [DONE]
    assert len(codes) > 3
    trial.act(PATIENT)
    trial.judge_finished()


def test_on_the_command_line_a_full_disk_is_one_line(hub: LoopbackHub, tmp_path: Path) -> None:
    trial = prepared(hub, tmp_path, "pull with a registry file")
    environment = {**os.environ, **user_of(hub, PATIENT), "ADAPTER_HUB_CACHE": str(trial.machine)}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "adapter_hub",
            "--registry",
            str(tmp_path / "registry.json"),
            "pull",
            trial.name,
        ],
        env={**environment, "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert re.search(r"alice.*: file too large", last), last
    assert "Traceback" not in done.stderr
    trial.judge()
    trial.act(PATIENT)
    trial.judge_finished()


# what is left in <cache>/downloads


def damaged(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(bytes(byte ^ 1 for byte in content))


def shortened(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def a_folder(path: Path) -> None:
    path.unlink()
    (path / "inside").mkdir(parents=True)


def a_link(path: Path) -> None:
    elsewhere = path.parent / f"{path.name}.elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def a_broken_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def unfinished(hub: LoopbackHub, folder: Path) -> tuple[Trial, list[Path]]:
    """Pull while the weights do not come; return what came all the same."""
    trial = prepared(hub, folder, "pull with a registry file")
    hub.faults.add("status", endpoint="contents", times=None)
    with pytest.raises(UnreachableError, match="answers 500"):
        trial.act(RetryPolicy(5.0, 0.1, 0.02))
    hub.faults.clear()
    files: list[Path] = []
    for _ in range(100):  # other files still come for a moment, in other threads
        files = [path for path in (trial.machine / "downloads").rglob("*.json") if path.is_file()]
        if len(files) == 3:
            time.sleep(0.1)
            return trial, files
        time.sleep(0.05)
    raise AssertionError(files)


@pytest.mark.parametrize("damage", [damaged, shortened, a_folder, a_link, a_broken_link])
def test_whatever_an_unfinished_download_left_is_repaired(
    hub: LoopbackHub, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    trial, files = unfinished(hub, tmp_path)
    for path in files:
        damage(path)
    trial.act(PATIENT)
    trial.judge_finished()
    assert [path.suffix for path in (trial.machine / "downloads").iterdir()] == [".lock"]


def test_a_download_folder_full_of_rubbish_is_repaired(hub: LoopbackHub, tmp_path: Path) -> None:
    trial, _ = unfinished(hub, tmp_path)
    for path in list((trial.machine / "downloads").rglob("*")):
        if path.is_file() and path.suffix != ".lock":
            path.write_bytes(b"rubbish")  # the client's notes, too
    (folder,) = (path for path in (trial.machine / "downloads").iterdir() if path.is_dir())
    (folder / "adapter_model.safetensors").write_bytes(b"rubbish")
    (folder / "another.txt").write_bytes(b"rubbish")
    trial.act(PATIENT)
    trial.judge_finished()


def test_what_came_before_the_hub_failed_is_not_asked_for_again(hub: LoopbackHub, tmp_path: Path) -> None:
    trial, _ = unfinished(hub, tmp_path)
    assert Cache(trial.machine).entries() == []
    hub.log.clear()
    trial.act(PATIENT)
    assert not hub.log.entries("GET", r"resolve/.*/(adapter_config|ancestors)")
    assert hub.log.count("GET", endpoint="contents") == 1
