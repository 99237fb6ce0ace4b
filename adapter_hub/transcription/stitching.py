"""From a window's text to segments on the time axis of its recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from adapter_hub.decoding.alignment import word_spans
from adapter_hub.decoding.decode import TIMESTAMP_SECONDS, DecodingResult
from adapter_hub.decoding.token_rules import first_timestamp
from adapter_hub.model.base_model import BaseModel
from adapter_hub.speech.audio import SAMPLE_RATE
from adapter_hub.speech.phrases import Samples, audible_span, speech_level
from adapter_hub.transcription.options import LOG_PROBABILITY, TranscriptionOptions
from adapter_hub.transcription.transcript import Segment, Word
from adapter_hub.transcription.windows import Window

LEAST = 0.5  # seconds at the end of a window that are worth decoding again
LEAD = 0.1  # seconds of quiet that may belong to a word
FRAME_SECONDS = 0.01  # of the features, in which `seek` counts


def segments_of(window: Window, decoded: DecodingResult, timestamps: bool) -> list[Segment]:
    """Return the segments of a window; none where it holds no speech.

    Args:
        window: that was decoded.
        decoded: its text.
        timestamps: the text is cut by timestamp tokens; otherwise it is one segment.
    """
    if not decoded.text or is_silence(decoded, window.recording.options):
        return []
    route, end = window.route, window.start + window.seconds
    about = Segment(
        window.start,
        end,
        decoded.text,
        decoded.tokens,
        language=route.language,
        language_probability=window.probability,
        adapter=route.name,
        seek=round(window.start / FRAME_SECONDS),
        temperature=decoded.temperature,
        log_probability=decoded.log_probability,
        compression_ratio=decoded.compression_ratio,
        no_speech=decoded.no_speech,
    )
    if timestamps and decoded.segments:
        return [
            replace(
                about,
                start=window.start + item.start,
                end=min(window.start + item.end, end),  # the padding behind it can be stamped too
                text=item.text,
                tokens=item.tokens,
            )
            for item in decoded.segments
        ]
    first, last = audible_span(window.samples)
    return [replace(about, start=window.start + first / SAMPLE_RATE, end=window.start + last / SAMPLE_RATE)]


def resume_at(base: BaseModel, tokens: Sequence[int], seconds: float) -> float | None:
    """Return the time in a window from which it has to be decoded again; None if it is complete.

    A base model that finds the last segment cut off gives its start and none of its text: the tokens end with
    two timestamps, or are a single one (Whisper, arXiv:2212.04356, section 4.5).

    Args:
        base: whose tokens they are.
        tokens: of the window's text, with timestamps.
        seconds: of the window.
    """
    stamp = first_timestamp(base)
    if not tokens or tokens[-1] < stamp or (len(tokens) > 1 and tokens[-2] < stamp):
        return None
    start = (tokens[-1] - stamp) * TIMESTAMP_SECONDS
    return start if 0.0 < start <= seconds - LEAST else None


def words_of(
    base: BaseModel, window: Window, segments: Sequence[Segment], times: Sequence[tuple[float, float]]
) -> list[tuple[Word, ...]]:
    """Return the words of every segment.

    Args:
        base: whose tokens they are.
        window: that they belong to.
        segments: of the window.
        times: start and end of each of their text tokens, one after another, in seconds of the window.
    """
    out, first = [], 0
    samples = window.samples
    for segment in segments:
        tokens = text_tokens(base, segment.tokens)
        own = times[first : first + len(tokens)]
        first += len(tokens)
        words = (
            Word(window.start + start, window.start + end, word.text)
            for word in word_spans(base, tokens, own, segment.language)
            for start, end in [without_quiet(samples, word.start, word.end)]
        )
        out.append(tuple(words))
    return out


def without_quiet(samples: Samples, start: float, end: float) -> tuple[float, float]:
    """Return the times of a word without a pause at either end: attention weights do not show pauses.

    Args:
        samples: of the window, at 16 kHz.
        start: of the word, in seconds of the window.
        end: of the word.
    """
    first, last = round(start * SAMPLE_RATE), round(end * SAMPLE_RATE)
    begins, ends = audible_span(samples[first:last], level=speech_level(samples))
    lead, rest = begins / SAMPLE_RATE, (last - first - ends) / SAMPLE_RATE
    return start + lead * (lead > LEAD), end - rest * (rest > LEAD)


def is_silence(decoded: DecodingResult, options: TranscriptionOptions) -> bool:
    """Tell whether a window has no speech: silence is probable and the text is not, as Whisper decides it.

    Args:
        decoded: the window's result.
        options: with the threshold.
    """
    return (
        options.no_speech is not None
        and decoded.no_speech > options.no_speech
        and decoded.log_probability < LOG_PROBABILITY
    )


def text_tokens(base: BaseModel, tokens: Sequence[int]) -> list[int]:
    """Return the tokens that are text: neither timestamps nor other special tokens."""
    end = int(base.model.config.eos_token_id)
    return [token for token in tokens if token < end]
