"""Which adapter speech goes to: threshold, allowed languages, fallback, and one pass of the encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_whisper import make_adapter, speech, write_speech

import adapter_hub
from adapter_hub.artifact.folder import Artifact
from adapter_hub.decoding.language import encode, language_probabilities
from adapter_hub.errors import InvalidInputError
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.loading import ResidentAdapter, load_adapter
from adapter_hub.speech.audio import audio_from_samples
from adapter_hub.speech.features import log_mel
from adapter_hub.transcription.routing import Candidate, FixedRoute, LanguageRouter, Route
from adapter_hub.transcription.stages import adapts_encoder
from adapter_hub.transcription.transcriber import Transcriber


@pytest.fixture(scope="module")
def resident(base: BaseModel, adapters: list[Artifact]) -> dict[str, ResidentAdapter]:
    return {
        name: load_adapter(base, artifact)
        for name, artifact in zip(("da", "pl", "ja"), adapters, strict=True)
    }


@pytest.fixture
def router(base: BaseModel, resident: dict[str, ResidentAdapter]) -> LanguageRouter:
    candidates = {language: Candidate(language, language) for language in ("da", "pl")}
    return LanguageRouter(base, candidates, lambda ref: resident[str(ref)])


PROBABILITIES = {"da": 0.6, "en": 0.3, "ja": 0.0, "pl": 0.1, "zh": 0.0}


def test_the_likeliest_language_decides_where_it_is_sure(
    router: LanguageRouter, resident: dict[str, ResidentAdapter]
) -> None:
    route = router.route(None, PROBABILITIES)
    assert (route.adapter, route.language, route.probability) == (resident["da"], "da", 0.6)
    assert route.probabilities == PROBABILITIES
    english = router.route(None, {**PROBABILITIES, "en": 0.8, "da": 0.1})
    assert (english.adapter, english.language, english.name) == (None, "en", "base-model")


def test_unsure_speech_follows_the_speech_before_it(
    router: LanguageRouter, resident: dict[str, ResidentAdapter]
) -> None:
    router.threshold = 0.7
    first = router.route(None, PROBABILITIES)
    assert (first.adapter, first.language) == (None, "da")
    before = Route(resident["pl"], "pl", "pl", 0.9)
    after = router.route(None, PROBABILITIES, before)
    assert (after.adapter, after.language, after.probability) == (resident["pl"], "pl", 0.1)
    sure = router.route(None, {**PROBABILITIES, "da": 0.9}, before)
    assert sure.adapter is resident["da"]


def test_only_allowed_languages_are_chosen(
    router: LanguageRouter, resident: dict[str, ResidentAdapter]
) -> None:
    router.languages = ("en", "pl-PL")
    route = router.route(None, PROBABILITIES)
    assert (route.language, route.probability) == ("en", pytest.approx(0.75))
    assert route.probabilities == {"en": pytest.approx(0.75), "pl": pytest.approx(0.25)}
    nothing = router.route(None, {**PROBABILITIES, "en": 0.0, "pl": 0.0})
    assert nothing.probability == 0.5


def test_the_fallback_gets_what_no_other_adapter_is_for(
    router: LanguageRouter, resident: dict[str, ResidentAdapter]
) -> None:
    router.fallback = resident["ja"]
    english = router.route(None, {**PROBABILITIES, "en": 0.8, "ja": 0.05})
    assert (english.adapter, english.language, english.probability) == (resident["ja"], "ja", 0.05)
    router.threshold = 1.0
    assert router.route(None, PROBABILITIES).adapter is resident["ja"]


def test_a_given_language_is_not_identified(
    router: LanguageRouter, resident: dict[str, ResidentAdapter]
) -> None:
    assert not router.identifies("pl")
    assert router.identifies(None)
    assert router.route("pl-PL").adapter is resident["pl"]
    assert router.route("en").adapter is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.5}, r"threshold 1\.5: expected a probability"),
        ({"languages": ("mdw",)}, "decode language 'mdw': .* has no token for it"),
    ],
)
def test_a_router_that_cannot_work_is_refused(base: BaseModel, options: dict, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        LanguageRouter(base, {}, lambda ref: pytest.fail("not needed"), **options)


def test_probabilities_are_the_same_from_features_and_from_the_encoder_output(base: BaseModel) -> None:
    recordings = [audio_from_samples(speech(1.0, seed), 16_000) for seed in range(3)]
    features = torch.from_numpy(log_mel(base.processor.feature_extractor, recordings))
    direct = language_probabilities(base, features)
    torch.testing.assert_close(language_probabilities(base, encoder_output=encode(base, features)), direct)
    torch.testing.assert_close(direct.sum(1), torch.ones(3))
    tokens = base.model.detect_language(features)
    assert [base.decode_languages[place] for place in direct.argmax(1)] == [
        base.processor.tokenizer.decode(token)[2:-2] for token in tokens
    ]


def test_the_encoder_output_of_language_identification_is_decoded_from_where_no_encoder_is_adapted(
    base: BaseModel, tmp_path: Path
) -> None:
    decoder_only = make_adapter(tmp_path / "a", base, seed=5, targets=[r"encoder_attn.q_proj"])
    plain = load_adapter(base, decoder_only)
    whole = load_adapter(base, make_adapter(tmp_path / "b", base, seed=6))
    assert [adapts_encoder(item) for item in (None, plain, whole)] == [False, False, True]
    passes: list[int] = []
    hook = base.model.get_encoder().register_forward_hook(lambda *_: passes.append(1))
    try:
        for adapter, wanted in ((None, 1), (plain, 1), (whole, 2)):
            candidates = (
                {} if adapter is None else {code: Candidate(code, code) for code in base.decode_languages}
            )
            loaded = adapter
            router = LanguageRouter(base, candidates, lambda ref: loaded, threshold=0.0)  # noqa: B023
            passes.clear()
            (found,) = Transcriber(base, router).transcribe(speech(1.0, 1), beams=1, temperatures=(0.0,))
            assert len(passes) == wanted
            fixed = Transcriber(base, FixedRoute(base, adapter, found.language))
            assert fixed.transcribe(speech(1.0, 1), beams=1, temperatures=(0.0,))[0].tokens == found.tokens
    finally:
        hook.remove()


def test_auto_chooses_among_the_adapters_that_are_named(
    base: BaseModel, adapters: list[Artifact], tmp_path: Path
) -> None:
    clip = write_speech(tmp_path / "a.wav")
    auto = adapter_hub.load(
        "auto",
        adapters=[str(adapters[1].path)],
        fallback=str(adapters[0].path),
        languages=["pl", "zh"],
        threshold=0.0,
        base_model=str(base.folder),
        device="cpu",
    )
    assert isinstance(auto.router, LanguageRouter)
    assert set(auto.router.candidates) == {"pl"}
    (found,) = auto.transcribe(clip, beams=1)
    assert set(found.language_probabilities) == {"pl", "zh"}
    heard_polish = found.language_probabilities["pl"] >= 0.5
    assert found.adapter == ("small/pl-2@1.0.0" if heard_polish else "small/da-1@1.0.0")


@pytest.mark.parametrize(
    ("ref", "options", "message"),
    [
        ("base-model", {"adapters": ["mini/da"]}, "base-model: adapters to choose among, .* are for auto"),
        ("base-model", {"fallback": "mini/da"}, "base-model: adapters to choose among, .* are for auto"),
        ("auto", {"decode_language": "da"}, "auto identifies the language itself"),
        ("mini/da", {"languages": ["da"]}, "mini/da: its language is known"),
    ],
)
def test_options_of_auto_are_for_auto(ref: str, options: dict, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        adapter_hub.load(ref, device="cpu", **options)


def test_an_adapter_for_several_languages_transcribes_in_the_likeliest_of_its_own(
    base: BaseModel, tmp_path: Path
) -> None:
    from making import manifest_fields
    from small_whisper import write_peft

    from adapter_hub.artifact.folder import seal

    tags = [{"tag": tag, "decode_language": tag} for tag in ("da", "pl")]
    folder = write_peft(tmp_path / "a", base, seed=9)
    seal(folder, manifest_fields("small/two", languages=tags, base_model=base.pin))
    two = adapter_hub.load(str(folder), base_model=str(base.folder), device="cpu")
    route = two.router.route(None, {**PROBABILITIES, "en": 0.8, "da": 0.05, "pl": 0.15})
    assert (route.adapter, route.language, route.probability) == (two.adapter, "pl", pytest.approx(0.75))
    unsure = two.router.route(None, dict.fromkeys(PROBABILITIES, 0.0), route)
    assert unsure.language == "pl"
    (found,) = two.transcribe(np.zeros(16_000, np.float32) + 0.1, beams=1)
    assert found.language in ("da", "pl")
    assert set(found.language_probabilities) == {"da", "pl"}
    assert two.transcribe(speech(1.0, 1), languages=["pl"], beams=1)[0].language == "pl"
