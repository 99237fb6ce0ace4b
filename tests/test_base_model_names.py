"""A folder is the model that its digest says, or that its user says; its path is never published."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from command_line import Run
from safetensors.torch import load_file, save_file
from small_training import places, recipe
from small_whisper import make_adapter, make_pair, write_peft

from adapter_hub import embedded
from adapter_hub.artifact.folder import Artifact
from adapter_hub.base_model.digest import EMBEDDED_ID
from adapter_hub.base_model.finding import find_base_model, public_base_model
from adapter_hub.base_model.naming import name_of, remember_name, split_claim
from adapter_hub.data.dataset import read_dataset
from adapter_hub.errors import AdapterHubError, InvalidInputError
from adapter_hub.model.base_model import BaseModel, load_base_model
from adapter_hub.trainers.recipe import read_recipe
from adapter_hub.trainers.training import train

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def copy(base_folder: Path, tmp_path: Path) -> Path:
    """A copy of the small base model in a folder whose name says nothing."""
    return Path(shutil.copytree(base_folder, tmp_path / "somewhere" / "x"))


@pytest.fixture
def from_the_hub(base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same model in the cache of the Hub's client."""
    place = tmp_path / "hub" / "models--test--small" / "snapshots" / COMMIT
    shutil.copytree(base_folder, place)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return place


def everything(folder: Path) -> str:
    """Return all text in a folder."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".safetensors"]
    return "".join(path.read_text(encoding="utf-8") for path in files)


def test_a_copy_of_a_model_that_came_from_the_hub_is_recognised(from_the_hub: Path, copy: Path) -> None:
    assert load_base_model(copy, device="cpu").pin.id == "x"
    load_base_model("test/small", device="cpu")

    pin = load_base_model(copy, device="cpu").pin

    assert (pin.id, pin.revision) == ("test/small", COMMIT)


def test_a_copy_of_the_embedded_model_is_the_embedded_model(tmp_path: Path) -> None:
    copy = shutil.copytree(embedded.base_model_path(), tmp_path / "mine")

    assert public_base_model(copy, copy) == (EMBEDDED_ID, None)


@pytest.mark.parametrize("command", ["base-model show", "import"])
def test_the_user_may_say_which_model_a_folder_holds(
    run: Run, copy: Path, base: BaseModel, tmp_path: Path, command: str
) -> None:
    if command == "base-model show":
        assert run("base-model", "show", f"test/own={copy}", "--json").json["id"] == "test/own"
        return
    write_peft(tmp_path / "theirs", base, seed=1)

    done = run(
        *("import", "theirs", "--language", "da", "--license", "MIT", "--as", "me/da@1.0.0"),
        *("--base-model", f"test/own={copy}", "--out", "out"),
    )

    assert done.code == 0, done.err
    assert Artifact.open("out").manifest.base_model.id == "test/own"
    assert json.loads(Path("out/adapter_config.json").read_text())["base_model_name_or_path"] == "test/own"
    assert str(tmp_path) not in everything(Path("out"))
    assert run("publish", "out").code == 0
    assert "test/own" in run("card", "me/da").out


@pytest.mark.parametrize("command", ["average", "average of models", "extract", "fold", "train"])
def test_what_is_made_of_a_folder_that_the_user_named_has_its_name(
    run: Run, copy: Path, data: Path, base: BaseModel, tmp_path: Path, command: str
) -> None:
    named = f"test/own={copy}"
    words = made_of(command, named, copy, base, tmp_path)

    done = run(*command.split()[:1], *words, "--out", "out")

    assert done.code == 0, done.err
    if command == "average of models":
        assert json.loads(Path("out/full_fine_tuning.json").read_text())["base_model"]["id"] == "test/own"
        return
    made = Artifact.open("out")
    made.verify()
    assert (made.manifest.base_model.id, made.manifest.base_model.digest) == ("test/own", base.digest)
    assert json.loads(Path("out/adapter_config.json").read_text())["base_model_name_or_path"] == "test/own"
    assert str(tmp_path) not in everything(Path("out"))
    assert run("publish", "out").code == 0
    heard = run("transcribe", made.ref, data / "dev" / "0.wav", "--base-model", named, "--beams", "1")
    assert heard.code == 0, heard.err


def made_of(command: str, named: str, copy: Path, base: BaseModel, folder: Path) -> list[str | Path]:
    """Return the words of a command that makes an adapter with a base model that is named `ID=FOLDER`."""
    own = replace(base, public=("test/own", None))
    if command == "train":
        path = recipe(folder, copy, training={"epochs": None, "steps": "1"})
        path.write_text(path.read_text().replace(f'id = "{copy}"', f'id = "{named}"'))
        return [path]
    if command == "fold":
        parent = make_adapter(folder / "parent", own, seed=1)
        return [make_pair(folder / "pair", own, parent, kind="static", seed=2).path, "--base-model", named]
    if command == "average":
        both = [make_adapter(folder / f"a{seed}", own, seed=seed).path for seed in (1, 2)]
        return [*both, "--as", "me/average@1.0.0", "--base-model", named]
    tuned = save_tuned(folder, copy)
    if command == "extract":
        options = ("--language", "da", "--license", "MIT", "--as", "me/taken@1.0.0", "--rank", "4")
        return [tuned, "--base-model", named, *options]
    return [tuned, copy, "--as", "me/average@1.0.0", "--base-model", named]


def save_tuned(folder: Path, copy: Path) -> Path:
    """Save a copy of a base model whose linears have changed a little."""
    tuned = shutil.copytree(copy, folder / "tuned")
    weights = load_file(tuned / "model.safetensors")
    for name, tensor in weights.items():
        if name.endswith("fc1.weight"):
            tensor += 0.01 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1))
    save_file(weights, tuned / "model.safetensors", metadata={"format": "pt"})
    return tuned


def test_a_recipe_names_a_folder_by_id_and_path(
    tmp_path: Path, data: Path, copy: Path, base: BaseModel
) -> None:
    path = recipe(tmp_path, copy, training={"epochs": None, "steps": "1"})
    named = f'id = "test/own"\npath = "somewhere/{copy.name}"\nrevision = "{COMMIT}"'
    path.write_text(path.read_text().replace(f'id = "{copy}"', named))

    artifact = train(path, tmp_path / "out", **places(tmp_path))

    pin = artifact.manifest.base_model
    assert (pin.id, pin.revision, pin.digest) == ("test/own", COMMIT, base.digest)
    text = everything(artifact.path)
    assert str(tmp_path) not in text
    assert "somewhere" not in text
    assert 'id = "test/own"' in artifact.manifest.recipe


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('path = "./x"', "path goes with the id of a model on the Hub"),
        ('id = "./y"\npath = "./x"', "path goes with the id of a model on the Hub"),
        ('id = "a/b=./y"\npath = "./x"', "path goes with the id of a model on the Hub"),
    ],
)
def test_a_path_without_an_id_names_nothing(tmp_path: Path, copy: Path, table: str, message: str) -> None:
    path = recipe(tmp_path, copy)
    path.write_text(path.read_text().replace(f'id = "{copy}"', table))

    with pytest.raises(InvalidInputError, match=message):
        read_recipe(path)


def test_a_model_that_is_known_has_no_other_name(from_the_hub: Path, copy: Path) -> None:
    load_base_model("test/small", device="cpu")

    with pytest.raises(InvalidInputError, match=r"is test/small by its digest sha256:\w+…, not test/other"):
        load_base_model(f"test/other={copy}", device="cpu")


def test_a_named_folder_needs_a_commit_for_a_revision(copy: Path) -> None:
    assert find_base_model(f"test/own={copy}", COMMIT) == (copy, COMMIT)
    with pytest.raises(AdapterHubError, match="main"):
        find_base_model(f"test/own={copy}", "main")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("openai/whisper-base=./w", ("openai/whisper-base", "./w")),
        ("openai/whisper-base=a=b", ("openai/whisper-base", "a=b")),
        ("./a=b", (None, "./a=b")),
        ("openai/whisper-base=", (None, "openai/whisper-base=")),
        ("whisper=./w", (None, "whisper=./w")),
    ],
)
def test_an_id_and_a_folder_are_told_apart(text: str, parts: tuple[str | None, str]) -> None:
    assert split_claim(text) == parts


@pytest.mark.parametrize("name", ["ana", "Ana-whisper", "model_of_ana", "ana.tiny"])
def test_neither_home_folder_nor_user_name_becomes_a_name(
    tmp_path: Path, base_folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    home = tmp_path / "ana"
    monkeypatch.setenv("HOME", str(home))
    copy = shutil.copytree(base_folder, home / name)
    shutil.copytree(data, home / "speech" / name)

    assert public_base_model(copy, copy) == ("base-model", None)
    assert read_dataset(home / "speech" / name, "train").name == "data"
    assert public_base_model("~/" + name, copy) == ("base-model", None)


def test_a_name_that_holds_the_users_by_chance_is_kept(
    tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "ana"))
    copy = shutil.copytree(base_folder, tmp_path / "banana")

    assert public_base_model(copy, copy) == ("banana", None)


def test_a_full_fine_tune_holds_no_path(tmp_path: Path, data: Path, copy: Path) -> None:
    path = recipe(tmp_path, copy, method='"full-fine-tuning"', training={"epochs": None, "steps": "1"})
    text = path.read_text()
    path.write_text(text.partition("[lora]")[0] + "[training]" + text.partition("[training]")[2])

    train(path, tmp_path / "out", **places(tmp_path))

    assert str(tmp_path) not in everything(tmp_path / "out")


@pytest.mark.parametrize("note", [b"", b"[]", b'["../x","main"]', b'["a/b","main"]', b"[" * 900, b"1"])
def test_a_damaged_note_names_nothing(tmp_path: Path, note: bytes) -> None:
    digest = "sha256:" + "a" * 64
    remember_name(digest, "test/small", COMMIT, tmp_path)
    assert name_of(digest, tmp_path) == ("test/small", COMMIT)

    (tmp_path / "base_model_names" / f"{'a' * 64}.json").write_bytes(note)

    assert name_of(digest, tmp_path) is None


def test_checking_data_reads_no_weights(run: Run, data: Path, copy: Path, tmp_path: Path) -> None:
    (copy / "model.safetensors").unlink()

    named = run("data", "check", "data", "--base-model", copy, "--json")

    assert named.err == ""
    assert named.json["splits"][0]["usable"] == 12
    path = recipe(tmp_path, copy)
    found = run("data", "check", path, "--json").json[
        "splits"
    ]  # whose inputs are as its batch size makes them
    assert found == [
        split | {"place": str(tmp_path / "data" / split["split"]), "input_seconds": own["input_seconds"]}
        for split, own in zip(named.json["splits"], found, strict=True)
    ]


@pytest.mark.parametrize("command", ["train", "data check", "similarity", "base-model show"])
def test_whatever_loads_a_base_model_uses_the_cache_that_is_named(
    run: Run, data: Path, copy: Path, command: str, tmp_path: Path
) -> None:
    words: dict[str, list[str | Path]] = {
        "train": [recipe(tmp_path, copy, training={"epochs": None, "steps": "1"}), "--out", "out"],
        "data check": ["data", "--base-model", copy],
        "similarity": ["--data", "data", "--split", "train", "--base-model", copy, "--among", "pl"],
        "base-model show": [copy],
    }

    done = run("--cache", tmp_path / "mine", *command.split(), *words[command])

    assert "error" not in done.err
    assert not Path(os.environ["ADAPTER_HUB_CACHE"]).exists()
    assert command == "data check" or any((tmp_path / "mine" / "base_models").iterdir())


def test_a_report_of_a_reproduction_names_no_folder_of_this_machine(
    tmp_path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adapter_hub.trainers.reproduction.pages import base_model_name
    from adapter_hub.trainers.reproduction.reproducing import command_line

    monkeypatch.setenv("HOME", str(tmp_path / "ana"))
    words = ["--base-model", str(copy), f"--data={tmp_path}/speech", "--out", "runs/ana/real"]
    monkeypatch.setattr("sys.argv", ["adapter-hub", "reproduce", "parameter-averaging", *words])

    assert command_line() == (
        "adapter-hub reproduce parameter-averaging --base-model …/x --data=…/speech --out runs/…/real"
    )
    assert base_model_name(str(copy)) == "x"
    assert base_model_name(f"test/own={copy}") == "test/own"
    assert base_model_name("openai/whisper-small") == "openai/whisper-small"
    assert base_model_name(str(tmp_path / "gone" / "ana")) == "base-model"


def test_a_new_recipe_names_a_folder_by_its_id_too(run: Run, data: Path, copy: Path) -> None:
    words = ("--language", "da", "--namespace", "me", "--author", "Me", "--license", "MIT")

    done = run("recipe", "new", "lora", *words, "--base-model", f"test/own={copy}", "--out", "r/new.toml")

    assert done.code == 0, done.err
    file = read_recipe(Path("r/new.toml"))
    assert file.base_model == f"test/own={copy}"
