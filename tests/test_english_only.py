"""A base model for English alone: it needs no language, takes English, and refuses everything else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from command_line import Run
from small_whisper import make_adapter, write_speech

from adapter_hub.errors import InvalidInputError
from adapter_hub.model.base_model import load_base_model
from adapter_hub.transcription.opening import load


@pytest.fixture(scope="module")
def english(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shutil.copytree(base_folder, tmp_path_factory.mktemp("english") / "model")
    settings = json.loads((folder / "generation_config.json").read_text())
    settings = {k: v for k, v in settings.items() if k not in ("lang_to_id", "task_to_id")}
    (folder / "generation_config.json").write_text(json.dumps(settings | {"is_multilingual": False}))
    return folder


def test_its_language_is_english_whether_named_or_not(english: Path, tmp_path: Path) -> None:
    clip = write_speech(tmp_path / "a.wav")
    assert load_base_model(english).decode_languages == ("en",)
    texts = set()
    for language in (None, "en", "en-GB"):
        transcriber = load("base-model", base_model=str(english), language=language, cache=str(tmp_path))
        (transcript,) = transcriber.transcribe(clip, temperatures=(0.0,))
        assert transcript.language == (language or "en")
        texts.add(transcript.text)
    assert len(texts) == 1


def test_a_router_takes_the_english_adapter_for_all_speech(english: Path, tmp_path: Path, run: Run) -> None:
    write_speech(tmp_path / "a.wav")
    own = make_adapter(tmp_path / "own", load_base_model(english), seed=1, language="en")
    for more in ((), ("--languages", "en")):
        words = ("--base-model", english, "--adapter", own.path, *more, "--beams", "1", "--json")
        heard = run("transcribe", "auto", "a.wav", *words)
        assert heard.code == 0, heard.err
        (row,) = heard.json
        assert (row["adapter"], row["language"]) == (own.ref, "en")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--language", "da"], "language 'da'"),
        (["--language", "en", "--task", "translate"], "is English-only: it has no task to translate"),
        (["--task", "translate"], "is English-only: it has no task to translate"),
        (["--decode-language", "pl"], "decode language 'pl'"),
    ],
)
def test_everything_else_is_refused_in_one_line(
    words: list[str], said: str, english: Path, tmp_path: Path, run: Run
) -> None:
    write_speech(tmp_path / "a.wav")
    answer = run("transcribe", "base-model", "a.wav", "--base-model", english, *words)
    assert answer.code != 0
    assert answer.out == ""
    assert answer.err.count("error: ") == 1
    assert said in answer.err.splitlines()[-1]


def test_a_decode_language_alone_is_enough(base_folder: Path, tmp_path: Path) -> None:
    clip = write_speech(tmp_path / "a.wav")
    places = {"base_model": str(base_folder), "cache": str(tmp_path)}
    (alone,) = load("base-model", decode_language="pl", **places).transcribe(clip)
    (named,) = load("base-model", language="pl", **places).transcribe(clip)
    assert (alone.tokens, alone.language, alone.language_probability) == (named.tokens, "pl", None)
    with pytest.raises(InvalidInputError, match="decode language 'qq'"):
        load("base-model", decode_language="qq", **places)
