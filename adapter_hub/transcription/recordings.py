"""Opening the recordings that a transcriber is given, and reading them phrase by phrase as they are needed.

reader = Reader(recordings, most_open=8, in_turn=False)
reader.read(8)                                          # [(recording, phrase), ...]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adapter_hub.errors import InvalidInputError
from adapter_hub.speech.audio import (
    BLOCK_SECONDS,
    SAMPLE_RATE,
    Audio,
    audio_blocks,
    audio_from_samples,
    check_seconds,
)
from adapter_hub.speech.phrases import Phrase, Samples, phrases
from adapter_hub.transcription.options import TranscriptionOptions
from adapter_hub.transcription.voice_activity import Detectors
from adapter_hub.transcription.windows import Recording

AudioInput = str | Path | Audio | NDArray[np.floating]


def open_recordings(
    inputs: Iterable[tuple[AudioInput, str | None]],
    options: TranscriptionOptions,
    chunk: float,
    usual: float,
    whole: Callable[[str | None], bool],
) -> Iterator[Recording]:
    """Yield a recording for every input and its language, opened when it is asked for.

    Args:
        inputs: paths, arrays or `Audio`, each with its BCP 47 tag where that is known.
        options: how to transcribe.
        chunk: seconds of audio that the base model takes at once.
        usual: seconds above which a phrase is cut at its short pauses, too.
        whole: whether recordings of a language (None: not known) are not cut at all up to `usual` seconds.
    """
    detectors = Detectors() if options.skip_silence else None
    wanted = None if options.window_seconds is None else min(options.window_seconds, chunk)
    for index, (item, tag) in enumerate(inputs):
        source = str(item) if isinstance(item, str | Path) else f"audio {index + 1}"
        recording = Recording(index, source, tag, iter(()), chunk, wanted, options.task)
        recording.phrases = _phrases(recording, item, usual, detectors, usual if whole(tag) else 0.0)
        yield recording


def _phrases(
    recording: Recording, item: AudioInput, usual: float, detectors: Detectors | None, whole: float
) -> Iterator[Phrase]:
    blocks = _counted(recording, _blocks(item, recording))
    if detectors is None:
        yield from phrases(blocks, recording.chunk, usual, whole=whole)
    else:
        yield from detectors.speech(blocks, recording.chunk)


def _counted(recording: Recording, blocks: Iterator[Samples]) -> Iterator[Samples]:
    """Yield the blocks of a recording and count its seconds; too few are an error at the end."""
    for block in blocks:
        recording.seconds += len(block) / SAMPLE_RATE
        yield block
    check_seconds(recording.seconds, float("inf"), recording.source)


def _blocks(item: AudioInput, recording: Recording) -> Iterator[Samples]:
    source = recording.source
    if isinstance(item, str | Path):
        yield from audio_blocks(Path(item), recording.cut_off)
        return
    if isinstance(item, np.ndarray):
        item = audio_from_samples(item, SAMPLE_RATE, where=source)
    if not isinstance(item, Audio):
        raise InvalidInputError(
            f"{source}: {type(item).__name__}; expected a path, an array of floats or Audio"
        )
    size = BLOCK_SECONDS * SAMPLE_RATE
    for start in range(0, len(item.samples), size):
        yield item.samples[start : start + size]


@dataclass
class Reader:
    """Reads recordings: one after another, or several in turn.

    Attributes:
        recordings: all of them; the next one is opened when it is needed.
        most_open: how many are open at once where they are read in turn.
        in_turn: read a phrase of each in turn, and none of a recording that has a window to decode.
        open: those that are not finished.
        exhausted: all recordings were opened.
    """

    recordings: Iterator[Recording]
    most_open: int
    in_turn: bool
    open: list[Recording] = field(default_factory=list)
    exhausted: bool = False

    def read(self, count: int) -> list[tuple[Recording, Phrase]]:
        """Return the next phrases with their recordings; none if something has to be decoded first.

        Args:
            count: how many, at most.
        """
        found: list[tuple[Recording, Phrase]] = []
        opened = 0
        while len(found) < count and opened <= count:
            recording = self._next(found)
            if recording is None:
                if self.exhausted or self.in_turn and self._busy() >= self.most_open:
                    break
                recording = next(self.recordings, None)
                if recording is None:
                    self.exhausted = True
                    break
                self.open.append(recording)
                opened += 1
            if (phrase := recording.next_phrase()) is not None:
                found.append((recording, phrase))
        return found

    def take_finished(self) -> list[Recording]:
        """Return the recordings that are finished, in order, and remove them from `open`."""
        done = [recording for recording in self.open if recording.finished]
        self.open = [recording for recording in self.open if not recording.finished]
        return done

    def _next(self, found: list[tuple[Recording, Phrase]]) -> Recording | None:
        for recording in self.open:
            asked = any(recording is other for other, _ in found)
            if not recording.ended and not (self.in_turn and (recording.waiting or asked)):
                return recording
        return None

    def _busy(self) -> int:
        return sum(not recording.finished for recording in self.open)
