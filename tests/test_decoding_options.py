"""Options of decoding: what was said before, drawing tokens, trying again, limits."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_composition import ending_with, features_of

from adapter_hub.decoding.decode import DecodingResult, decode, prompt_tokens
from adapter_hub.decoding.options import DecodingOptions
from adapter_hub.errors import InvalidInputError
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.loading import ResidentAdapter, load_adapter
from adapter_hub.model.session import Session
from adapter_hub.transcription.options import OptionWords, TranscriptionOptions

LANGUAGES = ["en", "da", "pl"]


@pytest.fixture(scope="module")
def rows(base: BaseModel, adapters: list) -> list[ResidentAdapter | None]:
    return [None, *(load_adapter(base, artifact) for artifact in adapters[:2])]


def run(
    base: BaseModel, rows: list, places: list[int], options: DecodingOptions, **more: Any
) -> list[DecodingResult]:
    features = features_of(base, 3)[places]
    if "previous" in more:
        more["previous"] = [more["previous"][place] for place in places]
    languages = [LANGUAGES[place] for place in places]
    return decode(
        Session(base),
        features,
        rows=[rows[place] for place in places],
        languages=languages,
        options=options,
        **more,
    )


@pytest.mark.parametrize("beams", [1, 3])
def test_rows_with_different_amounts_of_previous_text_share_a_batch(
    base: BaseModel, rows: list, beams: int
) -> None:
    previous = [[], [3, 4, 5, 6, 7], [8]]
    options = DecodingOptions(beams=beams, most_tokens=10)
    together = run(base, rows, [0, 1, 2], options, previous=previous)
    for place in range(3):
        (alone,) = run(base, rows, [place], options, previous=previous)
        assert together[place].tokens == alone.tokens, place
        assert together[place].no_speech == pytest.approx(alone.no_speech, abs=1e-5)
    assert together[1].tokens != run(base, rows, [1], options)[0].tokens
    assert together[0].tokens == run(base, rows, [0], options)[0].tokens


def test_previous_text_is_cut_so_that_half_of_the_positions_are_left(base: BaseModel) -> None:
    prompt = prompt_tokens(base, "da", DecodingOptions(), list(range(100)))
    config = base.model.generation_config
    start = prompt.index(config.decoder_start_token_id)
    assert prompt[0] == config.prev_sot_token_id
    assert start == base.model.config.max_target_positions // 2 - 1
    assert prompt[start - 1] == 99


def test_sampled_texts_depend_on_the_seed_and_not_on_the_other_rows(base: BaseModel, rows: list) -> None:
    options = DecodingOptions(temperatures=(0.8,), random_seed=4)
    drawn = run(base, rows, [0, 1, 2], options)
    assert drawn == run(base, rows, [0, 1, 2], options)
    assert drawn != run(base, rows, [0, 1, 2], replace(options, random_seed=5))
    other = run(base, [rows[0], rows[2], rows[1]], [0, 1, 2], options)
    assert other[0].tokens == drawn[0].tokens
    cold = run(base, rows, [0, 1, 2], replace(options, temperatures=(1e-6,)))
    greedy = run(base, rows, [0, 1, 2], DecodingOptions(beams=1))
    assert [item.tokens for item in cold] == [item.tokens for item in greedy]
    assert [item.temperature for item in drawn] == [0.8] * 3


def test_rows_whose_text_looks_wrong_alone_are_tried_again(base: BaseModel, rows: list) -> None:
    first = run(base, rows, [0, 1, 2], DecodingOptions(beams=2))
    likely = sorted(item.log_probability for item in first)
    between = (likely[1] + likely[2]) / 2
    options = DecodingOptions(beams=2, temperatures=(0.0, 0.7, 1.0), log_probability=between)
    found = run(base, rows, [0, 1, 2], options)
    for before, after in zip(first, found, strict=True):
        if before.log_probability >= between:
            assert after == before
        else:
            assert after.temperature > 0 or after.doubtful
            assert after.doubtful == (after.log_probability < between)
            assert after.log_probability >= before.log_probability
    silent = run(base, rows, [0, 1, 2], replace(options, no_speech=-1.0))
    assert silent == first  # all are taken for silence, which is not tried again


def test_a_text_that_repeats_itself_is_tried_again(base: BaseModel, rows: list) -> None:
    first = run(base, rows, [0, 1, 2], DecodingOptions(beams=1))
    most = max(item.compression_ratio for item in first)
    options = DecodingOptions(beams=1, temperatures=(0.0, 1.0), compression_ratio=most - 1e-6)
    found = run(base, rows, [0, 1, 2], options)
    again = [item.compression_ratio == most for item in first]
    assert [item.temperature == 1.0 for item in found] == again


def test_where_no_text_looks_right_the_most_probable_that_does_not_repeat_itself_is_taken(
    base: BaseModel, rows: list
) -> None:
    temperatures = (0.0, 0.5, 1.0)
    tried = [
        run(base, rows, [0, 1, 2], DecodingOptions(beams=1, temperatures=(value,))) for value in temperatures
    ]
    ratios = sorted({text.compression_ratio for texts in tried for text in texts})
    strict = DecodingOptions(beams=1, temperatures=temperatures, log_probability=0.0)
    for most in (None, ratios[0] - 1e-6, ratios[len(ratios) // 2], ratios[-1]):
        found = run(base, rows, [0, 1, 2], replace(strict, compression_ratio=most))
        for row, after in enumerate(found):
            texts = [texts[row] for texts in tried]
            single = [text for text in texts if most is None or text.compression_ratio <= most] or texts
            assert after == replace(max(single, key=lambda text: text.log_probability), doubtful=True)


def test_a_sampled_text_does_not_depend_on_the_row_of_the_batch(base: BaseModel, rows: list) -> None:
    options = DecodingOptions(temperatures=(0.8,), random_seed=4)
    adapters = [rows[0], rows[0], rows[1]]
    one, other, _ = run(base, adapters, [1, 1, 2], options)
    (alone,) = run(base, adapters, [1], options)
    assert one.tokens == other.tokens == alone.tokens


@torch.inference_mode()
def test_log_probabilities_are_those_of_a_forward_pass(base: BaseModel, rows: list) -> None:
    end = run(base, rows, [0], DecodingOptions(beams=1))[0].tokens[7]
    ending = ending_with(base, end)
    config = ending.model.generation_config
    barred = [
        *config.suppress_tokens,
        *range(config.no_timestamps_token_id + 1, base.model.config.vocab_size),
    ]
    for options in (DecodingOptions(beams=1), DecodingOptions(beams=4)):
        (found,) = run(ending, rows, [0], options)
        prompt = prompt_tokens(ending, "en", options)
        ended = len(prompt) + len(found.tokens) < base.model.config.max_target_positions
        ids = torch.tensor([[*prompt, *found.tokens, *([end] if ended else [])]])
        logits = base.model(input_features=features_of(base, 3)[:1], decoder_input_ids=ids).logits[0].float()
        logits = logits[len(prompt) - 1 : -1]
        if options.beams == 1:  # as in transformers: what is barred counts under beam search alone
            logits[:, barred] = float("-inf")
            logits[0, config.begin_suppress_tokens] = float("-inf")
        values = logits.log_softmax(-1).gather(1, ids[0, len(prompt) :, None])
        assert found.log_probability == pytest.approx(float(values.mean()), abs=1e-4)


def test_the_encoder_output_can_be_given(base: BaseModel, rows: list) -> None:
    plain = [None] * 3
    encoder_output = base.model.get_encoder()(features_of(base, 3)).last_hidden_state
    options = DecodingOptions(beams=2)
    assert run(base, plain, [0, 1, 2], options, encoder_output=encoder_output) == run(
        base, plain, [0, 1, 2], options
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"most_tokens": 0}, "most tokens 0: expected 1 or more"),
        ({"temperatures": ()}, r"temperatures \(\): expected one or more"),
        ({"temperatures": (-0.1,)}, r"temperatures \(-0.1,\): expected one or more, 0 or above"),
        ({"temperatures": (0.0, math.nan)}, r"temperatures \(0.0, nan\): expected one or more, 0 or above"),
        ({"temperatures": (math.inf,)}, r"temperatures \(inf,\): expected one or more, 0 or above"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    base: BaseModel, rows: list, options: dict, message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        run(base, rows, [0], DecodingOptions(**options))


def test_texts_keep_to_the_limit(base: BaseModel, rows: list) -> None:
    for beams in (1, 3):
        found = run(base, rows, [0, 1, 2], DecodingOptions(beams=beams, most_tokens=4))
        assert [len(item.tokens) for item in found] == [4, 4, 4]


def test_every_keyword_of_transcribe_is_an_option_that_is_declared() -> None:
    declared = {field.name: field.type for field in dataclasses.fields(TranscriptionOptions)}
    assert {name: hint.__forward_arg__ for name, hint in OptionWords.__annotations__.items()} == declared
