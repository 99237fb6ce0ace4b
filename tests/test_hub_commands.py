"""The commands that talk to a Hub: search, import, base models, publishing there, auditing what is there."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Run
from hub_places import hub_client
from loopback_hub import LoopbackHub
from making import lora_tensors, make_artifact, peft_config, write_safetensors

from adapter_hub.artifact.folder import Artifact
from adapter_hub.hub import RepoId

BASE = RepoId("test/tiny-whisper")
THEIRS = RepoId("bob/Whisper_Tiny.da")
CARD = """---
language: da
license: apache-2.0
base_model: test/tiny-whisper
library_name: peft
pipeline_tag: automatic-speech-recognition
---
"""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with LoopbackHub(tmp_path / "hub") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("HF_TOKEN", hub.token("alice"))
        monkeypatch.setenv("ADAPTER_HUB_RETRY_SECONDS", "1")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub_cache"))
        monkeypatch.chdir(tmp_path)
        yield hub


def upload(hub: LoopbackHub, repo: RepoId, folder: Path, user: str) -> str:
    client = hub_client(hub, user)
    client.create_repo(repo)
    parent = client.refs(repo).branches["main"]
    additions = {path.name: path for path in folder.iterdir()}
    return client.commit(repo, additions=additions, message="mine", parent=parent)


@pytest.fixture
def base_commit(hub: LoopbackHub, tmp_path: Path) -> str:
    """A base model on the Hub, beside a copy in another precision that nobody should fetch."""
    from audit_defects import make_home

    folder = make_home(tmp_path / "home").base_model
    (folder / "model.fp32-00001-of-00001.safetensors").write_bytes(b"another precision")
    hub.token("test")
    return upload(hub, BASE, folder, "test")


@pytest.fixture
def theirs(hub: LoopbackHub, base_commit: str, tmp_path: Path) -> str:
    folder = tmp_path / "theirs"
    write_safetensors(folder / "adapter_model.safetensors", lora_tensors())
    config = peft_config(base_model_name_or_path=BASE.id)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "README.md").write_text(CARD)
    (folder / "training_args.bin").write_bytes(b"a pickle that nobody needs")
    return upload(hub, THEIRS, folder, "bob")


def test_import_takes_language_licence_and_base_model_from_the_hub(
    hub: LoopbackHub, run: Run, theirs: str, base_commit: str, tmp_path: Path
) -> None:
    done = run("import", f"hf://{THEIRS.id}", "--as", "alice/da@1.0.0", "--out", "out")
    assert (done.code, done.err) == (0, "publish it with `adapter-hub publish out`\n")
    manifest = Artifact.open("out").manifest
    assert manifest.source == f"hf://{THEIRS.id}@{theirs}"
    assert [language.tag for language in manifest.languages] == ["da"]
    assert (manifest.license, manifest.base_model.id) == ("Apache-2.0", BASE.id)
    assert manifest.base_model.revision == base_commit
    wanted = {entry.path for entry in hub.log.entries() if "training_args" in entry.path}
    assert wanted == set()
    found = json.loads(run("audit", "./out", "--json").out)
    unknown = next(item for item in found if item["code"] == "provenance-unknown")
    assert f"imported from hf://{THEIRS.id}@{theirs}" in unknown["message"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hf://bob/absent", "hf://bob/absent@main: not on http://127"),
        (f"hf://{THEIRS.id}@v9", "check the version, or pull the newest"),
        ("hf://bob", "repository 'bob': expected namespace/name"),
        (f"hf://{THEIRS.id}@../../x", "revision '../../x': expected a branch, a tag or a commit"),
        (f"hf://{BASE.id}", "no adapter_config.json; expected a LoRA as PEFT saves it; a whole model"),
    ],
)
def test_what_cannot_be_imported_is_one_line(run: Run, theirs: str, source: str, message: str) -> None:
    done = run("import", source, "--language", "da", "--base-model", BASE.id)
    assert done.code == 1
    assert message in done.err
    assert done.err.count("\n") == 1


def test_sub_folders_and_pages_of_the_hub_are_understood(
    hub: LoopbackHub, run: Run, theirs: str, base_commit: str, tmp_path: Path
) -> None:
    client, repo = hub_client(hub, "bob"), RepoId("bob/runs")
    client.create_repo(repo)
    config, weights = (
        tmp_path / "theirs" / name for name in ("adapter_config.json", "adapter_model.safetensors")
    )
    places = {"last/adapter_config.json": config, "out/best/adapter_config.json": config}
    additions = {**places, "out/best/adapter_model.safetensors": weights}
    parent = client.refs(repo).branches["main"]
    commit = client.commit(repo, additions=additions, message="runs", parent=parent)
    listed = run("import", "hf://bob/runs", "--language", "da", "--out", "out")
    assert (listed.code, listed.err.count("\n")) == (1, 1)
    assert "no adapter_config.json, but in last, out/best; name one of them, like --subfolder" in listed.err
    for words in (
        ("hf://bob/runs", "--subfolder", "out/best"),
        ("https://huggingface.co/bob/runs/tree/main/out/best",),
    ):
        shutil.rmtree("out", ignore_errors=True)
        assert run("import", *words, "--language", "da", "--out", "out").code == 0
        assert Artifact.open("out").manifest.source == f"hf://bob/runs@{commit}/out/best"


def test_an_adapter_that_is_only_a_pickle_is_never_read(hub: LoopbackHub, run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "pickle"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(peft_config()))
    (folder / "adapter_model.bin").write_bytes(b"a pickle")
    upload(hub, RepoId("bob/pickle"), folder, "bob")
    done = run("import", "hf://bob/pickle", "--language", "da", "--base-model", BASE.id)
    assert "no adapter_model.safetensors but adapter_model.bin, and pickles are never read" in done.err
    assert hub.log.count(path=r"resolve/.*adapter_model\.bin") == 0


def test_a_base_model_is_fetched_at_one_commit_and_its_digest_is_that_of_any_copy(
    run: Run, base_commit: str, tmp_path: Path
) -> None:
    fetched = json.loads(run("base-model", "fetch", BASE.id, "--json").out)
    assert fetched["revision"] == base_commit
    names = {path.name for path in Path(fetched["path"]).iterdir()}
    assert names == {"config.json", "generation_config.json", "tokenizer.json", "model.safetensors"}
    shutil.copytree(fetched["path"], tmp_path / "copy")
    shown = json.loads(run("base-model", "show", "./copy", "--json").out)
    assert shown["digest"] == fetched["digest"]
    assert json.loads(run("base-model", "show", BASE.id, "--json").out) == fetched


def test_a_base_model_whose_bytes_changed_on_the_way_is_refused(
    hub: LoopbackHub, run: Run, base_commit: str
) -> None:
    hub.corrupt(BASE.id, "model.safetensors", "main")
    done = run("base-model", "fetch", BASE.id)
    assert (done.code, done.out) == (1, "")
    assert re.search(r"is damaged: model.safetensors: \d+ bytes with sha256 \w+…, expected", done.err)


def test_search_finds_by_language_and_base_model(hub: LoopbackHub, run: Run, theirs: str) -> None:
    pulled = run("pull", "mini/da", "--to", "da")
    assert pulled.code == 0
    assert run("--store", "hf://alice", "publish", "da", "--as", "alice/da@1.0.0").code == 0
    rows = json.loads(run("search", "--language", "da", "--json").out)
    assert [(row["repository"], row["made_by"]) for row in rows] == [("hf://alice/da", "adapter-hub")]
    assert rows[0]["command"] == "adapter-hub pull hf://alice/da"
    by_base = run("search", "--base-model", "adapter-hub/whisper-mini").out
    assert "hf://alice/da" in by_base
    others = json.loads(run("search", "--peft", "--language", "da", "--json").out)
    assert {row["repository"] for row in others} == {"hf://alice/da", f"hf://{THEIRS.id}"}
    assert "nothing on http://127" in run("search", "--language", "xx").err


def test_pull_with_base_model_compares_it_with_the_pin(
    hub: LoopbackHub, run: Run, base_commit: str, tmp_path: Path
) -> None:
    right = json.loads(run("base-model", "fetch", BASE.id, "--json").out)["digest"]
    pin = {"id": BASE.id, "revision": base_commit, "architecture": "W", "digest": right}
    make_artifact(tmp_path / "right", "alice/da", base_model=pin)
    wrong = {**pin, "digest": f"sha256:{'0' * 64}"}
    make_artifact(tmp_path / "wrong", "alice/el", base_model=wrong)
    for folder in ("right", "wrong"):
        assert run("--store", "hf://alice", "publish", folder).code == 0
    rows = json.loads(run("pull", "alice/da", "--with-base-model", "--json").out)
    assert Path(rows[0]["base_model"]).name == base_commit
    done = run("pull", "alice/el", "--with-base-model")
    assert done.code == 1
    assert f"has the digest {right}, the adapter was made for sha256:0000" in done.err


def test_a_registry_and_its_adapters_live_on_the_hub(
    hub: LoopbackHub, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("pull", "mini/da", "--to", "da").code == 0
    monkeypatch.setenv("ADAPTER_HUB_REGISTRY", "hf://datasets/alice/registry")
    assert "the first publish makes it" in run("list").err
    assert run("publish", "da", "--as", "alice/da@1.0.0", "--private").code == 0
    assert "was already published" in run("publish", "da", "--as", "alice/da@1.0.0").err
    assert hub_client(hub, "alice").state(RepoId("alice/registry", "dataset")).private
    assert hub_client(hub, "alice").state(RepoId("alice/da")).private
    codes = [item["code"] for item in json.loads(run("audit", "--json").out)]
    assert codes == ["bytes-elsewhere"]  # nothing was pulled yet, and an audit of everything makes no request
    assert run("audit", "alice/da").code == 0
    assert json.loads(run("audit", "--json").out) == []  # it has been pulled
    assert run("lineage", "alice/da").out.splitlines()[1] == "└─ seed: mini/it@1.0.0 (lora, it)"
    assert "hf://alice" in run("show", "alice/da").out
    assert run("registry", "check").code == 0
    retired = run("retire", "alice/da@1.0.0", "--status", "quarantined", "--reason", "bad text")
    assert retired.code == 0
    assert "quarantined (bad text)" in run("pull", "alice/da@1.0.0").err
