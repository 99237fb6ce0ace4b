"""One utterance of synthesised speech from espeak-ng, decided by its arguments alone.

espeak-ng keeps static state from call to call and seeds its generator with the clock, so the same call
repeated in one process gives other samples. The cure is to load the library afresh for every utterance,
seed it, and unload it again. Because the library's state belongs to the process, calls are serialised by a
lock: threads are safe but gain nothing, `in_processes` helps.
"""

from __future__ import annotations

import _ctypes
import atexit
import ctypes
import functools
import importlib
import multiprocessing
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import soxr

from adapter_hub.errors import AdapterHubError, InvalidInputError, MissingExtraError

SAMPLE_RATE = 16_000
"""Samples per second of everything this package gives."""

ESPEAK_RATE = 22_050
KEPT_SILENCE = 0.05
"""Seconds of silence left on either side of the sound."""

SILENCE_THRESHOLD = 0.01
"""Amplitude, relative to the clip's peak, below which a margin counts as silence."""

LONGEST_DATA_PATH = 150
"""espeak-ng fails on a data path of 160 characters, so a longer one is linked to a short temporary path."""

_SYNCHRONOUS = 2
_DO_NOT_EXIT = 0x8000  # otherwise a bad data path ends the process
_RATE, _PITCH, _RANGE = 1, 3, 4
_UTF8 = 1
_CHARACTERS = 1
_WORD_EVENT, _LIST_END = 1, 0

_lock = threading.Lock()

Argument = TypeVar("Argument")
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Speech:
    """Mono float32 samples at 16 kHz, and start and end in seconds of each space-separated word."""

    samples: npt.NDArray[np.float32]
    words: tuple[tuple[float, float], ...]

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.samples) / SAMPLE_RATE


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    ]


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


def demo_module(name: str) -> Any:
    """A module of the extra `demo`, or an error that says how to install it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if missing.name != name:
            raise
        raise MissingExtraError(f"synthesised speech needs the package {name!r}", "demo") from None


@functools.cache
def library_path() -> str:
    """The shared library of espeak-ng."""
    return str(demo_module("espeakng_loader").get_library_path())


@functools.cache
def data_path() -> str:
    """The folder of espeak-ng's voices and dictionaries, by a path short enough for it."""
    path = str(demo_module("espeakng_loader").get_data_path())
    if len(os.fsencode(path)) <= LONGEST_DATA_PATH:
        return path
    folder = tempfile.mkdtemp(prefix="espeak-", dir="/tmp" if Path("/tmp").is_dir() else None)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    link = Path(folder) / "espeak-ng-data"
    link.symlink_to(path)
    return str(link)


def variant_names() -> frozenset[str]:
    """The names of the voice variants that the installed espeak-ng has."""
    return frozenset(entry.name for entry in (Path(data_path()) / "voices" / "!v").iterdir())


def synthesise(text: str, *, voice: str, rate: int, pitch: int, pitch_range: int, seed: int) -> Speech:
    """Speak a text.

    Args:
        text: words separated by spaces.
        voice: an espeak-ng language, or language and variant, as in `pl+m3`.
        rate: words per minute.
        pitch: 0 to 100.
        pitch_range: 0 to 100; 0 is monotonous.
        seed: of the voice's irregularities.

    Raises:
        InvalidInputError: an empty text or an unknown voice.
        MissingExtraError: espeak-ng is not installed.
        AdapterHubError: espeak-ng failed.
    """
    if not text.strip():
        raise InvalidInputError("there is nothing to say: the text is empty")
    _, plus, variant = voice.partition("+")
    if plus and variant not in variant_names():
        # espeak-ng itself would silently take the plain voice
        raise InvalidInputError(f"espeak-ng has no voice variant {variant!r} (names are case-sensitive)")
    with _lock:
        raw, events = _speak(text, voice, {_RATE: rate, _PITCH: pitch, _RANGE: pitch_range}, seed)
    sound = raw.astype(np.float32) / 32768.0
    first, last = _sounding(sound)
    samples = soxr.resample(sound[first:last], ESPEAK_RATE, SAMPLE_RATE).astype(np.float32)
    np.clip(samples, -1.0, 1.0, out=samples)
    return Speech(samples, _word_times(text, events, first, last))


class _Collector:
    """Receives the sound, and (character position, sample) of each word event."""

    def __init__(self) -> None:
        self.chunks: list[npt.NDArray[np.int16]] = []
        self.events: list[tuple[int, int]] = []

    def __call__(self, wave: Any, count: int, event: Any) -> int:
        if wave and count > 0:
            self.chunks.append(np.ctypeslib.as_array(wave, shape=(count,)).astype(np.int16, copy=True))
        index = 0
        while event[index].type != _LIST_END:
            if event[index].type == _WORD_EVENT:
                sample = event[index].audio_position * ESPEAK_RATE // 1000
                self.events.append((event[index].text_position - 1, sample))
            index += 1
        return 0


def _speak(
    text: str, voice: str, parameters: Mapping[int, int], seed: int
) -> tuple[npt.NDArray[np.int16], list[tuple[int, int]]]:
    """The raw samples at 22.05 kHz, and the word events."""
    path = library_path()
    _refuse_resident(path)
    collector = _Collector()
    callback = _Callback(collector)  # must outlive the synthesis
    library = ctypes.CDLL(path)
    try:
        if library.espeak_Initialize(_SYNCHRONOUS, 0, os.fsencode(data_path()), _DO_NOT_EXIT) != ESPEAK_RATE:
            raise AdapterHubError(f"espeak-ng cannot be started with the data in {data_path()}")
        library.espeak_SetSynthCallback(callback)
        if library.espeak_SetVoiceByName(voice.encode()):
            raise InvalidInputError(f"espeak-ng has no voice {voice!r}")
        for parameter, value in parameters.items():
            if library.espeak_SetParameter(parameter, value, 0):
                raise InvalidInputError(f"espeak-ng refused the value {value} of parameter {parameter}")
        library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
        content = text.encode() + b"\0"
        size = ctypes.c_size_t(len(content))
        failed = library.espeak_Synth(content, size, 0, _CHARACTERS, 0, _UTF8, None, None)
        if failed or library.espeak_Synchronize():
            raise AdapterHubError(f"espeak-ng failed on {text!r}")
    finally:
        library.espeak_Terminate()
        handle = library._handle
        del library
        _ctypes.dlclose(handle)
    if not collector.chunks:
        raise AdapterHubError(f"espeak-ng gave no sound for {text!r}")
    return np.concatenate(collector.chunks), collector.events


def _refuse_resident(path: str) -> None:
    """A library that something else holds open is not unloaded: its state would leak into the samples."""
    try:
        handle = _ctypes.dlopen(path, os.RTLD_NOLOAD | os.RTLD_NOW)
    except OSError:
        return
    _ctypes.dlclose(handle)
    raise AdapterHubError(f"{path} is already loaded in this process: the speech would not be reproducible")


def _sounding(sound: npt.NDArray[np.float32]) -> tuple[int, int]:
    """First and last sample of the sound with a little silence kept around it."""
    level = np.abs(sound)
    peak = float(level.max())
    if peak == 0.0:
        raise AdapterHubError("espeak-ng gave silence only")
    loud = np.flatnonzero(level > SILENCE_THRESHOLD * peak)
    margin = round(KEPT_SILENCE * ESPEAK_RATE)
    return max(0, int(loud[0]) - margin), min(len(sound), int(loud[-1]) + 1 + margin)


def _word_times(
    text: str, events: Iterable[tuple[int, int]], first: int, last: int
) -> tuple[tuple[float, float], ...]:
    """Start and end in seconds of each space-separated word.

    A word begins at its first event and ends where the next begins. espeak-ng joins some words into one
    event: those that have none share the time up to the next event by their length in characters.
    """
    spans = [match.span() for match in re.finditer(r"\S+", text)]
    known: list[tuple[int, float]] = [(0, float(first))]  # (word, sample at which it begins)
    for word, (start, end) in enumerate(spans):
        times = [sample for character, sample in events if start <= character < end]
        if times and word > 0:
            known.append((word, min(max(float(min(times)), known[-1][1]), float(last))))
    known.append((len(spans), float(last)))
    bounds: list[float] = []
    for (word, begins), (following, ends) in pairwise(known):
        lengths = [end - start for start, end in spans[word:following]]
        shares = accumulate(lengths[:-1], initial=0)
        bounds += [begins + (ends - begins) * share / sum(lengths) for share in shares]
    seconds = [round((bound - first) / ESPEAK_RATE, 3) for bound in (*bounds, float(last))]
    return tuple(pairwise(seconds))


def in_processes(
    function: Callable[[Argument], Result], arguments: Iterable[Argument], *, processes: int
) -> Iterator[Result]:
    """`map` in fresh processes, never forked: a fork would inherit other libraries' threads and locks.

    So with more than one process, a script that calls it needs the usual `if __name__ == "__main__":`.

    Args:
        function: of one argument; importable by its name.
        arguments: one for each call.
        processes: how many; 1 is this one.
    """
    if processes <= 1:
        yield from map(function, arguments)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap(function, arguments, chunksize=16)
