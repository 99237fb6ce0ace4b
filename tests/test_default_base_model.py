"""`auto` and `base-model` take the base model of the user's adapters, ask which of several, and say it."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Run
from making import make_artifact
from small_whisper import make_adapter, make_base_model, write_speech

import adapter_hub
from adapter_hub.base_model.digest import EMBEDDED_ID
from adapter_hub.errors import InvalidInputError, NotFoundError
from adapter_hub.exchange import Places, publish, retire
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.model.base_model import BaseModel, load_base_model
from adapter_hub.registry.file import FileRegistry
from adapter_hub.stores.folder import FolderStore


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(FileRegistry(tmp_path / "registry.json"), FolderStore(tmp_path / "store"))


def used(places: Places, ref: str, tmp_path: Path) -> str:
    where = {"registry": str(tmp_path / "registry.json"), "cache": str(tmp_path / "cache"), "device": "cpu"}
    return adapter_hub.load(ref, **where).base.digest


@pytest.mark.parametrize("ref", ["auto", "base-model"])
def test_the_base_model_is_that_of_the_registry_s_adapters(
    ref: str, base: BaseModel, places: Places, tmp_path: Path
) -> None:
    embedded = load_base_model(EMBEDDED_ID, device="cpu").digest
    assert used(places, ref, tmp_path) == embedded  # there is none
    publish(make_adapter(tmp_path / "a", base, seed=1).path, places)
    with pytest.raises(NotFoundError, match=r"the adapters in .*registry\.json are for .* --base-model$"):
        used(places, ref, tmp_path)
    load_base_model(base.folder, device="cpu", cache=tmp_path / "cache")  # it is named once
    assert used(places, ref, tmp_path) == base.digest
    other = make_artifact(tmp_path / "b", "other/da", base_model=base.pin.to_json() | {"digest": embedded})
    publish(other.path, places)
    with pytest.raises(InvalidInputError, match=r"are for 2 base models, .*; choose one with --base-model"):
        used(places, ref, tmp_path)
    retire(AdapterRef.parse("other/da@1.0.0"), "yanked", "a test", places)
    assert used(places, ref, tmp_path) == base.digest


QUICKLY = ("--beams", "1", "--temperatures", "0")


def test_which_base_model_is_used_is_always_said(
    base: BaseModel, places: Places, tmp_path: Path, run: Run
) -> None:
    publish(make_adapter(tmp_path / "a", base, seed=1).path, places)
    clip = write_speech(tmp_path / "a.wav")
    for ref in ("auto", "base-model"):
        said = run("transcribe", ref, clip, "--base-model", base.folder, *QUICKLY)
        assert said.code == 0, said.err
        assert f"base model: {base.folder}" in said.err
        again = run("transcribe", ref, clip, *QUICKLY, "--json")
        assert f"base model: {base.pin.id}" in again.err
        assert again.json
    clone = make_base_model(tmp_path / "clone", seed=7)
    said = run("transcribe", "auto", clip, "--base-model", clone, *QUICKLY)
    assert f"base model: {clone}" in said.err
