"""Word times: the time warping and the attention are transformers', and words are where espeak spoke them."""

from __future__ import annotations

import random
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from small_whisper import speech
from transformers.models.whisper.generation_whisper import _dynamic_time_warping, _median_filter

import adapter_hub
from adapter_hub.artifact.folder import Artifact
from adapter_hub.decoding.alignment import (
    AttentionReader,
    align,
    alignment_heads,
    dtw,
    median_filter,
    word_spans,
)
from adapter_hub.decoding.decode import prompt_tokens
from adapter_hub.decoding.language import encode
from adapter_hub.decoding.options import DecodingOptions
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.loading import load_adapter
from adapter_hub.model.session import Session
from adapter_hub.speech.audio import audio_from_samples
from adapter_hub.speech.features import log_mel
from adapter_hub.transcription.routing import FixedRoute
from adapter_hub.transcription.transcriber import Transcriber


@pytest.mark.parametrize("seed", range(8))
def test_the_time_warping_is_transformers_own(seed: int) -> None:
    random = np.random.default_rng(seed)
    costs = random.standard_normal((random.integers(1, 30), random.integers(1, 90)))
    for ours, theirs in zip(dtw(costs), _dynamic_time_warping(costs), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("length", [3, 4, 50])
def test_the_median_is_transformers_own(length: int) -> None:
    values = torch.randn(3, 5, length)
    torch.testing.assert_close(median_filter(values, 7), _median_filter(values, 7))


@pytest.fixture(scope="module")
def encoder_output(base: BaseModel) -> torch.Tensor:
    recordings = [audio_from_samples(speech(2.0, seed), 16_000) for seed in range(3)]
    return encode(base, torch.from_numpy(log_mel(base.processor.feature_extractor, recordings)))


def test_the_attention_is_transformers_own_for_every_row_and_its_adapter(
    base: BaseModel, adapters: list[Artifact], encoder_output: torch.Tensor
) -> None:
    from transformers import WhisperForConditionalGeneration

    prompts = [[3, 4, 5, 6, 7, 8], [9, 8, 7], [5, 5, 6, 7]]
    danish = load_adapter(base, adapters[0])
    rows = [None, danish, danish]
    session = Session(base)
    session.set_adapters(rows)
    reader = AttentionReader(session, encoder_output, [(0, 1), (1, 0)])
    reader.prefill(prompts, 20)
    plain = WhisperForConditionalGeneration.from_pretrained(
        base.folder, attn_implementation="eager", dtype=torch.float32
    )
    where = {"base_model": str(base.folder), "device": "cpu"}
    peft = adapter_hub.load_model(str(adapters[0].path), **where)[0]
    peft.config._attn_implementation = "eager"
    for row, prompt in enumerate(prompts):
        model = plain if rows[row] is None else peft
        with torch.no_grad():
            wanted = model(
                encoder_outputs=(encoder_output[row : row + 1],),
                decoder_input_ids=torch.tensor([prompt]),
                output_attentions=True,
            ).cross_attentions
        for ours, (layer, head) in zip(reader.attention, [(0, 1), (1, 0)], strict=True):
            torch.testing.assert_close(
                ours[row, -len(prompt) :], wanted[layer][0, head], atol=1e-5, rtol=1e-4
            )


def test_times_go_on_and_end_with_the_window(base: BaseModel, encoder_output: torch.Tensor) -> None:
    prompt = prompt_tokens(base, "pl", DecodingOptions())
    texts = [[3, 4, 5, 6], [], list(range(3, 60))]
    times = align(Session(base), encoder_output, [None] * 3, [prompt] * 3, texts, [2.0, 2.0, 1.0])
    assert [len(row) for row in times] == [4, 0, 57]
    for row, seconds in ((times[0], 2.0), (times[2], 1.0)):
        assert row[0][0] == 0.0
        assert all(start <= end <= seconds for start, end in row)
        assert [start for start, _ in row[1:]] == [end for _, end in row[:-1]]


def test_heads_that_are_not_named_are_those_of_the_later_half(base: BaseModel) -> None:
    assert alignment_heads(base) == ([(1, 0), (1, 1)], True)
    named = base.model.generation_config.alignment_heads
    try:
        base.model.generation_config.alignment_heads = None
        assert alignment_heads(base) == ([(1, 0), (1, 1)], False)
        told: list[str] = []
        plain = Transcriber(base, FixedRoute(base, None, "pl"), told.append)
        assert plain.transcribe(speech(1.0, 1), beams=1, words=True)[0].error is None
        assert len(told) == 1
        assert "names no alignment heads" in told[0]
    finally:
        base.model.generation_config.alignment_heads = named


@pytest.mark.parametrize(
    ("language", "text", "wanted"),
    [
        ("da", " nul, en to!", ["nul,", "en", "to!"]),
        ("pl", "żółć ąę", ["żółć", "ąę"]),
        ("zh", "零一二。", ["零", "一", "二。"]),
        ("th", "น้ำดี่", ["น้ำ", "ดี่"]),
        ("my", "ကိုး", ["ကိုး"]),
        ("ja", "ｶﾞが", ["ｶﾞ", "が"]),
    ],
)
def test_words_are_whole_characters_with_their_punctuation(
    base: BaseModel, language: str, text: str, wanted: list[str]
) -> None:
    tokens = base.processor.tokenizer(text, add_special_tokens=False).input_ids
    times = [(float(i), float(i + 1)) for i in range(len(tokens))]
    words = word_spans(base, tokens, times, language)
    assert [word.text for word in words] == wanted
    assert words[0].start == 0.0
    assert all(word.start < word.end for word in words)
    if not unicodedata.category(text[-1]).startswith("P"):
        assert words[-1].end == len(tokens)


@pytest.mark.parametrize("language", ["da", pytest.param("pl", marks=pytest.mark.slow)])
def test_words_are_where_they_were_spoken(language: str) -> None:
    pytest.importorskip("espeakng_loader")
    from adapter_hub.trainers.makers.corpus.plan import plan
    from adapter_hub.trainers.makers.corpus.render import render

    transcriber = adapter_hub.load(f"mini/{language}", device="cpu")
    errors: list[float] = []
    for spec in random.Random(1).sample(plan(language, "test", 40, 1), 12):
        samples, times = render(spec)
        audio = samples.astype(np.float32) / 32768
        quiet = np.zeros(24_000, np.float32)
        (found,) = transcriber.transcribe(np.concatenate([quiet, audio]), beams=5, words=True)
        words = [word.word for word in found.words]
        if words == spec.text.split() and len(times) == len(words):
            errors += [
                abs(word.start - 1.5 - start) for word, (start, _) in zip(found.words, times, strict=True)
            ]
            assert found.words[-1].end <= found.seconds + 0.01
    assert len(errors) >= 10
    assert np.median(errors) < 0.12  # six steps of the encoder
    assert np.mean(errors) < 0.2


def test_words_are_in_the_json_and_in_their_segments(base: BaseModel) -> None:
    plain = Transcriber(base, FixedRoute(base, None, "pl"))
    samples = np.concatenate(
        [part for i in range(6) for part in (speech(1.0, i), np.zeros(16_000, np.float32))]
    )
    for timestamps in (False, True):
        (found,) = plain.transcribe(samples, beams=2, words=True, timestamps=timestamps, window_seconds=0.5)
        assert len(found.to_json()["words"]) == len(found.words) > 0
        for segment in found.segments:
            assert "".join(word.word for word in segment.words) == segment.text.replace(" ", "")
            assert all(segment.seek / 100 - 0.01 <= word.start <= word.end for word in segment.words)
    path = Path(__file__).parent / "clips/da.flac"
    assert plain.transcribe(path, beams=1)[0].words == ()
