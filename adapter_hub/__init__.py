"""The package manager for speech-recognition adapters: one small LoRA per language on a frozen Whisper.

    import adapter_hub

    transcriber = adapter_hub.load("mini/da")
    print(transcriber.transcribe("clip.flac")[0].text)

Importing this package imports no torch; using `load`, `load_model` and `Transcriber` does. The rooms
`formats`, `artifact`, `registry`, `stores`, `exchange` and `audit` handle adapters as data (light); `model`,
`decoding`, `transcription`, `evaluation` and `trainers` put them to work. docs/python.md shows how, by task;
docs/architecture.md is the map.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapter_hub.errors import AdapterHubError
    from adapter_hub.transcription.opening import load, load_model
    from adapter_hub.transcription.transcriber import Transcriber
    from adapter_hub.transcription.transcript import Segment, Transcript, Word

__all__ = ["AdapterHubError", "Segment", "Transcriber", "Transcript", "Word", "load", "load_model"]

_HOMES = {
    "AdapterHubError": "adapter_hub.errors",
    "load": "adapter_hub.transcription.opening",
    "load_model": "adapter_hub.transcription.opening",
    "Transcriber": "adapter_hub.transcription.transcriber",
    "Segment": "adapter_hub.transcription.transcript",
    "Transcript": "adapter_hub.transcription.transcript",
    "Word": "adapter_hub.transcription.transcript",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, and torch with it where it needs torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
