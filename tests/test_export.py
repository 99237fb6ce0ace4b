"""Exports: other tools answer as this library does with the adapter, and every folder says what is in it."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import pytest
import torch
from command_line import Run
from ctranslate2.specs.model_spec import ACCEPTED_MODEL_TYPES
from faster_whisper import WhisperModel
from killing import in_child
from making import manifest_fields
from peft import PeftConfig, PeftModel
from safetensors.torch import load_file
from small_parakeet import save_small_parakeet
from small_whisper import make_adapter, make_pair, write_peft
from test_composition import features_of, logits_of
from test_parakeet_commands import imported, samples
from transformers import ParakeetForCTC, WhisperForConditionalGeneration, WhisperProcessor, pipeline
from transformers.models.whisper.modeling_whisper import sinusoids

import adapter_hub
from adapter_hub.artifact.folder import Artifact, seal
from adapter_hub.base_model.digest import EMBEDDED_ID, base_model_digest
from adapter_hub.base_model.finding import find_base_model
from adapter_hub.cli import main
from adapter_hub.errors import ConflictError, IntegrityError, InvalidInputError, MissingExtraError
from adapter_hub.exchange import pull
from adapter_hub.exchange.importing import Identity, base_model_pin, import_peft
from adapter_hub.export.recording import check_export
from adapter_hub.formats.export_record import QUANTIZATIONS, ExportRecord
from adapter_hub.formats.manifest import Language
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.loading import load_adapter
from adapter_hub.model.session import Session
from adapter_hub.speech.audio import read_audio
from adapter_hub.trainers.folding import fold

CLIPS = Path(__file__).parent / "clips"
BLEND = "mini/pl*0.5+mini/it*0.5"
TOKEN_PAIR = "mini/da-pair"
# CTranslate2 took 51865 tokens and more for multilingual, and now an empty one among them; of those that its
# converter adds, it drops the 401 that are named like the tokenizer's own timestamps
MANY = 51_865 + 401


def quietly(_: str) -> None:
    """Warnings that a test does not look at."""


def recordings(language: str) -> list[np.ndarray]:
    """Return a recording, and its beginning."""
    whole = read_audio(CLIPS / f"{language}.flac").samples
    return [whole, whole[: len(whole) // 2]]


Search = Callable[[np.ndarray, int], list[int]]  # the tokens of text in some speech, with so many beams
SEARCHES = ((0, 1), (0, 5), (1, 1))  # which recording, and beams


def ours(ref: str, language: str, **options: Any) -> Search:
    """Return a search with this library."""
    transcriber = adapter_hub.load(ref, device="cpu", language=language, **options)
    end = transcriber.base.model.config.eos_token_id

    def search(speech: np.ndarray, beams: int) -> list[int]:
        return [token for token in transcriber.transcribe(speech, beams=beams)[0].tokens if token < end]

    return search


def check_equal(language: str, one: Search, other: Search) -> None:
    """Compare two searches on some recordings."""
    speech = recordings(language)
    for number, beams in SEARCHES:
        tokens = one(speech[number], beams)
        assert len(tokens) > 5
        assert tokens == other(speech[number], beams), (number, beams)


@pytest.mark.parametrize(
    ("ref", "language"),
    [
        ("mini/da", "da"),  # warm-started
        ("mini/average", "pl"),
        pytest.param(BLEND, "pl", marks=pytest.mark.slow),
        pytest.param("mini/da-scratch", "da", marks=pytest.mark.slow),
        pytest.param("base-model", "pl", marks=pytest.mark.slow),
    ],
)
def test_generate_finds_our_tokens_in_an_export(ref: str, language: str, tmp_path: Path) -> None:
    record = adapter_hub.export_model(ref, tmp_path / "out", tell=quietly)
    model = WhisperForConditionalGeneration.from_pretrained(tmp_path / "out")
    processor = WhisperProcessor.from_pretrained(tmp_path / "out")
    spoken = {item.decode_language for item in record.languages}
    named = {} if spoken == {language} else {"language": language}
    assert getattr(model.generation_config, "language", None) == (None if named else language)

    def generate(speech: np.ndarray, beams: int) -> list[int]:
        inputs = processor(speech, sampling_rate=16_000, return_tensors="pt")
        tokens = model.generate(inputs.input_features, num_beams=beams, **named)[0].tolist()
        return [token for token in tokens if token < model.config.eos_token_id]

    check_equal(language, generate, ours(ref, language))


def test_an_export_for_transformers_is_a_base_model_and_a_pipeline(run: Run) -> None:
    done = run("export", "mini/da", "--out", "out", "--json")
    assert (done.code, done.json["format"], done.json["precision"]) == (0, "transformers", "float32")
    assert done.json["digest"] == base_model_digest(Path("out"))
    assert "merging mini/da@1.0.0 into" in done.err
    check_equal("da", ours("base-model", "da", base_model="./out"), ours("mini/da", "da"))
    speech = {"raw": recordings("da")[0], "sampling_rate": 16_000}
    text = pipeline("automatic-speech-recognition", model="out")(speech)["text"]
    assert text.strip() == adapter_hub.load("mini/da").transcribe(CLIPS / "da.flac", beams=1)[0].text
    told = run("transcribe", "./out", CLIPS / "da.flac").err
    assert "an export for other tools, not an adapter" in told


@pytest.mark.parametrize("dtype", ["float16", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_weights_are_merged_in_float32_and_cast_then(dtype: str, tmp_path: Path) -> None:
    exact = adapter_hub.export_model("mini/da", tmp_path / "exact")
    record = adapter_hub.export_model("mini/da", tmp_path / "half", dtype=dtype)
    whole, half = (load_file(tmp_path / name / "model.safetensors") for name in ("exact", "half"))
    assert whole.keys() == half.keys()
    for name in whole:
        assert torch.equal(whole[name].to(getattr(torch, dtype)), half[name])
    assert (exact.precision, record.precision) == ("float32", dtype)
    assert WhisperForConditionalGeneration.from_pretrained(tmp_path / "half").dtype == getattr(torch, dtype)


def test_pairs_and_output_matrices_answer_in_an_export_as_here(
    base: BaseModel, adapters: Sequence[Artifact], tmp_path: Path
) -> None:
    pair = make_pair(tmp_path / "pair", base, adapters[2], kind="static", seed=31, rank=3, alpha=9)
    folded = fold(base, pair, tmp_path / "folded")
    head = make_adapter(tmp_path / "head", base, seed=4, targets=["proj_out", "fc1"])
    for artifact in (pair, folded, head):
        out = tmp_path / f"out-{artifact.path.name}"
        record = adapter_hub.export_model(artifact.path, out, base_model=str(base.folder))
        session = Session(base)
        session.set_adapters([load_adapter(base, artifact)] * 2)
        model = WhisperForConditionalGeneration.from_pretrained(out).eval()
        wanted = logits_of(session.model, base, features_of(base, 2))
        torch.testing.assert_close(logits_of(model, base, features_of(base, 2)), wanted, atol=1e-4, rtol=1e-4)
        assert record.digest == base_model_digest(out)


def test_ctranslate2_finds_our_tokens_in_an_export(tmp_path: Path) -> None:
    told: list[str] = []
    out = tmp_path / "out"
    record = adapter_hub.export_model(BLEND, out, format="ctranslate2", tell=told.append)
    assert (record.format, record.precision, record.digest) == ("ctranslate2", "float32", None)
    assert record.ref == "mini/pl@1.0.0*0.5+mini/it@1.0.0*0.5"
    assert [adapter.digest for adapter in record.adapters] == [pull("mini/pl").digest, pull("mini/it").digest]
    assert {language.tag for language in record.languages} == {"pl", "it"}
    assert [line.partition(": ")[2].partition(" faster")[0] for line in told] == [
        "run it with ctranslate2.models.Whisper:"
    ]
    check_equal("pl", by_ctranslate2(out, "pl"), ours(BLEND, "pl"))


def by_ctranslate2(folder: Path, language: str, kind: str = "float32") -> Search:
    """Return a search with CTranslate2, which is given the prompt."""
    engine = ctranslate2.models.Whisper(str(folder), device="cpu", compute_type=kind, intra_threads=1)
    base = adapter_hub.load("base-model", device="cpu").base
    generation = base.model.generation_config
    prompt = [
        generation.decoder_start_token_id,
        generation.lang_to_id[f"<|{language}|>"],
        generation.task_to_id["transcribe"],
        generation.no_timestamps_token_id,
    ]

    def search(speech: np.ndarray, beams: int) -> list[int]:
        features = base.processor(speech, sampling_rate=16_000, return_tensors="np").input_features
        view = ctranslate2.StorageView.from_array(np.ascontiguousarray(features))
        (result,) = engine.generate(view, [prompt], beam_size=beams)
        return [token for token in result.sequences_ids[0] if token < generation.eos_token_id]

    return search


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded base model with the window and the many tokens that faster-whisper expects."""
    folder = tmp_path_factory.mktemp("wide") / "base"
    shutil.copytree(find_base_model(EMBEDDED_ID)[0], folder)
    model = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    old = model.model.decoder.embed_tokens.weight
    model.config.max_source_positions, model.config.vocab_size = 1500, MANY
    new = WhisperForConditionalGeneration(model.config)
    state, more = model.state_dict(), new.state_dict()
    for name in ("model.decoder.embed_tokens.weight", "proj_out.weight"):
        more[name][: len(old)] = old
        more[name][len(old) :] = 0
        state[name] = more[name]
    state["model.encoder.embed_positions.weight"] = sinusoids(1500, model.config.d_model)
    new.load_state_dict(state)
    generation = model.generation_config
    generation.suppress_tokens += range(generation.no_timestamps_token_id, MANY)
    new.generation_config = generation
    new.save_pretrained(folder)
    settings = json.loads((folder / "processor_config.json").read_text())
    settings["feature_extractor"] |= {"chunk_length": 30, "n_samples": 480_000, "nb_max_frames": 3000}
    (folder / "processor_config.json").write_text(json.dumps(settings))
    return folder


def test_faster_whisper_hears_in_an_export_what_we_hear(wide: Path, tmp_path: Path) -> None:
    language = Language(tag="da", decode_language="da")
    identity = Identity("wide/da", "1.0.0", (language,), license="Apache-2.0")
    pin = base_model_pin(wide, "./wide")
    artifact = import_peft(pull("mini/da").path, tmp_path / "da", identity, pin, wide)
    out, where = tmp_path / "out", {"base_model": str(wide)}
    adapter_hub.export_model(artifact.path, out, format="ctranslate2", tell=quietly, **where)
    names = json.loads((out / "vocabulary.json").read_text())
    names[-1] = ""  # OpenAI's have such a token, by which CTranslate2 knows that they are multilingual
    (out / "vocabulary.json").write_text(json.dumps(names))
    model = WhisperModel(str(out), device="cpu", compute_type="float32", cpu_threads=1)
    transcriber = adapter_hub.load(artifact.path, device="cpu", **where)
    for speech in recordings(
        "da"
    ):  # unclear to a model that knows shorter windows: greedy, as beams end otherwise
        text = heard(model, out, speech, "da", 1)
        assert text == transcriber.transcribe(speech, beams=1)[0].text
        assert text


def heard(model: WhisperModel, folder: Path, speech: np.ndarray, language: str, beams: int) -> str:
    """Return what faster-whisper hears, told to search as this library does, and never to fall back.

    It would fill up the features of short speech with zeros, where Whisper was trained with silence.
    """
    segments, _ = model.transcribe(
        np.pad(speech, (0, 30 * 16_000 - len(speech))),
        language=language,
        beam_size=beams,
        temperature=0.0,
        suppress_tokens=json.loads((folder / "config.json").read_text())["suppress_ids"],
        without_timestamps=True,
        condition_on_previous_text=False,
        compression_ratio_threshold=None,
        log_prob_threshold=None,
        no_speech_threshold=None,
        max_new_tokens=200,
    )
    return "".join(segment.text for segment in segments).strip()


def test_ctranslate2_quantizes_by_its_own_names(run: Run) -> None:
    assert sorted(QUANTIZATIONS) == sorted(ACCEPTED_MODEL_TYPES)
    words = ("export", "mini/da", "--format", "ctranslate2", "--out")
    assert run(*words, "whole", "--quantization", "float32").code == 0
    small = run(*words, "small", "--quantization", "int8", "--json").json
    assert small["precision"] == "int8"
    assert Path("small/model.bin").stat().st_size < Path("whole/model.bin").stat().st_size / 3
    assert len(by_ctranslate2(Path("small"), "da", "int8")(recordings("da")[0], 5)) > 5


@pytest.mark.parametrize("patterns", [False, True], ids=["one rank", "ranks and alphas by module"])
def test_peft_computes_the_same_from_an_export(
    base: BaseModel, adapters: Sequence[Artifact], tmp_path: Path, patterns: bool
) -> None:
    artifact = adapters[2]
    if patterns:
        by_module = {"rank_pattern": {"fc1": 6, "q_proj": 2}, "alpha_pattern": {"fc2": 3}}
        artifact = make_adapter(tmp_path / "a", base, seed=5, **by_module)
    out = tmp_path / "out"
    adapter_hub.export_model(artifact.path, out, format="peft", base_model=str(base.folder))
    config = PeftConfig.from_pretrained(out)
    assert not config.rank_pattern  # vLLM passes over both
    assert not config.alpha_pattern
    plain = WhisperForConditionalGeneration.from_pretrained(
        config.base_model_name_or_path, dtype=torch.float32
    )
    session = Session(base)
    session.set_adapters([load_adapter(base, artifact)] * 2)
    wanted = logits_of(session.model, base, features_of(base, 2))
    theirs = logits_of(PeftModel.from_pretrained(plain, out).eval(), base, features_of(base, 2))
    torch.testing.assert_close(theirs, wanted, atol=1e-4, rtol=1e-4)
    assert float((wanted - logits_of(base.model, base, features_of(base, 2))).abs().max()) > 0.1


def test_a_peft_export_names_the_repository_of_a_base_model_that_is_not_here(
    base: BaseModel, tmp_path: Path
) -> None:
    commit = "0123456789" * 4
    pin = base.pin.model_copy(
        update={"id": "someone/whisper", "revision": commit, "digest": f"sha256:{'a' * 64}"}
    )
    write_peft(tmp_path / "a", base, seed=1)
    artifact = seal(tmp_path / "a", manifest_fields("small/da", base_model=pin))
    adapter_hub.export_model(artifact.path, tmp_path / "out", format="peft", dtype="bfloat16")
    config = PeftConfig.from_pretrained(tmp_path / "out")
    assert (config.base_model_name_or_path, config.revision) == ("someone/whisper", commit)
    tensors = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    with pytest.raises(InvalidInputError, match=r"made for base model someone/whisper .* is another one"):
        adapter_hub.export_model(
            artifact.path, tmp_path / "other", format="peft", base_model=str(base.folder)
        )


@pytest.mark.parametrize(
    "form",
    ["ctranslate2", *(pytest.param(form, marks=pytest.mark.slow) for form in ("transformers", "peft"))],
)
def test_card_and_record_name_adapter_and_base_model_by_digest(form: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = adapter_hub.export_model("mini/da", out, format=form, tell=quietly)
    artifact = pull("mini/da")
    record = ExportRecord.read(out)
    assert record == made == check_export(out)
    assert (record.ref, [adapter.digest for adapter in record.adapters]) == (
        "mini/da@1.0.0",
        [artifact.digest],
    )
    assert record.base_model == artifact.manifest.base_model
    assert record.license == "Apache-2.0"
    assert record.size == sum(path.stat().st_size for path in out.iterdir() if path.name != "export.json")
    card = (out / "README.md").read_text()
    parent = artifact.manifest.parents[0]
    for part in (artifact.digest, record.base_model.digest, parent.digest, '- "da"', "license: apache-2.0"):
        assert part in card
    assert str(tmp_path) not in card
    (out / "README.md").write_text("another")
    (out / "more.txt").write_text("more")
    with pytest.raises(IntegrityError, match=r"more\.txt: not listed; README\.md: other bytes"):
        check_export(out)


def test_a_parakeet_is_exported_for_transformers_and_peft_and_refused_for_ctranslate2(tmp_path: Path) -> None:
    parakeet = save_small_parakeet(tmp_path / "parakeet")
    artifact = imported(tmp_path, parakeet, "da", seed=2, rank=8)
    where = {"base_model": str(parakeet)}
    adapter_hub.export_model(artifact.path, tmp_path / "out", **where)
    assert isinstance(ParakeetForCTC.from_pretrained(tmp_path / "out"), ParakeetForCTC)
    speech = samples(1.5, 3)
    exported = adapter_hub.load("base-model", base_model=str(tmp_path / "out"), device="cpu")
    adapted = adapter_hub.load(artifact.path, **where, device="cpu")
    assert exported.transcribe(speech)[0].text == adapted.transcribe(speech)[0].text
    assert adapter_hub.export_model(artifact.path, tmp_path / "peft", format="peft", **where).size > 0
    with pytest.raises(InvalidInputError, match="a Parakeet CTC, which CTranslate2 does not run"):
        adapter_hub.export_model(artifact.path, tmp_path / "no", format="ctranslate2", **where)
    assert not (tmp_path / "no").exists()


REFUSED: dict[str, tuple[Sequence[str], str]] = {
    "auto": (["auto"], "no single model is equal to it; `transcribe` and `serve` run it"),
    "a token-gated pair": ([TOKEN_PAIR], "no plain model is equal to it; `transcribe` and `serve` run it"),
    "the same for PEFT": ([TOKEN_PAIR, "--format", "peft"], "`fold` cannot make it one LoRA either"),
    "a blend for PEFT": ([BLEND, "--format", "peft"], "`adapter-hub average` makes one of these"),
    "the base model for PEFT": (["base-model", "--format", "peft"], "PEFT's format holds an adapter"),
    "a dtype for CTranslate2": (
        ["mini/da", "--format", "ctranslate2", "--dtype", "float16"],
        "CTranslate2 takes --quantization",
    ),
    "a quantization for transformers": (
        ["mini/da", "--quantization", "int8"],
        "is for ctranslate2; transformers takes --dtype",
    ),
    "no adapter": (["mini/absent"], "mini/absent"),
    "another base model": (["mini/da", "--base-model", "./absent"], "no such folder"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_exported_is_one_line_and_leaves_nothing(what: str, run: Run) -> None:
    words, message = REFUSED[what]
    done = run("export", *words, "--out", "made/out")
    assert (done.code, done.out) == (1, "")
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert not Path("made/out").exists()
    assert not list(Path().rglob(".tmp-*"))


def test_a_static_pair_has_to_be_folded_for_peft(
    base: BaseModel, adapters: Sequence[Artifact], tmp_path: Path
) -> None:
    pair = make_pair(tmp_path / "pair", base, adapters[2], kind="static", seed=31)
    with pytest.raises(InvalidInputError, match=r"`adapter-hub fold .* makes it one LoRA, exactly"):
        adapter_hub.export_model(pair.path, tmp_path / "out", format="peft", base_model=str(base.folder))


def test_words_that_no_format_has_are_refused_in_python_too(tmp_path: Path) -> None:
    for options, message in (
        ({"format": "onnx"}, "format 'onnx': expected one of transformers, ctranslate2, peft"),
        ({"dtype": "int8"}, "dtype 'int8': expected one of float32"),
        ({"format": "ctranslate2", "quantization": "int4"}, "quantization 'int4': expected one of int8"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            adapter_hub.export_model("mini/da", tmp_path / "out", **options)
    with pytest.raises(InvalidInputError, match="list as an adapter; expected one reference"):
        adapter_hub.export_model(["mini/da"], tmp_path / "out")  # type: ignore[arg-type]


def test_only_an_empty_folder_gives_way(run: Run) -> None:
    words = ("export", "mini/da", "--format", "peft", "--out")
    Path("empty").mkdir()
    assert run(*words, "empty").code == 0
    again = run(*words, "empty")
    assert "already exists; choose another --out or remove it" in again.err
    Path("file").write_text("mine")
    with pytest.raises(ConflictError, match="already exists"):
        adapter_hub.export_model("mini/da", "file")
    assert Path("file").read_text() == "mine"
    Path("link").symlink_to("absent")
    assert run(*words, "link").code == 1
    assert run(*words, "empty/file-in/README.md/x").code == 0  # folders on the way are made
    assert run(*words, "file/x").code == 1


def test_ctranslate2_that_is_not_installed_is_named_with_its_extra(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "ctranslate2"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    done = run("export", "mini/da", "--format", "ctranslate2", "--out", "out")
    assert (
        "error: exporting for CTranslate2 needs ctranslate2: run `pip install '.[ctranslate2]'`" in done.err
    )
    assert issubclass(MissingExtraError, adapter_hub.AdapterHubError)


def killed(monkey: Callable[[], None], words: Sequence[str]) -> int:
    """Run a command in a child process after something was done to it; return how it ended."""

    def child() -> None:
        monkey()
        sys.exit(main(words))

    return in_child(child)


def test_a_full_disk_and_a_kill_leave_no_folder(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["export", "mini/da", "--format", "peft", "--out", "out"]
    assert run(*words[:-1], "warm").code == 0  # the cache has the adapter

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    def deadly() -> None:
        os.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]

    assert killed(full, words) != 0
    assert capfd.readouterr().err.count("error: ") == 1
    assert not Path("out").exists()
    assert not list(Path().glob(".tmp-*"))
    assert killed(deadly, words) != 0
    assert not Path("out").exists()
    assert run(*words).code == 0
    assert check_export(Path("out")).base_model.id == EMBEDDED_ID
    shutil.rmtree("out")
