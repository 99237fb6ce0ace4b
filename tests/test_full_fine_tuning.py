"""Full fine-tunes of a small real Whisper: folders that transformers opens, scored, never published."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from command_line import Run
from small_training import places, recipe
from transformers import WhisperForConditionalGeneration

from adapter_hub.errors import ConflictError, InvalidInputError, NotFoundError
from adapter_hub.exchange import Places, publish
from adapter_hub.formats.full_fine_tune import FullFineTune
from adapter_hub.model.base_model import BaseModel, load_base_model
from adapter_hub.registry.file import FileRegistry
from adapter_hub.stores.folder import FolderStore
from adapter_hub.trainers.published_recipe import published_recipe
from adapter_hub.trainers.recipe import read_recipe
from adapter_hub.trainers.training import train


def full_recipe(folder: Path, base_folder: Path, **changes: object) -> Path:
    path = recipe(folder, base_folder, method='"full-fine-tuning"', rate=1e-3, **changes)
    text = path.read_text()
    path.write_text(text[: text.index("[lora]")] + text[text.index("[training]") :])
    return path


def test_a_full_fine_tune_is_a_base_model_with_a_record(
    tmp_path: Path, data: Path, base_folder: Path, base: BaseModel
) -> None:
    path, said = full_recipe(tmp_path, base_folder), []
    record = train(path, tmp_path / "out", tell=said.append, **places(tmp_path))
    assert isinstance(record, FullFineTune)
    assert record == FullFineTune.read(tmp_path / "out")
    assert record.recipe == published_recipe(read_recipe(path))
    assert record.decode_languages == ("da",)
    assert (record.base_model.digest, record.training.steps) == (base.digest, 6)
    assert record.data[0].utterances == 12
    loaded = load_base_model(tmp_path / "out", device="cpu")
    assert (loaded.digest, loaded.dtype) == (record.digest, torch.float32)
    assert loaded.digest != base.digest
    theirs = dict(base.model.named_parameters())
    for name, tensor in loaded.model.named_parameters():
        assert torch.equal(tensor, theirs[name]) == name.endswith("encoder.embed_positions.weight"), name
    plain = WhisperForConditionalGeneration.from_pretrained(tmp_path / "out")
    assert plain.generation_config.lang_to_id == base.model.generation_config.lang_to_id
    assert plain.proj_out.weight is plain.model.decoder.embed_tokens.weight
    assert any("dev loss" in line for line in said)
    assert train(path, tmp_path / "out", **places(tmp_path)) == record
    path.write_text(path.read_text().replace("epochs = 2", "epochs = 1"))
    with pytest.raises(ConflictError, match="was not made by this recipe"):
        train(path, tmp_path / "out", **places(tmp_path))


def test_a_full_fine_tune_on_several_languages_records_them(
    tmp_path: Path, data: Path, base_folder: Path
) -> None:
    path = full_recipe(tmp_path, base_folder)
    sources = "".join(
        f'[[data.train]]\nfolder = "data/{split}"\nlanguage = "{language}"\n'
        for split, language in (("train", "pl"), ("dev", "da"))
    )
    text = path.read_text().replace('language = "da"\n', "").replace('dev = "data/dev"\n', "")
    path.write_text(text.replace('train = "data/train"\n', sources))
    record = train(path, tmp_path / "out", **places(tmp_path))
    assert isinstance(record, FullFineTune)
    assert record.decode_languages == ("da", "pl")
    assert [source.utterances for source in record.data] == [12, 4]


@pytest.mark.slow
def test_a_full_fine_tune_goes_on_from_its_checkpoint(tmp_path: Path, data: Path, base_folder: Path) -> None:
    path = full_recipe(tmp_path, base_folder)
    whole = train(path, tmp_path / "whole", **places(tmp_path))

    class Stopped(Exception):  # noqa: N818
        pass

    def stop(line: str) -> None:
        if line.startswith("step 6/6"):
            raise Stopped(line)

    with pytest.raises(Stopped, match="step 6"):
        train(path, tmp_path / "out", tell=stop, **places(tmp_path))
    said: list[str] = []
    again = train(path, tmp_path / "out", tell=said.append, **places(tmp_path))
    assert "resuming from checkpoint-3" in said
    assert isinstance(again, FullFineTune)
    assert isinstance(whole, FullFineTune)
    assert again.digest == whole.digest


def test_a_full_fine_tune_is_scored_as_a_base_model_and_never_published(
    tmp_path: Path, data: Path, base_folder: Path, run: Run
) -> None:
    path = full_recipe(tmp_path, base_folder)
    outcome = run("--device", "cpu", "train", path, "--out", "full", "--json")
    assert outcome.code == 0, outcome.err
    assert "next: adapter-hub evaluate base-model --data FOLDER --base-model full" in outcome.err
    digest = outcome.json["digest"]
    options = ["--data", data, "--split", "dev", "--language", "da", "--beams", "1", "--json"]
    report = run("evaluate", "base-model", "--base-model", "full", *options)
    assert report.code == 0, report.err
    assert report.json["base_model_digest"] == digest
    refused = run("publish", "full")
    assert refused.code == 1
    assert refused.err.strip() == (
        "error: full: a full fine-tune, not an adapter, and never published; "
        "`adapter-hub evaluate base-model --base-model full` scores it"
    )
    with pytest.raises(InvalidInputError, match="a full fine-tune, not an adapter, and never published"):
        publish("full", Places(FileRegistry(tmp_path / "r.json"), FolderStore(tmp_path / "store")))


def test_an_adapter_of_a_full_fine_tune_names_it_as_its_base_model(
    tmp_path: Path, data: Path, base_folder: Path
) -> None:
    record = train(full_recipe(tmp_path, base_folder), tmp_path / "full", **places(tmp_path))
    artifact = train(recipe(tmp_path, tmp_path / "full"), tmp_path / "out", **places(tmp_path))
    assert isinstance(record, FullFineTune)
    assert artifact.manifest.base_model.digest == record.digest


def test_a_folder_without_a_record_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no full_fine_tuning\.json; expected what a full fine-tune"):
        FullFineTune.read(tmp_path)
    (tmp_path / "full_fine_tuning.json").write_text(json.dumps({"schema": "full-fine-tune/1"}))
    with pytest.raises(InvalidInputError, match=r"full_fine_tuning\.json"):
        FullFineTune.read(tmp_path)
