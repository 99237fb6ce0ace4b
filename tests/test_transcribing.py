"""The transcriber: order, errors by item, routing by language, and what `load` accepts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from small_whisper import make_adapter, make_pair, speech, write_speech

import adapter_hub
from adapter_hub.artifact.folder import Artifact
from adapter_hub.errors import AdapterHubError, InvalidInputError, NotFoundError
from adapter_hub.exchange import Places, publish
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.loading import ResidentAdapter, load_adapter
from adapter_hub.model.session import Session
from adapter_hub.registry.file import FileRegistry
from adapter_hub.speech.audio import audio_from_samples
from adapter_hub.stores.folder import FolderStore
from adapter_hub.transcription.candidates import find_candidates
from adapter_hub.transcription.routing import FixedRoute, LanguageRouter
from adapter_hub.transcription.transcriber import Transcriber


@pytest.fixture(scope="module")
def resident(base: BaseModel, adapters: list[Artifact]) -> list[ResidentAdapter]:
    return [load_adapter(base, artifact) for artifact in adapters]


@pytest.fixture(scope="module")
def registry(adapters: list[Artifact], tmp_path_factory: pytest.TempPathFactory) -> FileRegistry:
    folder = tmp_path_factory.mktemp("published")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADAPTER_HUB_CACHE", str(folder / "cache"))
        registry = FileRegistry(folder / "registry.json")
        for artifact in adapters:
            publish(artifact.path, Places(registry, FolderStore(folder / "store")))
    return registry


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    return [write_speech(folder / f"{i}.wav", 2.5 - i / 2, seed=i) for i in range(4)]


def test_results_come_in_the_order_given_whatever_the_batches(
    base: BaseModel, resident: list[ResidentAdapter], clips: list[Path]
) -> None:
    transcriber = Transcriber(base, FixedRoute(base, resident[0]))
    together = transcriber.transcribe(clips, beams=2, temperatures=(0.0,), batch_size=3)
    assert [item.source for item in together] == [str(clip) for clip in clips]
    assert [item.seconds for item in together] == [2.5, 2.0, 1.5, 1.0]
    one_by_one = [transcriber.transcribe(clip, beams=2, temperatures=(0.0,))[0] for clip in clips]
    assert [item.text for item in together] == [item.text for item in one_by_one]
    assert {(item.language, item.adapter, item.error) for item in together} == {
        ("da", "small/da-1@1.0.0", None)
    }


def test_files_arrays_and_audio_are_the_same(base: BaseModel, tmp_path: Path) -> None:
    import soundfile

    samples = speech(1.0, 3)
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    inputs = [tmp_path / "a.wav", str(tmp_path / "a.wav"), samples, audio_from_samples(samples, 16_000)]
    found = Transcriber(base, FixedRoute(base, None, "pl")).transcribe(inputs, beams=1)
    assert len({item.text for item in found}) == 1
    assert [item.source for item in found][2:] == ["audio 3", "audio 4"]


def test_a_broken_file_does_not_stop_the_others(base: BaseModel, clips: list[Path], tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no audio")
    short = write_speech(tmp_path / "short.wav", 0.05)
    inputs = [
        clips[0],
        tmp_path / "text.wav",
        tmp_path / "absent.wav",
        short,
        np.array([np.nan]),
        clips[1],
    ]
    found = Transcriber(base, FixedRoute(base, None, "pl")).transcribe(inputs, beams=1)
    errors = [item.error or "" for item in found]
    assert [bool(error) for error in errors] == [False, True, True, True, True, False]
    for error, wanted in zip(
        errors[1:5],
        (
            "cannot be read as audio",
            "no such audio file",
            "at least 0.1 s",
            "audio 5: sample 0 is NaN",
        ),
        strict=True,
    ):
        assert wanted in error
    assert found[1].to_json() == {"source": str(tmp_path / "text.wav"), "error": errors[1]}


def test_progress_counts_every_audio(base: BaseModel, clips: list[Path], tmp_path: Path) -> None:
    seen: list[tuple[int, float]] = []
    inputs = [*clips, tmp_path / "absent.wav"]
    Transcriber(base, FixedRoute(base, None, "pl")).transcribe(
        inputs, beams=1, batch_size=2, progress=lambda count, seconds: seen.append((count, seconds))
    )
    assert sum(count for count, _ in seen) == 5
    assert sum(seconds for _, seconds in seen) == pytest.approx(7.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beams": 0}, "beams 0: expected 1"),
        ({"batch_size": 0}, "batch size 0: expected 1 or more"),
        ({"window_seconds": 0.0}, "windows of 0.0 s: expected more than 0"),
        ({"window_seconds": float("nan")}, "windows of nan s: expected more than 0"),
        ({"temperatures": (float("nan"),)}, "temperatures .*nan"),
        ({"languages": ["pl", "da"]}, "2 languages for 1 recordings"),
        ({"languages": ["mdw"]}, "language 'mdw': .* has no token for it"),
    ],
)
def test_options_that_fit_no_audio_are_refused(
    base: BaseModel, clips: list[Path], options: dict, message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Transcriber(base, FixedRoute(base, None, "pl")).transcribe(clips[0], **options)


def test_a_transcriber_may_be_used_by_two_threads(
    base: BaseModel, resident: list[ResidentAdapter], clips: list[Path]
) -> None:
    transcribers = [Transcriber(base, FixedRoute(base, adapter)) for adapter in resident[:2]]
    expected = [
        [item.tokens for item in t.transcribe(clips, beams=2, temperatures=(0.0,))] for t in transcribers
    ]
    wrong: list[int] = []

    def work(number: int) -> None:
        for turn in range(4):
            which = (number + turn) % 2
            found = transcribers[which].transcribe(clips, beams=2, temperatures=(0.0,))
            if [item.tokens for item in found] != expected[which]:
                wrong.append(number)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(2)))
    assert wrong == []


def test_auto_picks_the_adapter_of_the_language_that_is_spoken(
    base: BaseModel, registry: FileRegistry, clips: list[Path]
) -> None:
    auto = adapter_hub.load(
        "auto", base_model=str(base.folder), registry=str(registry.path), device="cpu", threshold=0.0
    )
    assert isinstance(auto.router, LanguageRouter)
    assert {language: str(c.ref)[:16] for language, c in auto.router.candidates.items()} == {
        "da": "small/da-1@1.0.0",
        "ja": "small/ja-3@1.0.0",
        "pl": "small/pl-2@1.0.0",
    }
    found = auto.transcribe(clips, beams=1)
    for item in found:
        assert item.language_probability is not None
        expected = {"da": "small/da-1@1.0.0", "pl": "small/pl-2@1.0.0", "ja": "small/ja-3@1.0.0"}
        assert item.adapter == expected.get(item.language, "base-model")
    given = auto.transcribe(clips[:3], beams=1, languages=["ja", "en", "pl"])
    assert [item.adapter for item in given] == ["small/ja-3@1.0.0", "base-model", "small/pl-2@1.0.0"]
    alone = adapter_hub.load(
        "small/ja-3", base_model=str(base.folder), registry=str(registry.path), device="cpu"
    )
    assert alone.transcribe(clips[0], beams=1)[0].tokens == given[0].tokens


def test_auto_falls_back_to_the_base_model_below_the_threshold(
    base: BaseModel, registry: FileRegistry, clips: list[Path]
) -> None:
    candidates = find_candidates([registry], base)
    router = LanguageRouter(base, candidates, lambda ref: pytest.fail("no adapter is needed"), threshold=1.0)
    found = Transcriber(base, router).transcribe(clips, beams=1)
    assert {item.adapter for item in found} == {"base-model"}
    assert all(item.language in base.decode_languages for item in found)


def test_adapters_of_another_base_model_or_retired_are_no_candidates(
    base: BaseModel, registry: FileRegistry, tmp_path: Path
) -> None:
    from dataclasses import replace

    from adapter_hub.exchange import retire

    assert find_candidates([registry], replace(base, digest="sha256:" + "0" * 64)) == {}
    own = FileRegistry(tmp_path / "registry.json")
    store = FolderStore(tmp_path / "store")
    publish(make_adapter(tmp_path / "a", base, seed=8).path, Places(own, store))
    assert set(find_candidates([own], base)) == {"da"}
    retire(AdapterRef.parse("small/da-8@1.0.0"), "yanked", "a test", Places(own, store))
    assert find_candidates([own], base) == {}


def test_the_base_model_alone_identifies_the_language_or_takes_the_one_given(
    base: BaseModel, clips: list[Path]
) -> None:
    plain = adapter_hub.load("base-model", base_model=str(base.folder), device="cpu")
    found = plain.transcribe(clips[0], beams=1)[0]
    assert found.adapter == "base-model"
    assert found.language_probability is not None
    import torch

    from adapter_hub.decoding.language import language_probabilities
    from adapter_hub.speech.audio import read_audio
    from adapter_hub.speech.features import log_mel

    features = torch.from_numpy(log_mel(base.processor.feature_extractor, [read_audio(clips[0])]))
    probabilities = language_probabilities(base, features)[0]
    assert found.language == base.decode_languages[int(probabilities.argmax())]
    given = adapter_hub.load("base-model", language="pl", base_model=str(base.folder), device="cpu")
    assert given.transcribe(clips[0], beams=1)[0].language_probability is None


def test_a_local_artifact_loads_by_its_path(
    base: BaseModel, adapters: list[Artifact], clips: list[Path]
) -> None:
    transcriber = adapter_hub.load(str(adapters[1].path), base_model=str(base.folder), device="cpu")
    assert transcriber.adapter is not None
    assert transcriber.adapter.digest == adapters[1].digest
    assert transcriber.transcribe(clips[0])[0].language == "pl"


def test_an_adapter_whose_base_model_is_not_here_says_how_to_name_it(
    base: BaseModel, adapters: list[Artifact], tmp_path: Path
) -> None:
    from making import manifest_fields
    from small_whisper import write_peft

    from adapter_hub.artifact.folder import seal

    pin = base.pin.model_copy(update={"id": "elsewhere"})
    folder = write_peft(tmp_path / "a", base, seed=1)
    seal(folder, manifest_fields("small/da", base_model=pin))
    with pytest.raises(
        NotFoundError, match=r"needs its base model: base model elsewhere is not here: .* --base-model"
    ):
        adapter_hub.load(str(folder), device="cpu")
    assert adapter_hub.load(str(folder), base_model=str(base.folder), device="cpu").base.digest == base.digest
    assert adapter_hub.load(str(folder), device="cpu").base.folder == base.folder  # it was named before


def test_load_model_gives_a_transformers_model_and_its_processor(
    base: BaseModel, adapters: list[Artifact], resident: list[ResidentAdapter]
) -> None:
    import torch
    from transformers import WhisperForConditionalGeneration, WhisperProcessor

    where = str(adapters[0].path)
    model, processor = adapter_hub.load_model(where, base_model=str(base.folder), device="cpu")
    assert isinstance(model, WhisperForConditionalGeneration)
    assert isinstance(processor, WhisperProcessor)
    inputs = processor(speech(1.0, 1), sampling_rate=16_000, return_tensors="pt")
    tokens = model.generate(**inputs, language="da", num_beams=2)
    assert tokens.shape[0] == 1
    plain = base.model.generate(**inputs, language="da", num_beams=2)
    assert not torch.equal(tokens, plain)


def test_the_model_of_load_model_keeps_its_adapter_whatever_is_done_with_it(
    base: BaseModel, adapters: list[Artifact], tmp_path: Path
) -> None:
    import torch
    from transformers import WhisperForConditionalGeneration

    where, options = str(adapters[0].path), {"base_model": str(base.folder), "device": "cpu"}
    session = Session(base)
    session.set_adapter(load_adapter(base, adapters[0]))
    model, processor = adapter_hub.load_model(where, **options)
    model.save_pretrained(tmp_path / "saved")
    saved = WhisperForConditionalGeneration.from_pretrained(tmp_path / "saved")
    inputs = processor(speech(1.0, 0), sampling_rate=16_000, return_tensors="pt")
    start = torch.tensor([[model.config.decoder_start_token_id]])
    with torch.no_grad():
        models = (session.model, model, saved, base.model)
        composed, *logits = [m(**inputs, decoder_input_ids=start).logits for m in models]
    torch.testing.assert_close(composed, logits[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(logits[0], logits[1])
    assert not torch.allclose(logits[0], logits[2], atol=1e-3)
    assert model.half().dtype == torch.float16
    language = adapters[0].manifest.languages[0].decode_language
    assert (saved.generation_config.language, saved.generation_config.task) == (language, "transcribe")


def test_an_adapted_output_matrix_leaves_the_embeddings_alone(base: BaseModel, tmp_path: Path) -> None:
    import torch

    from adapter_hub.model.base_model import load_base_model
    from adapter_hub.model.merging import merge_into

    head = load_adapter(base, make_adapter(tmp_path / "head", base, seed=4, targets=["proj_out"]))
    own = load_base_model(base.folder)
    merge_into(own, head)
    before, after = base.model.state_dict(), own.model.state_dict()
    embeddings = "model.decoder.embed_tokens.weight"
    assert torch.equal(after[embeddings], before[embeddings])
    assert not torch.equal(after["proj_out.weight"], before["proj_out.weight"])


def test_a_token_gated_pair_is_no_plain_model(
    base: BaseModel, adapters: list[Artifact], tmp_path: Path
) -> None:
    pair = make_pair(tmp_path / "pair", base, adapters[0], kind="token", seed=5)
    with pytest.raises(InvalidInputError, match="weighs its two experts for every token, so no plain model"):
        adapter_hub.load_model(str(pair.path), base_model=str(base.folder), device="cpu")


@pytest.mark.parametrize(
    ("ref", "options", "error", "message"),
    [
        ("small/absent", {}, NotFoundError, "small/absent"),
        ("-small/da", {}, InvalidInputError, "adapter name '-small/da'"),
        ("./absent", {}, NotFoundError, r"no adapter\.json"),
        (
            "base-model",
            {"language": "mdw"},
            InvalidInputError,
            "language 'mdw': .* name the decode language too",
        ),
        ("base-model", {"decode_language": "xx"}, InvalidInputError, "decode language 'xx'"),
        ("auto", {"language": "da"}, InvalidInputError, "auto identifies the language itself"),
    ],
)
def test_what_cannot_be_loaded_is_explained(
    base: BaseModel, ref: str, options: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        adapter_hub.load(ref, base_model=str(base.folder), device="cpu", **options)


def test_a_language_without_token_can_borrow_one(base: BaseModel, clips: list[Path]) -> None:
    borrowed = adapter_hub.load(
        "base-model", language="mdw", decode_language="pl", base_model=str(base.folder), device="cpu"
    )
    polish = adapter_hub.load("base-model", language="pl", base_model=str(base.folder), device="cpu")
    found = borrowed.transcribe(clips[0], beams=1)[0]
    assert (found.language, found.tokens) == ("mdw", polish.transcribe(clips[0], beams=1)[0].tokens)


def test_load_checks_the_probe_of_the_manifest(base: BaseModel, tmp_path: Path) -> None:
    from making import manifest_fields
    from small_whisper import write_peft

    from adapter_hub.artifact.folder import seal
    from adapter_hub.decoding.probe import measure_probe

    folder = write_peft(tmp_path / "good", base, seed=5)
    probe = measure_probe(base, folder)
    logits = tuple(value + 1 for value in probe.adapter_logits)
    for name, recorded in (("good", probe), ("bad", probe.model_copy(update={"adapter_logits": logits}))):
        folder = tmp_path / name
        if name == "bad":
            write_peft(folder, base, seed=5)
        seal(folder, manifest_fields("small/da", base_model=base.pin, probe=recorded))
    where = {"base_model": str(base.folder), "device": "cpu"}
    assert adapter_hub.load(str(tmp_path / "good"), **where).adapter is not None
    with pytest.raises(AdapterHubError, match=r"small/da@1\.0\.0: probe sines/2: adapter's logits are"):
        adapter_hub.load(str(tmp_path / "bad"), **where)


def test_importing_the_package_imports_no_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys, adapter_hub; assert 'load' in dir(adapter_hub);"
        "print([m for m in ('torch', 'numpy', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="has no attribute 'unload'"):
        adapter_hub.unload  # noqa: B018
