"""The package manager for speech-recognition adapters: one small LoRA per language on a frozen Whisper.

    import adapter_hub

    transcriber = adapter_hub.load("mini/da")
    print(transcriber.transcribe("clip.flac")[0].text)

`adapter_hub.list()`, `pull`, `train` and `publish` are the commands of these names.

Importing this package imports no torch; using `load`, `load_model` and `Transcriber` does. The rooms
`formats`, `artifact`, `registry`, `stores`, `exchange` and `audit` handle adapters as data (light); `model`,
`decoding`, `transcription`, `evaluation` and `trainers` put them to work. docs/python.md shows how, by task;
docs/architecture.md is the map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapter_hub.errors import AdapterHubError
    from adapter_hub.exchange import Places, publish, pull
    from adapter_hub.export.exporting import export_model
    from adapter_hub.trainers.training import train
    from adapter_hub.transcription.opening import load, load_model
    from adapter_hub.transcription.transcriber import Transcriber
    from adapter_hub.transcription.transcript import Segment, Transcript, Word

# without `list`, which `import *` would put in the place of Python's
__all__ = [
    "AdapterHubError",
    "Places",
    "Segment",
    "Transcriber",
    "Transcript",
    "Word",
    "export_model",
    "load",
    "load_model",
    "publish",
    "pull",
    "train",
]

_HOMES = {
    "AdapterHubError": "adapter_hub.errors",
    "Places": "adapter_hub.exchange",
    "export_model": "adapter_hub.export.exporting",
    "list": "adapter_hub.exchange",
    "publish": "adapter_hub.exchange",
    "pull": "adapter_hub.exchange",
    "train": "adapter_hub.trainers.training",
    "load": "adapter_hub.transcription.opening",
    "load_model": "adapter_hub.transcription.opening",
    "Transcriber": "adapter_hub.transcription.transcriber",
    "Segment": "adapter_hub.transcription.transcript",
    "Transcript": "adapter_hub.transcription.transcript",
    "Word": "adapter_hub.transcription.transcript",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, and torch with it where it needs torch."""
    if name == "__version__":
        from importlib.metadata import version

        return version("adapter-hub")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_HOMES[name]), {"list": "list_versions"}.get(name, name))
    return value


def __dir__() -> Sequence[str]:
    return sorted({*globals(), *_HOMES, "__version__"})
