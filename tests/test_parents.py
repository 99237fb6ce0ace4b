"""Parents of a training: named ones are looked up at once, and the nearest are found by their language."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Run
from making import make_artifact
from small_training import places, recipe
from small_whisper import make_adapter

from adapter_hub.errors import NotFoundError
from adapter_hub.exchange import Places, publish
from adapter_hub.model.base_model import BaseModel
from adapter_hub.registry.file import FileRegistry
from adapter_hub.stores.folder import FolderStore
from adapter_hub.trainers.inputs import Inputs, gather
from adapter_hub.trainers.recipe import read_recipe
from adapter_hub.trainers.similarity import candidates


def registered(folder: Path, base: BaseModel, *languages: tuple[str, str]) -> FileRegistry:
    """A registry with an adapter for each language, given with the token that it is decoded with."""
    registry = FileRegistry(folder / "registry.json")
    for number, (tag, token) in enumerate(languages):
        spoken = [{"tag": tag, "decode_language": token}]
        made = make_artifact(
            folder / str(number), f"small/{tag.lower()}", languages=spoken, base_model=base.pin
        )
        publish(made.path, Places(registry, FolderStore(folder / "store")))
    return registry


def gathered(path: Path, folder: Path, said: list[str]) -> Inputs:
    where = places(folder)
    return gather(read_recipe(path), where["registries"], where["cache"], "cpu", said.append)


def test_candidates_may_be_tagged_with_region_and_script(base: BaseModel, tmp_path: Path) -> None:
    tags = ("pl-PL", "pl"), ("zh-Hant-TW", "zh"), ("ja-Jpan", "ja"), ("mdw", "da"), ("EN-us", "en")
    registry = registered(tmp_path, base, *tags)
    found = {language: ref.name for language, ref in candidates((registry,), base).items()}
    assert found == {
        "pl": "small/pl-pl",
        "zh": "small/zh-hant-tw",
        "ja": "small/ja-jpan",
        "en": "small/en-us",
    }
    assert set(candidates((registry,), base, leave_out="zh")) == {"pl", "ja", "en"}


def test_similarity_takes_and_leaves_out_languages_with_a_region(
    base: BaseModel, tmp_path: Path, data: Path, run: Run
) -> None:
    registered(tmp_path, base, ("pl-PL", "pl"))
    words = ["similarity", "--data", data / "train", "--segments", "2", "--base-model", base.folder]
    shown = run(*words, "--among", "pl-PL,zh-Hant,pl,Japanese", "--language", "ja-JP").out
    rows = {line.split()[0]: line.split()[-1] for line in shown.splitlines()[1:]}
    assert rows == {"pl": "small/pl-pl@1.0.0", "zh": rows["zh"]}
    alone = run(*words)
    assert "pl is the only candidate, so its share says nothing" in alone.err
    assert "1.000" not in alone.out


@pytest.mark.parametrize("named", ["mini/nobody", "./nowhere"])
def test_a_parent_that_does_not_exist_is_said_before_anything_is_loaded(
    named: str, tmp_path: Path, data: Path
) -> None:
    extra = f'[seed]\nadapter = "{named}"'
    path = recipe(tmp_path, tmp_path / "no-base-model", extra=extra, method='"warm-start"')
    said: list[str] = []
    with pytest.raises(NotFoundError, match=named.strip("./")):
        gathered(path, tmp_path, said)
    assert said == []


@pytest.mark.parametrize("among", ["", 'among = ["pl", "zh"]'])
def test_a_named_parent_needs_no_similarity(
    among: str,
    base: BaseModel,
    tmp_path: Path,
    data: Path,
    base_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registered(tmp_path, base, ("pl", "pl"), ("zh", "zh"))
    seed = make_adapter(tmp_path / "seed", base, seed=5, language="pl")
    measured = "adapter_hub.trainers.parents.measure_similarity"
    monkeypatch.setattr(measured, lambda *_, **__: pytest.fail("nothing is to be measured"))
    extra = f'[seed]\nadapter = "{seed.path}"\n{among}'
    said: list[str] = []
    inputs = gathered(recipe(tmp_path, base_folder, extra=extra, method='"warm-start"'), tmp_path, said)
    assert inputs.parents["seed"].digest == seed.digest
    assert inputs.similarity == ()
    assert not any("similarity" in line for line in said)


@pytest.mark.parametrize("among", ["", 'among = ["pl-PL"]', 'among = ["pl", "en"]'])
def test_one_candidate_is_taken_without_a_measurement(
    among: str,
    base: BaseModel,
    tmp_path: Path,
    data: Path,
    base_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registered(tmp_path, base, ("pl-PL", "pl"))
    measured = "adapter_hub.trainers.parents.measure_similarity"
    monkeypatch.setattr(measured, lambda *_, **__: pytest.fail("nothing is to be measured"))
    extra = f'[seed]\nadapter = "nearest"\n{among}'
    said: list[str] = []
    inputs = gathered(recipe(tmp_path, base_folder, extra=extra, method='"warm-start"'), tmp_path, said)
    assert inputs.parents["seed"].ref == "small/pl-pl@1.0.0"
    assert inputs.similarity == ()
    assert "similarity: not measured, pl is the only language with an adapter" in said
    assert not any("1.000" in line for line in said)
