"""What is computed on the way from phrases to segments, by one thread with a session of its own.

    stages = Stages(session_pool, size=8, tell=print)
    stages.begin()
    heard = stages.identify([(recording, phrase), …])       # where the router needs the languages
    routed = routes(recording, [phrase, …], heard)
    segments, rest = stages.decode(windows)                 # of one kind
    stages.end()

Who reads which recording when, and which windows make a batch, is for the caller to decide: `Pipeline`, and
the engine of `adapter_hub.serving`.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from adapter_hub.base_model.families import FAMILIES
from adapter_hub.errors import OutOfMemoryError
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.cuda_graphs import empty_cache
from adapter_hub.model.loading import ResidentAdapter
from adapter_hub.model.memory import FEWER_BEAMS, SMALLER_BATCHES, memory_guard
from adapter_hub.model.session import Session
from adapter_hub.model.session_pool import SessionPool
from adapter_hub.reporting import Tell
from adapter_hub.speech.phrases import Phrase
from adapter_hub.transcription.options import TranscriptionOptions
from adapter_hub.transcription.routing import Probabilities
from adapter_hub.transcription.transcript import Segment
from adapter_hub.transcription.window_decoding import DECODERS, WindowDecoder, overflow
from adapter_hub.transcription.windows import Recording, RoutedPhrase, Window


@dataclass
class Heard:
    """What was computed to identify the language of a phrase.

    Attributes:
        probabilities: of every language.
        features: `[mels, frames]` float32.
        encoder_output: of the base model, `[time, width]`; None where it was not kept.
    """

    probabilities: Probabilities
    features: Tensor | None
    encoder_output: Tensor | None


@dataclass
class Stages:
    """The stages that run the base model.

    Attributes:
        session_pool: of the base model.
        size: windows at once, at most; it shrinks when memory runs out.
        tell: called with what the user should know.
        between_steps: called before every decoder step; it may run other stages.
    """

    session_pool: SessionPool
    size: int
    tell: Tell
    between_steps: Callable[[], object] | None = None
    base: BaseModel = field(init=False)
    _decoder: WindowDecoder = field(init=False)
    _session: Session = field(init=False)

    def __post_init__(self) -> None:
        self.base = self.session_pool.base
        self._decoder = DECODERS[self.base.family](self.base)

    def begin(self) -> None:
        """Take a session."""
        self._session = self.session_pool.acquire()

    def end(self) -> None:
        """Give the session back; not after an error, as its state is unknown then."""
        self._session.between_steps = None
        self.session_pool.release(self._session)

    def renew(self) -> None:
        """Take a new session: the state of the old one is unknown."""
        self._session = self.session_pool.replace()

    def warnings(self, options: TranscriptionOptions) -> Iterator[str]:
        """Yield what the user should know before anything is decoded.

        Args:
            options: how to transcribe.
        """
        yield from self._decoder.warnings(options)

    def kind(self, window: Window) -> Hashable:
        """Return what all windows of a batch have in common."""
        return self._decoder.kind(window)

    def identify(self, phrases: Sequence[tuple[Recording, Phrase]]) -> list[Heard]:
        """Compute the probabilities of the languages of phrases, each for itself.

        Args:
            phrases: any number, with their recordings, which fail where scores overflow.

        Raises:
            OutOfMemoryError: a single one is too much.
        """
        heard: list[Heard] = []
        while len(heard) < len(phrases):
            some = phrases[len(heard) : len(heard) + self.size]
            try:
                with self._memory(some[0][0].options, len(some)):
                    heard += self._identified(some)
                continue
            except OutOfMemoryError:
                if len(some) == 1:
                    raise
            self._shrink(len(some))
        return heard

    def decode(self, windows: Sequence[Window]) -> tuple[list[tuple[Recording, Segment]], list[Window]]:
        """Decode windows together.

        Args:
            windows: of one kind, `size` at most.

        Returns:
            New segments with their recordings, and windows that are still to be decoded: the rest of one
            whose last segment is cut off; all of them, where memory has run out and `size` is smaller now.

        Raises:
            OutOfMemoryError: a single one is too much.
        """
        try:
            with self._memory(windows[0].recording.options, len(windows)):
                return self._decode(windows)
        except OutOfMemoryError:
            if len(windows) == 1:
                raise
        self._shrink(len(windows))
        return [], list(windows)

    def _identified(self, phrases: Sequence[tuple[Recording, Phrase]]) -> list[Heard]:
        found = self._decoder.identify([phrase.samples for _, phrase in phrases])
        heard = []
        for row, (recording, _) in enumerate(phrases):
            probabilities = found.probabilities[row]
            if not torch.isfinite(probabilities).all():
                recording.fail(overflow(self.base, self.base.id))
                probabilities[:] = 0.0
            values = dict(zip(self.base.decode_languages, probabilities.tolist(), strict=True))
            heard.append(Heard(values, found.features[row], found.encoder_output[row]))
        return heard

    def _decode(self, windows: Sequence[Window]) -> tuple[list[tuple[Recording, Segment]], list[Window]]:
        result: list[tuple[Recording, Segment]] = []
        rest = []
        self._session.between_steps = self.between_steps
        for window, found in zip(windows, self._decoder.decode(self._session, windows), strict=True):
            if found.error is not None:
                window.recording.fail(found.error)
            window.segments += found.segments
            if found.segments:
                window.tokens += found.tokens
                window.recording.remember(window, found.text_tokens, doubtful=found.doubtful)
            if found.resume is not None:
                rest.append(window.after(found.resume))
                continue
            result += [(window.recording, item) for item in window.recording.add_decoded(window)]
        return result, rest

    def _shrink(self, count: int) -> None:
        """Take half as many windows from now on."""
        gc.collect()  # what the traceback of the error held
        self.size = (count + 1) // 2
        self.renew()
        self.tell(
            f"out of memory with {count} windows at once; going on with {self.size} "
            f"(--batch-size {self.size} does so from the start)"
        )
        if self.base.device.type == "cuda":
            empty_cache()

    def _memory(self, options: TranscriptionOptions, windows: int) -> AbstractContextManager[None]:
        count = options.beams or FAMILIES[self.base.family].beams
        beams = f"{windows} windows with {count} beams on {self.base.device}"
        return memory_guard(beams, FEWER_BEAMS if windows == 1 else SMALLER_BATCHES)


def routes(
    recording: Recording, phrases: Sequence[Phrase], heard: Sequence[Heard] | None
) -> list[RoutedPhrase]:
    """Give phrases their routes; their languages are weighed together with what was heard before.

    Args:
        recording: that they are of.
        phrases: in order; how many come together decides how much of what follows a phrase is weighed.
        heard: of each; None where the router needs no languages.

    Raises:
        InvalidInputError: a language that cannot be decoded.
    """
    router, before = recording.router, recording.before
    if heard is None:
        routed = []
        for phrase in phrases:
            before = router.route(recording.tag, None, before)
            routed.append(RoutedPhrase(phrase, before))
        return routed
    told = [(phrase.seconds, item.probabilities) for phrase, item in zip(phrases, heard, strict=True)]
    pooled = recording.evidence.pool(told, router.choices)
    routed = []
    for phrase, item, probabilities in zip(phrases, heard, pooled, strict=True):
        before = router.route(recording.tag, probabilities, before)
        ours = None if adapts_encoder(before.adapter) else item.encoder_output
        routed.append(RoutedPhrase(phrase, before, item.features, ours))
    return routed


def adapts_encoder(adapter: ResidentAdapter | None) -> bool:
    """Tell whether an adapter changes the encoder's output."""
    return adapter is not None and any(".encoder." in path for path in adapter.layout)
