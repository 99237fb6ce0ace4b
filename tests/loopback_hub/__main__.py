"""Serve a folder until interrupted, and say what to export: `python -m loopback_hub FOLDER`."""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
from pathlib import Path

from loopback_hub.hub import LoopbackHub


def main() -> None:
    parser = argparse.ArgumentParser(description="A Hugging Face Hub on loopback that keeps all in a folder.")
    parser.add_argument("folder", type=Path, help="where repositories lie; made if missing")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--user", default="alice", help="whose token to print")
    chosen = parser.parse_args()
    with LoopbackHub(chosen.folder.resolve(), port=chosen.port) as hub:
        for name, value in hub.environment(chosen.user).items():
            sys.stdout.write(f"export {name}={value}\n")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


main()
