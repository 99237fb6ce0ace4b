"""The length of encoder input that an adapter was trained on: measured, recorded, inherited and shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from audit_defects import forge
from command_line import Run
from making import make_artifact, make_child
from small_training import places, recipe
from small_whisper import make_adapter, make_pair

from adapter_hub import embedded
from adapter_hub.artifact.folder import Artifact
from adapter_hub.errors import InvalidInputError
from adapter_hub.formats.canonical import canonical_bytes
from adapter_hub.formats.manifest import Manifest
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.model.base_model import BaseModel
from adapter_hub.trainers.averaging.adapters import average
from adapter_hub.trainers.averaging.updates import Component
from adapter_hub.trainers.folding import fold
from adapter_hub.trainers.recipe import read_recipe
from adapter_hub.trainers.training import train

LONGEST_CLIP = 1.6  # seconds, of the training data
CHUNK = 4.0  # of the small base model


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"audio_length": '"batch"'}, LONGEST_CLIP),
        ({"audio_length": '"batch"', "input_seconds": "1.0"}, LONGEST_CLIP),
        ({"audio_length": '"batch"', "input_seconds": "2.5"}, 2.5),
        ({"audio_length": '"batch"', "input_seconds": "15"}, CHUNK),
        ({"audio_length": '"chunk"'}, CHUNK),
    ],
)
def test_the_longest_input_of_a_training_is_recorded(
    settings: dict[str, str], expected: float, tmp_path: Path, data: Path, base_folder: Path
) -> None:
    path = recipe(tmp_path, base_folder, training={"epochs": None, "steps": "1", **settings})
    made = train(path, tmp_path / "out", **places(tmp_path)).manifest
    assert made.input_seconds == pytest.approx(expected, abs=0.03)


def test_a_warm_start_and_a_pair_know_the_longest_input_of_their_parents(
    tmp_path: Path, data: Path, base: BaseModel, base_folder: Path
) -> None:
    parent = made(make_adapter(tmp_path / "parent", base, seed=5), 3.0)
    once: dict[str, str | None] = {"epochs": None, "steps": "1"}
    for method, table in (("warm-start", "seed"), ("expert-pair", "expert")):
        extra = f'[{table}]\nadapter = "{parent.path}"\n'
        path = recipe(tmp_path, base_folder, extra=extra, method=f'"{method}"', training=once)
        child = train(path, tmp_path / method, **places(tmp_path))
        assert child.manifest.input_seconds == 3.0
        child.verify()


def test_averages_and_folded_pairs_know_the_longest_input_of_their_components(
    tmp_path: Path, base: BaseModel
) -> None:
    lengths = {"a": 3.0, "b": 3.5, "c": None}
    sources = [
        made(make_adapter(tmp_path / name, base, seed=seed), seconds)
        for seed, (name, seconds) in enumerate(lengths.items(), 5)
    ]
    components = [Component(source, 1 / 3) for source in sources]
    whole, _ = average(base, components, tmp_path / "average", AdapterRef.parse("small/average@1.0.0"))
    assert whole.manifest.input_seconds == 3.5
    unknown, _ = average(base, components[2:], tmp_path / "one", AdapterRef.parse("small/one@1.0.0"))
    assert unknown.manifest.input_seconds is None
    pair = made(make_pair(tmp_path / "pair", base, sources[0], kind="static", seed=9), 3.2)
    assert fold(base, pair, tmp_path / "folded").manifest.input_seconds == 3.2


def test_the_length_is_shown_by_show_card_and_diff(run: Run, tmp_path: Path) -> None:
    make_artifact(tmp_path / "one", "test/one", input_seconds=12.5)
    make_artifact(tmp_path / "other", "test/one")
    shown = run("show", "./one").out
    assert "12.5 s of audio at a time while training" in shown
    assert run("show", "./one", "--json").json["manifest"]["input_seconds"] == 12.5
    assert "| input | 12.5 s of audio at a time while training |" in run("card", "./one").out
    assert run("diff", "./one", "./other", "--json").json == {"input_seconds": [12.5, None]}
    assert "while training" not in run("show", "./other").out + run("card", "./other").out


@pytest.mark.parametrize(("own", "is_warned_of"), [(None, True), (2.0, True), (12.5, False), (30.0, False)])
def test_an_audit_warns_of_a_length_below_a_parent_s(
    own: float | None, is_warned_of: bool, tmp_path: Path, run: Run
) -> None:
    parent = make_artifact(tmp_path / "parent", "test/parent", input_seconds=12.5)
    more: dict[str, Any] = {} if own is None else {"input_seconds": own}
    make_child(tmp_path / "child", parent, **more)
    found = [finding["code"] for finding in run("audit", "./child", "--json").json]
    assert ("input-shorter" in found) == is_warned_of


@pytest.mark.parametrize("value", [0, -1.0, 3601.0, "30 s", True])
def test_a_length_that_is_none_is_refused(value: object, tmp_path: Path) -> None:
    file = make_artifact(tmp_path / "one", "test/one").path / "adapter.json"
    file.write_bytes(canonical_bytes({**json.loads(file.read_bytes()), "input_seconds": value}))
    with pytest.raises(InvalidInputError, match="input_seconds"):
        Artifact.open(file.parent)


@pytest.mark.parametrize("value", ["-1.0", '"15 s"', "nan"])
def test_a_recipe_that_asks_for_no_length_is_refused(value: str, tmp_path: Path, base_folder: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"training\.input_seconds"):
        read_recipe(recipe(tmp_path, base_folder, training={"input_seconds": value}))


def test_manifests_from_before_say_nothing_and_keep_their_bytes() -> None:
    manifests = sorted(embedded.store_path().glob("**/adapter.json"))
    assert manifests
    for path in manifests:
        manifest = Manifest.parse_canonical(path.read_bytes(), str(path))
        assert manifest.input_seconds is None
        assert manifest.to_bytes() == path.read_bytes()


def made(artifact: Artifact, seconds: float | None) -> Artifact:
    """Return the artifact as if it had been trained on inputs of so many seconds."""
    if seconds is None:
        return artifact
    return Artifact.open(forge(artifact.path, input_seconds=seconds))
