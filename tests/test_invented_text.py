"""Where nobody speaks nothing is written: loops are tried again, and silence is no text, by default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_whisper import speech, write_speech
from test_evaluating import write_data

from adapter_hub.cli import main
from adapter_hub.data.dataset import read_dataset
from adapter_hub.decoding.decode import DecodingResult, decode
from adapter_hub.decoding.token_rules import first_timestamp
from adapter_hub.errors import InvalidInputError
from adapter_hub.evaluation.evaluating import EvaluationOptions, evaluate
from adapter_hub.evaluation.pairing import refuse_different
from adapter_hub.formats.claims import EvaluationReport
from adapter_hub.model.base_model import BaseModel, load_base_model
from adapter_hub.stores.summary import describe_decoding
from adapter_hub.transcription.options import TranscriptionOptions
from adapter_hub.transcription.routing import FixedRoute
from adapter_hub.transcription.transcriber import Transcriber

SEARCH_ALONE = {"temperatures": (0.0,)}


def always(base: BaseModel, logits: dict[int, float]) -> None:
    """Make a base model that gives tokens these logits, and all others 0, whatever it hears."""
    decoder = base.model.model.decoder
    with torch.no_grad():
        decoder.layer_norm.weight.zero_()
        decoder.layer_norm.bias.zero_()[0] = 1.0
        decoder.embed_tokens.weight.zero_()
        for token, value in logits.items():
            decoder.embed_tokens.weight[token, 0] = value


@pytest.fixture
def looping(base_folder: Path) -> BaseModel:
    """A base model that repeats one word until there is no room, and is quite sure of it."""
    base = load_base_model(base_folder, device="cpu")
    (word,) = base.processor.tokenizer("e", add_special_tokens=False).input_ids[:1]
    always(base, {word: 6.0})
    return base


def transcriber(base: BaseModel) -> Transcriber:
    return Transcriber(base, FixedRoute(base, None, "pl"))


def test_whispers_own_thresholds_are_the_default_and_one_temperature_is_the_search_alone() -> None:
    usual, alone = TranscriptionOptions().decoding(), TranscriptionOptions(**SEARCH_ALONE).decoding()
    assert usual.temperatures == (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    assert (usual.compression_ratio, usual.log_probability, usual.no_speech) == (2.4, -1.0, 0.6)
    assert alone.temperatures == (0.0,)
    assert (alone.compression_ratio, alone.log_probability, alone.no_speech) == (None, None, None)


@pytest.mark.parametrize("options", [{}, {"timestamps": True}, {"beams": 1}, {"previous_text": True}])
def test_a_loop_is_not_written_by_default(looping: BaseModel, options: dict) -> None:
    samples = speech(2.0, 1)
    (loop,) = transcriber(looping).transcribe(samples, **SEARCH_ALONE, **options)
    (found,) = transcriber(looping).transcribe(samples, **options)
    assert loop.segments[0].compression_ratio > 2.4 >= found.segments[0].compression_ratio
    assert found.segments[0].temperature > 0.0 == loop.segments[0].temperature


def test_a_loop_where_silence_is_probable_is_no_text(looping: BaseModel) -> None:
    samples = speech(2.0, 1)
    decoder, places = looping.model.model.decoder, looping.model.model.decoder.embed_positions.weight.data
    decoder.layer_norm.weight.data[1] = 1.0
    places[0], places[0, 1] = 0.0, 1e4  # at the start of the text alone
    decoder.embed_tokens.weight.data[first_timestamp(looping) - 2, 1] = 3.0
    (loop,) = transcriber(looping).transcribe(samples, **SEARCH_ALONE)
    assert loop.segments[0].no_speech > 0.6
    assert loop.segments[0].log_probability > -1.0  # sure of it, so the threshold of silence does not hold
    (found,) = transcriber(looping).transcribe(samples)
    assert (found.text, found.error) == ("", None)


def test_a_text_that_still_looks_wrong_is_no_condition_for_the_next(
    looping: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    always(looping, {})  # every token is as probable as any other: all texts are improbable
    given: list[int] = []

    def noting(*arguments: Any, previous: list[list[int]] | None, **more: Any) -> list[DecodingResult]:
        given.append(len(previous[0]) if previous else 0)
        return decode(*arguments, previous=previous, **more)

    monkeypatch.setattr("adapter_hub.transcription.window_decoding.decode", noting)
    two = np.concatenate([speech(1.0, 1), np.zeros(16_000, np.float32), speech(1.0, 2)])
    for options, some in ((SEARCH_ALONE, True), ({}, False)):
        given.clear()
        transcriber(looping).transcribe(two, previous_text=True, window_seconds=0.5, beams=1, **options)
        assert given[0] == 0
        assert [count > 0 for count in given[1:]] == [some]


def test_a_report_says_whether_texts_were_tried_again(base: BaseModel, tmp_path: Path) -> None:
    dataset = read_dataset(write_data(tmp_path / "numbers" / "test"))
    reports: dict[tuple[float, ...], EvaluationReport] = {
        values: evaluate(transcriber(base), dataset, EvaluationOptions("pl", beams=1, temperatures=values))
        for values in ((0.0,), (0.0, 0.5))
    }
    plain, again = reports.values()
    assert plain.decoding.temperatures is None
    assert again.decoding.temperatures == (0.0, 0.5)
    assert EvaluationReport.parse(again.to_bytes(), "report") == again
    assert (describe_decoding(plain.decoding), describe_decoding(again.decoding)) == (
        "greedy",
        "greedy, fallback",
    )
    with pytest.raises(InvalidInputError, match=r"temperatures 0 and 0,0\.5; reports are compared only on"):
        refuse_different(plain, again)


def test_evaluate_searches_alone_unless_told_otherwise(
    base_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_data(tmp_path / "numbers" / "test").parent
    command = ["evaluate", "base-model", "--base-model", str(base_folder), "--language", "pl"]
    for more, said in ([], ", temperature 0, "), (["--temperatures", "0,0.5"], ", temperatures 0,0.5, "):
        assert main([*command, "--data", str(data), "--beams", "1", *more]) == 0
        assert said in capsys.readouterr().out


def test_a_parakeet_has_no_temperatures_and_needs_none_to_be_said() -> None:
    assert TranscriptionOptions().asked() == TranscriptionOptions(**SEARCH_ALONE).asked() == ()
    assert TranscriptionOptions(temperatures=(0.0, 0.4)).asked() == ("temperatures",)


def test_transcribe_takes_one_temperature_from_the_command_line(
    base_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = write_speech(tmp_path / "a.wav", 1.0)
    command = ["transcribe", "base-model", str(clip), "--base-model", str(base_folder), "--language", "pl"]
    assert main([*command, "--beams", "1", "--temperatures", "0", "--json"]) == 0
    assert '"temperature": 0.0' in capsys.readouterr().out
