"""Adapters with weights in one reference: the average, tried before it is published."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_averaging_adapters import REF, base, equal_shares, shipped

from adapter_hub import load
from adapter_hub.errors import InvalidInputError
from adapter_hub.formats.reference import parse_blend
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.blending import blended
from adapter_hub.model.loading import ResidentAdapter, load_adapter
from adapter_hub.model.session import RowAdapters, Session
from adapter_hub.trainers.averaging.adapters import average

__all__ = ["base"]  # the fixture


def logits(model: BaseModel, adapters: RowAdapters) -> torch.Tensor:
    session = Session(model)
    session.set_adapter(adapters)
    generator = torch.Generator().manual_seed(0)
    frames = 2 * model.model.config.max_source_positions
    features = torch.randn(2, model.model.config.num_mel_bins, frames, generator=generator)
    tokens = torch.tensor([[1, 2, 3, 4]] * 2)
    with torch.inference_mode():
        found: torch.Tensor = session.model(input_features=features, decoder_input_ids=tokens).logits
    return found


def residents(model: BaseModel, *names: str) -> list[ResidentAdapter]:
    return [load_adapter(model, shipped(name)) for name in names]


def test_a_blend_weighted_rows_and_the_published_average_are_one_function(
    base: BaseModel,
    tmp_path: Path,
) -> None:
    made, _ = average(base, equal_shares("pl", "it"), tmp_path / "out", REF)
    parts = [(adapter, 0.5) for adapter in residents(base, "pl", "it")]
    published = logits(base, load_adapter(base, made))
    assert torch.allclose(logits(base, blended(parts)), published, atol=1e-5)
    assert torch.allclose(logits(base, parts), published, atol=1e-4)
    assert not torch.allclose(logits(base, None), published, atol=1e-2)


def test_a_blend_is_named_by_its_adapters_and_transcribes(speech: Path) -> None:
    transcriber = load("mini/pl*0.5+mini/it*0.5", language="pl")
    (transcript,) = transcriber.transcribe([speech])
    assert transcript.adapter == "mini/pl@1.0.0*0.5+mini/it@1.0.0*0.5"
    assert transcript.error is None


def test_a_blend_of_one_adapter_with_all_the_weight_says_what_the_adapter_says(speech: Path) -> None:
    alone, blend = load("mini/pl"), load("mini/pl*1", language="pl")
    assert blend.transcribe([speech])[0].text == alone.transcribe([speech])[0].text


@pytest.fixture
def speech() -> Path:
    return sorted((Path(__file__).parent / "clips").glob("*pl*"))[0]


def test_a_blend_hears_which_of_its_languages_is_spoken(speech: Path) -> None:
    (found,) = load("mini/pl*0.5+mini/it*0.5").transcribe([speech])
    assert found.language == "pl"
    assert set(found.language_probabilities) == {"pl", "it"}


def test_a_token_gated_pair_cannot_be_blended() -> None:
    with pytest.raises(InvalidInputError, match="weighs its experts for every token"):
        load("mini/da-pair*0.5+mini/pl*0.5", language="da")


@pytest.mark.parametrize(
    "text",
    [
        "mini/pl*",
        "*0.5",
        "mini/pl*0",
        "mini/pl*2",
        "mini/pl*nan",
        "mini/pl*x+mini/it*0.5",
        "mini/pl*0.5+mini/it",
    ],
)
def test_a_weight_that_is_no_share_is_one_line(text: str) -> None:
    with pytest.raises(InvalidInputError, match="expected references with weights"):
        parse_blend(text)


def test_weights_that_sum_to_more_than_one_model_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="sum to more than 1"):
        parse_blend("mini/pl*0.8+mini/it*0.8")
