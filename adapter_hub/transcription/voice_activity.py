"""Voice activity detection, so that only speech is transcribed: Silero VAD, from the extra `vad`.

    detectors = Detectors()
    for phrase in detectors.speech(audio_blocks(path), longest=30.0):

A detector has a state, so every open recording has one of its own; they are used again afterwards.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch

from adapter_hub.errors import MissingExtraError
from adapter_hub.speech.audio import SAMPLE_RATE
from adapter_hub.speech.phrases import Phrase, Samples, quietest

STEP = 512  # samples that the detector judges at once: 32 ms
PAUSE = 0.3  # seconds without speech that end a phrase
PAD = 0.2  # seconds around speech that belong to it: weak beginnings and ends of words


class Detectors:
    """A pool of voice activity detectors.

    Raises:
        MissingExtraError: silero-vad is not installed.
    """

    def __init__(self) -> None:
        self._idle: list[Any] = [_detector()]

    def speech(self, blocks: Iterable[Samples], longest: float) -> Iterator[Phrase]:
        """Yield the stretches of speech of a recording; only one of `longest` seconds is in memory.

        Args:
            blocks: the recording's samples, a block at a time.
            longest: seconds of a stretch, at most; longer speech is cut where it is quietest.
        """
        detector = self._idle.pop() if self._idle else _detector()
        try:
            yield from _speech(detector, blocks, round(longest * SAMPLE_RATE))
        finally:
            detector.reset_states()
            self._idle.append(detector)


def _speech(detector: Any, blocks: Iterable[Samples], size: int) -> Iterator[Phrase]:
    buffer, first = np.zeros(0, dtype=np.float32), 0  # samples that may still be speech, from `first` on
    judged = free = 0  # up to where the detector has judged; from where on nothing has been yielded
    begun: int | None = None
    for block in _with_end(blocks):
        buffer = np.concatenate([buffer, block if block is not None else np.zeros(0, dtype=np.float32)])
        stop = first + len(buffer)
        while judged + STEP <= stop or (block is None and judged < stop):
            step = np.zeros(STEP, dtype=np.float32)
            there = buffer[judged - first : judged - first + STEP]
            step[: len(there)] = there
            judged += STEP
            event = detector(torch.from_numpy(step)) or {}
            if "start" in event:
                begun = max(free, int(event["start"]))
            if begun is None:
                continue
            until = None
            if "end" in event:
                until = min(int(event["end"]), stop)
            elif judged - begun > size:
                until = begun + quietest(buffer[begun - first : begun - first + size])
            if until is not None:
                yield Phrase(begun, buffer[begun - first : until - first].copy())
                free, begun = until, None if "end" in event else until
        keep = min(judged, stop) - round(PAD * SAMPLE_RATE) - STEP if begun is None else begun
        keep = max(keep, first)  # what a start may still reach back to
        buffer, first = buffer[keep - first :].copy(), keep
    if begun is not None and first + len(buffer) > begun:
        yield Phrase(begun, buffer[begun - first :])


def _with_end(blocks: Iterable[Samples]) -> Iterator[Samples | None]:
    """Yield the blocks, then None."""
    yield from blocks
    yield None


def _detector() -> Any:
    threads = torch.get_num_threads()
    try:
        import silero_vad  # noqa: PLC0415 - an extra
    except ImportError:
        raise MissingExtraError(
            "finding speech needs silero-vad", "vad", "or transcribe without --skip-silence"
        ) from None
    finally:
        torch.set_num_threads(threads)  # importing it sets one for the whole process
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it loads its model with torch.jit
        model = silero_vad.load_silero_vad()
    return silero_vad.VADIterator(
        model,
        sampling_rate=SAMPLE_RATE,
        min_silence_duration_ms=round(PAUSE * 1000),
        speech_pad_ms=round(PAD * 1000),
    )
