"""Commands on a Parakeet CTC and its adapters; what it lacks is refused in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from command_line import Run
from peft import PeftModel
from safetensors.torch import load_file
from small_parakeet import save_lora, save_small_parakeet
from transformers import ParakeetForCTC

import adapter_hub
from adapter_hub.artifact.folder import Artifact
from adapter_hub.base_model.families import PARAKEET, refuse_lacking
from adapter_hub.base_model.finding import find_base_model
from adapter_hub.decoding.ctc import decode_ctc, parakeet_features
from adapter_hub.decoding.decode import TextSpan
from adapter_hub.decoding.probe import check_probe, measure_probe
from adapter_hub.errors import IntegrityError
from adapter_hub.exchange.importing import Identity, base_model_pin, import_peft
from adapter_hub.formats.manifest import Language
from adapter_hub.model.base_model import BaseModel, load_base_model
from adapter_hub.model.loading import load_adapter
from adapter_hub.model.session import Session
from adapter_hub.speech.audio import SAMPLE_RATE, Audio
from adapter_hub.transcription.window_decoding import sentences

Folders = dict[str, Path]


def samples(seconds: float, seed: int) -> np.ndarray:
    """Return noise that swells, so that a random model's best symbol changes from frame to frame."""
    count = int(seconds * SAMPLE_RATE)
    swell = np.sin(np.arange(count) / 900) * np.sin(np.arange(count) / 3100 + seed)
    return (0.1 * swell * np.random.default_rng(seed).standard_normal(count)).astype(np.float32)


def imported(folder: Path, parakeet: Path, language: str, *, seed: int, rank: int) -> Artifact:
    lora = save_lora(parakeet, folder / f"lora-{language}", seed=seed, rank=rank)
    known = (Language(tag=language, decode_language=language),)
    identity = Identity(f"small/{language}", "1.0.0", known, license="Apache-2.0")
    return import_peft(lora, folder / language, identity, base_model_pin(parakeet, str(parakeet)), parakeet)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """A Parakeet, two imported adapters of it, recordings, and a data set of them."""
    folder = tmp_path_factory.mktemp("places")
    parakeet = save_small_parakeet(folder / "parakeet")
    for language, seed, rank in (("en", 1, 4), ("da", 2, 8)):
        imported(folder, parakeet, language, seed=seed, rank=rank)
    (folder / "data").mkdir()
    rows = []
    for number, seconds in enumerate((1.3, 2.4, 0.7)):
        soundfile.write(folder / "data" / f"{number}.wav", samples(seconds, number), SAMPLE_RATE)
        rows.append({"file_name": f"{number}.wav", "text": "a few words"})
    (folder / "data" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return {name: folder / name for name in ("parakeet", "en", "da", "data")}


@pytest.fixture(scope="module")
def base(places: Folders) -> BaseModel:
    return load_base_model(places["parakeet"], device="cpu")


def recordings(places: Folders) -> list[str]:
    return [str(path) for path in sorted(places["data"].glob("*.wav"))]


def test_the_base_model_alone_transcribes_in_a_language_that_nobody_names(run: Run, places: Folders) -> None:
    words = ["base-model", *recordings(places), "--base-model", places["parakeet"]]
    rows = run("transcribe", *words, "--json").json
    assert all(row["text"] for row in rows)
    assert {(row["language"], row["adapter"]) for row in rows} == {("und", "base-model")}
    named = run("transcribe", *words, "--json", "--language", "sw").json
    assert [row["text"] for row in named] == [row["text"] for row in rows]
    assert {row["language"] for row in named} == {"sw"}


def test_an_adapter_transcribes_what_the_decoder_gives_for_it(
    run: Run, places: Folders, base: BaseModel
) -> None:
    rows = run(
        "transcribe", places["da"], *recordings(places), "--base-model", places["parakeet"], "--json"
    ).json
    adapter = load_adapter(base, Artifact.open(places["da"]))
    for row, path in zip(rows, recordings(places), strict=True):
        read, _ = soundfile.read(path, dtype="float32")
        expected = decode_ctc(
            Session(base), *parakeet_features(base, [Audio(read, SAMPLE_RATE, "")]), rows=[adapter]
        )
        assert row["text"] == expected[0].text
        assert (row["language"], row["adapter"]) == ("da", "small/da@1.0.0")


def test_a_mixed_batch_gives_each_recording_what_its_adapter_gives_alone(places: Folders) -> None:
    where = {"base_model": str(places["parakeet"]), "device": "cpu"}
    refs = [str(places["en"]), str(places["da"])]
    files, languages = recordings(places), ["da", "en", "sw"]
    mixed = adapter_hub.load("auto", adapters=refs, **where).transcribe(files, languages=languages)
    alone = [
        adapter_hub.load(refs[1], **where).transcribe(files[0])[0],
        adapter_hub.load(refs[0], **where).transcribe(files[1])[0],
        adapter_hub.load("base-model", **where).transcribe(files[2])[0],
    ]
    assert [item.text for item in mixed] == [item.text for item in alone]
    assert [item.adapter for item in mixed] == ["small/da@1.0.0", "small/en@1.0.0", "base-model"]
    assert all(item.error is None for item in mixed)


def test_a_blend_is_transcribed_without_a_language(places: Folders) -> None:
    blend = f"{places['en']}*0.5+{places['da']}*0.5"
    found = adapter_hub.load(blend, base_model=str(places["parakeet"])).transcribe(recordings(places)[0])[0]
    assert found.text
    assert found.language == "und"


def test_segments_and_words_have_times_within_the_recording(run: Run, places: Folders) -> None:
    words = ["en", *recordings(places)[:2], "--base-model", places["parakeet"], "--words", "--timestamps"]
    words[0] = str(places["en"])
    for row in run("transcribe", *words, "--json").json:
        spoken = [word["word"] for word in row["words"]]
        assert "".join(spoken) == row["text"].replace(" ", "")
        assert "".join(segment["text"] for segment in row["segments"]).replace(" ", "") == "".join(spoken)
        times = [time for word in row["words"] for time in (word["start"], word["end"])]
        assert times == sorted(times)
        assert times[0] >= 0.0
        assert times[-1] <= row["duration"]
    assert run("transcribe", *words, "--format", "srt", "--out", ".").code == 0
    assert "-->" in Path("0.srt").read_text()


def test_a_pause_and_the_end_of_a_sentence_end_a_segment() -> None:
    words = [TextSpan(0.0, 0.4, "so."), TextSpan(0.4, 0.8, "then"), TextSpan(1.4, 1.6, "on")]
    assert [[word.text for word in group] for group in sentences(words)] == [["so."], ["then"], ["on"]]
    assert sentences([]) == []


def test_long_recordings_are_cut_into_windows(places: Folders) -> None:
    whole = np.concatenate([np.pad(samples(8.0, seed), (0, SAMPLE_RATE)) for seed in range(5)])
    found = adapter_hub.load("base-model", base_model=str(places["parakeet"])).transcribe(whole)[0]
    assert found.error is None
    assert len(found.segments) > 1
    assert found.segments[-1].end == pytest.approx(44.0, abs=0.5)


REFUSED: dict[str, list[str]] = {
    "beams: a Parakeet CTC has no beam search": ["--beams", "5"],
    "temperatures: a Parakeet CTC has no sampling": ["--temperatures", "0,0.4"],
    "previous_text: a Parakeet CTC has no prompts": ["--previous-text"],
    "prompt: a Parakeet CTC has no prompts": ["--prompt", "Rødgrød"],
    "previous_text, prompt: a Parakeet CTC has no prompts": ["--prompt", "Rødgrød", "--previous-text"],
    "translate: a Parakeet CTC has no translation": ["--task", "translate"],
    "decode_language: a Parakeet CTC has no language tokens": ["--decode-language", "en"],
    "languages: a Parakeet CTC has no language identification": ["--languages", "en,da"],
    "beams, translate: a Parakeet CTC has no beam search, translation": [
        "--beams",
        "2",
        "--task",
        "translate",
    ],
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_a_parakeet_lacks_is_refused_in_one_line(run: Run, places: Folders, message: str) -> None:
    words = ["base-model", recordings(places)[0], "--base-model", places["parakeet"]]
    outcome = run("transcribe", *words, *REFUSED[message])
    assert outcome.code == 1
    assert outcome.out == ""
    assert outcome.err.splitlines()[-1].startswith(f"error: {message}; leave that out")
    assert outcome.err.count("error: ") == 1


def test_greedy_search_may_be_named(run: Run, places: Folders) -> None:
    words = ["base-model", recordings(places)[0], "--base-model", places["parakeet"]]
    assert run("transcribe", *words, "--beams", "1", "--task", "transcribe").code == 0
    refuse_lacking(PARAKEET, ["transcribe", "words"])


def test_auto_needs_the_language_of_each_recording(run: Run, places: Folders) -> None:
    words = [recordings(places)[0], "--adapter", places["en"], "--base-model", places["parakeet"]]
    outcome = run("transcribe", "auto", *words)
    assert outcome.code == 1
    assert "a Parakeet CTC cannot tell languages apart; name the language, or one adapter" in outcome.err
    assert outcome.err.count("error: ") == 1


def test_a_report_says_that_the_search_was_greedy(run: Run, places: Folders) -> None:
    words = ["--data", places["data"], "--base-model", places["parakeet"], "--json"]
    report = run("evaluate", places["en"], *words).json
    assert report["decoding"] == {"beams": 1, "timestamps": False, "language": "en"}
    assert report["subject"]["name"] == "small/en"
    plain = run("evaluate", "base-model", *words, "--language", "en").json
    assert [row["hypothesis"] for row in plain["rows"]] != [row["hypothesis"] for row in report["rows"]]
    refused = run("evaluate", places["en"], *words, "--beams", "5")
    assert refused.code == 1
    assert "a Parakeet CTC has no beam search" in refused.err


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--task", "translate"], "translate: a Parakeet CTC has no translation"),
        (["--timestamps"], "timestamp tokens: a Parakeet CTC has no timestamp tokens"),
    ],
)
def test_import_refuses_what_it_cannot_have_been_trained_for(
    run: Run, places: Folders, option: list[str], message: str
) -> None:
    lora = places["en"].with_name("lora-en")
    words = [lora, "--base-model", places["parakeet"], "--language", "en", "--out", "made"]
    outcome = run("import", *words, *option)
    assert outcome.code == 1
    assert message in outcome.err
    assert not Path("made").exists()


def test_a_copy_of_the_hub_needs_no_generation_settings(
    places: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789abcdef0123456789abcdef01234567"
    copy = tmp_path / "models--test--parakeet" / "snapshots" / commit
    shutil.copytree(places["parakeet"], copy)
    (copy / "generation_config.json").unlink()
    assert find_base_model("test/parakeet") == (copy, commit)


def test_a_probe_proves_the_effect_of_an_adapter(places: Folders, base: BaseModel) -> None:
    adapter = load_adapter(base, Artifact.open(places["en"]))
    probe = measure_probe(base, adapter)
    check_probe(base, adapter, probe)
    assert probe.adapter_logits != probe.base_model_logits
    assert probe.adapter_text.tokens
    with pytest.raises(IntegrityError, match="adapter's logits are .* off"):
        check_probe(base, load_adapter(base, Artifact.open(places["da"])), probe)


def test_an_average_is_the_mean_of_the_merged_models_and_its_audit_computes_it_again(
    run: Run, places: Folders, tmp_path: Path
) -> None:
    base_model = ["--base-model", places["parakeet"]]
    words = ["--as", "small/mean@1.0.0", "--out", "mean", *base_model]
    assert run("average", places["en"], places["da"], *words).code == 0
    merged: list[dict[str, Any]] = []
    for folder in (places["en"], places["da"], tmp_path / "mean"):
        model = PeftModel.from_pretrained(ParakeetForCTC.from_pretrained(places["parakeet"]), str(folder))
        merged.append(model.merge_and_unload().state_dict())
    one, two, mean = merged
    for name, value in mean.items():
        if value.is_floating_point():
            assert torch.allclose(value, (one[name] + two[name]) / 2, atol=1e-6), name
    manifest = Artifact.open(tmp_path / "mean").manifest
    assert manifest.probe is not None
    assert manifest.rank == 12
    adapters = [places["en"], places["da"]]
    for folder in [*adapters, Path("mean")]:
        assert run("publish", folder if folder.is_absolute() else f"./{folder}").code == 0
    audited = run("audit", "small/mean", "--probe", *base_model, "--json")
    codes = {finding["code"] for finding in audited.json}
    assert audited.code == 0
    assert not codes & {"average-differs", "average-unchecked", "probe-differs", "probe-missing"}
    said = run("transcribe", "small/mean", recordings(places)[0], *base_model, "--language", "en")
    assert said.code == 0


def test_other_methods_average_its_convolutions_too(run: Run, places: Folders) -> None:
    words = ["--as", "small/ties@1.0.0", "--out", "ties", "--base-model", places["parakeet"], "--method"]
    assert run("average", places["en"], places["da"], *words, "ties").code == 0
    tensors = load_file("ties/adapter_model.safetensors")
    shape = tensors["base_model.model.encoder.layers.0.conv.pointwise_conv1.lora_B.weight"].shape
    assert len(shape) == len(
        load_file(places["en"] / "adapter_model.safetensors")[
            "base_model.model.encoder.layers.0.conv.pointwise_conv1.lora_B.weight"
        ].shape
    )


def test_an_adapter_for_translation_is_not_loaded(places: Folders, base: BaseModel, tmp_path: Path) -> None:
    from audit_defects import forge

    shutil.copytree(places["en"], tmp_path / "odd")
    forge(tmp_path / "odd", task="translate")
    with pytest.raises(IntegrityError, match="made for translation, which .* has not"):
        load_adapter(base, Artifact.open(tmp_path / "odd"))
