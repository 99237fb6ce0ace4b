"""Training on a small real Whisper: what comes out, what is refused, what survives an interruption."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from peft import PeftModel
from safetensors.torch import load_file
from small_whisper import make_adapter, write_speech
from transformers import WhisperForConditionalGeneration

from adapter_hub.cache import Cache
from adapter_hub.errors import ConflictError, InvalidInputError, NotFoundError
from adapter_hub.exchange import publish
from adapter_hub.registry import Registry
from adapter_hub.runtime.base_model import BaseModel
from adapter_hub.speech.dataset import read_dataset
from adapter_hub.stores.folder import FolderStore
from adapter_hub.trainers.data_check import check_data
from adapter_hub.trainers.engine import LikeLengths
from adapter_hub.trainers.examples import prepare
from adapter_hub.trainers.recipe import NEAREST
from adapter_hub.trainers.similarity import candidates, measure_similarity, ranked
from adapter_hub.trainers.training import train
from adapter_hub.trainers.variable_length import encode

WORDS = ["nul", "en", "to", "tre", "fire", "fem"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A Danish data set of twelve clips, with a dev split of four."""
    for split, count in (("train", 12), ("dev", 4)):
        folder = tmp_path / "data" / split
        folder.mkdir(parents=True)
        rows = []
        for i in range(count):
            write_speech(folder / f"{i}.wav", seconds=0.5 + 0.1 * i, seed=i)
            rows.append({"file_name": f"{i}.wav", "text": WORDS[i % 6], "speaker": f"{split}{i % 3}"})
        (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "data"


def recipe(folder: Path, base_folder: Path, *, extra: str = "", **changes: Any) -> Path:
    """Write a recipe for the small base model."""
    settings = {"method": '"lora"', "rank": 4, "dtype": '"float16"', "epochs": 2, "rate": 5e-3} | changes
    path = folder / "recipe.toml"
    path.write_text(
        f"""
[adapter]
name = "small/da"
version = "1.0.0"
method = {settings["method"]}
language = "da"
license = "MIT"
[base_model]
id = "{base_folder}"
{extra}
[data]
train = "data/train"
dev = "data/dev"
[lora]
rank = {settings["rank"]}
dtype = {settings["dtype"]}
[training]
epochs = {settings["epochs"]}
batch_size = 4
peak_learning_rate = {settings["rate"]}
spec_augment = true
audio_length = "batch"
"""
    )
    return path


def places(folder: Path) -> dict[str, Any]:
    """Return where a test trains: its own registry and cache."""
    return {
        "registries": (Registry(folder / "registry.json"),),
        "cache": Cache(folder / "cache"),
        "device": "cpu",
    }


def test_training_writes_an_artifact_that_is_whole_and_does_something(
    tmp_path: Path, data: Path, base_folder: Path
) -> None:
    path, said = recipe(tmp_path, base_folder), []
    artifact = train(path, tmp_path / "out", tell=said.append, **places(tmp_path))
    artifact.verify()
    manifest = artifact.manifest
    assert manifest.recipe == path.read_text()
    assert (manifest.method, manifest.lora[0].dtype, manifest.rank) == ("lora", "float16", 4)
    assert manifest.training is not None
    assert manifest.training.steps == 6
    assert manifest.data[0].utterances == 12
    assert manifest.probe is not None
    assert manifest.probe.adapter_logits != manifest.probe.base_model_logits
    assert not (tmp_path / "out.training").exists()
    assert any("dev loss" in line and "left" in line for line in said)


def test_the_same_recipe_again_gives_the_same_weights_and_a_finished_one_is_not_trained_again(
    tmp_path: Path, data: Path, base_folder: Path
) -> None:
    path = recipe(tmp_path, base_folder)
    first = train(path, tmp_path / "one", **places(tmp_path))
    second = train(path, tmp_path / "two", **places(tmp_path))
    assert first.manifest.weights_digest == second.manifest.weights_digest
    assert train(path, tmp_path / "one", **places(tmp_path)).digest == first.digest
    path.write_text(path.read_text().replace("epochs = 2", "epochs = 1"))
    with pytest.raises(ConflictError, match="was not made by this recipe; choose another --out"):
        train(path, tmp_path / "one", **places(tmp_path))


def test_plain_peft_loads_what_was_trained(
    tmp_path: Path, data: Path, base_folder: Path, base: BaseModel
) -> None:
    artifact = train(recipe(tmp_path, base_folder), tmp_path / "out", **places(tmp_path))
    plain = WhisperForConditionalGeneration.from_pretrained(base_folder, dtype=torch.float32)
    model = PeftModel.from_pretrained(plain, artifact.path).eval()
    weights = load_file(artifact.path / "adapter_model.safetensors")
    found = dict(model.named_parameters())
    for name, tensor in weights.items():
        loaded = found[name.replace(".weight", ".default.weight")]
        assert torch.equal(loaded, tensor.float()), name


def test_a_warm_start_begins_where_its_seed_stands_also_at_a_higher_rank(
    tmp_path: Path, data: Path, base_folder: Path, base: BaseModel
) -> None:
    from adapter_hub.trainers.methods import inject
    from adapter_hub.trainers.recipe import read_recipe

    seed = make_adapter(tmp_path / "seed", base, seed=5, language="pl")
    extra = f'[seed]\nadapter = "{seed.path}"'
    file = read_recipe(recipe(tmp_path, base_folder, extra=extra, method='"warm-start"', rank=6))
    features = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 80, 400)).astype(np.float32))
    start = torch.tensor([[1, 2, 3]])
    plain = WhisperForConditionalGeneration.from_pretrained(base_folder, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(plain, seed.path).eval()
    wanted = theirs(input_features=features, decoder_input_ids=start).logits
    fresh = WhisperForConditionalGeneration.from_pretrained(base_folder, dtype=torch.float32)
    ours = inject(fresh, file.recipe, [seed]).eval()
    torch.testing.assert_close(ours(input_features=features, decoder_input_ids=start).logits, wanted)


def test_a_warm_start_records_its_seed_and_why_it_is_the_nearest(
    tmp_path: Path, data: Path, base_folder: Path, base: BaseModel
) -> None:
    registry = Registry(tmp_path / "registry.json")
    seed = make_adapter(tmp_path / "seed", base, seed=5, language="pl")
    publish(seed.path, registry=registry, store=FolderStore(tmp_path / "store"))
    extra = f'[seed]\nadapter = "{NEAREST}"\nsegments = 6'
    path = recipe(tmp_path, base_folder, extra=extra, method='"warm-start"')
    artifact = train(path, tmp_path / "out", **places(tmp_path))
    (parent,) = artifact.manifest.parents
    assert (parent.role, parent.digest) == ("seed", seed.digest)
    assert artifact.manifest.similarity[0].scores == {"pl": 1.0}
    assert artifact.manifest.similarity[0].segments == 6
    assert seed.digest in artifact.ancestors()


def test_a_seed_that_does_not_fit_is_refused(
    tmp_path: Path, data: Path, base_folder: Path, base: BaseModel
) -> None:
    seed = make_adapter(tmp_path / "seed", base, seed=5, rank=8)
    extra = f'[seed]\nadapter = "{seed.path}"'
    path = recipe(tmp_path, base_folder, extra=extra, method='"warm-start"', rank=4)
    with pytest.raises(InvalidInputError, match=r"rank 8 at .*, above the recipe's; raise lora.rank"):
        train(path, tmp_path / "out", **places(tmp_path))
    assert not (tmp_path / "out").exists()


def test_nearest_without_any_adapter_to_start_from_says_so(
    tmp_path: Path, data: Path, base_folder: Path
) -> None:
    extra = f'[seed]\nadapter = "{NEAREST}"'
    path = recipe(tmp_path, base_folder, extra=extra, method='"warm-start"')
    with pytest.raises(NotFoundError, match="no registry holds a lora adapter for this base model"):
        train(path, tmp_path / "out", **places(tmp_path))


def test_an_exploding_loss_stops_with_advice(tmp_path: Path, data: Path, base_folder: Path) -> None:
    path = recipe(tmp_path, base_folder, rate=1e30, epochs=4)
    with pytest.raises(InvalidInputError, match="the loss is nan at step .*; lower peak_learning_rate"):
        train(path, tmp_path / "out", **places(tmp_path))
    assert not (tmp_path / "out").exists()


def test_a_module_that_the_base_model_lacks_is_named(tmp_path: Path, data: Path, base_folder: Path) -> None:
    path = recipe(tmp_path, base_folder)
    path.write_text(path.read_text().replace("[lora]", '[lora]\nmodules = ["q_proj", "w_proj"]'))
    with pytest.raises(InvalidInputError, match="the base model has no linear named 'w_proj'"):
        train(path, tmp_path / "out", **places(tmp_path))


def test_a_language_without_token_has_to_borrow_one(tmp_path: Path, data: Path, base_folder: Path) -> None:
    path = recipe(tmp_path, base_folder)
    path.write_text(path.read_text().replace('language = "da"', 'language = "mdw"'))
    with pytest.raises(InvalidInputError, match="mdw"):
        train(path, tmp_path / "out", **places(tmp_path))
    path.write_text(path.read_text().replace('"mdw"', '"mdw"\ndecode_language = "da"'))
    artifact = train(path, tmp_path / "out", **places(tmp_path))
    assert artifact.manifest.languages[0].tag == "mdw"
    assert artifact.manifest.languages[0].decode_language == "da"


CHILD = """
import sys, time
from pathlib import Path
from adapter_hub.cache import Cache
from adapter_hub.registry import Registry
from adapter_hub.trainers.training import train
folder = Path(sys.argv[1])
def tell(line):
    print(line, flush=True)
    if "dev loss" in line:
        time.sleep(0.5)
train(Path(sys.argv[2]), folder / sys.argv[3], registries=(Registry(folder / "registry.json"),),
      cache=Cache(folder / "cache"), device="cpu", tell=tell)
"""


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_training_goes_on_and_ends_with_the_same_weights(
    way: signal.Signals, tmp_path: Path, data: Path, base_folder: Path
) -> None:
    path = recipe(tmp_path, base_folder, epochs=4)
    whole = train(path, tmp_path / "whole", **places(tmp_path))
    command = [sys.executable, "-c", CHILD, str(tmp_path), str(path), "out"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    seen = 0
    for line in child.stdout:
        seen += "dev loss" in line
        if seen == 2:  # the first epoch's checkpoint is on disk by then
            child.send_signal(way)
            break
    _, errors = child.communicate(timeout=120)
    assert child.returncode != 0
    assert not (tmp_path / "out").exists()
    if way == signal.SIGINT:
        assert "run the same command to go on" in errors
    said: list[str] = []
    resumed = train(path, tmp_path / "out", tell=said.append, **places(tmp_path))
    assert any("going on from checkpoint" in line for line in said)
    assert resumed.manifest.weights_digest == whole.manifest.weights_digest


def test_rows_that_cannot_be_used_are_dropped_with_their_reason(
    tmp_path: Path, data: Path, base: BaseModel
) -> None:
    folder = data / "train"
    write_speech(folder / "long.wav", seconds=9)
    write_speech(folder / "short.wav", seconds=0.05)
    (folder / "empty.wav").write_bytes(b"")
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    rows += [{"file_name": f"{name}.wav", "text": "en"} for name in ("long", "short", "empty")]
    rows += [{"file_name": "0.wav", "text": "tre " * 40}]
    rows[-1]["file_name"] = "wordy.wav"
    write_speech(folder / "wordy.wav")
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepared = prepare(read_dataset(folder), base, language="da")
    reasons = {row.id: row.reason for row in prepared.dropped}
    assert len(prepared.examples) == 12
    assert "takes at most 4 s" in reasons["long.wav"]
    assert "expected at least 0.1 s" in reasons["short.wav"]
    assert "empty" in reasons["empty.wav"]
    assert "the decoder holds 40" in reasons["wordy.wav"]
    report = check_data(data, base, language="da")
    assert not report.clean
    assert {row.id for split in report.splits for row in split.dropped} == set(reasons)


def test_data_check_tells_which_speakers_the_splits_share(
    tmp_path: Path, data: Path, base: BaseModel
) -> None:
    text = (data / "dev" / "metadata.jsonl").read_text()
    (data / "dev" / "metadata.jsonl").write_text(text.replace("dev1", "train1"))
    report = check_data(data, base, language="da")
    assert report.clean
    assert report.shared_speakers == {"train and dev": ["train1"]}
    assert report.shared_transcripts["train and dev"] == 4


def test_a_data_set_without_one_usable_row_is_refused(tmp_path: Path, base: BaseModel) -> None:
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.wav", "text": "en"}\n')
    soundfile.write(tmp_path / "a.wav", np.zeros(100, np.float32), 16000)
    with pytest.raises(InvalidInputError, match="no row can be used, the first because of: a.wav: 0.006 s"):
        prepare(read_dataset(tmp_path), base, language="da")


def test_similarity_is_the_share_of_clips_whose_argmax_a_language_is(data: Path, base: BaseModel) -> None:
    dataset = read_dataset(data / "train")
    measured = measure_similarity(base, dataset, among=["pl", "zh", "ja"], segments=8)
    again = measure_similarity(base, dataset, among=["pl", "zh", "ja"], segments=8)
    assert measured == again
    assert sum(measured.scores.values()) == pytest.approx(1.0)
    assert sum(measured.mean_probabilities.values()) == pytest.approx(1.0, abs=1e-4)
    assert set(measured.mean_probabilities) == set(base.decode_languages)
    assert all(round(8 * score) == 8 * score for score in measured.scores.values())
    assert ranked(measured)[0] == max(measured.scores, key=lambda k: measured.scores[k])
    with pytest.raises(InvalidInputError, match="xx"):
        measure_similarity(base, dataset, among=["xx"])


def test_candidates_are_active_loras_of_the_same_base_model(tmp_path: Path, base: BaseModel) -> None:
    registry = Registry(tmp_path / "registry.json")
    for language in ("pl", "ja"):
        artifact = make_adapter(tmp_path / language, base, seed=1, language=language)
        publish(artifact.path, registry=registry, store=FolderStore(tmp_path / "store"))
    assert set(candidates((registry,), base)) == {"pl", "ja"}
    assert set(candidates((registry,), base, leave_out="ja")) == {"pl"}


def test_the_encoder_for_variable_lengths_is_whispers_own_at_the_whole_chunk(base: BaseModel) -> None:
    features = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 80, 400)).astype(np.float32))
    encoder = base.model.get_encoder()
    assert torch.equal(encode(encoder, features).last_hidden_state, encoder(features).last_hidden_state)
    assert encode(encoder, features[:, :, :100]).last_hidden_state.shape == (2, 50, 32)


def test_an_epoch_visits_every_row_once_in_an_order_of_its_own(data: Path, base: BaseModel) -> None:
    examples = prepare(read_dataset(data / "train"), base, language="da").examples
    sampler = LikeLengths(examples, 5, random_seed=1)
    first = list(sampler)
    assert sorted(first) == list(range(12))
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) != first
