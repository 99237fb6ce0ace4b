"""What training makes of a data set: what is used, what is dropped, what it is similar to."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from command_line import Run
from small_whisper import make_adapter, write_speech

from adapter_hub.data.dataset import data_sha256, read_dataset
from adapter_hub.decoding.decode import prompt_tokens
from adapter_hub.decoding.options import DecodingOptions
from adapter_hub.errors import InvalidInputError
from adapter_hub.exchange import Places, publish
from adapter_hub.model.base_model import BaseModel
from adapter_hub.registry.file import FileRegistry
from adapter_hub.stores.folder import FolderStore
from adapter_hub.trainers.data.check import DataReport, check_data, sources_at
from adapter_hub.trainers.data.preparing import prepare
from adapter_hub.trainers.data.rows import RowRules
from adapter_hub.trainers.data.sources import Source
from adapter_hub.trainers.loop.batches import LengthGroupedSampler
from adapter_hub.trainers.loop.variable_length import encode
from adapter_hub.trainers.similarity import candidates, measure_similarity, ranked

DANISH = RowRules(language="da")


def check(place: Path, base: BaseModel) -> DataReport:
    sources, rules = sources_at(place, place)
    return check_data(sources, base, rules)


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
    prepared = prepare([Source(read_dataset(folder))], base, DANISH)
    reasons = {row.id: row.reason for row in prepared.dropped}
    assert len(prepared.examples) == 12
    assert prepared.sha256 == data_sha256(read_dataset(folder))  # of all rows, as `evaluate` computes it
    assert "takes at most 4 s" in reasons["long.wav"]
    assert "expected at least 0.1 s" in reasons["short.wav"]
    assert "empty" in reasons["empty.wav"]
    assert "the decoder holds 40" in reasons["wordy.wav"]
    report = check(data, base)
    assert not report.clean
    assert {row.id for split in report.splits for row in split.dropped} == set(reasons)


def test_data_check_tells_which_speakers_the_splits_share(
    tmp_path: Path, data: Path, base: BaseModel
) -> None:
    text = (data / "dev" / "metadata.jsonl").read_text()
    (data / "dev" / "metadata.jsonl").write_text(text.replace("dev1", "train1"))
    report = check(data, base)
    assert report.clean
    assert report.shared_speakers == {"train and dev": ["train1"]}
    assert report.shared_transcripts["train and dev"] == 4


def test_a_data_set_without_one_usable_row_is_refused(tmp_path: Path, base: BaseModel) -> None:
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.wav", "text": "en"}\n')
    soundfile.write(tmp_path / "a.wav", np.zeros(100, np.float32), 16000)
    with pytest.raises(InvalidInputError, match="no row can be used, the first because of: a.wav: 0.006 s"):
        prepare([Source(read_dataset(tmp_path))], base, DANISH)


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
    registry = FileRegistry(tmp_path / "registry.json")
    for language in ("pl", "ja"):
        artifact = make_adapter(tmp_path / language, base, seed=1, language=language)
        publish(artifact.path, Places(registry, FolderStore(tmp_path / "store")))
    assert set(candidates((registry,), base)) == {"pl", "ja"}
    assert set(candidates((registry,), base, leave_out="ja")) == {"pl"}


def test_similarity_leaves_the_language_of_the_speech_out(
    tmp_path: Path, data: Path, base: BaseModel, run: Run
) -> None:
    registry = FileRegistry(tmp_path / "registry.json")
    for language in ("pl", "ja"):
        artifact = make_adapter(tmp_path / language, base, seed=1, language=language)
        publish(artifact.path, Places(registry, FolderStore(tmp_path / "store")))
    words = ["similarity", "--data", data / "train", "--segments", "4", "--base-model", base.folder, "--json"]
    assert set(run(*words).json["scores"]) == {"pl", "ja"}
    assert set(run(*words, "--language", "ja-JP").json["scores"]) == {"pl"}
    assert set(run(*words, "--language", "ja", "--among", "zh,ja").json["scores"]) == {"zh"}


def test_the_encoder_for_variable_lengths_is_whispers_own_at_the_whole_chunk(base: BaseModel) -> None:
    features = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 80, 400)).astype(np.float32))
    encoder = base.model.get_encoder()
    assert torch.equal(encode(encoder, features).last_hidden_state, encoder(features).last_hidden_state)
    assert encode(encoder, features[:, :, :100]).last_hidden_state.shape == (2, 50, 32)


def test_an_epoch_visits_every_row_once_in_an_order_of_its_own(data: Path, base: BaseModel) -> None:
    examples = prepare([Source(read_dataset(data / "train"))], base, DANISH).examples
    sampler = LengthGroupedSampler(examples, 2, random_seed=1)
    first = list(sampler)
    assert sorted(first) == list(range(12))
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) != first


@pytest.mark.parametrize("multilingual", [True, False])
def test_a_row_is_trained_on_after_the_prompt_that_decoding_starts_with(
    multilingual: bool, data: Path, base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base.model.generation_config, "is_multilingual", multilingual)
    language = "da" if multilingual else "en"
    examples = prepare([Source(read_dataset(data / "train"))], base, RowRules(language=language)).examples
    wanted = prompt_tokens(base, language, DecodingOptions(timestamps=False))
    assert {example.tokens[: example.prompt] for example in examples} == {tuple(wanted)}
    if not multilingual:
        with pytest.raises(InvalidInputError, match="language 'da', task transcribe: the base model is Engl"):
            prepare([Source(read_dataset(data / "train"))], base, RowRules(language="da"))
