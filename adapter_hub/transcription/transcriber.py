"""Audio in, text out: `adapter_hub.load(ref)` gives a `Transcriber`.

    transcriber = load("mini/da")
    transcriber.transcribe("clip.flac")[0].text
    transcriber.transcribe(["a.wav", "b.wav"], beams=1, words=True)
    load("auto").transcribe(["a.wav", "b.wav"], adapters=["me/mdw", "me/swc"])     # one for each
    for transcript in transcriber.transcribe_each(many_paths):      # read as they are needed
    for segment in transcriber.stream("three_hours.flac"):          # as soon as they are known

`load("auto")` lets the base model identify the language and picks the adapter for each stretch of speech;
`load("base-model", language="pl")` uses no adapter. Recordings of any length are cut at their pauses and
transcribed in windows. Thread safe: each call has a session of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from functools import cached_property
from typing import Unpack, cast

from adapter_hub.errors import InvalidInputError
from adapter_hub.escaping import shown
from adapter_hub.formats.reference import BASE_MODEL
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.loading import ResidentAdapter
from adapter_hub.model.session_pool import SessionPool
from adapter_hub.reporting import Tell
from adapter_hub.speech.inputs import AudioInput, check_input, is_input
from adapter_hub.speech.languages import language_tag
from adapter_hub.transcription.options import OptionWords, TranscriptionOptions
from adapter_hub.transcription.pipeline import Pipeline
from adapter_hub.transcription.recordings import Request, check_options, open_recordings
from adapter_hub.transcription.routing import FixedRoute, LanguageRouter, Router
from adapter_hub.transcription.transcript import Segment, Transcript

# called after every batch with the number of recordings that it finished and the seconds of audio in it
BatchProgress = Callable[[int, float], None]


def warn(line: str) -> None:
    """Warn as Python does; text from others is escaped."""
    warnings.warn(shown(line, 4000), stacklevel=2)


@dataclass(frozen=True, eq=False)
class Transcriber:
    """A base model with the adapters to use.

    Attributes:
        base: the loaded base model.
        router: chooses the adapter and the language for each stretch of speech.
        tell: called with warnings while transcribing.
    """

    base: BaseModel
    router: FixedRoute | LanguageRouter
    tell: Tell = warn

    @property
    def adapter(self) -> ResidentAdapter | None:
        """The one adapter; None for the base model alone and for routing by language."""
        return self.router.adapter if isinstance(self.router, FixedRoute) else None

    @cached_property
    def _session_pool(self) -> SessionPool:
        return SessionPool(self.base)

    def transcribe(
        self,
        audio: AudioInput | Iterable[AudioInput],
        *,
        languages: Sequence[str | None] | None = None,
        adapters: Sequence[str | None] | None = None,
        sample_rate: int | None = None,
        progress: BatchProgress | None = None,
        **options: Unpack[OptionWords],
    ) -> list[Transcript]:
        """Transcribe one recording or many, in batches of windows of similar length.

        Args:
            audio: a recording, or several: paths, bytes, file objects, arrays `[n]` or `[n, channels]`,
                tensors `[n]` or `[channels, n]`, (samples, rate), `{"array": …, "sampling_rate": …}`,
                `Audio`; floats from -1 to 1, or whole numbers in the range of their type. An iterator is read
                as its items are needed.
            languages: BCP 47 tag of each recording, None where it is not known; by default what the
                transcriber was loaded for.
            adapters: with `auto`, the adapter of each recording, `base-model` for none, None to choose by
                language; by default all are chosen. Recordings share batches, whatever their adapters.
            sample_rate: of arrays that bring none, in samples per second; None is 16 000.
            progress: called after every batch with the number of recordings that it finished and the seconds
                of audio in it.
            options: by name, as in `TranscriptionOptions`: beams, timestamps, words, batch_size, …

        Returns:
            One transcript per recording, in the order given; of several, one that could not be read has
            `error` set, and the others go on.

        Raises:
            InvalidInputError: the only recording cannot be read; something is no recording; options that no
                recording can be transcribed with, or an unknown language.
            MissingExtraError: `skip_silence` without the extra `vad`.
            OutOfMemoryError: a single window is too much.
        """
        found = self.transcribe_each(
            audio,
            languages=languages,
            adapters=adapters,
            sample_rate=sample_rate,
            progress=progress,
            **options,
        )
        return list(found)

    def transcribe_each(
        self,
        audio: AudioInput | Iterable[AudioInput],
        *,
        languages: Sequence[str | None] | None = None,
        adapters: Sequence[str | None] | None = None,
        sample_rate: int | None = None,
        progress: BatchProgress | None = None,
        **options: Unpack[OptionWords],
    ) -> Iterator[Transcript]:
        """Yield what `transcribe` returns, each as soon as it and those before it are known.

        Memory depends on the batch size, not on the number or the length of the recordings.

        Args:
            audio: as in `transcribe`.
            languages: as in `transcribe`.
            adapters: as in `transcribe`.
            sample_rate: as in `transcribe`.
            progress: as in `transcribe`.
            options: as in `transcribe`.

        Raises:
            InvalidInputError: as `transcribe`, when the first transcript is asked for.
        """
        chosen = self._chosen(options)
        alone = is_input(audio)
        asked = self._requests(audio, languages, adapters)
        recordings = open_recordings(
            self.base,
            (Request(item, router, chosen, tag, sample_rate) for item, tag, router in asked),
        )
        waiting: dict[int, Transcript] = {}
        index = 0
        for result in Pipeline(self._session_pool, self.router, chosen, self.tell).run(recordings):
            for recording in result.finished:
                transcript = waiting[recording.index] = recording.transcript()
                if alone and transcript.error is not None and not transcript.segments:
                    raise InvalidInputError(transcript.error)
                if recording.truncated is not None:
                    self.tell(recording.truncated)
            if progress:
                progress(len(result.finished), result.seconds)
            while index in waiting:
                yield waiting.pop(index)
                index += 1

    def stream(
        self,
        audio: AudioInput,
        *,
        language: str | None = None,
        adapter: str | None = None,
        sample_rate: int | None = None,
        **options: Unpack[OptionWords],
    ) -> Iterator[Segment]:
        """Yield the segments of one recording as they are finished, in order.

        Args:
            audio: as in `transcribe`.
            language: BCP 47 tag, where known.
            adapter: with `auto`, the one to use; by default it is chosen by language.
            sample_rate: as in `transcribe`.
            options: as in `transcribe`; with a `batch_size` of 1 a segment comes as early as it can.

        Raises:
            InvalidInputError: the recording cannot be read, or not to its end; or as `transcribe`.
        """
        chosen = self._chosen(options)
        tag = language and language_tag(language)
        request = Request(audio, self._router_of(adapter), chosen, tag, sample_rate)
        recordings = open_recordings(self.base, [request])
        pipeline = Pipeline(self._session_pool, self.router, chosen, self.tell, low_latency=True)
        for result in pipeline.run(recordings):
            for _, segment in result.segments:
                yield segment
            for recording in result.finished:
                if recording.error is not None:
                    raise InvalidInputError(recording.error)
                if recording.truncated is not None:
                    self.tell(recording.truncated)

    def _chosen(self, options: OptionWords) -> TranscriptionOptions:
        """Return the options, after refusing what cannot be, and what the base model's family lacks."""
        known = [field.name for field in fields(TranscriptionOptions)]
        if unknown := [name for name in options if name not in known]:
            near = get_close_matches(unknown[0], known, 1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
            raise InvalidInputError(f"no option {unknown[0]!r}; {hint}")
        chosen = TranscriptionOptions(**options)
        check_options(self.base, chosen)
        return chosen

    def _requests(
        self,
        audio: AudioInput | Iterable[AudioInput],
        languages: Sequence[str | None] | None,
        adapters: Sequence[str | None] | None,
    ) -> Iterator[tuple[AudioInput, str | None, Router]]:
        """Pair every recording with its language and its adapter."""
        items = cast("Iterable[AudioInput]", [audio] if is_input(audio) else audio)
        if not isinstance(items, Iterable):
            check_input(items)
        if languages is None and adapters is None:
            return ((item, None, self.router) for item in items)
        items = list(items)
        for name, given in (("languages", languages), ("adapters", adapters)):
            if given is not None and (isinstance(given, str) or len(given) != len(items)):
                count = "a text as" if isinstance(given, str) else len(given)
                raise InvalidInputError(f"{count} {name} for {len(items)} recordings; expected one each")
        tags = [tag and language_tag(tag) for tag in languages or [None] * len(items)]
        routers = {ref: self._router_of(ref) for ref in adapters or ()}
        chosen = [routers[ref] for ref in adapters or ()] or [self.router] * len(items)
        return zip(items, tags, chosen, strict=True)

    def _router_of(self, ref: str | None) -> Router:
        """Return the router of a recording; an adapter that is named is loaded now."""
        if ref is None:
            return self.router
        if isinstance(self.router, FixedRoute):
            raise InvalidInputError(
                f"adapter {ref} for one recording: this transcriber is for {self.router.name} alone; "
                "use load('auto', adapters=[…])"
            )
        if ref == BASE_MODEL:
            return replace(self.router, candidates={}, fallback=None)
        return FixedRoute(self.base, self.router.load(ref))
