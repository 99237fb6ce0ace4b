"""Searching for text: options, timestamps, languages, and who may decide what."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from small_whisper import speech

from adapter_hub.decoding.decode import decode, first_timestamp
from adapter_hub.decoding.language import language_probabilities
from adapter_hub.decoding.options import DecodingOptions
from adapter_hub.decoding.probe import _convolve_in_float64, check_probe, measure_probe, probe_audio
from adapter_hub.errors import IntegrityError, InvalidInputError
from adapter_hub.model.base_model import BaseModel, load_base_model
from adapter_hub.model.loading import ResidentAdapter, load_adapter
from adapter_hub.model.session import Session
from adapter_hub.speech.audio import audio_from_samples
from adapter_hub.speech.features import log_mel
from adapter_hub.transcription.subtitles import to_srt
from adapter_hub.transcription.transcript import Segment


@pytest.fixture(scope="module")
def adapter(base: BaseModel, adapters: list) -> ResidentAdapter:
    return load_adapter(base, adapters[0])


@pytest.fixture(scope="module")
def features(base: BaseModel) -> torch.Tensor:
    recordings = [audio_from_samples(speech(1.5, i), 16_000) for i in range(3)]
    return torch.from_numpy(log_mel(base.processor.feature_extractor, recordings))


def run(base: BaseModel, features: torch.Tensor, adapter: ResidentAdapter | None, **options: int):
    return decode(
        Session(base),
        features,
        rows=[adapter] * len(features),
        languages=["da"] * len(features),
        options=DecodingOptions(**options),
    )


def test_features_are_padded_to_the_chunk_and_do_not_depend_on_the_batch(base: BaseModel) -> None:
    recordings = [audio_from_samples(speech(0.5 + i, i), 16_000) for i in range(3)]
    extractor = base.processor.feature_extractor
    together = log_mel(extractor, recordings)
    assert together.shape == (3, 80, 400)
    assert all((log_mel(extractor, [a])[0] == row).all() for a, row in zip(recordings, together, strict=True))


@pytest.mark.parametrize("beams", [1, 5])
def test_timestamps_are_absent_unless_asked_for(
    base: BaseModel, features: torch.Tensor, adapter: ResidentAdapter, beams: int
) -> None:
    stamp = first_timestamp(base)
    for result in run(base, features, adapter, beams=beams):
        assert all(token < stamp for token in result.tokens)
        assert result.segments == ()


def test_timestamps_give_segments_in_order(
    base: BaseModel, features: torch.Tensor, adapter: ResidentAdapter
) -> None:
    for result in run(base, features, adapter, beams=1, timestamps=True):
        assert result.tokens[0] >= first_timestamp(base)
        assert result.segments
        times = [time for segment in result.segments for time in (segment.start, segment.end)]
        assert times == sorted(times)
        assert times[-1] <= base.chunk_seconds
        assert all(segment.text for segment in result.segments)


def test_decoding_twice_gives_the_same(
    base: BaseModel, features: torch.Tensor, adapter: ResidentAdapter
) -> None:
    assert run(base, features, adapter, beams=3) == run(base, features, adapter, beams=3)


def test_a_language_without_token_is_refused_with_those_that_have_one(
    base: BaseModel, features: torch.Tensor
) -> None:
    options = DecodingOptions()
    with pytest.raises(
        InvalidInputError, match=r"'mdw'.*no token for it; nearest: da .Danish., en .English., ja"
    ):
        decode(Session(base), features[:1], rows=[None], languages=["mdw"], options=options)
    with pytest.raises(InvalidInputError, match="3 rows of features, 1 of adapters, 1 languages"):
        decode(Session(base), features, rows=[None], languages=["da"], options=options)
    with pytest.raises(InvalidInputError, match="beams 0: expected 1"):
        decode(Session(base), features[:1], rows=[None], languages=["da"], options=DecodingOptions(beams=0))


def test_language_probabilities_are_the_whole_distribution(base: BaseModel, features: torch.Tensor) -> None:
    probabilities = language_probabilities(base, features)
    assert probabilities.shape == (3, len(base.decode_languages))
    torch.testing.assert_close(probabilities.sum(1), torch.ones(3))
    best = base.model.detect_language(features)
    config = base.model.generation_config
    ours = [config.lang_to_id[f"<|{base.decode_languages[i]}|>"] for i in probabilities.argmax(1)]
    assert ours == best.tolist()


def test_the_probe_s_input_never_changes() -> None:
    samples = probe_audio().samples
    assert len(samples) == 16_000
    picked = [float(samples[i]) for i in (0, 1, 4_000, 15_999)]
    assert picked == pytest.approx([0.13691, 0.04395, -0.01819, -0.01453], abs=2e-5)


def test_a_probe_that_was_measured_is_passed(base: BaseModel, adapter: ResidentAdapter) -> None:
    probe = measure_probe(base, adapter)
    assert len(probe.adapter_logits) == len(probe.base_model_logits) == 16
    effect = max(abs(a - b) for a, b in zip(probe.adapter_logits, probe.base_model_logits, strict=True))
    assert 0 < probe.tolerance <= effect / 4
    check_probe(base, adapter, probe)


def test_a_probe_tells_other_weights_and_no_effect(
    base: BaseModel, adapters: list, adapter: ResidentAdapter
) -> None:
    probe = measure_probe(base, adapter)
    other = load_adapter(base, adapters[1])
    with pytest.raises(IntegrityError, match="adapter's logits are .* off, at most"):
        check_probe(base, other, probe)
    still = ResidentAdapter("still", adapter.layout, torch.zeros_like(adapter.buffer))
    with pytest.raises(IntegrityError, match="answers as the base model does"):
        check_probe(base, still, probe)
    with pytest.raises(IntegrityError, match=r"no effect: on the probe sines/2 .* was it trained\?"):
        measure_probe(base, still)
    with pytest.raises(InvalidInputError, match="unknown probe 'sines/9'"):
        check_probe(base, adapter, probe.model_copy(update={"input": "sines/9"}))


def test_a_weak_adapter_has_a_probe_of_its_own_tolerance(base: BaseModel, adapter: ResidentAdapter) -> None:
    buffer = adapter.buffer.clone()
    for part in adapter.layout.values():
        part.lora_b(buffer).mul_(1e-3)
    weak = ResidentAdapter("weak", adapter.layout, buffer)
    probe = measure_probe(base, weak)
    check_probe(base, weak, probe)
    with pytest.raises(IntegrityError, match="answers as the base model does"):
        check_probe(base, ResidentAdapter("still", weak.layout, torch.zeros_like(buffer)), probe)


def test_a_probe_of_a_gpu_convolves_in_float64_and_no_other_session_does(
    base: BaseModel, features: torch.Tensor
) -> None:
    own, other, conv = Session(base), Session(base), base.model.get_encoder().conv1
    _convolve_in_float64(own)
    exact = copy.deepcopy(conv).double()(features.double()).float()
    assert torch.equal(own.model.get_encoder().conv1(features), exact)
    for session in (other, Session(base)):
        assert torch.equal(session.model.get_encoder().conv1(features), conv(features))
    assert not torch.equal(conv(features), exact)
    languages, options = ["da"] * len(features), DecodingOptions(beams=1)
    texts = [
        decode(session, features, rows=[None] * len(features), languages=languages, options=options)
        for session in (own, other)
    ]
    assert [text.tokens for text in texts[0]] == [text.tokens for text in texts[1]]


def test_a_probe_that_fails_where_products_may_be_rounded_says_so(
    base: BaseModel, adapter: ResidentAdapter
) -> None:
    probe = measure_probe(base, adapter)
    probe = probe.model_copy(update={"adapter_logits": tuple(value + 1 for value in probe.adapter_logits)})
    before = torch.get_float32_matmul_precision()
    try:
        for precision, told in (("highest", False), ("high", True)):
            torch.set_float32_matmul_precision(precision)
            with pytest.raises(IntegrityError, match="adapter's logits are") as caught:
                check_probe(base, adapter, probe)
            assert ('torch.set_float32_matmul_precision("highest")' in str(caught.value)) == told
    finally:
        torch.set_float32_matmul_precision(before)


def test_a_probe_needs_float32(base_folder, base: BaseModel, adapters: list) -> None:
    half = load_base_model(base_folder, device="cpu", dtype="bfloat16")
    with pytest.raises(InvalidInputError, match="a probe needs float32"):
        measure_probe(half, load_adapter(half, adapters[0]))


def test_bfloat16_decodes_too(base_folder, features: torch.Tensor, adapters: list) -> None:
    half = load_base_model(base_folder, device="cpu", dtype="bfloat16")
    results = run(half, features, load_adapter(half, adapters[0]), beams=2)
    assert len(results) == 3


def test_srt_has_numbers_clocks_and_text() -> None:
    text = to_srt([Segment(0.0, 1.28, "en to"), Segment(3661.5, 3662.0, "tre")])
    assert text == ("1\n00:00:00,000 --> 00:00:01,280\nen to\n\n2\n01:01:01,500 --> 01:01:02,000\ntre")


def test_options_are_not_mixed_up_between_calls(
    base: BaseModel, features: torch.Tensor, adapter: ResidentAdapter
) -> None:
    session = Session(base)
    seen = {}
    for beams, timestamps in itertools.product((1, 3), (False, True)):
        for _ in range(2):
            options = DecodingOptions(beams=beams, timestamps=timestamps)
            result = decode(
                session, features[:2], rows=[adapter, None], languages=["da", "en"], options=options
            )
            assert seen.setdefault(options, result) == result
    assert len({result[0].tokens for result in seen.values()}) > 1
