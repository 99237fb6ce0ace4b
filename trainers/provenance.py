"""What a result was made with: the versions of the packages, and the commit of this code."""

from __future__ import annotations

import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("adapter-hub", "torch", "transformers", "peft", "accelerate", "numpy", "soundfile", "soxr")


def package_versions() -> dict[str, str]:
    """Return the versions of what decides numbers, without those that are not installed."""
    return {name: found for name in PACKAGES if (found := _version(name))}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


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
