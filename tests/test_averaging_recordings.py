"""Parameter averaging on recordings: sets in part and with noise, a shorter input, settings left open."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command_line import Run
from small_whisper import write_speech

from adapter_hub.data.dataset import read_dataset
from adapter_hub.errors import InvalidInputError, NotFoundError
from adapter_hub.model.base_model import load_base_model
from adapter_hub.trainers.makers.shorter_input import shorten_input
from adapter_hub.trainers.reproduction.paper import completed, settings_text
from adapter_hub.trainers.reproduction.parameter_averaging import ParameterAveraging
from adapter_hub.trainers.reproduction.parameter_averaging.plan import plan
from adapter_hub.trainers.reproduction.parameter_averaging.recordings import collect
from adapter_hub.trainers.reproduction.parameter_averaging.settings import Settings

REAL, PAPER = (settings_text(ParameterAveraging, scale) for scale in ("real", "paper"))


def settings(data: Path | str = "data", text: str = REAL, base_model: str = "tiny.en") -> Settings:
    """Return settings with what they leave open."""
    opened = {"data": str(data)} | ({} if text == PAPER else {"base_model": base_model})
    return ParameterAveraging.read(completed(text, opened, "mine"), "mine").settings


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings in the folders that the settings of scale real name, ten clips in each set."""
    root = tmp_path_factory.mktemp("recordings")
    for folder in ("en-gb-prompts/train", "en-gb-prompts/test", "english-digits/train", "english-digits/test",
                   "en-prompts/train", "en-prompts/test", "en-intro/test"):  # fmt: skip
        (root / folder).mkdir(parents=True)
        rows = []
        for number in range(10):
            write_speech(root / folder / f"{number}.flac", 0.5, number)
            rows.append(
                {"file_name": f"{number}.flac", "text": f"word {number}", "speaker": f"s{number % 2}"}
            )
        (root / folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (root / "noise").mkdir()
    write_speech(root / "noise" / "boiler.flac", 0.3, 99)
    return root


def test_a_set_that_is_used_whole_is_a_link_to_its_folder(data: Path, tmp_path: Path) -> None:
    folder = collect(settings(data), tmp_path / "original", "original")
    assert {path.name for path in folder.iterdir()} == {"clean", "other", "dev-clean"}
    assert (folder / "clean").resolve() == (data / "en-prompts" / "test").resolve()
    assert len(read_dataset(folder, "other").rows) == 10


def test_two_domains_share_no_recording_of_one_folder(data: Path, tmp_path: Path) -> None:
    texts = {}
    for name in ("noisy", "accent"):
        folder = collect(settings(data), tmp_path / name, name)
        texts[name] = [row.text for row in read_dataset(folder, "train").rows]
        assert len(read_dataset(folder, "test").rows) == 10
    assert texts == {"noisy": [f"word {n}" for n in range(0, 10, 2)],
                     "accent": [f"word {n}" for n in range(1, 10, 2)]}  # fmt: skip


def test_noise_is_as_loud_as_asked_for_and_the_same_every_time(data: Path, tmp_path: Path) -> None:
    rows = [
        read_dataset(collect(settings(data), tmp_path / f"{number}", "noisy"), "test").rows
        for number in (1, 2)
    ]
    assert [row.clip.sha256() for row in rows[0]] == [row.clip.sha256() for row in rows[1]]
    clean, _ = soundfile.read(data / "en-gb-prompts" / "test" / "3.flac")
    mixed = rows[0][3].clip.read().samples
    scale = float(mixed @ clean) / float(clean @ clean)  # it may have been made softer
    noise = mixed / scale - clean
    assert 10 * np.log10(np.mean(clean**2) / np.mean(noise**2)) == pytest.approx(0, abs=0.5)
    assert [row.speaker for row in rows[0]] == [f"s{n % 2}" for n in range(10)]


def test_too_many_recordings_are_thinned_out_the_same_way_every_time(data: Path, tmp_path: Path) -> None:
    few = settings(data, re.sub("test = 60", "test = 4", REAL))
    first, second = (
        [row.text for row in read_dataset(collect(few, tmp_path / str(n), "fast"), "test").rows]
        for n in (1, 2)
    )
    assert first == second
    assert len(set(first)) == 4


def test_a_collection_that_was_interrupted_is_begun_again(data: Path, tmp_path: Path) -> None:
    broken = tmp_path / "noisy" / "train.part" / "audio"
    broken.mkdir(parents=True)
    (broken / "000000.flac").write_bytes(b"half")
    folder = collect(settings(data), tmp_path / "noisy", "noisy")
    assert not (folder / "train.part").exists()
    assert all(row.clip.read().seconds > 0 for row in read_dataset(folder, "train").rows)


def test_a_missing_folder_of_recordings_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"english-digits.train: no such folder; --data has to name"):
        collect(settings(tmp_path), tmp_path / "fast", "fast")


def test_a_shorter_input_keeps_the_first_positions_and_all_other_weights(
    base_folder: Path, tmp_path: Path
) -> None:
    whole = load_base_model(base_folder)
    short = load_base_model(shorten_input(base_folder, tmp_path / "short", 2))
    assert (whole.chunk_seconds, short.chunk_seconds) == (4.0, 2.0)
    assert whole.digest != short.digest
    before, after = whole.model.state_dict(), short.model.state_dict()
    positions = "model.encoder.embed_positions.weight"
    assert after[positions].equal(before[positions][:100])
    assert all(after[name].equal(before[name]) for name in before if name != positions)


def test_a_shorter_input_is_not_a_longer_one(base_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="5 s of audio, expected 1 to 4"):
        shorten_input(base_folder, tmp_path / "long", 5)
    assert not (tmp_path / "long").exists()


def test_three_domains_and_two_rounds_leave_out_what_needs_more() -> None:
    real = settings()
    rows = {number: list(real.rows(number)) for number in real.tables}
    assert rows[7][:4] == ["pretrained", "ft-noisy", "ft-accent", "ft-fast"]
    assert rows[7][4:8] == ["sequential", "sequential-back", "aode", "aode-original"]
    assert rows[7][8:] == ["combined", "resampled", "aode-2", "aode-2-original", "oracle"]
    assert rows[8] == ["x4-noisy", "x4-accent", "x4-fast", "x4-original"]
    cells = {cell.name: cell for cell in plan(real, real.tables, {}).cells}
    assert "average/aode-2-original/seed-1" in cells
    assert cells["test/three-aode/seed-1"].work.of == "average/aode/seed-1"
    assert cells["average/x4-noisy/seed-1"].work.components[0][1] == pytest.approx(4 / 7)
    assert not any("phrases" in name for name in cells)
    assert all("base-model" in cell.needs for cell in cells.values() if cell.kind == "test")


def test_the_papers_size_has_all_domains_and_rounds() -> None:
    paper = settings(text=PAPER)
    assert len(plan(paper, paper.tables, {}).cells) > 240
    assert paper.base_model == "openai/whisper-small.en"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--scale", "real"], "base_model: missing; give --base-model FOLDER"),
        (["--scale", "real", "--base-model", "x"], "data: missing; give --data FOLDER"),
        (["--scale", "paper"], "data: missing; give --data FOLDER"),
        (["--data", "x"], "speech is synthesised; leave --data out"),
        (["--base-model", "x"], "base_model is decided there; leave --base-model out"),
    ],
)
def test_what_settings_leave_open_is_asked_for_in_one_line(run: Run, words: list[str], said: str) -> None:
    result = run("reproduce", "parameter-averaging", "--dry-run", *words)
    assert result.code != 0
    assert result.err.count("\n") == 1
    assert said in result.err


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('noise = "noise"\n', "", ""),
        ("snr_db = [0.0, 0.0]\n", "", "snr_db: missing"),
        ('folder = "english-digits"\n', "", "the original domain and all others have one"),
        ('folder = "english-digits"\n', 'folder = "x"\nvoice = "es"\n', "are for synthesised speech"),
        ('dev-clean = "en-prompts/train"', 'train = "x"', "expected clean, other, and one or both"),
        ("[domains.fast]", "[domains.slow]", "'slow' is not one of"),
        ("rounds = 2", "rounds = 4", "rounds"),
    ],
)
def test_wrong_settings_of_recordings_are_refused_in_one_line(old: str, new: str, said: str) -> None:
    text = completed(REAL.replace(old, new, 1), {"data": "d", "base_model": "b"}, "mine")
    if not said:
        assert ParameterAveraging.read(text, "mine").settings.domains["noisy"].noise is None
        return
    with pytest.raises(InvalidInputError, match=re.escape(said)) as refused:
        ParameterAveraging.read(text, "mine")
    assert "\n" not in str(refused.value)
