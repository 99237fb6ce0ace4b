"""An adapter whose numbers overflow: an error of its items, no empty text, nothing to their neighbours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import Run
from safetensors.torch import load_file, save_file
from small_whisper import make_adapter, speech, write_speech

from adapter_hub.artifact.folder import Artifact, seal
from adapter_hub.data.dataset import read_dataset
from adapter_hub.decoding.decode import decode
from adapter_hub.decoding.options import DecodingOptions
from adapter_hub.errors import InvalidInputError
from adapter_hub.evaluation.evaluating import EvaluationOptions, evaluate
from adapter_hub.model.base_model import DTYPES, BaseModel, load_base_model
from adapter_hub.model.loading import load_adapter
from adapter_hub.model.session import Session
from adapter_hub.speech.audio import audio_from_samples
from adapter_hub.speech.features import log_mel
from adapter_hub.transcription.routing import FixedRoute
from adapter_hub.transcription.transcriber import Transcriber

SEARCHES: dict[str, dict[str, Any]] = {
    "greedy": {"beams": 1},
    "beam search": {"beams": 5},
    "beam search that stops early": {"beams": 3, "early_stopping": True},
    "sampling": {"beams": 1, "temperatures": (0.7,)},
    "timestamps": {"beams": 2, "timestamps": True},
}


def overflowing(folder: Path, base: BaseModel, factor: float) -> Artifact:
    """Make an adapter of finite weights whose product with anything is not."""
    made = make_adapter(folder, base, seed=7)
    weights = load_file(folder / "adapter_model.safetensors")
    save_file({name: value * factor for name, value in weights.items()}, folder / "adapter_model.safetensors")
    fields = made.manifest.model_dump(mode="json", by_alias=True, exclude_none=True)
    keep = ("schema", "name", "version", "created", "authors", "license", "method", "task", "timestamps")
    fields = {key: fields[key] for key in (*keep, "languages", "base_model") if key in fields}
    (folder / "adapter.json").unlink()
    return seal(folder, fields)


@pytest.fixture(scope="module")
def huge(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return overflowing(tmp_path_factory.mktemp("huge") / "adapter", base, 1e19)


@pytest.fixture(scope="module", params=DTYPES)
def precise(request: pytest.FixtureRequest, base: BaseModel) -> BaseModel:
    kind = str(request.param)
    return base if kind == "float32" else load_base_model(base.folder, device="cpu", dtype=kind)


@pytest.mark.parametrize("search", SEARCHES)
def test_a_row_that_overflows_has_no_text_and_its_neighbours_are_bit_identical(
    search: str, precise: BaseModel, tmp_path: Path
) -> None:
    factor = 1e4 if precise.dtype == torch.float16 else 1e19
    bad = load_adapter(precise, overflowing(tmp_path / "bad", precise, factor))
    good = load_adapter(precise, make_adapter(tmp_path / "good", precise, seed=2))
    recordings = [audio_from_samples(speech(1.0, seed), 16_000) for seed in range(4)]
    features = torch.from_numpy(log_mel(precise.processor.feature_extractor, recordings))
    options = DecodingOptions(**SEARCHES[search], shrink=False)

    def run(*rows: Any) -> list[Any]:
        languages = ["da"] * len(rows)
        return decode(Session(precise), features, rows=rows, languages=languages, options=options)

    with_it, without = run(good, bad, None, good), run(good, good, None, good)
    assert [row.overflowed for row in with_it] == [False, True, False, False]
    for place in (0, 2, 3):
        assert with_it[place] == without[place]


OPTIONS: list[dict[str, Any]] = [
    {"beams": 1},
    {"beams": 5},
    {"beams": 1, "words": True},
    {"beams": 1, "timestamps": True},
    {"beams": 2, "temperatures": (0.0, 0.4, 0.8)},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_it_is_one_line_that_names_adapter_and_file(
    options: dict[str, Any], base: BaseModel, huge: Artifact, tmp_path: Path
) -> None:
    path = write_speech(tmp_path / "clip.wav", 1.0)
    transcriber = Transcriber(base, FixedRoute(base, load_adapter(base, huge), "da"))
    (transcript,) = transcriber.transcribe([path], **options)
    assert transcript.text == ""
    assert transcript.error == (
        f"{path}: small/da-7@1.0.0 overflows in float32 at 0.0 s: its scores are not finite; "
        "use another adapter"
    )


def test_the_command_fails_and_says_so(run: Run, base: BaseModel, huge: Artifact, tmp_path: Path) -> None:
    path = write_speech(tmp_path / "clip.wav", 1.0)
    outcome = run("--device", "cpu", "transcribe", huge.path, path, "--base-model", base.folder)
    assert outcome.code == 1
    assert outcome.out == ""
    assert outcome.err.startswith(f"error: {path}: small/da-7@1.0.0 overflows")
    assert outcome.err.count("\n") == 1


def test_an_evaluation_names_the_rows_instead_of_scoring_them(
    base: BaseModel, huge: Artifact, tmp_path: Path
) -> None:
    write_speech(tmp_path / "a.wav", 1.0)
    (tmp_path / "metadata.csv").write_text("file_name,text\na.wav,tre\n")
    transcriber = Transcriber(base, FixedRoute(base, load_adapter(base, huge), "da"))
    with pytest.raises(InvalidInputError, match=r"line 2: a.wav: .*small/da-7@1.0.0 overflows in float32"):
        evaluate(transcriber, read_dataset(tmp_path), EvaluationOptions(beams=2))
