"""Commands in a process of its own where files cannot grow beyond a limit, or that dies at a call.

outcome = run_limited(folder, ["average", …], largest_file=2000)
outcome = run_limited(folder, ["extract", …], dies_at="rename")

The limit is the operating system's own (RLIMIT_FSIZE), met in the middle of a write, as a full disk is.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PROGRAM = """
import os, resource, signal, sys
largest, call = int(sys.argv[1]), sys.argv[2]
from adapter_hub.cli import main
if call:
    setattr(os, call, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
if largest:
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
sys.exit(main(sys.argv[3:]))
"""


def run_limited(
    folder: Path, words: Sequence[str | Path], *, largest_file: int = 0, dies_at: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command in `folder`; bytes that a file may have, and a name in `os` at which it kills itself."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(largest_file), dies_at, *map(str, words)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
