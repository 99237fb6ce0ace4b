"""The embedded default: a small Whisper and a catalogue of adapters for it, shipped with the package.

    embedded.base_model_path()   # loads like openai/whisper-*
    embedded.registry_path()     # its adapters; read-only, consulted last

In a checkout the registry is the top-level `registry.json`; the wheel holds a copy of it beside this file.
"""

from __future__ import annotations

from pathlib import Path

EMBEDDED = "embedded"  # what a registry file calls the store that ships with the package
_HERE = Path(__file__).parent


def registry_path() -> Path:
    """Return the embedded catalogue's registry file."""
    shipped = _HERE / "registry.json"
    return shipped if shipped.exists() else _HERE.parents[1] / "registry.json"


def store_path() -> Path:
    """Return the folder store that the embedded catalogue's bytes are in."""
    return _HERE / "store"


def base_model_path() -> Path:
    """Return the folder of the embedded base model."""
    return _HERE / "base_model"
