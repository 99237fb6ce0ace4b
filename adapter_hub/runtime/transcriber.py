"""Audio in, text out: `adapter_hub.load(ref)` gives a `Transcriber`.

    transcriber = load("mini/da")
    transcriber.transcribe("clip.flac")[0].text
    transcriber.transcribe(["a.wav", "b.wav"], beams=1, timestamps=True)

`load("auto")` lets the base model identify the language and picks the adapter per audio;
`load("base-model", language="pl")` uses none. Thread safe: a call has a session of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from adapter_hub.errors import AdapterHubError, InvalidInputError
from adapter_hub.runtime.base_model import BaseModel
from adapter_hub.runtime.composition import Session
from adapter_hub.runtime.decoding import DecodingOptions, decode
from adapter_hub.runtime.loading import ResidentAdapter
from adapter_hub.runtime.routing import FixedRoute, LanguageRouter
from adapter_hub.runtime.transcript import Segment, Transcript
from adapter_hub.speech.audio import SAMPLE_RATE, Audio, audio_from_samples, check_seconds, read_audio
from adapter_hub.speech.features import log_mel

AudioInput = str | Path | Audio | NDArray[np.floating]
WINDOW = 32  # batches that are read ahead and sorted by length together
# called after every batch with the number of audios done and their seconds
Progress = Callable[[int, float], None]


@dataclass(frozen=True, eq=False)
class Transcriber:
    """A base model with the adapters to use.

    Attributes:
        base: the loaded base model.
        router: decides what every audio is transcribed with.
    """

    base: BaseModel
    router: FixedRoute | LanguageRouter

    @property
    def adapter(self) -> ResidentAdapter | None:
        """The one adapter, or None for the base model alone and for routing."""
        return self.router.adapter if isinstance(self.router, FixedRoute) else None

    def transcribe(
        self,
        audio: AudioInput | Sequence[AudioInput],
        *,
        beams: int = 5,
        timestamps: bool = False,
        languages: Sequence[str | None] | None = None,
        batch_size: int = 8,
        progress: Progress | None = None,
    ) -> list[Transcript]:
        """Transcribe one audio or many; batches are formed by length, results are in the order given.

        Args:
            audio: paths, `Audio`, or float arrays `[n]` of 16 000 samples a second.
            beams: 1 is greedy.
            timestamps: find segments with start and end.
            languages: BCP 47 tag of each audio, where known; by default what the transcriber was loaded for.
            batch_size: audios decoded together.
            progress: told after every batch how many audios and seconds were done.

        Returns:
            One transcript per audio; one that could not be read has `error` set and the others go on.

        Raises:
            InvalidInputError: options that fit no audio: beams, batch size, an unknown language.
        """
        items = [audio] if isinstance(audio, str | Path | Audio | np.ndarray) else list(audio)
        tags = list(languages) if languages is not None else [None] * len(items)
        if len(tags) != len(items):
            raise InvalidInputError(f"{len(tags)} languages for {len(items)} audios; expected one each")
        if batch_size < 1:
            raise InvalidInputError(f"batch size {batch_size}: expected 1 or more")
        options = DecodingOptions(beams=beams, timestamps=timestamps)
        session = Session(self.base)
        out: list[Transcript] = []
        numbered = iter(list(enumerate(zip(items, tags, strict=True), 1)))
        while window := list(islice(numbered, WINDOW * batch_size)):
            rows = [_Row(place, item, tag) for place, (item, tag) in window]
            for row in rows:
                row.read(self.base.chunk_seconds)
            for batch in _batches([row for row in rows if row.audio is not None], batch_size):
                self._transcribe_batch(session, batch, options)
                if progress:
                    progress(len(batch), sum(row.seconds for row in batch))
            if progress and (failed := sum(row.result.error is not None for row in rows)):
                progress(failed, 0.0)
            out += [row.result for row in rows]
        return out

    def _transcribe_batch(self, session: Session, batch: Sequence[_Row], options: DecodingOptions) -> None:
        audios = [row.audio for row in batch if row.audio is not None]
        features = torch.from_numpy(log_mel(self.base.processor.feature_extractor, audios))
        routes = self.router.routes(features, [row.tag for row in batch])
        decoded = decode(
            session,
            features,
            rows=[route.adapter for route in routes],
            languages=[route.decode_language for route in routes],
            options=options,
        )
        for row, route, result in zip(batch, routes, decoded, strict=True):
            row.result = Transcript(
                source=row.source,
                seconds=row.seconds,
                text=result.text,
                language=route.language,
                language_probability=route.probability,
                adapter=route.adapter.name if route.adapter else "base-model",
                tokens=result.tokens,
                segments=tuple(_inside(segment, row.seconds) for segment in result.segments),
            )
            row.audio = None  # its samples are no longer needed


class _Row:
    """An audio on its way: where it came from, its samples, its result."""

    def __init__(self, place: int, item: AudioInput, tag: str | None) -> None:
        self.item, self.tag = item, tag
        self.source = str(item) if isinstance(item, str | Path) else f"audio {place}"
        self.audio: Audio | None = None
        self.seconds = 0.0
        self.result = Transcript(self.source)

    def read(self, maximum: float) -> None:
        """Read the samples, or keep what is wrong with them as the result."""
        try:
            audio = _audio(self.item, self.source)
            check_seconds(audio.seconds, maximum, self.source)
        except (AdapterHubError, OSError) as error:
            self.result = Transcript(self.source, error=" ".join(str(error).split()))
        else:
            self.audio, self.seconds = audio, audio.seconds


def _inside(segment: Segment, seconds: float) -> Segment:
    """Return a segment that ends with the audio; the padding behind it can be stamped too."""
    return Segment(min(segment.start, seconds), min(segment.end, seconds), segment.text)


def _audio(item: AudioInput, source: str) -> Audio:
    if isinstance(item, Audio):
        return item
    if isinstance(item, str | Path):
        return read_audio(Path(item))
    if isinstance(item, np.ndarray):
        return audio_from_samples(item, SAMPLE_RATE, where=source)
    raise InvalidInputError(f"{source}: {type(item).__name__}; expected a path, an array of floats or Audio")


def _batches(rows: Sequence[_Row], size: int) -> Iterator[Sequence[_Row]]:
    """Yield batches of like lengths, since a batch is as slow as its longest transcript."""
    rows = sorted(rows, key=lambda row: row.seconds)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
