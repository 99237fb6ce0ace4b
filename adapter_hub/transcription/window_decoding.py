"""Windows in, segments out, by the family of the base model: a Whisper or a Parakeet CTC.

    decoder = DECODERS[base.family](base)
    for window, found in zip(windows, decoder.decode(session, windows)):     # windows of one kind
        found.segments, found.error, found.resume

A Whisper may be given the language, the text before and timestamps, and finds the times of words in its
attention (`adapter_hub.decoding.alignment`). A Parakeet CTC is given none of these: its frames are the times.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from adapter_hub.base_model.families import FAMILIES, PARAKEET, WHISPER
from adapter_hub.decoding.alignment import align, alignment_heads
from adapter_hub.decoding.ctc import decode_ctc, parakeet_features
from adapter_hub.decoding.decode import DecodingResult, TextSpan, decode, prompt_tokens, without_padding
from adapter_hub.decoding.language import encode, language_probabilities
from adapter_hub.decoding.options import DecodingOptions, Task
from adapter_hub.errors import InvalidInputError
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.session import Session
from adapter_hub.speech.audio import SAMPLE_RATE, Audio
from adapter_hub.speech.features import log_mel
from adapter_hub.speech.phrases import Samples
from adapter_hub.transcription.cue_times import corrected
from adapter_hub.transcription.options import TranscriptionOptions
from adapter_hub.transcription.stitching import resume_at, segments_of, text_tokens, words_of
from adapter_hub.transcription.transcript import Segment, Word
from adapter_hub.transcription.windows import MOST_RANDOM, Window

PAUSE = 0.5  # seconds between two words after which another segment begins
SENTENCE_ENDS = (".", "?", "!", "…", "。", "？", "！")


@dataclass(frozen=True)
class DecodedWindow:
    """What was found in a window.

    Attributes:
        segments: on the time axis of the recording.
        tokens: of the text, timestamps included.
        text_tokens: without them, a condition for the next window.
        doubtful: whether the text looks wrong, or was sampled too randomly, to be a condition for the next.
        resume: seconds of the window from which it has to be decoded again; None if it is complete.
        error: why there is no text, or no times of words.
    """

    segments: Sequence[Segment]
    tokens: Sequence[int] = ()
    text_tokens: Sequence[int] = ()
    doubtful: bool = False
    resume: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class Identified:
    """What identifying languages has computed, row by row.

    Attributes:
        features: `[rows, mels, frames]` float32.
        encoder_output: of the base model, `[rows, time, width]`.
        probabilities: of the base model's languages, `[rows, languages]` float32.
    """

    features: Tensor
    encoder_output: Tensor
    probabilities: Tensor


class WindowDecoder(Protocol):
    """Decodes windows with a base model of one family."""

    def warnings(self, options: TranscriptionOptions) -> Iterator[str]:
        """Yield what the user should know before anything is decoded.

        Args:
            options: how to transcribe.
        """
        ...

    def identify(self, samples: Sequence[Samples]) -> Identified:
        """Return the probabilities of languages.

        Args:
            samples: of phrases.

        Raises:
            InvalidInputError: the base model cannot tell languages apart.
        """
        ...

    def kind(self, window: Window) -> Hashable:
        """Return what all windows of a batch have in common."""
        ...

    def decode(self, session: Session, windows: Sequence[Window]) -> list[DecodedWindow]:
        """Decode windows of one kind together, each with its own adapter and the options of its recording.

        Args:
            session: of the base model.
            windows: one or more.
        """
        ...


@dataclass(frozen=True)
class WhisperWindows:
    """Decodes windows with a Whisper.

    Attributes:
        base: the base model.
    """

    base: BaseModel

    def warnings(self, options: TranscriptionOptions) -> Iterator[str]:
        """Yield that word times are less exact where the base model names no alignment heads."""
        if options.words and not alignment_heads(self.base)[1]:
            yield (
                f"{self.base.id} names no alignment heads: word times come from all heads of the later half "
                "of its layers, and are less exact"
            )

    def identify(self, samples: Sequence[Samples]) -> Identified:
        """Return the probabilities of languages, with what decoding can use again."""
        features = self._features(samples)
        encoder_output = encode(self.base, features)
        probabilities = language_probabilities(self.base, encoder_output=encoder_output)
        return Identified(features, encoder_output, probabilities)

    def kind(self, window: Window) -> tuple[DecodingOptions, bool]:
        """Return how a window is decoded, and whether text conditions it: without, a text has more room."""
        options = window.recording.options
        task: Task = options.task or window.route.task
        conditioned = options.previous_text or bool(window.recording.condition_of(window))
        return options.decoding(timestamps=_with_timestamps(window), task=task), conditioned

    def decode(self, session: Session, windows: Sequence[Window]) -> list[DecodedWindow]:
        """Decode windows of one kind together; one whose last segment is cut off is to be resumed."""
        options, _ = self.kind(windows[0])
        known = any(phrase.encoder_output is not None for window in windows for phrase in window.phrases[:1])
        stamped = options.timestamps and alignment_heads(self.base)[1]
        aligned = [i for i, window in enumerate(windows) if stamped or window.recording.options.words]
        # where nothing is encoded yet, `decode` sets the adapters once for encoder and decoder
        encoder_output = self._encoder_output(session, windows) if known or aligned else None
        previous = [window.recording.condition_of(window) for window in windows]
        decoded = decode(
            session,
            self._features_of(windows) if encoder_output is None else encoder_output,
            rows=[window.route.adapter for window in windows],
            languages=[window.route.decode_language for window in windows],
            options=options,
            previous=previous if any(previous) else None,
            encoder_output=encoder_output,
        )
        if options.timestamps:
            decoded = [
                without_padding(self.base, text, window.seconds)
                for window, text in zip(windows, decoded, strict=True)
            ]
        found = [
            [] if text.overflowed else segments_of(window, text, options.timestamps)
            for window, text in zip(windows, decoded, strict=True)
        ]
        words: list[Sequence[Sequence[Word]] | None] = [None] * len(windows)
        if encoder_output is not None and aligned:
            rows = encoder_output if len(aligned) == len(windows) else encoder_output[aligned]
            times = self._words(session, [windows[i] for i in aligned], rows, [found[i] for i in aligned])
            for i, own in zip(aligned, times, strict=True):
                words[i] = own
        return [self._decoded(*row) for row in zip(windows, decoded, found, words, strict=True)]

    def _decoded(
        self,
        window: Window,
        text: DecodingResult,
        segments: Sequence[Segment],
        words: Sequence[Sequence[Word]] | None,
    ) -> DecodedWindow:
        """Return what was found in a window, its segments placed by their words and by where it sounds."""
        asked, error = window.recording.options.words, None
        if text.overflowed or (asked and words is None):
            error = overflow(self.base, window.route.name, window.start)
        stamped = window.recording.options.timestamps and not text.overflowed
        resume = resume_at(self.base, text.tokens, window.seconds) if stamped else None
        if asked and words is not None:
            segments = [replace(item, words=tuple(own)) for item, own in zip(segments, words, strict=True)]
        trusted = stamped and alignment_heads(self.base)[1]
        return DecodedWindow(
            corrected(window, segments, words if trusted else None, resume),
            text.tokens,
            text_tokens(self.base, text.tokens),
            text.doubtful or text.temperature > MOST_RANDOM,
            resume,
            error,
        )

    def _words(
        self,
        session: Session,
        windows: Sequence[Window],
        encoder_output: Tensor,
        found: Sequence[Sequence[Segment]],
    ) -> list[list[tuple[Word, ...]] | None]:
        """Return the words of every segment of every window; None where the attention is not finite."""
        texts = [
            text_tokens(self.base, [token for segment in segments for token in segment.tokens])
            for segments in found
        ]
        plain = DecodingOptions()
        times = align(
            session,
            encoder_output,
            rows=[window.route.adapter for window in windows],
            prompts=[prompt_tokens(self.base, window.route.decode_language, plain) for window in windows],
            tokens=texts,
            seconds=[window.seconds for window in windows],
        )
        return [
            None if any(math.isnan(start) for start, _ in row) else words_of(self.base, window, segments, row)
            for window, segments, row in zip(windows, found, times, strict=True)
        ]

    def _features(self, samples: Sequence[Samples]) -> Tensor:
        recordings = [Audio(item, SAMPLE_RATE, "") for item in samples]
        return torch.from_numpy(log_mel(self.base.processor.feature_extractor, recordings))

    def _encoder_output(self, session: Session, windows: Sequence[Window]) -> Tensor:
        """Return the encoder's output for every window, `[windows, time, width]`, with their adapters."""
        known = [window.phrases[0].encoder_output if len(window.phrases) == 1 else None for window in windows]
        new = [i for i, rows in enumerate(known) if rows is None]
        if new:
            session.set_adapters([windows[i].route.adapter for i in new])
            features = self._features_of([windows[i] for i in new])
            with torch.inference_mode():
                encoder = session.model.get_encoder()
                made = encoder(features.to(self.base.device, self.base.dtype)).last_hidden_state
            if len(new) == len(windows):
                return made
            for place, i in enumerate(new):
                known[i] = made[place]
        return torch.stack([rows for rows in known if rows is not None])

    def _features_of(self, windows: Sequence[Window]) -> Tensor:
        known = [window.phrases[0].features if len(window.phrases) == 1 else None for window in windows]
        new = [i for i, rows in enumerate(known) if rows is None]
        if new:
            made = self._features([windows[i].samples for i in new])
            for place, i in enumerate(new):
                known[i] = made[place]
        return torch.stack([rows for rows in known if rows is not None])


@dataclass(frozen=True)
class CtcWindows:
    """Decodes windows with a Parakeet CTC.

    Attributes:
        base: the base model.
    """

    base: BaseModel

    def warnings(self, options: TranscriptionOptions) -> Iterator[str]:
        """Yield nothing."""
        yield from ()

    def identify(self, samples: Sequence[Samples]) -> Identified:
        """Refuse: there is no language token whose probability could be asked for."""
        raise InvalidInputError(
            f"{self.base.id}: a {FAMILIES[self.base.family].title} cannot tell languages apart; name the "
            "language, or one adapter"
        )

    def kind(self, window: Window) -> None:
        """Return nothing: any windows can be decoded together."""

    def decode(self, session: Session, windows: Sequence[Window]) -> list[DecodedWindow]:
        """Decode windows together, greedily."""
        clips = [Audio(window.samples, SAMPLE_RATE, "") for window in windows]
        rows = [window.route.adapter for window in windows]
        decoded = decode_ctc(session, *parakeet_features(self.base, clips), rows=rows)
        return [self._decoded(*row) for row in zip(windows, decoded, strict=True)]

    def _decoded(self, window: Window, text: DecodingResult) -> DecodedWindow:
        if text.overflowed:
            return DecodedWindow((), error=overflow(self.base, window.route.name, window.start))
        options = window.recording.options
        cut = bool(options.timestamps)
        groups = sentences(text.segments) if cut else [list(text.segments)]
        whole = replace(text, segments=tuple(_joined(self.base, words) for words in groups if words))
        segments = segments_of(window, whole, cut)
        if options.words:
            segments = [
                replace(segment, words=tuple(_word(window, word) for word in words))
                for segment, words in zip(segments, groups, strict=True)
            ]
        return DecodedWindow(segments, text.tokens)


def sentences(words: Sequence[TextSpan]) -> list[list[TextSpan]]:
    """Return words in groups: another one begins after a pause, and after the end of a sentence.

    >>> [
    ...     len(group)
    ...     for group in sentences(
    ...         [
    ...             TextSpan(0.0, 0.4, "yes."),
    ...             TextSpan(0.5, 0.8, "and"),
    ...             TextSpan(0.8, 1.0, "so"),
    ...             TextSpan(1.6, 2.0, "on"),
    ...         ]
    ...     )
    ... ]
    [1, 2, 1]

    Args:
        words: in order, with their times.
    """
    groups: list[list[TextSpan]] = []
    for word in words:
        last = groups[-1][-1] if groups else None
        if last is None or word.start - last.end >= PAUSE or last.text.endswith(SENTENCE_ENDS):
            groups.append([])
        groups[-1].append(word)
    return groups


def _with_timestamps(window: Window) -> bool:
    asked = window.recording.options.timestamps
    if asked != "trained":
        return asked
    adapter = window.route.adapter
    return adapter is None or (adapter.manifest is not None and adapter.manifest.timestamps)


def _joined(base: BaseModel, words: Sequence[TextSpan]) -> TextSpan:
    """Return words as one span, with the text that the tokenizer makes of all their tokens."""
    tokens = tuple(token for word in words for token in word.tokens)
    return TextSpan(words[0].start, words[-1].end, base.text_of(tokens).strip(), tokens)


def _word(window: Window, word: TextSpan) -> Word:
    """Return a word on the time axis of the recording; its last frame may reach beyond the window."""
    end = window.start + window.seconds
    return Word(min(window.start + word.start, end), min(window.start + word.end, end), word.text)


def overflow(base: BaseModel, name: str, start: float = 0.0) -> str:
    """Return the error of an adapter or base model whose scores overflow its dtype.

    Args:
        base: the base model.
        name: of the adapter, or of the base model alone.
        start: seconds of the recording.
    """
    kind = str(base.dtype).removeprefix("torch.")
    more = "use another adapter" if kind == "float32" else "use --dtype float32, or another adapter"
    return f"{name} overflows in {kind} at {start:.1f} s: its scores are not finite; {more}"


DECODERS: Mapping[str, type[WhisperWindows] | type[CtcWindows]] = {
    WHISPER: WhisperWindows,
    PARAKEET: CtcWindows,
}
