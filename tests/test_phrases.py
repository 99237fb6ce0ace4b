"""Cutting audio at its pauses: nothing is lost, no word is cut, memory is that of one window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_whisper import speech

from adapter_hub.speech.audio import read_audio
from adapter_hub.speech.phrases import Phrase, audible_span, pauses, phrases, quietest, without_silence

RATE = 16_000
CLIPS = Path(__file__).parent / "clips"


def noise(seconds: float, loudness: float = 1e-4, seed: int = 1) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (loudness * random.standard_normal(round(seconds * RATE))).astype(np.float32)


def in_blocks(samples: np.ndarray, size: int) -> list[np.ndarray]:
    return [samples[start : start + size] for start in range(0, len(samples), size)]


def test_pieces_are_all_of_the_audio_in_order() -> None:
    samples = np.concatenate([speech(2, 1), noise(0.8), speech(3, 2), noise(1.5), speech(1, 3), noise(1)])
    pieces = list(phrases(in_blocks(samples, 7_000), longest=8.0))
    assert [piece.start for piece in pieces] == [0, *(piece.end for piece in pieces[:-1])]
    np.testing.assert_array_equal(np.concatenate([piece.samples for piece in pieces]), samples)
    assert [round(piece.start / RATE, 1) for piece in pieces] == [0.0, 2.7, 7.2]


def test_the_size_of_the_blocks_changes_nothing() -> None:
    samples = np.concatenate([part for i in range(6) for part in (speech(1 + i / 4, i), noise(0.7, seed=i))])
    wanted = [(piece.start, piece.end) for piece in phrases([samples], longest=4.0)]
    for size in (1_000, 16_000, 50_001):
        assert [(p.start, p.end) for p in phrases(in_blocks(samples, size), longest=4.0)] == wanted
    assert len(wanted) == 6


def test_short_pauses_stay_inside_a_phrase() -> None:
    samples = np.concatenate([speech(1, 1), noise(0.3), speech(1, 2)])
    assert len(list(phrases([samples], longest=8.0))) == 1


def test_speech_without_a_pause_is_cut_where_it_is_quietest() -> None:
    samples = np.concatenate([speech(5.5, 1), noise(0.3), speech(10, 2)])
    pieces = list(phrases(in_blocks(samples, 10_000), longest=8.0))
    assert all(piece.seconds <= 8.0 for piece in pieces)
    assert 5.5 <= pieces[0].seconds <= 5.8
    np.testing.assert_array_equal(np.concatenate([piece.samples for piece in pieces]), samples)


def test_digital_silence_is_left_out_and_nothing_else() -> None:
    zero = np.zeros(5 * RATE, dtype=np.float32)
    samples = np.concatenate([zero, speech(1, 1), zero, noise(2), zero])
    pieces = list(phrases(in_blocks(samples, 9_999), longest=8.0))
    assert [(round(p.start / RATE, 2), round(p.end / RATE, 2)) for p in pieces] == [(4.9, 6.1), (10.9, 13.1)]
    assert list(phrases([zero, zero], longest=8.0)) == []
    assert list(phrases([], longest=8.0)) == []
    quiet = speech(1, 1) * 1e-3  # 60 dB down, and still not silence
    assert len(list(phrases([quiet], longest=8.0))) == 1


def test_a_recording_shorter_than_a_frame_is_a_piece() -> None:
    (piece,) = phrases([speech(0.01, 1)], longest=8.0)
    assert len(piece.samples) == 160


def test_a_piece_does_not_keep_the_buffer_it_was_cut_from_in_memory() -> None:
    for piece in phrases(in_blocks(np.concatenate([speech(1, 1), noise(0.7)] * 9), 16_000), longest=4.0):
        assert piece.samples.base is None


def test_sounding_is_from_the_first_sound_to_the_last() -> None:
    samples = np.concatenate([noise(0.5), speech(1, 1), noise(0.5)])
    first, last = audible_span(samples)
    assert (round(first / RATE, 1), round(last / RATE, 1)) == (0.5, 1.5)
    assert audible_span(noise(0.01)) == (0, 160)


@pytest.mark.parametrize("language", ["da", "pl"])
def test_the_clips_have_no_pause_inside(language: str) -> None:
    samples = read_audio(CLIPS / f"{language}.flac").samples
    assert pauses(samples) == []
    assert 2 * len(samples) // 3 <= quietest(samples) <= len(samples)


def test_silence_is_trimmed_from_a_piece_only_where_it_is_long() -> None:
    short = np.concatenate([np.zeros(3_000, np.float32), speech(1, 1)])
    piece = without_silence(Phrase(100, short))
    assert piece is not None
    assert (piece.start, len(piece.samples)) == (100, len(short))


def test_a_long_phrase_is_cut_at_its_short_pauses_too() -> None:
    samples = np.concatenate([speech(2, 1), noise(0.3), speech(1.5, 2), noise(0.3), speech(2, 3)])
    assert len(list(phrases([samples], longest=8.0))) == 1
    assert len(list(phrases([samples], longest=8.0, usual=6.5))) == 1
    pieces = list(phrases([samples], longest=8.0, usual=4.0))
    assert [round(piece.start / RATE, 1) for piece in pieces] == [0.0, 2.2, 4.0]
    np.testing.assert_array_equal(np.concatenate([piece.samples for piece in pieces]), samples)
