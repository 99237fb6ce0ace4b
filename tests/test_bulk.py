"""`bulk`: rows of any mixture of adapters into shards, each row once, whatever is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import Outcome, Run
from small_whisper import write_speech

from adapter_hub.artifact.folder import Artifact
from adapter_hub.bulk.rows import read_rows
from adapter_hub.files.locks import held

FAST = ("--beams", "1", "--temperatures", "0")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of five recordings, of which one is no audio."""
    folder = tmp_path_factory.mktemp("clips")
    for i in range(4):
        write_speech(folder / f"{i}.wav", 2.5 - i / 2, seed=i)
    (folder / "broken.wav").write_text("not audio at all, but long enough to look at")
    return folder


def write_list(file: Path, rows: list[Any]) -> Path:
    file.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return file


def shards(out: str | Path) -> list[bytes]:
    return [file.read_bytes() for file in sorted(Path(out).glob("part-*"))]


def rows_of(out: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for data in shards(out) for line in data.splitlines()]


def one_error(done: Outcome) -> str:
    """Return the one line that says what is wrong."""
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.err
    return errors[0]


@pytest.fixture
def model(base_folder: Path, adapters: list[Artifact]) -> tuple[str, ...]:
    return (*FAST, "--base-model", str(base_folder), "--model", str(adapters[0].path))


def test_a_folder_becomes_what_transcribe_gives(
    run: Run, clips: Path, base_folder: Path, adapters: list[Artifact], model: tuple[str, ...]
) -> None:
    done = run("bulk", clips, *model, "--out", "out", "--shard-rows", "2", "--json")
    assert done.code == 1
    assert "1 of 5 recordings failed" in one_error(done)
    told = run("transcribe", adapters[0].path, clips, *FAST, "--base-model", base_folder, "--json").json
    rows = rows_of("out")
    assert [row["id"] for row in rows] == ["0.wav", "1.wav", "2.wav", "3.wav", "broken.wav"]
    for row, one in zip(rows[:4], told[:4], strict=True):
        assert [row["text"], row["segments"]] == [one["text"], one["segments"]]
        assert (row["seconds"], row["language"], row["error"]) == (one["duration"], "da", None)
        assert (row["adapter"], row["adapter_digest"]) == ("small/da-1@1.0.0", adapters[0].digest)
        assert row["base_model_digest"] == adapters[0].manifest.base_model.digest
    assert rows[4]["text"] is None
    assert rows[4]["error"].startswith("broken.wav: cannot be read as audio")
    assert len(shards("out")) == done.json["shards"] == 3
    assert (done.json["rows"], done.json["failed"], done.json["seconds"]) == (5, 1, 7.0)
    assert json.loads(Path("out/summary.json").read_bytes()).items() <= done.json.items()


def test_rows_of_different_adapters_are_each_what_their_own_gives(
    run: Run, clips: Path, adapters: list[Artifact], base_folder: Path, model: tuple[str, ...], tmp_path: Path
) -> None:
    other, third = str(adapters[1].path), str(adapters[2].path)
    file = write_list(
        tmp_path / "list.jsonl",
        [
            {"audio": str(clips / "0.wav"), "id": 7, "speaker": "ann", "text": "as it was said"},
            {"audio_filepath": str(clips / "0.wav"), "model": other, "duration": 2.5},
            {"audio": str(clips / "0.wav"), "model": third, "notes": {"a": [1]}},
            {"audio": str(clips / "0.wav"), "model": "base-model", "language": "Polish"},
            {"audio": str(clips / "0.wav"), "offset": 0.5, "duration": 1.0, "model": other},
            {"audio": str(clips / "absent.wav"), "model": other},
        ],
    )
    done = run("bulk", file, *model, "--out", "out")
    rows = rows_of("out")
    assert done.code == 1, done.err
    assert [row["adapter"] for row in rows] == [
        "small/da-1@1.0.0", "small/pl-2@1.0.0", "small/ja-3@1.0.0", "base-model", "small/pl-2@1.0.0", None
    ]  # fmt: skip
    digests = [artifact.digest for artifact in adapters]
    assert [row["adapter_digest"] for row in rows] == [*digests, None, digests[1], None]
    assert [row["language"] for row in rows] == ["da", "pl", "ja", "pl", "pl", None]
    assert [row["seconds"] for row in rows] == [2.5, 2.5, 2.5, 2.5, 1.0, 0.0]
    assert (rows[0]["id"], rows[0]["speaker"], rows[0]["input_text"]) == ("7", "ann", "as it was said")
    assert (rows[1]["duration"], rows[2]["notes"]) == (2.5, {"a": [1]})
    assert rows[5]["error"] == f"{clips / 'absent.wav'}: no such audio file"
    for row, ref in zip(rows, (adapters[0].path, other, third), strict=False):
        alone = run("transcribe", ref, clips / "0.wav", *FAST, "--base-model", base_folder, "--json").json[0]
        assert row["text"] == alone["text"]
    assert len({row["text"] for row in rows[:3]}) > 1


def test_auto_chooses_for_rows_that_name_no_adapter(run: Run, clips: Path, tmp_path: Path) -> None:
    embedded = Path(__file__).parent / "clips"
    rows = [{"audio": str(embedded / f"{name}.flac")} for name in ("da", "pl")]
    file = write_list(tmp_path / "list.jsonl", [*rows, {**rows[0], "model": "mini/da-scratch"}])
    done = run("bulk", file, "--model", "auto", "--beams", "1", "--out", "out")
    assert done.code == 0, done.err
    assert [row["adapter"] for row in rows_of("out")] == [
        "mini/da@1.0.0", "mini/pl@1.0.0", "mini/da-scratch@1.0.0"
    ]  # fmt: skip
    assert all(row["adapter_digest"].startswith("sha256:") for row in rows_of("out"))
    Path("out/summary.json").unlink()
    first = sorted(Path("out").glob("part-*"))[0]
    before = first.read_bytes()
    first.unlink()
    again = run("bulk", file, "--model", "auto", "--beams", "1", "--out", "out")
    assert (again.code, first.read_bytes()) == (0, before), again.err


def test_killed_anywhere_it_goes_on_and_no_row_is_lost_or_doubled(
    run: Run, clips: Path, base_folder: Path, adapters: list[Artifact], model: tuple[str, ...], tmp_path: Path
) -> None:
    names = ["0.wav", "1.wav", "broken.wav", "2.wav", "3.wav"]
    rows = [{"audio": str(clips / name), "model": str(adapters[i % 2].path)} for i, name in enumerate(names)]
    file = write_list(tmp_path / "list.jsonl", rows)
    script = Path(__file__).parent / "bulk_killing.py"
    words = [file, adapters[0].path, base_folder, tmp_path / "killed", 11]
    done = subprocess.run(
        [sys.executable, str(script), *map(str, words)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) >= 3
    assert run("bulk", file, *model, "--out", "whole", "--shard-rows", "2").code == 1
    assert [row["id"] for row in rows_of("killed")] == [str(clips / name) for name in names]
    assert rows_of("killed") == rows_of("whole")
    assert not [path for path in Path("killed").iterdir() if path.name.startswith(".tmp")]


def test_a_shard_that_is_missing_or_damaged_is_made_anew(
    run: Run, clips: Path, model: tuple[str, ...]
) -> None:
    words = ("bulk", clips, *model, "--out", "out", "--shard-rows", "2")
    run(*words)
    whole, file = shards("out"), sorted(Path("out").glob("part-*"))[1]
    file.write_bytes(whole[1][:-20])
    assert "damaged; remove it" in one_error(run(*words))
    file.write_bytes(whole[0])
    assert "does not hold its 2 rows; remove it" in one_error(run(*words))
    file.unlink()
    assert "1 of 5 recordings failed" in one_error(run(*words))
    assert shards("out") == whole


def test_other_rows_or_settings_do_not_go_on(
    run: Run, clips: Path, base_folder: Path, adapters: list[Artifact], model: tuple[str, ...], tmp_path: Path
) -> None:
    one = {"audio": str(clips / "3.wav")}
    file = write_list(tmp_path / "list.jsonl", [one])
    assert run("bulk", file, *model, "--out", "out").code == 0
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    for words, said in (
        (("--words",), "begun with words unset, now True"),
        (("--shard-rows", "3"), "shard_rows 64, now 3"),
        (("--format", "parquet"), "format 'jsonl', now 'parquet'"),
        (("--language", "pl"), "language unset, now 'pl'"),
        (("--model", str(adapters[1].path)), "model "),
    ):
        assert said in one_error(run("bulk", file, *model, *words, "--out", "out"))
    write_list(file, [{**one, "language": "da"}])
    assert "begun with other rows" in one_error(run("bulk", file, *model, "--out", "out"))
    write_list(file, [one, one])
    assert "1 rows, now 2" in one_error(run("bulk", file, *model, "--out", "out"))
    write_list(file, [one])
    with held(Path("out/.lock"), 0, "out"):
        assert "another process is writing to it" in one_error(run("bulk", file, *model, "--out", "out"))
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == before


def test_parquet_in_and_out(run: Run, clips: Path, model: tuple[str, ...], tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    names = ["0.wav", "1.wav", "broken.wav"]
    sound = [{"bytes": (clips / name).read_bytes(), "path": name} for name in names]
    columns = {"speaker": ["a", None, "c"], "take": [1, 2, 3], "text": ["x", "y", "z"]}
    Path("tables").mkdir()
    parquet.write_table(pyarrow.table({"audio": sound, **columns}), "tables/a.parquet", row_group_size=2)
    done = run("bulk", "tables", *model, "--out", "out", "--format", "parquet", "--words")
    assert "1 of 3 recordings failed" in one_error(done)
    found = parquet.read_table(str(next(Path("out").glob("part-*.parquet")))).to_pylist()
    assert [row["id"] for row in found] == names
    assert [(row["speaker"], row["take"], row["input_text"]) for row in found] == [
        ("a", 1, "x"), (None, 2, "y"), ("c", 3, "z")
    ]  # fmt: skip
    assert found[2]["error"].startswith("broken.wav: ")
    run("bulk", clips, *model, "--out", "files", "--words")
    same = {row["id"]: row for row in rows_of("files")}
    for row in found[:2]:
        own = same[row["id"]]
        assert (row["text"], row["words"], row["seconds"]) == (own["text"], own["words"], own["seconds"])
    paths = [str(clips / name) for name in names]
    parquet.write_table(pyarrow.table({"recording": paths}), "names.parquet")
    rows = read_rows(Path("names.parquet"), "recording")
    assert [str(row.file) for row in rows] == paths
    Path("bad.parquet").write_bytes(b"PAR1 nothing PAR1")
    assert "bad.parquet: cannot be read as parquet" in one_error(
        run("bulk", "bad.parquet", *model, "--out", "no")
    )
    assert "there are recording (string): name it with --audio-column" in one_error(
        run("bulk", "names.parquet", *model, "--out", "no")
    )
    assert not Path("no").exists()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "no rows; expected one per recording"),
        (["{"], "line 1: not JSON"),
        ([{"audio": "a.wav"}, {"sound": "b.wav"}], "line 2: no audio or audio_filepath or file_name or path"),
        ([{"audio": 3}], "line 1: audio 3: expected the name of a file"),
        ([{"audio": "a\nb.wav"}], "b.wav': expected the name of a file, in one line"),
        ([{"audio": "a.wav", "language": "not a language"}], "row a.wav: language 'not a language'"),
        ([{"audio": "a.wav", "model": ["mini/da"]}], "line 1: model ['mini/da']: expected text"),
        ([{"audio": "a.wav", "model": "mini/none"}], "mini/none"),
        ([{"audio": "a.wav", "model": "base-model", "language": "haw"}], "row a.wav: language 'haw'"),
        ([{"audio": "a.wav", "id": 1}, {"audio": "b.wav", "id": "1"}], "line 2: id '1' is listed twice"),
        ([{"audio": "a.wav", "offset": -1, "duration": 2}], "line 1: offset and duration: expected seconds"),
        ([{"audio": "a.wav", "offset": 1}], "line 1: offset and duration: expected seconds"),
        (['{"audio": "a.wav", "score": NaN}'], "line 1: no plain JSON"),
        (['{"audio": "a.wav", "note": "\\ud800"}'], "line 1: a lone surrogate"),
    ],
)
def test_a_list_that_cannot_be_meant_is_refused_in_one_line(
    run: Run, model: tuple[str, ...], tmp_path: Path, rows: list[Any], said: str
) -> None:
    file = write_list(tmp_path / "list.jsonl", rows)
    done = run("bulk", file, *model, "--out", "out")
    assert done.code == 1
    assert said in one_error(done)
    assert not Path("out").exists()


def test_places_and_options_that_cannot_be_are_refused_in_one_line(
    run: Run, clips: Path, model: tuple[str, ...], adapters: list[Artifact], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/letter.txt").write_text("mine")
    file = write_list(tmp_path / "l.jsonl", [{"audio": str(clips / "0.wav"), "model": str(adapters[1].path)}])
    for words, said in (
        (("absent", "--out", "out"), "no such file or folder"),
        (("empty", "--out", "out"), "no audio files in this folder"),
        ((clips / "0.wav", "--out", "out"), "a recording alone is for `adapter-hub transcribe`"),
        ((clips, "--out", "other"), "holds other files (letter.txt) and no plan.json"),
        ((clips, "--out", "other/letter.txt"), "is a file; expected a folder"),
        ((clips, "--out", "out", "--model", "mini/none"), "mini/none"),
        ((clips, "--out", "out", "--languages", "da"), "its language is known"),
        ((file, "--out", "out", "--languages", "da"), "--languages: rows name their adapters"),
    ):
        done = run("bulk", *model, *words)
        assert done.code == 1
        assert said in one_error(done)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "l.jsonl", "other"]
    assert sorted(path.name for path in (tmp_path / "other").iterdir()) == ["letter.txt"]
