"""Opening the recordings that a transcriber is given, and reading them phrase by phrase as they are needed.

reader = Reader(recordings, most_open=8, in_turn=False)
reader.read(8)                                          # [(recording, phrase), ...]
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from adapter_hub.speech.audio import BLOCK_SECONDS, SAMPLE_RATE, audio_blocks, check_seconds
from adapter_hub.speech.inputs import AudioInput, check_input, opened_input
from adapter_hub.speech.phrases import Phrase, Samples, phrases
from adapter_hub.transcription.options import TranscriptionOptions
from adapter_hub.transcription.routing import Router
from adapter_hub.transcription.voice_activity import Detectors
from adapter_hub.transcription.windows import Recording


@dataclass(frozen=True, eq=False)
class Request:
    """A recording to transcribe, and what is known of it.

    Attributes:
        audio: see `adapter_hub.speech.inputs`.
        tag: BCP 47 tag of its language; None where it is not known.
        router: for this recording alone; None is that of all.
    """

    audio: AudioInput
    tag: str | None = None
    router: Router | None = None


def open_recordings(
    requests: Iterable[Request],
    options: TranscriptionOptions,
    chunk: float,
    usual: Callable[[Request], float],
    whole: Callable[[Request], bool],
    sample_rate: int | None = None,
) -> Iterator[Recording]:
    """Yield a recording for every request, opened when it is asked for.

    Args:
        requests: in any number.
        options: how to transcribe.
        chunk: seconds of audio that the base model takes at once.
        usual: seconds above which a phrase is cut at its short pauses, too.
        whole: whether a recording is not cut at all up to `usual` seconds.
        sample_rate: of arrays that bring none; None is 16 kHz.

    Raises:
        InvalidInputError: something that is no recording.
    """
    detectors = Detectors() if options.skip_silence else None
    wanted = None if options.window_seconds is None else min(options.window_seconds, chunk)
    for index, request in enumerate(requests):
        item = request.audio
        check_input(item)
        source = str(item) if isinstance(item, str | os.PathLike) else f"audio {index + 1}"
        recording = Recording(
            index, source, request.tag, iter(()), chunk, wanted, options.task, request.router
        )
        blocks, most = _counted(recording, _blocks(item, sample_rate, recording)), usual(request)
        recording.phrases = _phrases(recording, blocks, most, detectors, most if whole(request) else 0.0)
        yield recording


def _phrases(
    recording: Recording,
    blocks: Iterator[Samples],
    usual: float,
    detectors: Detectors | None,
    whole: float,
) -> Iterator[Phrase]:
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


def _blocks(item: AudioInput, sample_rate: int | None, recording: Recording) -> Iterator[Samples]:
    found = opened_input(item, sample_rate, recording.source)
    if isinstance(found, Path):
        yield from audio_blocks(found, recording.cut_off)
        return
    size = BLOCK_SECONDS * SAMPLE_RATE
    for start in range(0, len(found.samples), size):
        yield found.samples[start : start + size]


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
