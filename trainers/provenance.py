"""Which commit of this code a result was made with."""

from __future__ import annotations

import subprocess
from pathlib import Path


def code_revision() -> tuple[str | None, bool | None]:
    """Return the commit of this code and whether files differ from it; None outside of a checkout."""
    file = Path(__file__).resolve()
    here = file.parent
    try:
        # installed in an environment inside another checkout, it is not a part of that checkout
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
