"""What a publish leaves in the repository: layout, tags, `main`, cards; and what it never overwrites."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_places import hub_client, hub_store
from huggingface_hub import HfApi
from loopback_hub import LoopbackHub
from making import make_artifact

from adapter_hub.artifact.folder import Artifact
from adapter_hub.errors import AccessError, ConflictError, InvalidInputError, NotFoundError
from adapter_hub.exchange import Places, check, publish, rebuild, retire
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.hub import RepoId
from adapter_hub.registry.file import FileRegistry
from adapter_hub.stores.hub import HubStore

NAME = "alice/da"
DA = RepoId(NAME)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    with LoopbackHub(tmp_path / "hub") as hub:
        yield hub


@pytest.fixture
def registry(tmp_path: Path) -> FileRegistry:
    return FileRegistry(tmp_path / "registry.json")


@pytest.fixture
def store(hub: LoopbackHub) -> HubStore:
    return hub_store(hub, "alice")


def made(folder: Path, version: str, seed: float = 1.0) -> Artifact:
    return make_artifact(folder / version, NAME, version, seed=seed)


def test_a_version_is_a_tagged_commit_whose_tree_is_the_artifact_and_its_card(
    hub: LoopbackHub, registry: FileRegistry, store: HubStore, tmp_path: Path
) -> None:
    artifact = made(tmp_path, "1.0.0")
    publish(artifact.path, Places(registry, store))
    files = hub.files(NAME, "v1.0.0")
    assert set(files) - {".gitattributes", "README.md"} == {path.name for path in artifact.path.iterdir()}
    for path in artifact.path.iterdir():
        assert files[path.name] == path.read_bytes()
    card = files["README.md"].decode()
    for line in (
        'base_model: "test/tiny"',
        "base_model_relation: adapter",
        "library_name: peft",
        "pipeline_tag: automatic-speech-recognition",
        '- "da"',
        "- adapter-hub",
    ):
        assert line in card.splitlines()
    location = registry.adapters[NAME]["1.0.0"].locations[0]
    assert (location.store, location.repo) == ("hf://alice", NAME)
    assert location.commit == hub_client(hub).refs(DA).tags["v1.0.0"]


def test_the_newest_release_stays_on_main(
    hub: LoopbackHub, registry: FileRegistry, store: HubStore, tmp_path: Path
) -> None:
    for version, seed in (("1.0.0", 1.0), ("1.2.0", 2.0), ("1.1.0", 3.0), ("1.3.0rc1", 4.0)):
        publish(made(tmp_path, version, seed).path, Places(registry, store))
    shown = json.loads(hub.files(NAME, "main")["adapter.json"])
    assert shown["version"] == "1.2.0"
    assert "1.2.0" in hub.files(NAME, "main")["README.md"].decode()
    refs = hub_client(hub).refs(DA)
    assert sorted(refs.tags) == ["v1.0.0", "v1.1.0", "v1.2.0", "v1.3.0rc1"]
    assert set(refs.branches) == {"main"}  # a backport's branch goes once it has its tag
    retire(AdapterRef(NAME, "1.2.0"), "quarantined", "bad text", Places(registry, store))
    shown = json.loads(hub.files(NAME, "main")["adapter.json"])
    assert shown["version"] == "1.1.0"  # who asks for no version does not get a quarantined one
    assert check(registry, [store]) == []


def test_a_withdrawn_version_s_weights_are_gone_for_good_and_its_manifest_stays(
    hub: LoopbackHub, registry: FileRegistry, store: HubStore, tmp_path: Path
) -> None:
    publish(made(tmp_path, "1.0.0", 1.0).path, Places(registry, store))
    publish(made(tmp_path, "1.1.0", 2.0).path, Places(registry, store))
    retire(AdapterRef(NAME, "1.1.0"), "withdrawn", "licence", Places(registry, store))
    client, commit = hub_client(hub), hub_client(hub).refs(DA).tags["v1.1.0"]
    with pytest.raises(NotFoundError, match="adapter_model"):
        client.read(DA, commit, "adapter_model.safetensors", limit=10**6)
    assert store.manifest(NAME, "1.1.0")[0].version == "1.1.0"
    store.fetch(NAME, "1.0.0", tmp_path / "still there").verify()
    assert json.loads(hub.files(NAME, "main")["adapter.json"])["version"] == "1.0.0"
    assert check(registry, [store]) == []


def test_publishing_again_writes_nothing(
    hub: LoopbackHub, registry: FileRegistry, store: HubStore, tmp_path: Path
) -> None:
    artifact = made(tmp_path, "1.0.0")
    publish(artifact.path, Places(registry, store))
    before, sequence = hub_client(hub).refs(DA), registry.sequence
    assert not publish(artifact.path, Places(registry, store)).is_new
    assert hub_client(hub).refs(DA) == before
    assert registry.sequence == sequence


def test_a_repository_with_something_else_in_it_is_left_alone(
    hub: LoopbackHub, registry: FileRegistry, store: HubStore, tmp_path: Path
) -> None:
    client = hub_client(hub, "alice")
    client.create_repo(DA)
    head = client.refs(DA).branches["main"]
    client.commit(DA, additions={"model.safetensors": b"a whole model"}, message="mine", parent=head)
    with pytest.raises(ConflictError, match=r"holds something else than an adapter \(model\.safetensors\)"):
        publish(made(tmp_path, "1.0.0").path, Places(registry, store))
    assert hub.files(NAME, "main")["model.safetensors"] == b"a whole model"
    assert registry.adapters == {}


def test_a_registry_is_rebuilt_from_the_hub_s_own_listing(
    registry: FileRegistry, store: HubStore, tmp_path: Path
) -> None:
    for version, seed in (("1.0.0", 1.0), ("1.1.0", 2.0)):
        publish(made(tmp_path, version, seed).path, Places(registry, store))
    rebuilt = FileRegistry(tmp_path / "anew.json")
    rebuild(rebuilt, [store])
    assert rebuilt.adapters == registry.adapters


def test_a_registry_is_rebuilt_from_the_stores_of_several_namespaces(
    hub: LoopbackHub, registry: FileRegistry, store: HubStore, tmp_path: Path
) -> None:
    other = hub_store(hub, "bob")
    publish(made(tmp_path, "1.0.0").path, Places(registry, store))
    publish(make_artifact(tmp_path / "el", "bob/el").path, Places(registry, other))
    rebuilt = FileRegistry(tmp_path / "anew.json")
    rebuild(rebuilt, [other, store])
    assert rebuilt.adapters == registry.adapters
    assert check(registry, [store, other]) == []


def test_private_repositories_are_for_those_with_a_token(
    hub: LoopbackHub, registry: FileRegistry, tmp_path: Path
) -> None:
    store = hub_store(hub, "alice")
    store.private = True
    publish(made(tmp_path, "1.0.0").path, Places(registry, store))
    assert hub_client(hub, "alice").state(DA).private
    stranger = HubStore("alice", client=hub_client(hub, "stranger"), cache=tmp_path / "stranger")
    with pytest.raises(NotFoundError, match=r"no alice/da@1\.0\.0"):
        stranger.fetch(NAME, "1.0.0", tmp_path / "new")


def test_a_gated_repository_says_where_to_ask(
    hub: LoopbackHub, registry: FileRegistry, store: HubStore, tmp_path: Path
) -> None:
    publish(made(tmp_path, "1.0.0").path, Places(registry, store))
    HfApi(hub.endpoint, token=hub.token("alice")).update_repo_settings(NAME, gated="manual")
    bob = HubStore("alice", client=hub_client(hub, "bob"), cache=tmp_path / "bob")
    with pytest.raises(AccessError, match=r"gated; ask for access on its page .* `hf auth login`"):
        bob.fetch(NAME, "1.0.0", tmp_path / "new")
    hub.grant(NAME, "bob")
    bob.fetch(NAME, "1.0.0", tmp_path / "new").verify()


def test_versions_travel_through_xet_where_the_hub_speaks_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_XET_CACHE", str(tmp_path / "xet"))
    with LoopbackHub(tmp_path / "hub", xet=True) as hub:
        monkeypatch.setattr("adapter_hub.hub.committing.XET_ENDPOINT", hub.endpoint)
        store, arrived = hub_store(hub, "alice", tmp_path / "cache"), list[int]()
        store.progress = arrived.append
        artifact = make_artifact(tmp_path / "da", NAME, rank=64)
        store.push(artifact)
        store.fetch(NAME, "1.0.0", tmp_path / "new", digest=artifact.digest).verify()
        assert hub.log.count(path="xet-write-token") > 0
        assert hub.log.count(path="lfs-upload") == 0
    assert sum(arrived) > 0
    assert capfd.readouterr().err == ""


def test_somebody_else_s_namespace_is_not_written_to(hub: LoopbackHub, tmp_path: Path) -> None:
    artifact = made(tmp_path, "1.0.0")
    stranger = HubStore("alice", client=hub_client(hub, "bob"), cache=tmp_path / "bob")
    with pytest.raises(
        AccessError, match=r"refuses access \(403: .*\); log in with .* as a user with access"
    ):
        stranger.push(artifact)
    with pytest.raises(InvalidInputError, match="store hf://bob: cannot hold alice/da"):
        hub_store(hub, "bob").push(artifact)
    with pytest.raises(InvalidInputError, match="expected hf://namespace"):
        HubStore("alice/da")


LOAD = """
import sys
from pathlib import Path
import torch
from peft import PeftModel
from transformers import WhisperForConditionalGeneration
base = WhisperForConditionalGeneration.from_pretrained(sys.argv[1])
before = base.proj_out.weight.sum(), base.model.encoder.layers[0].fc1.weight.clone()
adapted = PeftModel.from_pretrained(base, "alice/da", revision="v1.0.0").merge_and_unload()
print(int(not torch.equal(adapted.model.encoder.layers[0].fc1.weight, before[1])))
"""


def test_plain_peft_loads_a_published_version_by_its_tag(hub: LoopbackHub, tmp_path: Path) -> None:
    from adapter_hub import embedded
    from adapter_hub.stores.folder import FolderStore

    pulled = FolderStore(embedded.store_path()).fetch("mini/da", "1.0.0", tmp_path / "da")
    registry, store = FileRegistry(tmp_path / "registry.json"), hub_store(hub, "alice")
    publish(pulled.path, Places(registry, store), rename=AdapterRef(NAME, "1.0.0"))
    command = [sys.executable, "-c", LOAD, str(embedded.base_model_path())]
    done = subprocess.run(command, env=hub.environment("alice"), capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "1", done.stderr


def test_the_examples_on_a_card_of_the_hub_load_the_version_from_there(
    hub: LoopbackHub, tmp_path: Path
) -> None:
    from adapter_hub import embedded
    from adapter_hub.stores.folder import FolderStore

    pulled = FolderStore(embedded.store_path()).fetch("mini/da", "1.0.0", tmp_path / "da")
    registry, store = FileRegistry(tmp_path / "registry.json"), hub_store(hub, "alice")
    publish(pulled.path, Places(registry, store), rename=AdapterRef(NAME, "1.0.0"))
    for revision in ("v1.0.0", "main"):
        card = hub.files(NAME, revision)["README.md"].decode()
        blocks = re.findall(r"^```python\n(.*?)^```$", card, re.MULTILINE | re.DOTALL)
        assert len(blocks) == 2, card
    with wave.open(str(tmp_path / "audio.wav"), "wb") as audio:
        audio.setparams((1, 2, 16_000, 0, "NONE", "NONE"))
        audio.writeframes(bytes(32_000))
    code = "\n".join([*blocks, "print(transcriber.adapter.name, model.peft_config['default'].r)"])
    environment = hub.environment("alice") | {
        "ADAPTER_HUB_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split()[-2:] == ["alice/da@1.0.0", "8"], done.stderr
