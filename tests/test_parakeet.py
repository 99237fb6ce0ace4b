"""Parakeet CTC in memory: adapters composed as PEFT composes them, and mixed batches decoded greedily."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from small_parakeet import save_lora, save_small_parakeet
from transformers import ParakeetForCTC

from adapter_hub import embedded
from adapter_hub.base_model.families import PARAKEET, WHISPER
from adapter_hub.decoding.ctc import collapse, decode_ctc, frame_seconds, parakeet_features
from adapter_hub.errors import IntegrityError, InvalidInputError
from adapter_hub.exchange.importing import Identity, import_peft
from adapter_hub.formats.manifest import Language
from adapter_hub.model.base_model import BaseModel, load_base_model, load_pinned_base_model
from adapter_hub.model.loading import ResidentAdapter, load_adapter, load_weights
from adapter_hub.model.session import Session
from adapter_hub.speech.audio import SAMPLE_RATE, Audio, audio_from_samples


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_parakeet(tmp_path_factory.mktemp("parakeet") / "model")


@pytest.fixture(scope="module")
def base(folder: Path) -> BaseModel:
    return load_base_model(folder, device="cpu", families=(PARAKEET,))


@pytest.fixture(scope="module")
def loras(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place = tmp_path_factory.mktemp("loras")
    return [save_lora(folder, place / str(seed), seed=seed, rank=rank) for seed, rank in ((1, 4), (2, 8))]


@pytest.fixture(scope="module")
def adapters(base: BaseModel, loras: list[Path]) -> list[ResidentAdapter]:
    return [load_weights(base, lora) for lora in loras]


def noise(seconds: float, seed: int = 0) -> Audio:
    """Return noise that swells, so that a random model's best symbol changes from frame to frame."""
    count = int(seconds * SAMPLE_RATE)
    swell = np.sin(np.arange(count) / 900) * np.sin(np.arange(count) / 3100 + seed)
    samples = 0.3 * swell * np.random.default_rng(seed).standard_normal(count).clip(-3, 3)
    return audio_from_samples(samples.astype(np.float32), SAMPLE_RATE, where="noise")


def logits_of(model: Any, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_features=features, attention_mask=mask).logits.clone()


def test_rows_of_a_mixed_batch_have_the_logits_that_peft_gives(
    base: BaseModel, folder: Path, loras: list[Path], adapters: list[ResidentAdapter]
) -> None:
    features, mask = parakeet_features(base, [noise(1.5, seed) for seed in range(4)])
    plain = ParakeetForCTC.from_pretrained(folder).eval()
    expected = [logits_of(plain, features, mask)]
    for lora in loras:
        model = PeftModel.from_pretrained(ParakeetForCTC.from_pretrained(folder), str(lora)).eval()
        expected.append(logits_of(model, features, mask))
    session = Session(base)
    session.set_adapters([adapters[0], None, adapters[1], adapters[0]])
    found = logits_of(session.model, features, mask)
    for row, source in enumerate((1, 0, 2, 1)):
        assert torch.allclose(found[row], expected[source][row], atol=1e-5), row
    assert (expected[1] - expected[0]).abs().max() > 0.1


def test_all_rows_of_one_adapter_have_the_logits_that_peft_gives(
    base: BaseModel, folder: Path, loras: list[Path], adapters: list[ResidentAdapter]
) -> None:
    features, mask = parakeet_features(base, [noise(1.0, seed) for seed in range(2)])
    model = PeftModel.from_pretrained(ParakeetForCTC.from_pretrained(folder), str(loras[1])).eval()
    for rows in (1, 2):
        session = Session(base)
        session.set_adapters([adapters[1]] * rows)
        expected = logits_of(model, features[:rows], mask[:rows])
        assert torch.allclose(logits_of(session.model, features[:rows], mask[:rows]), expected, atol=1e-5)
    session.set_adapter(adapters[1])
    assert torch.allclose(logits_of(session.model, features, mask), expected, atol=1e-5)


def test_weighted_rows_are_the_merged_sum_of_the_updates(
    base: BaseModel, folder: Path, loras: list[Path], adapters: list[ResidentAdapter]
) -> None:
    features, mask = parakeet_features(base, [noise(1.0)])
    merged = [
        PeftModel.from_pretrained(ParakeetForCTC.from_pretrained(folder), str(lora)).merge_and_unload()
        for lora in loras
    ]
    mean = ParakeetForCTC.from_pretrained(folder).eval()
    states = [model.state_dict() for model in merged]
    mean.load_state_dict(
        {
            name: (value + states[1][name]) / 2 if value.is_floating_point() else value
            for name, value in states[0].items()
        }
    )
    session = Session(base)
    session.set_adapters([[(adapters[0], 0.5), (adapters[1], 0.5)]])
    found, expected = logits_of(session.model, features, mask), logits_of(mean, features, mask)
    assert torch.allclose(found, expected, atol=1e-5)


def test_the_base_model_is_not_touched_by_a_session(base: BaseModel, adapters: list[ResidentAdapter]) -> None:
    features, mask = parakeet_features(base, [noise(1.0)])
    before = logits_of(base.model, features, mask)
    decode_ctc(Session(base), features, mask, rows=[adapters[0]])
    assert torch.equal(logits_of(base.model, features, mask), before)


def test_a_row_s_answer_does_not_depend_on_its_batch(
    base: BaseModel, adapters: list[ResidentAdapter]
) -> None:
    clips = [noise(seconds, seed) for seed, seconds in enumerate((0.4, 2.0, 1.1, 3.3))]
    rows = [adapters[0], None, adapters[1], [(adapters[0], 0.5), (adapters[1], 0.5)]]
    together = decode_ctc(Session(base), *parakeet_features(base, clips), rows=rows)
    for clip, row, mixed in zip(clips, rows, together, strict=True):
        alone = decode_ctc(Session(base), *parakeet_features(base, [clip]), rows=[row])[0]
        assert (mixed.text, mixed.tokens, mixed.segments) == (alone.text, alone.tokens, alone.segments)
        assert mixed.score == pytest.approx(alone.score, abs=1e-3)
    assert len({result.text for result in together}) == 4


def test_with_the_shape_kept_a_row_s_bits_do_not_depend_on_what_the_others_carry(
    base: BaseModel, adapters: list[ResidentAdapter]
) -> None:
    features, mask = parakeet_features(base, [noise(1.0, seed) for seed in range(3)])
    session, found = Session(base), []
    for others in ([None, None], [adapters[1], adapters[0]]):
        for first in (None, adapters[0]):
            session.set_adapters([first, *others])
            found.append(logits_of(session.model, features, mask)[0])
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[1], found[3])


def test_the_base_model_s_text_is_that_of_transformers(base: BaseModel, folder: Path) -> None:
    features, mask = parakeet_features(base, [noise(2.0, 3), noise(1.2, 4)])
    model = ParakeetForCTC.from_pretrained(folder).eval()
    path = model.generate(input_features=features, attention_mask=mask)
    expected = base.processor.tokenizer.batch_decode(path, skip_special_tokens=True)
    found = decode_ctc(Session(base), features, mask, rows=[None, None])
    assert [result.text for result in found] == [text.strip() for text in expected]


def test_words_have_the_times_of_their_frames(base: BaseModel) -> None:
    assert frame_seconds(base) == pytest.approx(0.08)
    result = decode_ctc(Session(base), *parakeet_features(base, [noise(4.0, 1)]), rows=[None])[0]
    assert result.segments
    assert "".join(word.text for word in result.segments) == result.text.replace(" ", "")
    times = [time for word in result.segments for time in (word.start, word.end)]
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] <= 4.0 + frame_seconds(base)


@pytest.mark.parametrize(
    ("path", "runs"),
    [
        ([], []),
        ([9, 9, 9], []),
        ([1, 1, 9, 1], [(1, 0, 2), (1, 3, 4)]),
        ([9, 2, 3, 3], [(2, 1, 2), (3, 2, 4)]),
    ],
)
def test_repeats_and_blanks_are_dropped(path: list[int], runs: list[tuple[int, int, int]]) -> None:
    assert collapse(path, blank=9) == runs


def test_a_clip_of_nothing_has_finite_scores(base: BaseModel) -> None:
    features, mask = parakeet_features(base, [noise(0.001), noise(1.0)])
    assert torch.isfinite(features).all()
    assert not any(
        result.overflowed for result in decode_ctc(Session(base), features, mask, rows=[None, None])
    )


def test_an_adapter_that_overflows_says_so_and_the_others_go_on(
    base: BaseModel, adapters: list[ResidentAdapter]
) -> None:
    huge = ResidentAdapter("huge", adapters[0].layout, adapters[0].buffer * 1e30)
    features, mask = parakeet_features(base, [noise(1.0), noise(1.0)])
    broken, sound = decode_ctc(Session(base), features, mask, rows=[huge, None])
    assert broken.overflowed
    assert broken.text == ""
    assert sound.tokens == decode_ctc(Session(base), features[1:], mask[1:], rows=[None])[0].tokens


def test_an_imported_adapter_says_its_architecture_and_is_loaded(
    base: BaseModel, folder: Path, loras: list[Path], tmp_path: Path
) -> None:
    identity = Identity(
        "mini/parakeet", "1.0.0", (Language(tag="en", decode_language="en"),), license="Apache-2.0"
    )
    artifact = import_peft(loras[0], tmp_path / "imported", identity, base.pin, folder)
    assert artifact.manifest.base_model.architecture == "ParakeetForCTC"
    assert artifact.manifest.base_model.digest == base.digest
    features, mask = parakeet_features(base, [noise(1.0)])
    session = Session(base)
    session.set_adapters([load_adapter(base, artifact)])
    found = logits_of(session.model, features, mask)
    model = PeftModel.from_pretrained(ParakeetForCTC.from_pretrained(folder), str(artifact.path)).eval()
    assert torch.allclose(found, logits_of(model, features, mask), atol=1e-5)


def test_a_lora_on_the_depthwise_convolution_is_refused_with_the_reason(
    base: BaseModel, folder: Path, tmp_path: Path
) -> None:
    config = LoraConfig(r=32, target_modules=["depthwise_conv"], init_lora_weights=False)
    with pytest.warns(UserWarning, match="Merging is not supported"):
        model = get_peft_model(ParakeetForCTC.from_pretrained(folder), config)
    model.save_pretrained(tmp_path / "depthwise")
    with pytest.raises(IntegrityError, match="adapt the pointwise convolutions instead"):
        load_weights(base, tmp_path / "depthwise")


def test_whoever_takes_whisper_alone_refuses_it_in_one_line(folder: Path) -> None:
    with pytest.raises(
        InvalidInputError, match=r"a Parakeet CTC \(model_type 'parakeet_ctc'\); this takes Whisper$"
    ):
        load_base_model(folder, families=(WHISPER,))
    with pytest.raises(
        InvalidInputError, match=r"a Whisper \(model_type 'whisper'\); this takes Parakeet CTC$"
    ):
        load_base_model(embedded.base_model_path(), families=(PARAKEET,))
    with pytest.raises(InvalidInputError, match="this takes Whisper"):
        load_pinned_base_model(load_base_model(folder).pin, families=(WHISPER,))


def test_rows_and_features_have_to_be_as_many(base: BaseModel) -> None:
    with pytest.raises(InvalidInputError, match="1 rows of features, 2 of adapters"):
        decode_ctc(Session(base), *parakeet_features(base, [noise(1.0)]), rows=[None, None])
