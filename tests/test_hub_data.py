"""Data sets on the Hub: fetched once and whole, the same rows as a folder, and every wrong name told."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_speech import (
    downloads,
    encoded,
    folder_of_rows,
    parquet,
    publish_data,
    reader,
    rows_of_speech,
)
from huggingface_hub import HfApi
from loopback_hub import LoopbackHub

from adapter_hub.data.dataset import Dataset, data_sha256, read_dataset
from adapter_hub.data.hub_dataset import HubSplit, read_hub_dataset
from adapter_hub.data.parquet_shard import unpack
from adapter_hub.errors import (
    AccessError,
    IntegrityError,
    InvalidInputError,
    MissingExtraError,
    NotFoundError,
    UnreachableError,
)
from adapter_hub.hub import RepoId, check_pin
from adapter_hub.model.base_model import BaseModel
from adapter_hub.stores.cache import Cache
from adapter_hub.trainers.data.preparing import prepare
from adapter_hub.trainers.data.rows import RowRules
from adapter_hub.trainers.data.sources import Source

NAME = "alice/fleurs"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    with LoopbackHub(tmp_path / "hub") as running:
        yield running


@pytest.fixture(scope="module")
def danish() -> list[dict[str, Any]]:
    """Eight rows; every Ogg file has a random number in it, so that they are made once."""
    return [*rows_of_speech(5), *rows_of_speech(3, first=5, kind="opus")]


@pytest.fixture
def commit(hub: LoopbackHub, danish: list[dict[str, Any]]) -> str:
    """Danish in two files and Welsh in one, as the Hub's converter lays them out."""
    return publish_data(
        hub,
        NAME,
        {
            "da_dk/train/0000.parquet": parquet(danish[:5]),
            "da_dk/train/0001.parquet": parquet(danish[5:]),
            "da_dk/test/0000.parquet": parquet(rows_of_speech(2, first=20, kind="wav")),
            "cy_gb/train/0000.parquet": parquet(rows_of_speech(2, first=30)),
        },
    )


def read(hub: LoopbackHub, cache: Path, commit: str, config: str = "da_dk", split: str = "train") -> Dataset:
    wanted = HubSplit(RepoId(NAME, "dataset"), commit, split, config)
    return read_hub_dataset(wanted, cache, reader(hub))


def test_rows_are_those_of_the_same_folder(
    tmp_path: Path, hub: LoopbackHub, commit: str, danish: list[dict[str, Any]]
) -> None:
    dataset = read(hub, tmp_path / "cache", commit)
    folder = read_dataset(folder_of_rows(tmp_path / "folder", danish))
    assert (dataset.name, dataset.split) == ("alice/fleurs:da_dk", "train")
    assert [(row.id, row.text) for row in dataset.rows] == [(row.id, row.text) for row in folder.rows]
    assert dataset.rows[1].speaker == "s1"
    assert data_sha256(dataset) == data_sha256(folder)
    for ours, theirs in zip(dataset.rows, folder.rows, strict=True):
        assert ours.clip.read().samples.tobytes() == theirs.clip.read().samples.tobytes()
        assert ours.clip.seconds() == pytest.approx(theirs.clip.seconds(), abs=1e-6)
        assert ours.clip.sha256() == ours.clip.read().sha256 == theirs.clip.sha256()


def test_examples_are_those_of_the_same_folder(
    tmp_path: Path, hub: LoopbackHub, commit: str, base: BaseModel, danish: list[dict[str, Any]]
) -> None:
    dataset = read(hub, tmp_path / "cache", commit)
    folder = read_dataset(folder_of_rows(tmp_path / "folder", danish))
    ours = prepare([Source(dataset)], base, RowRules(language="da"))
    theirs = prepare([Source(folder)], base, RowRules(language="da"))
    assert ours.sha256 == theirs.sha256
    assert [e.features.tobytes() for e in ours.examples] == [e.features.tobytes() for e in theirs.examples]


def test_what_is_there_costs_no_request(
    tmp_path: Path, hub: LoopbackHub, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read(hub, tmp_path / "cache", commit)
    assert downloads(hub) == ["da_dk/train/0000.parquet", "da_dk/train/0001.parquet"]
    asked = len(hub.log.entries())
    assert read(hub, tmp_path / "cache", commit) == first
    assert len(hub.log.entries()) == asked
    assert not list((tmp_path / "cache").rglob("*.parquet"))
    welsh = HubSplit(RepoId(NAME, "dataset"), commit, "train", "cy_gb")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert read(hub, tmp_path / "cache", commit) == first
    with pytest.raises(UnreachableError, match=r"alice/fleurs.*HF_HUB_OFFLINE is set"):
        read_hub_dataset(welsh, tmp_path / "cache", reader(hub))


def test_another_text_column_asks_for_nothing_again(tmp_path: Path, hub: LoopbackHub, commit: str) -> None:
    read(hub, tmp_path / "cache", commit)
    asked = len(hub.log.entries())
    wanted = HubSplit(RepoId(NAME, "dataset"), commit, "train", "da_dk", text_column="raw_transcription")
    assert read_hub_dataset(wanted, tmp_path / "cache", reader(hub)).rows[0].text == "NUL."
    assert len(hub.log.entries()) == asked


LAYOUTS = {
    "data/da_dk/train-00000-of-00002.parquet": ("da_dk", "train"),
    "parquet-data/da_dk/validation-00000-of-00001.parquet": ("da_dk", "validation"),
    "polish/9_hours-00000-of-00001.parquet": ("polish", "9_hours"),
    "data/train-00000-of-00001-0123456789abcdef.parquet": (None, "train"),
    "test.parquet": (None, "test"),
    "clean/train.360/0000.parquet": ("clean", "train.360"),
}


@pytest.mark.parametrize("path", LAYOUTS)
def test_files_are_found_by_the_names_that_are_usual(path: str, tmp_path: Path, hub: LoopbackHub) -> None:
    config, split = LAYOUTS[path]
    commit = publish_data(hub, NAME, {path: parquet(rows_of_speech(2))})
    wanted = HubSplit(RepoId(NAME, "dataset"), commit, split, config)
    assert len(read_hub_dataset(wanted, tmp_path / "cache", reader(hub)).rows) == 2


CARD = """---
language: [da, cy]
configs:
- config_name: danish
  data_files:
  - split: train
    path: files/d-*.parquet
  - split: test
    path: [files/t1.parquet, "files/t2.parquet"]
- config_name: welsh
  data_files: "files/w/**"
---
# A data set
"""


def test_the_cards_configs_decide(tmp_path: Path, hub: LoopbackHub) -> None:
    names = ("d-1", "d-0", "t2", "t1", "w/deep/er", "left-out")
    files = {f"files/{name}.parquet": parquet(rows_of_speech(1, first=i)) for i, name in enumerate(names)}
    commit = publish_data(hub, NAME, {**files, "README.md": CARD.encode()})
    assert [row.id for row in read(hub, tmp_path, commit, "danish").rows] == ["1.flac", "0.flac"]
    assert [row.id for row in read(hub, tmp_path, commit, "danish", "test").rows] == ["3.flac", "2.flac"]
    assert [row.id for row in read(hub, tmp_path, commit, "welsh").rows] == ["4.flac"]
    with pytest.raises(NotFoundError, match="no config 'greek'; there are danish, welsh"):
        read(hub, tmp_path, commit, "greek")


def test_a_card_that_cannot_be_read_does_not_matter(tmp_path: Path, hub: LoopbackHub, commit: str) -> None:
    for card in (b"---\n: [\n---\n", b"---\nconfigs: 3\n---\n", b"# no metadata\n"):
        spoilt = hub.write(f"datasets/{NAME}", {"README.md": card})
        assert len(read(hub, tmp_path / "cache", spoilt).rows) == 8


def test_wrong_names_list_what_there_is(tmp_path: Path, hub: LoopbackHub, commit: str) -> None:
    with pytest.raises(
        NotFoundError, match=f"alice/fleurs@{commit[:12]}: no config 'da'; there are cy_gb, da_dk"
    ):
        read(hub, tmp_path, commit, "da")
    with pytest.raises(NotFoundError, match="da_dk: no split 'dev'; there are test, train"):
        read(hub, tmp_path, commit, "da_dk", "dev")
    repo = RepoId(NAME, "dataset")
    with pytest.raises(NotFoundError, match="name a config, one of cy_gb, da_dk"):
        read_hub_dataset(HubSplit(repo, commit, "train"), tmp_path, reader(hub))
    with pytest.raises(NotFoundError, match="no column 'sentence'; there are id, audio, transcription, raw_"):
        read_hub_dataset(
            HubSplit(repo, commit, "train", "da_dk", text_column="sentence"), tmp_path, reader(hub)
        )
    with pytest.raises(
        InvalidInputError, match=r"column 'sound' does not exist; there are .*audio \(struct\)"
    ):
        read_hub_dataset(
            HubSplit(repo, commit, "train", "da_dk", audio_column="sound"), tmp_path, reader(hub)
        )
    with pytest.raises(InvalidInputError, match="column 'gender' does not hold audio as {bytes, path}"):
        read_hub_dataset(
            HubSplit(repo, commit, "train", "da_dk", audio_column="gender"), tmp_path, reader(hub)
        )
    with pytest.raises(NotFoundError, match="alice/nothing"):
        read_hub_dataset(HubSplit(RepoId("alice/nothing", "dataset"), commit, "train"), tmp_path, reader(hub))
    with pytest.raises(NotFoundError, match=r"000000000000"):
        read(hub, tmp_path, "0" * 40)


def test_a_repository_without_parquet_says_where_it_may_be(tmp_path: Path, hub: LoopbackHub) -> None:
    commit = publish_data(hub, NAME, {"fleurs.py": b"import this\n"})
    with pytest.raises(NotFoundError, match="no parquet files at this commit; many .* refs/convert/parquet"):
        read(hub, tmp_path, commit)


@pytest.mark.parametrize("revision", ["main", "refs/convert/parquet", "d7c758a", "D" * 40])
def test_a_branch_is_refused_with_the_way_to_its_commit(revision: str) -> None:
    with pytest.raises(
        InvalidInputError,
        match=r"expected a commit's 40 hexadecimal digits.*`git ls-remote https://huggingface.co/datasets/google/fleurs`",
    ):
        check_pin("google/fleurs", revision)


def test_an_address_names_repository_and_commit() -> None:
    split = HubSplit.parse(f"hf://datasets/google/fleurs@{'a' * 40}", split="test", config="da_dk")
    assert (split.repo.id, split.commit, split.name) == ("google/fleurs", "a" * 40, "google/fleurs:da_dk")
    with pytest.raises(
        InvalidInputError, match="not a data set; expected hf://datasets/namespace/name@commit"
    ):
        HubSplit.parse(f"hf://openai/whisper-small@{'a' * 40}", split="test")
    with pytest.raises(InvalidInputError, match="expected a commit"):
        HubSplit.parse("hf://datasets/google/fleurs", split="test")


def test_rows_without_audio_or_text_are_dropped_and_told(
    tmp_path: Path, hub: LoopbackHub, base: BaseModel
) -> None:
    rows = rows_of_speech(5)
    rows[0]["audio"]["bytes"] = None
    rows[1]["transcription"] = "  "
    rows[2]["transcription"] = None
    rows[3]["transcription"] = "en\nto"
    rows[4]["audio"] = {"bytes": b"no audio at all", "path": "3.flac"}
    commit = publish_data(hub, NAME, {"da_dk/train/0000.parquet": parquet(rows)})
    prepared = prepare([Source(read(hub, tmp_path, commit))], base, RowRules(language="da"))
    assert [example.id for example in prepared.examples] == ["3.flac"]
    reasons = {row.id: row.reason for row in prepared.dropped}
    assert reasons["0.flac"] == "no audio in this row"
    assert reasons["1.flac"] == reasons["2.flac"] == "no text in column 'transcription'"
    assert "cannot be read as audio" in reasons["3.flac#4"]


def test_a_text_that_is_not_utf_8_costs_its_row_alone(tmp_path: Path, hub: LoopbackHub) -> None:
    rows = rows_of_speech(3)
    rows[1]["transcription"] = "unusual word"
    content = parquet(rows).replace(b"unusual", b"unusua\xff")
    commit = publish_data(hub, NAME, {"da_dk/train/0000.parquet": content})
    dataset = read(hub, tmp_path, commit)
    assert [row.id for row in dataset.rows] == ["0.flac", "2.flac"]
    assert dataset.unusable == (("1.flac", "no text in column 'transcription'"),)


def test_a_file_that_is_no_parquet_is_told(tmp_path: Path, hub: LoopbackHub) -> None:
    whole = parquet(rows_of_speech(4))
    for content in (b"<html>busy</html>" * 100, whole[: len(whole) // 2]):
        commit = publish_data(hub, NAME, {"da_dk/train/0000.parquet": content})
        with pytest.raises(InvalidInputError, match=r"da_dk/train/0000.parquet: cannot be read as parquet"):
            read(hub, tmp_path, commit)


def test_other_bytes_than_the_hub_says_are_refused(tmp_path: Path, hub: LoopbackHub, commit: str) -> None:
    hub.corrupt(f"datasets/{NAME}", "da_dk/train/0001.parquet")
    with pytest.raises(IntegrityError, match="da_dk/train/0001.parquet: .* bytes with"):
        read(hub, tmp_path, commit)


def test_unpacked_files_that_are_damaged_are_noticed(
    tmp_path: Path, hub: LoopbackHub, commit: str, base: BaseModel
) -> None:
    dataset = read(hub, tmp_path, commit)
    place = dataset.rows[0].path.parent
    for name, damage in (("rows.jsonl", b"{}\n"), ("audio", b"short")):
        (place / name).write_bytes(damage)
        before = len(downloads(hub))
        assert read(hub, tmp_path, commit) == dataset
        assert downloads(hub)[before:] == ["da_dk/train/0000.parquet"]
    raw = bytearray((place / "audio").read_bytes())
    raw[200] ^= 1
    (place / "audio").write_bytes(raw)
    with pytest.raises(
        IntegrityError, match=r"audio: damaged at byte 0; remove .*00000 to download it again"
    ):
        prepare([Source(dataset)], base, RowRules(language="da"))


def test_the_cache_lists_data_sets_and_prunes_those_that_nobody_used(
    tmp_path: Path, hub: LoopbackHub, commit: str
) -> None:
    dataset = read(hub, tmp_path, commit)
    (entry,) = Cache(tmp_path).data()
    assert entry.ref == f"alice/fleurs:da_dk train @{commit[:12]}"
    assert entry.size > sum(len(row["audio"]["bytes"]) for row in rows_of_speech(5))
    assert Cache(tmp_path).prune(unused_days=1) == []
    os.utime(dataset.folder / "dataset.json", (0, 0))
    assert [gone.ref for gone in Cache(tmp_path).prune(unused_days=1)] == [entry.ref]
    assert not dataset.folder.exists()


def test_a_gated_data_set_says_where_to_ask(tmp_path: Path, hub: LoopbackHub, commit: str) -> None:
    HfApi(hub.endpoint, token=hub.token("alice")).update_repo_settings(
        NAME, gated="manual", repo_type="dataset"
    )
    wanted = HubSplit(RepoId(NAME, "dataset"), commit, "train", "da_dk")
    with pytest.raises(AccessError, match="gated; ask for access on its page"):
        read_hub_dataset(wanted, tmp_path, reader(hub, "reader"))


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"need pyarrow: run `pip install '\.\[data\]'` in the"):
        unpack(tmp_path / "0000.parquet", tmp_path, "audio", "alice/fleurs")


def test_opus_at_48_khz_is_brought_to_16(tmp_path: Path, hub: LoopbackHub) -> None:
    row = rows_of_speech(1)[0] | {"audio": {"bytes": encoded(1.0, 3, "opus", 48_000), "path": "a.opus"}}
    commit = publish_data(hub, NAME, {"da_dk/train/0000.parquet": parquet([row])})
    audio = read(hub, tmp_path, commit).rows[0].clip.read()
    assert (audio.sample_rate, audio.seconds) == (16_000, pytest.approx(1.0, abs=0.01))
