"""Which versions of which packages a number was computed with."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

# what decides the numbers of a training or an evaluation
PACKAGES = (
    "accelerate",
    "adapter-hub",
    "jiwer",
    "numpy",
    "peft",
    "soundfile",
    "soxr",
    "torch",
    "transformers",
)


def package_versions(names: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Return the versions of those packages that are installed, by name.

    Args:
        names: of distributions on PyPI.
    """
    return {name: found for name in names if (found := _version(name))}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:  # run from a checkout that is not installed
        return None
