"""Expert pairs trained on a small real Whisper: the same numbers in training and in use."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import Run
from making import OTHER_BASE, manifest_fields
from small_training import places, recipe
from small_whisper import make_adapter, make_pair
from test_composition import features_of, logits_of
from transformers import WhisperForConditionalGeneration

from adapter_hub.artifact.folder import Artifact, seal
from adapter_hub.audit import audit
from adapter_hub.errors import IntegrityError, InvalidInputError
from adapter_hub.exchange import Places, publish, pull
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.loading import load_adapter
from adapter_hub.model.session import Session
from adapter_hub.registry.file import FileRegistry
from adapter_hub.stores.folder import FolderStore
from adapter_hub.trainers.inputs import gather
from adapter_hub.trainers.loop.fitting import fit
from adapter_hub.trainers.methods.table import make_trainable
from adapter_hub.trainers.recipe import read_recipe
from adapter_hub.trainers.sealing import write_adapter
from adapter_hub.trainers.training import train


def pair_recipe(
    folder: Path, base_folder: Path, expert: str, *, kind: str = "token", seed: str = "", **changes: Any
) -> Path:
    """Write a recipe of a pair, in float32 unless told otherwise."""
    extra = f'[expert]\nadapter = "{expert}"\nsegments = 6\n[gate]\nkind = "{kind}"\n'
    extra += f'[seed]\nadapter = "{seed}"\nsegments = 6\n' if seed else ""
    settings = {"method": '"expert-pair"', "dtype": '"float32"'} | changes
    return recipe(folder, base_folder, extra=extra, **settings)


def plain(base_folder: Path) -> Any:
    model = WhisperForConditionalGeneration.from_pretrained(base_folder, dtype=torch.float32)
    return model.requires_grad_(requires_grad=False).eval()


@pytest.mark.parametrize("kind", ["token", "static"])
def test_the_runtime_answers_as_the_trained_model_did(
    kind: str, tmp_path: Path, data: Path, base_folder: Path, base: BaseModel
) -> None:
    parent = make_adapter(tmp_path / "parent", base, seed=5, language="pl", rank=3, targets=["q_proj", "fc1"])
    file = read_recipe(pair_recipe(tmp_path, base_folder, str(parent.path), kind=kind))
    where = places(tmp_path)
    inputs = gather(file, where["registries"], where["cache"], "cpu", lambda _: None)
    outcome = fit(inputs, tmp_path / "work", lambda _: None)
    (tmp_path / "out").mkdir()
    artifact = write_adapter(tmp_path / "out", outcome, inputs)
    artifact.verify()
    features = features_of(base, 2)
    session = Session(base)
    session.set_adapters([load_adapter(base, artifact)] * 2)
    ours = logits_of(session.model, base, features)
    with torch.no_grad():
        trained = logits_of(outcome.trainable.whisper.eval(), base, features)
    torch.testing.assert_close(ours, trained, atol=1e-4, rtol=1e-4)
    assert float((ours - logits_of(base.model, base, features)).abs().max()) > 0.01
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (artifact.path / "experts/parent" / name).read_bytes() == (parent.path / name).read_bytes()
    assert artifact.manifest.gate is not None
    assert artifact.manifest.gate.kind == kind
    assert [(p.role, p.digest) for p in artifact.manifest.parents] == [("expert", parent.digest)]


def logits_in_training(whisper: Any, base: BaseModel) -> torch.Tensor:
    with torch.no_grad():
        return logits_of(whisper.eval(), base, features_of(base, 2))


def test_a_pair_whose_child_starts_from_the_parent_starts_where_the_parent_stands(
    tmp_path: Path, data: Path, base_folder: Path, base: BaseModel
) -> None:
    parent = make_adapter(tmp_path / "parent", base, seed=5, language="pl")
    session = Session(base)
    session.set_adapters([load_adapter(base, parent)] * 2)
    wanted = logits_of(session.model, base, features_of(base, 2))
    file = read_recipe(pair_recipe(tmp_path, base_folder, str(parent.path), seed="expert", rank=6))
    trainable = make_trainable(plain(base_folder), file.recipe, {"expert": parent, "seed": parent})
    torch.testing.assert_close(logits_in_training(trainable.whisper, base), wanted, atol=1e-4, rtol=1e-4)
    half = make_trainable(plain(base_folder), file.recipe, {"expert": parent})
    assert float((logits_in_training(half.whisper, base) - wanted).abs().max()) > 0.01


def test_only_child_and_gate_are_trained(
    tmp_path: Path, data: Path, base_folder: Path, base: BaseModel
) -> None:
    parent = make_adapter(tmp_path / "parent", base, seed=5, language="pl", targets=["q_proj"])
    file = read_recipe(pair_recipe(tmp_path, base_folder, str(parent.path)))
    trainable = make_trainable(plain(base_folder), file.recipe, {"expert": parent})
    trained = {name for name, p in trainable.whisper.named_parameters() if p.requires_grad}
    assert {name.rsplit(".", 1)[1] for name in trained} == {"child_a", "child_b", "gate_weight", "gate_bias"}
    state = trainable.state()
    count = sum(p.numel() for p in trainable.whisper.parameters() if p.requires_grad)
    assert sum(tensor.numel() for tensor in state.values()) == count
    again = make_trainable(plain(base_folder), file.recipe, {"expert": parent})
    moved = {name: torch.randn_like(tensor) * 0.1 for name, tensor in state.items()}
    again.load_state(moved)
    assert all(torch.equal(tensor, moved[name]) for name, tensor in again.state().items())


def test_the_whole_life_of_a_pair(
    tmp_path: Path, data: Path, base_folder: Path, base: BaseModel, run: Run
) -> None:
    registry, store = FileRegistry(tmp_path / "registry.json"), FolderStore(tmp_path / "store")
    expert = make_adapter(tmp_path / "expert", base, seed=5, language="pl")
    publish(expert.path, Places(registry, store))
    path = pair_recipe(tmp_path, base_folder, "nearest", seed="expert", dtype='"float16"')
    artifact = train(path, tmp_path / "out", **places(tmp_path))
    assert {(p.role, p.digest) for p in artifact.manifest.parents} == {
        ("expert", expert.digest),
        ("seed", expert.digest),
    }
    assert artifact.manifest.similarity == ()  # with one candidate there is nothing to measure
    assert [section.role for section in artifact.manifest.lora] == ["parent", "child"]
    publish(artifact.path, Places(registry, store))
    again = pull("small/da", Places([registry], cache=places(tmp_path)["cache"]))
    assert again.digest == artifact.digest
    found = audit(["small/da"], Places([registry], cache=places(tmp_path)["cache"]))
    assert {item.code for item in found if item.severity != "info"} <= {"base-model-absent"}
    cache = ("--cache", places(tmp_path)["cache"].folder)  # where training remembered the base model's folder
    said = run(*cache, "--device", "cpu", "transcribe", "small/da", data / "dev/0.wav", "--json")
    assert said.code == 0, said.err
    report = run(
        *cache, "--device", "cpu", "evaluate", "small/da", "--data", data, "--split", "dev", "--attach"
    )
    assert report.code == 0, report.err
    shown = run("show", "small/da")
    assert "expert" in shown.out
    assert "expert: small/pl-5@1.0.0" in run("lineage", "small/da").out
    assert "expert pair" in run("card", "small/da").out.lower()


def pretending(artifact: Artifact, folder: Path, **changes: Any) -> Artifact:
    """Return a copy of an adapter that is sealed with other fields."""
    folder.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / name).write_bytes((artifact.path / name).read_bytes())
    fields = {"base_model": artifact.manifest.base_model, **changes}
    return seal(folder, manifest_fields(artifact.manifest.name, **fields))


def test_a_parent_that_cannot_be_one_is_refused(
    tmp_path: Path, data: Path, base_folder: Path, base: BaseModel
) -> None:
    plain = make_adapter(tmp_path / "plain", base, seed=5, language="pl")
    pair = make_pair(tmp_path / "pair", base, plain, kind="static", seed=6)
    pin = base.pin.model_copy(update={"digest": OTHER_BASE})
    elsewhere = pretending(plain, tmp_path / "elsewhere", base_model=pin)
    average = pretending(plain, tmp_path / "imported", method="imported")
    for parent, message in (
        (pair, "its method is expert-pair; the parent of a pair is a lora or warm-start"),
        (average, "its method is imported; the parent of a pair is a lora or warm-start"),
        (
            elsewhere,
            f"expert small/pl-5@1.0.0: made for base model .*, digest {OTHER_BASE}, not {base.digest}",
        ),
    ):
        path = pair_recipe(tmp_path, base_folder, str(parent.path))
        with pytest.raises(InvalidInputError, match=message):
            train(path, tmp_path / "out", **places(tmp_path))
    path = recipe(tmp_path, base_folder, method='"warm-start"', extra=f'[seed]\nadapter = "{pair.path}"')
    with pytest.raises(
        InvalidInputError, match="seed .*: an expert pair has no LoRA of its own; name one of"
    ):
        train(path, tmp_path / "out", **places(tmp_path))
    (plain.path / "adapter_model.safetensors").unlink()
    with pytest.raises(IntegrityError, match="adapter_model.safetensors: missing"):
        train(pair_recipe(tmp_path, base_folder, str(plain.path)), tmp_path / "out", **places(tmp_path))
    assert not (tmp_path / "out").exists()


def test_a_pair_goes_on_from_its_checkpoint_to_the_same_weights(
    tmp_path: Path, data: Path, base_folder: Path, base: BaseModel
) -> None:
    parent = make_adapter(tmp_path / "parent", base, seed=5, language="pl")
    path = pair_recipe(tmp_path, base_folder, str(parent.path))
    whole = train(path, tmp_path / "whole", **places(tmp_path))

    def stop(line: str) -> None:
        if line.startswith("step 6/6"):
            raise KeyboardInterrupt(line)

    with pytest.raises(KeyboardInterrupt, match="step 6/6"):
        train(path, tmp_path / "out", tell=stop, **places(tmp_path))
    said: list[str] = []
    resumed = train(path, tmp_path / "out", tell=said.append, **places(tmp_path))
    assert "resuming from checkpoint-3" in said
    assert resumed.manifest.weights_digest == whole.manifest.weights_digest


@pytest.mark.parametrize("method", ["lora", "expert-pair", "full-fine-tuning"])
def test_a_checkpoint_of_something_else_is_refused(
    method: str, tmp_path: Path, base_folder: Path, base: BaseModel
) -> None:
    parent = make_adapter(tmp_path / "parent", base, seed=5, language="pl")
    file = read_recipe(pair_recipe(tmp_path, base_folder, str(parent.path)))
    adapter = file.recipe.adapter.model_copy(update={"method": method})
    trainable = make_trainable(
        plain(base_folder), file.recipe.model_copy(update={"adapter": adapter}), {"expert": parent}
    )
    state = trainable.state()
    trainable.load_state(state)
    name = sorted(state)[0]
    state["stray"] = state.pop(name)
    with pytest.raises(IntegrityError, match=f"{name}: missing.*stray: not in this model"):
        trainable.load_state(state)


@pytest.mark.parametrize(
    "part", ["experts/parent/adapter_model.safetensors", "experts/child", "gate.safetensors"]
)
def test_a_pair_without_one_of_its_parts_is_refused_by_every_command(
    part: str, tmp_path: Path, data: Path, base_folder: Path, base: BaseModel, run: Run
) -> None:
    parent = make_adapter(tmp_path / "parent", base, seed=5, language="pl")
    path = pair_recipe(tmp_path, base_folder, str(parent.path), kind="static", epochs=1)
    outcome = run("--device", "cpu", "train", path, "--out", "out", "--json")
    assert outcome.code == 0, outcome.err
    lost = tmp_path / "out" / part
    shutil.rmtree(lost) if lost.is_dir() else lost.unlink()
    for command in (
        ["publish", "out"],
        ["transcribe", "./out", data / "dev/0.wav"],
        ["fold", "./out", "--out", "x"],
    ):
        refused = run("--device", "cpu", *command)
        assert refused.code == 1, command
        assert refused.err.splitlines()[-1].startswith("error: ")
        assert f"{part}" in refused.err
        assert "missing" in refused.err
    found = run("audit", "./out")
    assert found.code == 1
    assert part in found.out
