"""Cues are where it sounds: none is empty, overlaps another, or begins more than half a second too early."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from small_whisper import speech

import adapter_hub
from adapter_hub.decoding.decode import DecodingResult, TextSpan, without_padding
from adapter_hub.decoding.token_rules import first_timestamp
from adapter_hub.model.base_model import BaseModel
from adapter_hub.speech.audio import find_audio, read_audio
from adapter_hub.speech.phrases import Phrase, sounding
from adapter_hub.transcription.cue_times import corrected
from adapter_hub.transcription.routing import FixedRoute
from adapter_hub.transcription.transcriber import Transcriber
from adapter_hub.transcription.transcript import Segment, Word
from adapter_hub.transcription.windows import Recording, RoutedPhrase, Window

RATE = 16_000
EARLY = 0.5  # seconds before speech


def background(kind: str, seconds: float, seed: int) -> np.ndarray:
    """Return what is heard where nobody speaks."""
    random = np.random.default_rng(seed)
    count = round(seconds * RATE)
    made = {
        "silence": np.zeros(count),
        "dither": random.integers(-1, 2, count) / 32768,
        "hiss": 0.003 * random.standard_normal(count),
        "hum": 0.004 * np.sin(2 * np.pi * 50 * np.arange(count) / RATE),
    }
    return made[kind].astype(np.float32)


def window_of(samples: np.ndarray, start: float = 0.0) -> Window:
    recording = Recording(0, "made", "pl", iter(()), 30.0, router=None)
    return Window(recording, 0, [RoutedPhrase(Phrase(round(start * RATE), samples), None)])


def told(start: float, end: float, text: str = "x") -> Segment:
    return Segment(start, end, text, (1,), language="pl")


def check(found: Sequence[Segment], seconds: float, spoken: Sequence[tuple[float, float]]) -> None:
    """Hold cues against when it was spoken: start and end of each stretch, in order."""
    for cue in found:
        assert 0.0 <= cue.start < cue.end <= seconds + 1e-6, cue
        begins = next((start for start, end in spoken if end > cue.start), None)
        assert begins is None or cue.start >= begins - EARLY, (cue, spoken)
    for one, other in pairwise(found):
        assert one.end <= other.start + 1e-6, (one, other)


@pytest.mark.parametrize("kind", ["silence", "dither", "hiss", "hum"])
@pytest.mark.parametrize("seed", range(6))
def test_whatever_a_model_says_cues_are_in_order_and_where_it_sounds(kind: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    samples = background(kind, 29.0, seed)
    spoken, at = [], float(random.uniform(0.0, 20.0))
    while at < 26.0:
        said = speech(float(random.uniform(0.6, 2.0)), seed)
        first = round(at * RATE)
        samples[first : first + len(said)] += said[: len(samples) - first]
        spoken.append((at, at + len(said) / RATE))
        at += len(said) / RATE + float(random.uniform(0.7, 4.0))
    for _ in range(20):
        times = np.sort(random.uniform(0.0, 29.0, 2 * int(random.integers(1, 6))))
        times = np.repeat(times, random.integers(1, 3))  # some have no length
        segments = [told(*pair) for pair in times[: len(times) // 2 * 2].reshape(-1, 2).tolist()]
        found = corrected(window_of(samples), segments)
        assert "".join(cue.text for cue in found).replace(" ", "") == "x" * len(segments)
        check(found, 29.0, spoken)


def test_a_cue_begins_with_its_first_word_where_noise_hides_the_silence() -> None:
    random = np.random.default_rng(0)
    samples = (0.1 * random.standard_normal(30 * RATE)).astype(np.float32)
    words = [(Word(2.0, 21.0, "one"), Word(21.0, 21.4, "two")), (Word(22.0, 22.5, "three"),)]
    found = corrected(window_of(samples, 100.0), [told(102.6, 110.0), told(110.0, 123.0)], _later(words))
    assert [(cue.start, cue.end) for cue in found] == [(120.0, 121.4), (122.0, 123.0)]


def _later(words: Sequence[Sequence[Word]]) -> list[list[Word]]:
    return [[Word(word.start + 100, word.end + 100, word.word) for word in own] for own in words]


def test_times_that_are_nearly_right_are_the_models() -> None:
    samples = background("dither", 6.0, 0)
    samples[RATE : 3 * RATE] = speech(2.0, 1)
    found = corrected(window_of(samples), [told(0.8, 2.0), told(2.0, 3.2)])
    assert [(cue.start, cue.end) for cue in found] == [(0.8, 2.0), (2.0, 3.2)]


def test_a_click_is_no_sound_and_quiet_speech_in_much_silence_is() -> None:
    samples = background("dither", 30.0, 0)
    samples[5 * RATE] = 0.9
    samples[20 * RATE : 21 * RATE] += 0.05 * speech(1.0, 1)
    heard = np.flatnonzero(sounding(samples)) * 0.02
    assert 19.9 <= heard.min() <= 20.3
    assert heard.max() <= 21.1
    assert not sounding(np.zeros(RATE, np.float32)).any()


@pytest.mark.parametrize("seconds", [2.0, 2.4, 3.0])
def test_what_is_said_in_the_padding_is_dropped(base: BaseModel, seconds: float) -> None:
    stamp = first_timestamp(base)
    times = [0.0, 1.0, 1.0, 2.4, 2.4, 3.0, 3.0, 3.6]
    tokens = [part for a, b in pairwise(times) for part in (stamp + round(a * 50), *([5, 6] * (b > a)))]
    tokens.append(stamp + 180)
    spans = tuple(TextSpan(a, b, "x", (5, 6)) for a, b in pairwise(times) if b > a)
    found = without_padding(base, DecodingResult("all", tuple(tokens), spans), seconds)
    assert [span.start for span in found.segments] == [time for time in (0.0, 1.0, 2.4) if time < seconds]
    assert len([token for token in found.tokens if token < stamp]) == 2 * len(found.segments)
    assert found.tokens[-1] - stamp == 50 * found.segments[-1].end
    whole = DecodingResult("all", tuple(tokens), spans)
    assert without_padding(base, whole, 4.0) is whole


def test_cues_of_an_untrained_model_are_in_order_too(base: BaseModel) -> None:
    plain = Transcriber(base, FixedRoute(base, None, "pl"))
    for seed in range(2):
        quiet = background("dither", 2.0, seed)
        samples = np.concatenate([quiet, speech(1.5, seed), quiet, speech(0.7, seed), quiet])
        for options in ({}, {"words": True}):
            (found,) = plain.transcribe(samples, beams=1, timestamps=True, temperatures=(0.0,), **options)
            check(found.segments, found.seconds, ())
            assert all(cue.words for cue in found.segments if cue.text) or not options


@pytest.mark.real
def test_cues_of_a_real_model_are_where_it_was_spoken(tmp_path: Path) -> None:
    folder, clips = (os.environ.get(name) for name in ("ADAPTER_HUB_REAL", "ADAPTER_HUB_REAL_SPEECH"))
    if not folder or not clips:
        pytest.skip("needs ADAPTER_HUB_REAL and ADAPTER_HUB_REAL_SPEECH, folders of a Whisper and of speech")
    said = [read_audio(path).samples for path in find_audio(Path(clips))[:40]]
    said = [samples for samples in said if len(samples) > 1.5 * RATE][:3]
    transcriber = adapter_hub.load("base-model", base_model=folder, language="en", device="cpu")
    for number, kind in enumerate(("silence", "dither", "hiss", "hum")):
        parts, spoken, at = [], [], 0.0
        for place, samples in enumerate(said):
            quiet = background(kind, (17.0, 0.6, 3.0)[(place + number) % 3], place)
            parts += [quiet, samples]
            at += len(quiet) / RATE
            spoken.append((at, at + len(samples) / RATE))
            at = spoken[-1][1]
        (found,) = transcriber.transcribe(np.concatenate(parts), beams=1, timestamps=True)
        assert found.segments
        check(found.segments, found.seconds, spoken)
