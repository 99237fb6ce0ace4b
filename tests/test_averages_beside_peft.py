"""Averages against PEFT: the mean of the models that `merge_and_unload` gives, whatever the configs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from small_whisper import ALL, write_peft
from test_averaging_adapters import updates
from test_composition import features_of, logits_of
from transformers import WhisperForConditionalGeneration

from adapter_hub.artifact.folder import Artifact
from adapter_hub.exchange.importing import Identity, import_peft, languages_of
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.loading import load_adapter
from adapter_hub.model.session import Session
from adapter_hub.trainers.averaging.adapters import average
from adapter_hub.trainers.averaging.updates import AverageOptions, Component

CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {"rank": 4, "alpha": 8, "targets": ALL},
    "rslora": {"rank": 6, "alpha": 5, "targets": ["q_proj", "fc1"], "use_rslora": True},
    "patterns": {
        "rank": 2,
        "alpha": 3,
        "targets": ALL,
        "rank_pattern": {"fc1": 5, "decoder.layers.0.fc2": 7},
        "alpha_pattern": {"fc1": 11, "q_proj": 1},
    },
    "rslora-patterns": {
        "rank": 3,
        "alpha": 4,
        "targets": ["v_proj", "out_proj", "fc2"],
        "use_rslora": True,
        "rank_pattern": {"v_proj": 8},
        "alpha_pattern": {"fc2": 9},
    },
}
REF = AdapterRef.parse("test/average@1.0.0")


@pytest.fixture(scope="module")
def theirs(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders that PEFT has written."""
    root = tmp_path_factory.mktemp("peft")
    return {
        name: write_peft(root / name, base, seed=seed, **config)
        for seed, (name, config) in enumerate(CONFIGS.items())
    }


@pytest.fixture(scope="module")
def ours(
    base: BaseModel, theirs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Artifact]:
    """The same adapters, taken in."""
    root = tmp_path_factory.mktemp("ours")
    return {
        name: import_peft(
            folder,
            root / name,
            Identity(f"test/{name}", "1.0.0", languages_of(["da"]), "MIT"),
            base.pin,
            base.folder,
        )
        for name, folder in theirs.items()
    }


def plain_model(base: BaseModel) -> WhisperForConditionalGeneration:
    return WhisperForConditionalGeneration.from_pretrained(base.folder, dtype=torch.float32).eval()


def mean_of_merged(base: BaseModel, folders: dict[Path, float]) -> WhisperForConditionalGeneration:
    """Return the base model with the weighted mean of PEFT's merged models as its weights."""
    model = plain_model(base)
    rest = 1.0 - sum(folders.values())
    total = {name: rest * tensor.double() for name, tensor in model.state_dict().items()}
    for folder, weight in folders.items():
        merged = PeftModel.from_pretrained(plain_model(base), folder).merge_and_unload().state_dict()
        for name in total:
            total[name] += weight * merged[name].double()
    model.load_state_dict({name: tensor.float() for name, tensor in total.items()})
    return model


@pytest.mark.parametrize("weights", [(0.25, 0.25, 0.25, 0.25), (0.4, 0.3, 0.1, 0.1)])
def test_an_average_is_the_mean_of_peft_s_merged_models(
    weights: tuple[float, ...],
    base: BaseModel,
    theirs: dict[str, Path],
    ours: dict[str, Artifact],
    tmp_path: Path,
) -> None:
    components = [Component(ours[name], weight) for name, weight in zip(CONFIGS, weights, strict=True)]
    made, _ = average(base, components, tmp_path / "out", REF)
    wanted = mean_of_merged(base, {theirs[n]: w for n, w in zip(CONFIGS, weights, strict=True)})
    before, after = plain_model(base).state_dict(), wanted.state_dict()
    found = updates(base, made)
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed == {f"{path}.weight" for path in found}
    for path, update in found.items():
        gap = after[f"{path}.weight"] - before[f"{path}.weight"]
        torch.testing.assert_close(update, gap, atol=2e-6, rtol=1e-5)
    ranks = {module.path: module.rank for module in made.manifest.lora[0].modules}
    assert ranks["model.encoder.layers.0.fc1"] == 4 + 6 + 5  # nobody's rank is cut or filled up
    assert ranks["model.decoder.layers.0.fc2"] == 4 + 7 + 3
    assert ranks["model.decoder.layers.0.self_attn.v_proj"] == 4 + 2 + 8
    session, features = Session(base), features_of(base, 2)
    session.set_adapters([load_adapter(base, made)] * 2)
    torch.testing.assert_close(
        logits_of(session.model, base, features), logits_of(wanted, base, features), atol=1e-3, rtol=1e-4
    )


def test_a_truncated_average_is_the_nearest_to_the_mean_of_the_merged_models(
    base: BaseModel, theirs: dict[str, Path], ours: dict[str, Artifact], tmp_path: Path
) -> None:
    shares = dict.fromkeys(CONFIGS, 0.25)
    components = [Component(ours[name], weight) for name, weight in shares.items()]
    made, update = average(base, components, tmp_path / "out", REF, AverageOptions(rank=5))
    after = mean_of_merged(base, {theirs[name]: weight for name, weight in shares.items()}).state_dict()
    before, found = plain_model(base).state_dict(), updates(base, made)
    for module in update.modules:
        gap = (after[f"{module.path}.weight"] - before[f"{module.path}.weight"]).double()
        values = torch.linalg.svdvals(gap)
        least = float((values[5:].square().sum() / values.square().sum()).sqrt())
        error = float(torch.linalg.matrix_norm(found[module.path] - gap) / torch.linalg.matrix_norm(gap))
        assert error == pytest.approx(least, abs=1e-5) == pytest.approx(module.error, abs=1e-5)
