"""Which copy of a base model is used: the user's word, the pin's digest, no folder by somebody's text."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from audit_defects import make_home
from command_line import Run
from hub_places import hub_client
from loopback_hub import LoopbackHub
from making import write_weights

from adapter_hub.base_model.digest import base_model_digest
from adapter_hub.base_model.finding import find_base_model, find_pinned_base_model, remember_folder
from adapter_hub.errors import NotFoundError
from adapter_hub.formats.manifest import BaseModelPin
from adapter_hub.hub import RepoId

ID = "test/tiny-whisper"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_home(tmp_path / "home").base_model


@pytest.fixture
def hub(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with LoopbackHub(tmp_path / "hub") as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        monkeypatch.setenv("HF_TOKEN", running.token("test"))
        monkeypatch.setenv("ADAPTER_HUB_RETRY_SECONDS", "0.05")
        monkeypatch.setenv("ADAPTER_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "client"))
        running.create(ID)
        client = hub_client(running, "test")
        parent = client.refs(RepoId(ID)).branches["main"]
        files = {path.name: path for path in model.iterdir()}
        client.commit(RepoId(ID), additions=files, message="mine", parent=parent)
        yield running


def pin_of(model: Path, revision: str | None = None, name: str = ID) -> BaseModelPin:
    return BaseModelPin(id=name, revision=revision, architecture="W", digest=base_model_digest(model))


def test_a_newer_commit_with_the_same_digest_serves_offline(
    hub: LoopbackHub, run: Run, tmp_path: Path, model: Path
) -> None:
    pin = pin_of(model, hub.refs(ID).branches["main"])
    newer = hub.write(ID, {"README.md": b"a better text"})
    assert run("base-model", "fetch", ID).code == 0
    hub.stop()
    folder, commit = find_pinned_base_model(pin, tmp_path / "cache")
    assert (folder.name, commit) == (newer, newer)


def test_a_copy_of_another_program_and_a_folder_named_before_serve_too(
    hub: LoopbackHub, tmp_path: Path, model: Path
) -> None:
    pin, cache = pin_of(model, "0" * 40), tmp_path / "cache"
    theirs = tmp_path / "client" / "models--test--tiny-whisper" / "snapshots" / ("1" * 40)
    shutil.copytree(model, theirs)
    assert find_pinned_base_model(pin, cache) == (theirs, "1" * 40)
    shutil.rmtree(theirs)
    with pytest.raises(
        NotFoundError, match=f"fetch it with `adapter-hub base-model fetch {ID} --revision 000"
    ):
        find_pinned_base_model(pin, cache)
    remember_folder(model, pin.digest, cache)
    assert find_pinned_base_model(pin, cache) == (model, None)


def test_copies_with_other_digests_are_named(hub: LoopbackHub, run: Run, tmp_path: Path, model: Path) -> None:
    assert run("base-model", "fetch", ID).code == 0
    pin = pin_of(model).model_copy(update={"digest": f"sha256:{'0' * 64}"})
    with pytest.raises(NotFoundError, match=r"with digest sha256:0000.*; here [0-9a-f]{12} has sha256:"):
        find_pinned_base_model(pin, tmp_path / "cache")


def test_a_folder_named_like_an_id_shadows_nothing(
    hub: LoopbackHub, run: Run, tmp_path: Path, model: Path
) -> None:
    shutil.copytree(model, tmp_path / ID)
    outcome = run("base-model", "show", ID)
    assert outcome.code == 1
    assert f"the folder here is named ./{ID}" in outcome.err
    assert run("base-model", "show", f"./{ID}").code == 0
    assert run("base-model", "fetch", ID).code == 0
    assert str(tmp_path / "cache") in run("base-model", "show", ID).out


@pytest.mark.parametrize("text", ["folder", "./models/base", "/etc", "../x", "~root/x", "a/b/c", "hf://a/b"])
def test_what_a_published_pin_calls_its_base_model_is_never_opened_as_a_folder(
    tmp_path: Path, model: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model, tmp_path / "folder")
    pin = pin_of(model).model_copy(update={"id": text})
    with pytest.raises(NotFoundError, match="it is not on the Hub, and no folder was named for it before"):
        find_pinned_base_model(pin, tmp_path / "cache")


@pytest.mark.parametrize("text", ["./folder", "../x", "folder", "/etc"])
def test_an_adapter_that_names_a_folder_as_its_base_model_is_not_believed(
    hub: LoopbackHub, run: Run, tmp_path: Path, model: Path, text: str
) -> None:
    shutil.copytree(model, tmp_path / "folder")
    write_weights(tmp_path / "theirs", base_model_name_or_path=text)
    outcome = run("import", "theirs", "--language", "da", "--out", "out")
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert "--base-model" in outcome.err
    assert not (tmp_path / "out").exists()
    assert run("import", "theirs", "--language", "da", "--out", "out", "--base-model", "./folder").code == 0


@pytest.mark.parametrize("words", ["~nosuchuser/x", "a\0b", "x" * 5000, "./nothing", ""])
def test_a_user_s_word_that_is_no_folder_is_one_line(words: str, tmp_path: Path) -> None:
    with pytest.raises(
        NotFoundError, match="no such folder; expected the folder of a base model as transformers saves it"
    ) as caught:
        find_base_model(words, cache=tmp_path)
    assert "\n" not in str(caught.value)


def test_a_damaged_or_planted_copy_is_made_right_by_fetching_again(
    hub: LoopbackHub, run: Run, tmp_path: Path
) -> None:
    first = run("base-model", "fetch", ID, "--json").json
    folder = Path(first["path"])
    (folder / "model.safetensors").write_bytes(b"other")
    (folder / "adapter_config.json").write_text("{}")
    hub.log.clear()
    assert run("base-model", "fetch", ID, "--json").json == first
    assert not (folder / "adapter_config.json").exists()
    assert [entry.path.rpartition("/")[2] for entry in hub.log.entries(path="/resolve/")] == [
        "model.safetensors"
    ]
