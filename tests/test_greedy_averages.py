"""Greedy averages: which components dev data keep, what the record says, and what an audit makes of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from audit_defects import forge
from command_line import Run
from test_averaging_adapters import REF, base, equal_shares

from adapter_hub.data.dataset import read_dataset
from adapter_hub.errors import AdapterHubError, InvalidInputError
from adapter_hub.evaluation.evaluating import EvaluationOptions, evaluate
from adapter_hub.formats.manifest import Selection
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.loading import load_adapter
from adapter_hub.trainers.averaging.adapters import average
from adapter_hub.trainers.averaging.full_models import ModelAverageOptions, ModelComponent, average_models
from adapter_hub.trainers.averaging.greedy import choose
from adapter_hub.trainers.averaging.updates import AverageOptions
from adapter_hub.transcription.routing import FixedRoute
from adapter_hub.transcription.transcriber import Transcriber

__all__ = ["base"]  # the fixture
TEXTS = {
    "da": "firetusind trehundrede og otteogtredive",
    "pl": "siedem tysięcy jeden osiem tysięcy dziewięć",
}


def write_dev(folder: Path, *languages: str, named: bool = True) -> Path:
    """Write a split `dev` with the shipped clips."""
    (folder / "dev").mkdir(parents=True)
    rows = []
    for language in languages:
        shutil.copy(Path(__file__).parent / "clips" / f"{language}.flac", folder / "dev")
        tag = {"language": language} if named else {}
        rows.append(json.dumps({"file_name": f"{language}.flac", "text": TEXTS[language], **tag}))
    (folder / "dev" / "metadata.jsonl").write_text("\n".join(rows) + "\n")
    return folder


def check_recipe(selection: Selection) -> None:
    """Check that components were tried in the order of their errors and kept where these became lower."""
    first, *rest = selection.tried
    best = first.error
    assert first.kept
    assert first.error_with is None
    assert [item.error for item in selection.tried] == sorted(item.error for item in selection.tried)
    for item in rest:
        assert item.error_with is not None
        assert item.kept == (item.error_with < best)
        best = min(best, item.error_with)


def test_components_that_lower_the_dev_error_are_kept_and_the_others_dropped(
    run: Run, tmp_path: Path
) -> None:
    write_dev(tmp_path / "both", "da", "pl")
    words = ("average", "mini/zh", "mini/da", "mini/pl", "mini/da-scratch", "--method", "greedy")
    made = run(*words, "--data", "both", "--as", "test/greedy@1.0.0", "--out", "out", "--json")
    assert made.code == 0
    selection = Selection.parse(json.dumps(made.json["average"]["selection"]).encode(), "here")
    check_recipe(selection)
    kept = [f"{item.name}@{item.version}" for item in selection.tried if item.kept]
    dropped = [item.name for item in selection.tried if not item.kept]
    assert "mini/zh" in dropped
    assert len(kept) > 1
    assert [f"{parent['name']}@{parent['version']}" for parent in made.json["parents"]] == kept
    assert {parent["weight"] for parent in made.json["parents"]} == {1 / len(kept)}
    assert len(made.err.splitlines()) == 4 + 3 + 1  # each alone, each but the best in an average, what next
    assert "mini/zh@1.0.0 alone: dev error " in made.err
    assert "with mini/zh@1.0.0: dev error " in made.err
    assert run("audit", "./out", "--probe").code == 0

    section = made.json["average"]
    last = section["selection"]["tried"][-1]
    last["kept"] = not last["kept"]
    with pytest.raises(InvalidInputError, match="the components kept are not the parents"):
        forge(tmp_path / "out", average=section)


def test_the_recorded_error_is_that_of_the_published_average(base: BaseModel, tmp_path: Path) -> None:
    sets = [
        read_dataset(write_dev(tmp_path / "pl", "pl", named=False), "dev"),
        read_dataset(write_dev(tmp_path / "da", "da"), "dev"),
    ]
    components, selection = choose(base, equal_shares("da", "pl"), sets, REF, language="pl", base_model=0.25)
    check_recipe(selection)
    assert [(item.data, item.split, item.metric) for item in selection.data] == [
        ("pl", "dev", "wer"),
        ("da", "dev", "wer"),
    ]
    # weights were 0.5 and 0.5, the base model's 0.25: its share stays in the right proportion
    assert sum(c.weight for c in components) == pytest.approx(len(components) / (len(components) + 0.5))
    options = AverageOptions(method="greedy", selection=selection)
    made, _ = average(base, components, tmp_path / "out", REF, options)
    transcriber = Transcriber(base, FixedRoute(base, load_adapter(base, made)))
    how = EvaluationOptions(beams=1, language="pl")
    rates = [evaluate(transcriber, dataset, how).value for dataset in sets]
    last = min(
        item.error if item.error_with is None else item.error_with for item in selection.tried if item.kept
    )
    assert last == pytest.approx(sum(rates) / 2)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["mini/pl", "mini/it", "--method", "greedy"], 2, "name both or neither"),
        (["mini/pl", "mini/it", "--data", "pl"], 2, "name both or neither"),
        (["mini/pl", "--method", "greedy", "--data", "pl"], 1, "two components or more"),
        (["mini/pl", "mini/it", "--method", "greedy", "--data", "none"], 1, "none: no such folder"),
        (["mini/pl", "mini/it", "--method", "greedy", "--data", "pl"], 1, "name it with --language"),
        (
            ["mini/pl", "mini/da-pair", "--method", "greedy", "--data", "pl"],
            1,
            "weighs its experts for every",
        ),
    ],
)
def test_a_choice_that_cannot_be_made_is_one_line(
    words: list[str], code: int, message: str, run: Run, tmp_path: Path
) -> None:
    write_dev(tmp_path / "pl", "pl", named=False)
    refused = run("average", *words, "--as", "test/greedy@1.0.0", "--out", "out")
    assert refused.code == code
    assert message in refused.err
    assert refused.err.splitlines()[-1].startswith("error: ") or code == 2
    assert not (tmp_path / "out").exists()


def test_greedy_is_for_adapters_and_needs_the_record_of_the_choice(base: BaseModel, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="chosen on dev data by method greedy"):
        average(base, equal_shares("pl", "it"), tmp_path / "out", REF, AverageOptions(method="greedy"))
    with pytest.raises(AdapterHubError, match="greedy chooses among adapters"):
        average_models(
            [ModelComponent(base.folder, 1.0)], out=tmp_path / "out", options=ModelAverageOptions("greedy")
        )
