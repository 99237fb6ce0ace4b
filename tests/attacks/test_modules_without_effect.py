"""Adapters whose updates are zero: in some modules they are fine wherever they go, in all they are none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from making import manifest_fields, write_safetensors, write_weights
from safetensors.torch import load_file, save_file
from small_training import recipe
from small_whisper import make_pair, write_peft
from test_composition import features_of, logits_of, peft_model
from transformers import WhisperForConditionalGeneration

from adapter_hub.artifact.effects import NO_EFFECT, effect_of, has_effect
from adapter_hub.artifact.folder import Artifact, seal
from adapter_hub.audit import audit
from adapter_hub.errors import IntegrityError, InvalidInputError
from adapter_hub.exchange import publish, pull
from adapter_hub.exchange.importing import Identity, base_model_pin, import_peft, languages_of
from adapter_hub.exchange.places import Places
from adapter_hub.formats.manifest import MAXIMUM_RANK
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.loading import load_adapter
from adapter_hub.model.lora_file import read_file
from adapter_hub.model.session import Session
from adapter_hub.registry.file import FileRegistry
from adapter_hub.stores.cache import Cache
from adapter_hub.stores.folder import FolderStore
from adapter_hub.trainers.folding import fold
from adapter_hub.trainers.methods.table import make_trainable
from adapter_hub.trainers.recipe import read_recipe

WEIGHTS = "adapter_model.safetensors"
Zeroed = Callable[[str], bool]  # which tensors are made zero


def write_idle(folder: Path, base: BaseModel, zeroed: Zeroed, *, seed: int = 1, rank: int = 4) -> Path:
    """Write an adapter as PEFT does, with zeros in some of its tensors."""
    write_peft(folder, base, seed=seed, rank=rank)
    tensors = load_file(folder / WEIGHTS)
    zeros = {name: torch.zeros_like(tensor) for name, tensor in tensors.items() if zeroed(name)}
    save_file({**tensors, **zeros}, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def frozen_encoder(name: str) -> bool:
    return ".encoder." in name and "lora_B" in name


def sealed(folder: Path, base: BaseModel, name: str = "small/frozen") -> Artifact:
    return seal(folder, manifest_fields(name, base_model=base.pin))


@pytest.fixture(scope="module")
def frozen(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """An adapter whose encoder was frozen while it was trained: B is zero there, as PEFT starts it."""
    return sealed(write_idle(tmp_path_factory.mktemp("frozen") / "a", base, frozen_encoder), base)


def test_an_adapter_with_a_frozen_encoder_comes_in_is_published_pulled_and_answers_as_in_peft(
    base: BaseModel, base_folder: Path, frozen: Artifact, tmp_path: Path
) -> None:
    identity = Identity("small/theirs", "1.0.0", languages_of(["da"]), license="MIT")
    pin = base_model_pin(base_folder, base.pin.id)
    taken = import_peft(frozen.path, tmp_path / "theirs", identity, pin, base_folder)
    registry, store = FileRegistry(tmp_path / "registry.json"), FolderStore(tmp_path / "store")
    publish(taken.path, Places(registry, store))
    pulled = pull("small/theirs", Places([registry], cache=Cache(tmp_path / "cache")))
    features = features_of(base, 2)
    theirs = logits_of(peft_model(base, frozen.path), base, features)
    session = Session(base)
    session.set_adapters([load_adapter(base, pulled)] * 2)
    ours = logits_of(session.model, base, features)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    assert float((ours - logits_of(base.model, base, features)).abs().max()) > 0.1


def test_zero_updates_add_nothing_at_all(base: BaseModel, frozen: Artifact) -> None:
    features = features_of(base, 2)
    session = Session(base)
    session.set_adapters([load_adapter(base, frozen)] * 2)
    with torch.inference_mode():
        ours = session.model.get_encoder()(features).last_hidden_state
        plain = base.model.get_encoder()(features).last_hidden_state
    assert torch.equal(ours, plain)


def test_the_audit_tells_modules_without_effect_and_holds_them_against_nobody(
    base: BaseModel, frozen: Artifact
) -> None:
    findings = audit([str(frozen.path)], Places(()))
    (idle,) = [finding for finding in findings if finding.code == "modules-idle"]
    assert idle.severity == "info"
    assert idle.message.startswith(
        "12 of 32 modules change nothing, their updates are zero (the first: model.enc"
    )
    assert not [finding for finding in findings if finding.severity == "error"]


def test_a_warm_start_and_a_pair_and_its_fold_work_from_such_an_adapter(
    base: BaseModel, base_folder: Path, frozen: Artifact, data: Path, tmp_path: Path
) -> None:
    extra = f'[seed]\nadapter = "{frozen.path}"'
    file = read_recipe(recipe(tmp_path, base_folder, extra=extra, method='"warm-start"'))
    features = features_of(base, 1)
    wanted = logits_of(peft_model(base, frozen.path), base, features)
    fresh = WhisperForConditionalGeneration.from_pretrained(base_folder, dtype=torch.float32)
    child = make_trainable(fresh, file.recipe, {"seed": frozen}).whisper.eval()
    torch.testing.assert_close(logits_of(child, base, features), wanted, atol=1e-4, rtol=1e-4)

    pair = make_pair(tmp_path / "pair", base, frozen, kind="static", seed=3)
    folded = fold(base, pair, tmp_path / "folded")
    answers = []
    for artifact in (pair, folded):
        session = Session(base)
        session.set_adapters([load_adapter(base, artifact)])
        answers.append(logits_of(session.model, base, features))
    torch.testing.assert_close(answers[0], answers[1], atol=1e-4, rtol=1e-4)


WITHOUT: dict[str, Zeroed] = {
    "B is zero": lambda name: "lora_B" in name,
    "A is zero": lambda name: "lora_A" in name,
    "both are zero": lambda name: True,
    "A in the encoder, B in the decoder": lambda name: (".encoder." in name) == ("lora_A" in name),
}


@pytest.mark.parametrize("what", WITHOUT)
def test_an_adapter_without_any_effect_is_refused_wherever_it_comes_from(
    base: BaseModel, base_folder: Path, tmp_path: Path, what: str
) -> None:
    folder = write_idle(tmp_path / "theirs", base, WITHOUT[what])
    identity = Identity("small/theirs", "1.0.0", languages_of(["da"]))
    with pytest.raises(IntegrityError, match=NO_EFFECT):
        import_peft(folder, tmp_path / "out", identity, base_model_pin(base_folder, base.pin.id), base_folder)
    with pytest.raises(IntegrityError, match=NO_EFFECT):
        sealed(folder, base)
    forged = sealed(write_peft(tmp_path / "forged", base, seed=1), base)
    (forged.path / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes())
    with pytest.raises(IntegrityError, match=NO_EFFECT):
        read_file(base, forged.path / WEIGHTS, forged.manifest.lora[0], forged.ref)


def matrix(rows: int, columns: int, *ones: tuple[int, int]) -> tuple[tuple[int, int], list[float]]:
    return (rows, columns), [1.0 if (i, j) in ones else -0.0 for i in range(rows) for j in range(columns)]


@pytest.mark.parametrize(
    ("a", "b", "moves"),
    [
        (matrix(2, 4, (1, 3)), matrix(4, 2, (3, 1)), True),
        (matrix(2, 4, (0, 0)), matrix(4, 2, (0, 1)), False),
        (matrix(2, 4, (1, 0)), matrix(4, 2, (0, 0)), False),
        (matrix(1, 4, (0, 2)), matrix(4, 1, (3, 0)), True),
        (matrix(1, 4), matrix(4, 1, (0, 0)), False),
    ],
    ids=["the same rank", "other ranks", "other ranks, swapped", "rank one", "zeros with a sign"],
)
def test_an_update_is_zero_unless_one_rank_has_values_in_both_halves(
    tmp_path: Path,
    a: tuple[tuple[int, int], list[float]],
    b: tuple[tuple[int, int], list[float]],
    moves: bool,
) -> None:
    path = tmp_path / WEIGHTS
    write_safetensors(
        path, {"base_model.model.m.fc1.lora_A.weight": a, "base_model.model.m.fc1.lora_B.weight": b}
    )
    assert has_effect(path) is moves
    assert effect_of(path).idle == (() if moves else ("m.fc1",))


def test_a_rank_that_cannot_be_loaded_is_refused_before_the_training(
    data: Path, base_folder: Path, tmp_path: Path
) -> None:
    path = recipe(tmp_path, base_folder, rank=MAXIMUM_RANK + 1)
    with pytest.raises(InvalidInputError, match="lora.rank: Input should be less than or equal to 512"):
        read_recipe(path)


def test_a_fold_of_ranks_that_together_cannot_be_loaded_is_refused_before_it_is_made(
    base: BaseModel, tmp_path: Path
) -> None:
    parent = sealed(write_peft(tmp_path / "parent", base, seed=1, rank=300, targets=["fc1"]), base)
    pair = make_pair(tmp_path / "pair", base, parent, kind="static", seed=2, rank=300, targets=["fc1"])
    with pytest.raises(InvalidInputError, match="would have rank 600, and at most 512 can be loaded"):
        fold(base, pair, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_config_that_names_more_than_the_highest_rank_is_refused(tmp_path: Path) -> None:
    write_weights(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_bytes())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"r": MAXIMUM_RANK + 1}))
    with pytest.raises(InvalidInputError, match="r is 513, expected a whole number from 1 to 512"):
        seal(tmp_path, manifest_fields())
