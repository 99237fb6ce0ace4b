"""Which commit of this code a result was made with."""

from __future__ import annotations

import subprocess
from pathlib import Path


def code_revision() -> tuple[str | None, bool | None]:
    """Return the commit of this code and whether it was changed since; None outside of its checkout."""
    file = Path(__file__).resolve()
    here = file.parent
    try:
        # installed in an environment inside of somebody's checkout, it is no part of that
        subprocess.run(
            ["git", "ls-files", "--error-unmatch", file.name],
            cwd=here,
            capture_output=True,
            check=True,
            timeout=10,
        )
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
        status = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no", "--", "adapter_hub", "trainers"],
            cwd=here.parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None, None
    return head, bool(status.strip())
