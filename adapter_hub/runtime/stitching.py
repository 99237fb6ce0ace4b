"""From a window's text to segments on the time axis of its recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from adapter_hub.runtime.base_model import BaseModel
from adapter_hub.runtime.decoding import Decoded
from adapter_hub.runtime.token_rules import first_timestamp
from adapter_hub.runtime.transcript import Segment
from adapter_hub.runtime.transcription_options import LOG_PROBABILITY, TranscriptionOptions
from adapter_hub.runtime.windows import Window
from adapter_hub.speech.audio import SAMPLE_RATE
from adapter_hub.speech.phrases import sounding

FRAME_SECONDS = 0.01  # of the features, in which `seek` counts


def segments_of(
    window: Window, decoded: Decoded, timestamps: bool, options: TranscriptionOptions
) -> list[Segment]:
    """Return the segments of a window; none where it holds no speech.

    Args:
        window: what was heard.
        decoded: its text.
        timestamps: the text is cut by timestamp tokens; otherwise it is one segment.
        options: what counts as no speech.
    """
    if not decoded.text or is_silence(decoded, options):
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
                start=min(window.start + item.start, end),  # the padding behind it can be stamped too
                end=min(window.start + item.end, end),
                text=item.text,
                tokens=item.tokens,
            )
            for item in decoded.segments
        ]
    first, last = sounding(window.samples)
    return [replace(about, start=window.start + first / SAMPLE_RATE, end=window.start + last / SAMPLE_RATE)]


def is_silence(decoded: Decoded, options: TranscriptionOptions) -> bool:
    """Tell whether there is no speech: silence is likely and the text is not, as Whisper decides it."""
    return (
        options.no_speech is not None
        and decoded.no_speech > options.no_speech
        and decoded.log_probability < LOG_PROBABILITY
    )


def text_tokens(base: BaseModel, tokens: Sequence[int]) -> list[int]:
    """Return the tokens that are text, without timestamps."""
    stamp = first_timestamp(base)
    return [token for token in tokens if token < stamp]
