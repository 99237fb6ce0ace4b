"""Adapters in one batch: the same numbers as PEFT, and no influence on one another."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_whisper import make_adapter, speech

from adapter_hub.artifact.folder import Artifact
from adapter_hub.decoding.decode import DecodingResult, decode
from adapter_hub.decoding.options import DecodingOptions
from adapter_hub.errors import InvalidInputError
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.loading import ResidentAdapter, load_adapter
from adapter_hub.model.session import Session
from adapter_hub.speech.audio import audio_from_samples
from adapter_hub.speech.features import log_mel


def features_of(base: BaseModel, count: int) -> torch.Tensor:
    recordings = [audio_from_samples(speech(1.0 + i / 4, i), 16_000) for i in range(count)]
    return torch.from_numpy(log_mel(base.processor.feature_extractor, recordings))


def prompt_of(base: BaseModel, count: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(5)
    text = torch.randint(0, 50, (count, 6), generator=random)
    start = torch.full((count, 1), base.model.config.decoder_start_token_id)
    return torch.cat([start, text], dim=1)


@torch.inference_mode()
def logits_of(model: Any, base: BaseModel, features: torch.Tensor) -> torch.Tensor:
    return model(input_features=features, decoder_input_ids=prompt_of(base, len(features))).logits


def peft_model(base: BaseModel, folder: Path) -> Any:
    from peft import PeftModel
    from transformers import WhisperForConditionalGeneration

    plain = WhisperForConditionalGeneration.from_pretrained(base.folder, dtype=torch.float32)
    return PeftModel.from_pretrained(plain, str(folder)).eval()


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.equal(a.view(torch.int32), b.view(torch.int32))


@pytest.fixture(scope="module")
def resident(base: BaseModel, adapters: Sequence[Artifact]) -> list[ResidentAdapter]:
    return [load_adapter(base, artifact) for artifact in adapters]


@pytest.mark.parametrize("which", [0, 1, 2])
def test_an_adapter_gives_the_logits_of_plain_peft(
    base: BaseModel, adapters: Sequence[Artifact], resident: Sequence[ResidentAdapter], which: int
) -> None:
    features = features_of(base, 3)
    theirs = logits_of(peft_model(base, adapters[which].path), base, features)
    session = Session(base)
    session.set_adapters([resident[which]] * 3)
    ours = logits_of(session.model, base, features)
    assert float((theirs - logits_of(base.model, base, features)).abs().max()) > 0.1
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("beams", [1, 5])
def test_a_mixed_batch_decodes_to_the_tokens_of_plain_peft_one_by_one(
    base: BaseModel, adapters: Sequence[Artifact], resident: Sequence[ResidentAdapter], beams: int
) -> None:
    features = features_of(base, 4)
    languages = ["en", "da", "pl", "ja"]
    rows = [None, *resident]
    options = DecodingOptions(beams=beams)
    ours = decode(Session(base), features, rows=rows, languages=languages, options=options)
    models = [base.model, *(peft_model(base, artifact.path) for artifact in adapters)]
    for row, model in enumerate(models):
        theirs = decode_with_transformers(base, model, features[row : row + 1], languages[row], beams)
        assert list(ours[row].tokens) == theirs, f"row {row}"
    assert len({result.tokens for result in ours}) == 4


def decode_with_transformers(
    base: BaseModel, model: Any, features: torch.Tensor, language: str, beams: int
) -> list[int]:
    config = base.model.generation_config
    first = config.no_timestamps_token_id + 1
    stamps = range(first, base.model.config.vocab_size)
    ids = model.generate(
        input_features=features,
        language=language,
        task="transcribe",
        num_beams=beams,
        suppress_tokens=[*config.suppress_tokens, *stamps],
    )[0].tolist()
    return [token for token in ids if token < config.eos_token_id]


def test_base_model_rows_are_bit_identical_to_the_plain_model_whatever_the_other_rows_carry(
    base: BaseModel, resident: Sequence[ResidentAdapter]
) -> None:
    features = features_of(base, 4)
    plain = logits_of(base.model, base, features)
    session = Session(base)
    session.set_adapters([None] * 4)
    assert same_bits(logits_of(session.model, base, features), plain)
    session.set_adapters([None, resident[0], resident[2], None])
    mixed = logits_of(session.model, base, features)
    assert same_bits(mixed[0], plain[0])
    assert same_bits(mixed[3], plain[3])
    assert not torch.equal(mixed[1], plain[1])


def test_an_adapter_s_row_is_bit_identical_whatever_the_other_rows_carry(
    base: BaseModel, resident: Sequence[ResidentAdapter]
) -> None:
    features = features_of(base, 4)
    a, b, c = resident
    session = Session(base)
    seen = []
    for others in (
        [None] * 3,
        [a, b, c],
        [a, a, a],
        [b, b, b],
        [c, None, c],
        [[(c, 0.5), (b, 0.5)], b, None],
    ):
        session.set_adapters([a, *others])
        seen.append(logits_of(session.model, base, features)[0])
    assert all(same_bits(row, seen[0]) for row in seen)


@pytest.mark.parametrize("beams", [1, 3])
def test_what_a_row_says_does_not_depend_on_what_the_other_rows_carry(
    base: BaseModel, resident: Sequence[ResidentAdapter], beams: int
) -> None:
    features, languages = features_of(base, 3), ["en", "da", "ja"]
    options = DecodingOptions(beams=beams)
    a, b, c = resident
    alone = decode(Session(base), features, rows=[None, a, None], languages=languages, options=options)
    mixed = decode(Session(base), features, rows=[None, a, c], languages=languages, options=options)
    other = decode(Session(base), features, rows=[b, a, b], languages=languages, options=options)
    assert alone[0] == mixed[0]
    assert alone[1] == mixed[1] == other[1]
    assert alone[0] != other[0]


@pytest.mark.parametrize("beams", [1, 3])
def test_with_the_shape_kept_every_number_of_a_row_is_bit_identical(
    base: BaseModel, resident: Sequence[ResidentAdapter], beams: int
) -> None:
    features, languages = features_of(base, 4), ["en", "da", "ja", "pl"]
    options = DecodingOptions(beams=beams, shrink=False)
    a, b, c = resident
    seen = [
        decode(Session(base), features, rows=rows, languages=languages, options=options)
        for rows in ([None, a, None, None], [None, a, b, c], [None, a, [(c, 0.5), (b, 0.5)], a])
    ]
    assert seen[0][:2] == seen[1][:2] == seen[2][:2]  # floats of the scores and all
    assert seen[0][3] != seen[1][3]


def ending_with(base: BaseModel, token: int) -> BaseModel:
    """Return the base model with another end of text, which random weights come to."""
    model = copy.copy(base.model)
    model.generation_config = copy.deepcopy(base.model.generation_config)
    model.generation_config.eos_token_id = token
    return replace(base, model=model)


@pytest.mark.parametrize("beams", [1, 4])
def test_audios_that_are_done_leave_without_a_trace(
    base: BaseModel, resident: Sequence[ResidentAdapter], beams: int
) -> None:
    features, languages, rows = features_of(base, 4), ["en", "da", "ja", "pl"], [None, *resident]
    options = DecodingOptions(beams=beams)
    texts = decode(Session(base), features, rows=rows, languages=languages, options=options)
    lengths = set()
    for token in sorted({token for text in texts[:2] for token in text.tokens})[:6]:
        session = Session(ending_with(base, token))
        kept, left = (
            decode(session, features, rows=rows, languages=languages, options=replace(options, shrink=shrink))
            for shrink in (False, True)
        )
        assert [item.tokens for item in kept] == [item.tokens for item in left]
        assert [item.score for item in kept] == pytest.approx([item.score for item in left], abs=1e-4)
        lengths.add(len({len(item.tokens) for item in left}))
    assert max(lengths) >= 3  # recordings of one batch ended at different times


def test_a_pair_of_experts_adds_the_weighted_updates(
    base: BaseModel, adapters: Sequence[Artifact], resident: Sequence[ResidentAdapter]
) -> None:
    features = features_of(base, 2)
    session = Session(base)
    session.set_adapters([[(resident[0], 0.3), (resident[1], 0.7)], None])
    ours = logits_of(session.model, base, features)[0]
    dense = copy.deepcopy(base.model)
    for adapter, weight in ((resident[0], 0.3), (resident[1], 0.7)):
        for part in adapter.layout.modules:
            update = part.lora_b(adapter.buffer) @ part.lora_a(adapter.buffer)
            dense.get_submodule(part.path).weight += weight * update
    torch.testing.assert_close(ours, logits_of(dense, base, features)[0], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("calls", [40, pytest.param(500, marks=pytest.mark.slow)])
def test_two_threads_with_different_adapters_are_both_right(
    base: BaseModel, resident: Sequence[ResidentAdapter], calls: int
) -> None:
    features, languages = features_of(base, 2), ["da", "pl"]
    plans: list[list] = [[resident[0], None], [resident[1], [(resident[2], 0.5), (resident[0], 0.5)]]]
    options = DecodingOptions(beams=2, most_tokens=5)

    def call(session: Session, plan: list) -> tuple[torch.Tensor, list[DecodingResult]]:
        session.set_adapters(plan)
        logits = logits_of(session.model, base, features)
        return logits, decode(session, features, rows=plan, languages=languages, options=options)

    expected = [call(Session(base), plan) for plan in plans]
    wrong: list[int] = []

    def work(number: int) -> None:
        own = Session(base)
        for turn in range(calls):
            which = (number + turn) % 2
            logits, texts = call(own, plans[which])
            if not same_bits(logits, expected[which][0]) or texts != expected[which][1]:
                wrong.append(number)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(2)))
    assert wrong == []


def test_the_base_model_is_left_as_it_was(base: BaseModel, resident: Sequence[ResidentAdapter]) -> None:
    before = logits_of(base.model, base, features_of(base, 2))
    names = [name for name, _ in base.model.named_parameters()]
    session = Session(base)
    session.set_adapter(resident[0])
    logits_of(session.model, base, features_of(base, 2))
    assert same_bits(logits_of(base.model, base, features_of(base, 2)), before)
    assert [name for name, _ in base.model.named_parameters()] == names
    assert sorted(session.model.state_dict()) == sorted(base.model.state_dict())
    parameters = dict(base.model.named_parameters())
    assert all(value is parameters[name] for name, value in session.model.named_parameters())


def test_a_session_refuses_a_batch_that_it_is_not_seated_for(
    base: BaseModel, resident: Sequence[ResidentAdapter]
) -> None:
    session = Session(base)
    session.set_adapters([resident[0], None])
    with pytest.raises(InvalidInputError, match="a batch of 3 rows reached .* adapters are set for 2"):
        logits_of(session.model, base, features_of(base, 3))
    with pytest.raises(InvalidInputError, match="no rows; expected one entry"):
        session.set_adapters([])


def test_a_session_may_be_seated_within_and_without_inference_mode(
    base: BaseModel, resident: Sequence[ResidentAdapter]
) -> None:
    features, rows = features_of(base, 2), [resident[0], resident[2]]
    session = Session(base)
    decode(session, features, rows=rows, languages=["da", "ja"], options=DecodingOptions(most_tokens=2))
    session.set_adapters([resident[1], resident[2]])
    with torch.no_grad():
        first = session.model(input_features=features, decoder_input_ids=prompt_of(base, 2)).logits
    session.set_adapters(rows)
    assert not same_bits(logits_of(session.model, base, features)[0], first[0])
    assert same_bits(logits_of(session.model, base, features)[1], first[1])


def test_a_session_for_one_adapter_takes_batches_of_any_size(
    base: BaseModel, resident: Sequence[ResidentAdapter]
) -> None:
    session = Session(base)
    session.set_adapter(resident[0])
    features = features_of(base, 3)
    together = logits_of(session.model, base, features)
    for row in range(3):
        own = session.model(
            input_features=features[row : row + 1], decoder_input_ids=prompt_of(base, 3)[row : row + 1]
        ).logits
        torch.testing.assert_close(own[0], together[row], atol=1e-5, rtol=1e-5)


def test_cost_of_a_batch_does_not_depend_on_how_many_adapters_are_resident(
    base: BaseModel, resident: Sequence[ResidentAdapter], tmp_path: Path
) -> None:
    session = Session(base)
    session.set_adapters([resident[0], None])
    places = {key: buffers.a.data_ptr() for key, buffers in session._gathered._buffers.items()}
    more = [load_adapter(base, make_adapter(tmp_path / str(i), base, seed=10 + i)) for i in range(2)]
    session.set_adapters([more[1], None])
    assert {key: buffers.a.data_ptr() for key, buffers in session._gathered._buffers.items()} == places


def test_a_seating_that_runs_out_of_memory_leaves_nothing_to_the_next(
    base: BaseModel, resident: Sequence[ResidentAdapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    features, session = features_of(base, 2), Session(base)
    rows = [resident[0], resident[1]]
    session.set_adapters([resident[1], resident[0]])  # the memory of its matrices is there from now on
    zero, calls = torch.Tensor.zero_, 0

    def fails(self: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return zero(self)

    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "zero_", fails)
        with pytest.raises(RuntimeError, match="can't allocate"):
            session.set_adapters(rows)
    assert same_bits(logits_of(session.model, base, features), logits_of(base.model, base, features))
    session.set_adapters([resident[0], None])
    fresh = Session(base)
    fresh.set_adapters([resident[0], None])
    assert same_bits(logits_of(session.model, base, features), logits_of(fresh.model, base, features))
