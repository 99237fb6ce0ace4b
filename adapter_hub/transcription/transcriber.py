"""Audio in, text out: `adapter_hub.load(ref)` gives a `Transcriber`.

    transcriber = load("mini/da")
    transcriber.transcribe("clip.flac")[0].text
    transcriber.transcribe(["a.wav", "b.wav"], beams=1, words=True)
    for transcript in transcriber.transcribe_each(many_paths):      # read as they are needed
    for segment in transcriber.stream("three_hours.flac"):          # as soon as they are known

`load("auto")` lets the base model identify the language and picks the adapter for every stretch of speech;
`load("base-model", language="pl")` uses none. Audio of any length is cut at its pauses and transcribed in
windows. Thread safe: a call has a session to itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Unpack

import numpy as np

from adapter_hub.errors import InvalidInputError
from adapter_hub.escaping import shown
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.loading import ResidentAdapter
from adapter_hub.model.session_pool import SessionPool
from adapter_hub.reporting import Tell
from adapter_hub.speech.audio import Audio
from adapter_hub.transcription.options import OptionWords, TranscriptionOptions
from adapter_hub.transcription.pipeline import Pipeline
from adapter_hub.transcription.recordings import AudioInput, open_recordings
from adapter_hub.transcription.routing import FixedRoute, LanguageRouter
from adapter_hub.transcription.transcript import Segment, Transcript
from adapter_hub.transcription.windows import Recording, longest_window

SWITCHING = 6.0  # seconds: what is longer may hold two languages
# called after every batch with the number of audios that it finished and the seconds that it took in
Progress = Callable[[int, float], None]


def warn(line: str) -> None:
    """Warn as Python does, of text that may hold what others wrote."""
    warnings.warn(shown(line, 4000), stacklevel=2)


@dataclass(frozen=True, eq=False)
class Transcriber:
    """A base model with the adapters to use.

    Attributes:
        base: the loaded base model.
        router: decides what every stretch of speech is transcribed with.
        tell: called with what the user should know while transcribing.
    """

    base: BaseModel
    router: FixedRoute | LanguageRouter
    tell: Tell = warn

    @property
    def adapter(self) -> ResidentAdapter | None:
        """The one adapter, or None for the base model alone and for routing."""
        return self.router.adapter if isinstance(self.router, FixedRoute) else None

    @cached_property
    def _sessions(self) -> SessionPool:
        return SessionPool(self.base)

    def transcribe(
        self,
        audio: AudioInput | Iterable[AudioInput],
        *,
        languages: Sequence[str | None] | None = None,
        progress: Progress | None = None,
        **options: Unpack[OptionWords],
    ) -> list[Transcript]:
        """Transcribe one audio or many; batches are formed by length, results are in the order given.

        Args:
            audio: paths, `Audio`, or float arrays `[n]` of 16 000 samples a second; an iterator is read
                as its audios are needed.
            languages: BCP 47 tag of each audio, where known; by default what the transcriber was loaded for.
            progress: told after every batch how many audios it finished and how many seconds it took in.
            options: by name, as in `TranscriptionOptions`: beams, timestamps, words, batch_size, …

        Returns:
            One transcript per audio; one that could not be read has `error` set and the others go on.

        Raises:
            InvalidInputError: options that fit no audio: beams, batch size, an unknown language.
            MissingExtraError: `skip_silence` without the extra `vad`.
            OutOfMemoryError: a single window is too much.
        """
        return list(self.transcribe_each(audio, languages=languages, progress=progress, **options))

    def transcribe_each(
        self,
        audio: AudioInput | Iterable[AudioInput],
        *,
        languages: Sequence[str | None] | None = None,
        progress: Progress | None = None,
        **options: Unpack[OptionWords],
    ) -> Iterator[Transcript]:
        """Yield what `transcribe` returns, each as soon as it and those before it are known.

        Memory depends on the batch size, not on the number of audios, nor on their length.

        Args: as `transcribe`.
        Raises: as `transcribe`, when the first transcript is asked for.
        """
        chosen = TranscriptionOptions(**options)
        chosen.check()
        inputs = _inputs(audio, languages)
        recordings = self._opened(inputs, chosen)
        waiting: dict[int, Transcript] = {}
        place = 0
        for news in Pipeline(self._sessions, self.router, chosen, self.tell).run(recordings):
            for recording in news.finished:
                waiting[recording.place] = recording.transcript()
            if progress:
                progress(len(news.finished), news.seconds)
            while place in waiting:
                yield waiting.pop(place)
                place += 1

    def stream(
        self, audio: AudioInput, *, language: str | None = None, **options: Unpack[OptionWords]
    ) -> Iterator[Segment]:
        """Yield the segments of one audio as they are finished, in order.

        Args:
            audio: as in `transcribe`.
            language: BCP 47 tag, where known.
            options: as in `transcribe`; with a `batch_size` of 1 a segment comes as early as it can.

        Raises:
            InvalidInputError: the audio cannot be read, or not any further; options that fit no audio.
        """
        chosen = TranscriptionOptions(**options)
        chosen.check()
        recordings = self._opened([(audio, language)], chosen)
        pipeline = Pipeline(self._sessions, self.router, chosen, self.tell, at_once=True)
        for news in pipeline.run(recordings):
            for _, segment in news.segments:
                yield segment
            for recording in news.finished:
                if recording.error is not None:
                    raise InvalidInputError(recording.error)

    def _opened(
        self, inputs: Iterable[tuple[AudioInput, str | None]], options: TranscriptionOptions
    ) -> Iterator[Recording]:
        """Open the inputs; what the adapter takes at once is heard whole, as evaluation hears it.

        But for segments with times, and a language for each stretch of speech: these need cuts at pauses.
        """
        plain = not options.timestamps and not options.skip_silence

        def whole(tag: str | None) -> bool:
            return plain and not self.router.identifies(tag)

        return open_recordings(inputs, options, self.base.chunk_seconds, self._usual(options), whole)

    def _usual(self, options: TranscriptionOptions) -> float:
        """Return from how many seconds on phrases are cut at short pauses, too."""
        if options.window_seconds is not None:
            return options.window_seconds
        if isinstance(self.router, LanguageRouter):
            return SWITCHING if self.router.candidates else self.base.chunk_seconds
        return longest_window(self.router.adapter, self.base.chunk_seconds)


def _inputs(
    audio: AudioInput | Iterable[AudioInput], languages: Sequence[str | None] | None
) -> Iterator[tuple[AudioInput, str | None]]:
    """Pair every audio with its language."""
    if isinstance(audio, str | Path | Audio | np.ndarray):
        audio = [audio]
    if languages is None:
        return ((item, None) for item in audio)
    items = list(audio)
    if len(items) != len(languages):
        raise InvalidInputError(f"{len(languages)} languages for {len(items)} audios; expected one each")
    return iter(list(zip(items, languages, strict=True)))
