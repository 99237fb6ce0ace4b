"""Opening the recordings that a transcriber is given, and reading them phrase by phrase as they are needed.

recordings = open_recordings(base, [Request("a.wav", router, options)])
reader = Reader(recordings, most_open=8, in_turn=False)
reader.read(8)                                          # [(recording, phrase), ...]
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from adapter_hub.base_model.families import refuse_lacking
from adapter_hub.decoding.decode import condition_tokens
from adapter_hub.errors import InvalidInputError
from adapter_hub.model.base_model import BaseModel
from adapter_hub.speech.audio import BLOCK_SECONDS, SAMPLE_RATE, audio_blocks, check_seconds
from adapter_hub.speech.inputs import AudioInput, check_input, opened_input
from adapter_hub.speech.phrases import Phrase, Samples, phrases
from adapter_hub.transcription.options import TranscriptionOptions
from adapter_hub.transcription.routing import LanguageRouter, Router
from adapter_hub.transcription.voice_activity import Detectors
from adapter_hub.transcription.windows import Recording, longest_window

SWITCHING = 6.0  # seconds: a longer phrase may hold two languages


@dataclass(frozen=True, eq=False)
class Request:
    """A recording to transcribe, and how.

    Attributes:
        audio: see `adapter_hub.speech.inputs`.
        router: chooses its adapters.
        options: how to transcribe it.
        tag: BCP 47 tag of its language; None where it is not known.
        sample_rate: of an array that brings none, in samples per second; None is 16 000.
    """

    audio: AudioInput
    router: Router
    options: TranscriptionOptions
    tag: str | None = None
    sample_rate: int | None = None


def check_options(base: BaseModel, options: TranscriptionOptions) -> None:
    """Refuse options that no recording can be transcribed with, with this base model.

    Args:
        base: the base model.
        options: how to transcribe.

    Raises:
        InvalidInputError: one line.
    """
    options.check()
    if options.task == "translate" and not base.multilingual:
        raise InvalidInputError(f"{base.id} is English-only: it has no task to translate")
    refuse_lacking(base.family, options.asked())
    condition_tokens(base, options.prompt or "")


def open_recordings(base: BaseModel, requests: Iterable[Request]) -> Iterator[Recording]:
    """Yield a recording for every request, opened when it is asked for.

    Args:
        base: the base model.
        requests: in any number.

    Raises:
        InvalidInputError: something that is no recording.
    """
    detectors = None
    for index, request in enumerate(requests):
        if request.options.skip_silence:
            detectors = detectors or Detectors()
        yield open_recording(base, request, index, detectors)


def open_recording(
    base: BaseModel, request: Request, index: int = 0, detectors: Detectors | None = None
) -> Recording:
    """Open a recording; what the adapter takes at once is transcribed uncut, as in evaluation.

    Timestamps, and routing by language, need cuts at pauses.

    Args:
        base: the base model.
        request: what to open.
        index: its number among all.
        detectors: of speech, where there are some already.

    Raises:
        InvalidInputError: something that is no recording.
        MissingExtraError: `skip_silence` without the extra `vad`.
    """
    item, router, options = request.audio, request.router, request.options
    check_input(item)
    source = str(item) if isinstance(item, str | os.PathLike) else f"audio {index + 1}"
    prompt = condition_tokens(base, options.prompt or "")
    recording = Recording(index, source, request.tag, iter(()), base.chunk_seconds, router, options, prompt)
    blocks = _counted(recording, _blocks(item, request.sample_rate, recording))
    if options.skip_silence:
        recording.phrases = (detectors or Detectors()).speech(blocks, base.chunk_seconds)
        return recording
    usual = _usual(base, router, options)
    whole = not options.timestamps and not router.identifies(request.tag)
    recording.phrases = phrases(blocks, base.chunk_seconds, usual, whole=usual if whole else 0.0)
    return recording


def _usual(base: BaseModel, router: Router, options: TranscriptionOptions) -> float:
    """Return the seconds above which phrases are cut at short pauses, too."""
    if options.window_seconds is not None:
        return options.window_seconds
    if isinstance(router, LanguageRouter):
        return SWITCHING if router.candidates else base.chunk_seconds
    return longest_window(router.adapter, base.chunk_seconds)


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
