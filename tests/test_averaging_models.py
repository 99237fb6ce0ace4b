"""Averages of full models: each tensor the weighted mean, whatever the method of reading and the dtype."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command_line import Run
from limited import run_limited
from safetensors.torch import load_file, save_file

from adapter_hub import embedded
from adapter_hub.base_model.digest import base_model_digest
from adapter_hub.errors import ConflictError, InvalidInputError
from adapter_hub.formats.canonical import canonical_bytes
from adapter_hub.formats.full_fine_tune import FullFineTune
from adapter_hub.model.base_model import load_base_model
from adapter_hub.trainers.averaging import tensor_streams
from adapter_hub.trainers.averaging.full_models import ModelAverageOptions, ModelComponent, average_models
from adapter_hub.trainers.averaging.methods import METHODS, MethodOptions

BASE = embedded.base_model_path()


def changed_copy(folder: Path, seed: int, dtype: torch.dtype = torch.float32) -> Path:
    """Copy the embedded base model with a little noise in every tensor, as a fine-tune of it would differ."""
    shutil.copytree(BASE, folder)
    generator = torch.Generator().manual_seed(seed)
    tensors = load_file(folder / "model.safetensors")
    noisy = {
        name: (tensor.float() + 0.01 * torch.randn(tensor.shape, generator=generator)).to(dtype)
        for name, tensor in tensors.items()
    }
    save_file(noisy, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_every_tensor_is_the_weighted_mean_of_the_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensor_streams, "SLICE", 1000)  # many slices of each tensor
    first, second = changed_copy(tmp_path / "a", 1), changed_copy(tmp_path / "b", 2)
    average_models([ModelComponent(first, 0.75), ModelComponent(second, 0.25)], out=tmp_path / "out")
    one, other, found = weights(first), weights(second), weights(tmp_path / "out")
    assert found.keys() == one.keys()
    for name, tensor in found.items():
        assert torch.allclose(tensor, 0.75 * one[name] + 0.25 * other[name], atol=1e-7)


def test_what_the_weights_leave_is_the_base_model_s(tmp_path: Path) -> None:
    first, second = changed_copy(tmp_path / "a", 1), changed_copy(tmp_path / "b", 2)
    third = 1 / 3
    average_models(
        [ModelComponent(first, third), ModelComponent(second, third)], out=tmp_path / "out", base_model=BASE
    )
    base, one, other, found = weights(BASE), weights(first), weights(second), weights(tmp_path / "out")
    for name, tensor in found.items():
        assert torch.allclose(tensor, (base[name].float() + one[name] + other[name]) / 3, atol=1e-6)


def test_the_outcome_is_a_model_that_runs(tmp_path: Path) -> None:
    first, second = changed_copy(tmp_path / "a", 1), changed_copy(tmp_path / "b", 2)
    average_models([ModelComponent(first, 0.5), ModelComponent(second, 0.5)], out=tmp_path / "out")
    assert load_base_model(tmp_path / "out").digest != load_base_model(BASE).digest


def test_the_average_of_a_model_with_itself_is_itself_bit_by_bit(tmp_path: Path) -> None:
    model = changed_copy(tmp_path / "a", 1, torch.float16)
    average_models([ModelComponent(model, 0.5), ModelComponent(model, 0.5)], out=tmp_path / "out")
    found = weights(tmp_path / "out")
    assert all(torch.equal(found[name], tensor) for name, tensor in weights(model).items())


@pytest.mark.parametrize("method", [name for name in METHODS if name != "greedy"])
def test_every_method_combines_full_models(method: str, tmp_path: Path) -> None:
    first, second = changed_copy(tmp_path / "a", 1), changed_copy(tmp_path / "b", 2)
    average_models(
        [ModelComponent(first, 0.5), ModelComponent(second, 0.5)],
        out=tmp_path / "out",
        base_model=BASE,
        options=ModelAverageOptions(method, MethodOptions(density=0.5), "float16"),
    )
    found = weights(tmp_path / "out")
    assert {tensor.dtype for tensor in found.values()} == {torch.float16}
    assert all(bool(torch.isfinite(tensor).all()) for tensor in found.values())


def test_models_that_differ_are_refused_with_every_difference(tmp_path: Path) -> None:
    first, second = changed_copy(tmp_path / "a", 1), changed_copy(tmp_path / "b", 2)
    config = json.loads((second / "generation_config.json").read_text())
    config["suppress_tokens"] = [1, 2, 3]
    (second / "generation_config.json").write_text(json.dumps(config))
    tensors = weights(second)
    del tensors["model.encoder.layer_norm.bias"]
    save_file(tensors, second / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        InvalidInputError, match=r"differ in their generation.*layer_norm.bias is in .*a only"
    ):
        average_models([ModelComponent(first, 0.5), ModelComponent(second, 0.5)], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_share_of_the_base_model_needs_the_base_model(tmp_path: Path) -> None:
    first = changed_copy(tmp_path / "a", 1)
    with pytest.raises(InvalidInputError, match="name it with --base-model"):
        average_models([ModelComponent(first, 0.5)], out=tmp_path / "out")


def test_the_command_averages_model_folders_and_records_their_parents(tmp_path: Path, run: Run) -> None:
    first, second = changed_copy(tmp_path / "a", 1), changed_copy(tmp_path / "b", 2)
    out = tmp_path / "out"
    found = run("average", first, second, "--weights", "3,1", "--as", "me/both@1.0.0", "--out", out, "--json")
    assert found.code == 0, found.err
    record = FullFineTune.read(out)
    assert found.json == record.to_json()
    assert [parent.weight for parent in record.parents or ()] == [0.75, 0.25]
    assert [parent.digest for parent in record.parents or ()] == list(map(base_model_digest, (first, second)))
    assert record.digest == load_base_model(out).digest
    assert (record.base_model, record.license, record.training) == (None, "NOASSERTION", None)
    again = tmp_path / "again"  # an average is a model like any other
    words = ["average", out, first, "--with-base-model", "--base-model", BASE, "--as", "me/two@1.0.0"]
    assert run(*words, "--out", again).code == 0
    record = FullFineTune.read(again)
    assert [parent.name for parent in record.parents or ()] == ["me/both", None]
    assert record.base_model is not None
    assert record.base_model.digest == base_model_digest(BASE)
    assert sum(parent.weight for parent in record.parents or ()) == pytest.approx(2 / 3)


def test_what_cannot_be_averaged_is_one_line_and_writes_nothing(tmp_path: Path, run: Run) -> None:
    first, second = changed_copy(tmp_path / "a", 1), changed_copy(tmp_path / "b", 2)
    out = tmp_path / "out"
    named = ["--as", "me/both@1.0.0", "--out", out]
    wrong: dict[str, list[str | Path]] = {
        "is a model and mini/pl is not": [first, "mini/pl"],
        "--rank truncates adapters": [first, second, "--rank", "4"],
        "--energy truncates adapters": [first, second, "--energy", "0.9"],
        "the base model is needed": [first, second, "--with-base-model"],
        "expected 2 numbers": [first, second, "--weights", "1"],
        "expected numbers above 0": [first, second, "--weights", "1,-1"],
        "no such|not here|No such": [first, second, "--base-model", tmp_path / "none"],
    }
    for message, words in wrong.items():
        found = run("average", *words, *named)
        assert found.code != 0, message
        assert re.search(message, found.err), (message, found.err)
        assert "Traceback" not in found.err
        assert not out.exists()
    truncated = second / "model.safetensors"
    truncated.write_bytes(truncated.read_bytes()[:-100])
    found = run("average", first, second, *named)
    assert (found.code != 0, out.exists()) == (True, False)
    assert "model.safetensors" in found.err
    assert found.err.count("\n") == 1
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_record_that_is_not_of_its_model_is_refused(tmp_path: Path, run: Run) -> None:
    first, second = changed_copy(tmp_path / "a", 1), changed_copy(tmp_path / "b", 2)
    assert run("average", first, second, "--as", "me/both@1.0.0", "--out", tmp_path / "out").code == 0
    shutil.copy(first / "model.safetensors", tmp_path / "out")
    found = run("average", tmp_path / "out", second, "--as", "me/x@1.0.0", "--out", tmp_path / "x")
    assert "are not those that full_fine_tuning.json describes" in found.err
    assert found.code != 0


@pytest.mark.parametrize("missing", ["parents", "average"])
def test_a_record_has_a_training_or_parents(missing: str, tmp_path: Path, run: Run) -> None:
    first, second = changed_copy(tmp_path / "a", 1), changed_copy(tmp_path / "b", 2)
    assert run("average", first, second, "--as", "me/both@1.0.0", "--out", tmp_path / "out").code == 0
    path = tmp_path / "out" / "full_fine_tuning.json"
    fields = json.loads(path.read_text())
    del fields[missing]
    path.write_bytes(canonical_bytes(fields))
    with pytest.raises(InvalidInputError, match="expected a recipe and training, or parents and average"):
        FullFineTune.read(tmp_path / "out")


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(ConflictError, match="already exists"):
        average_models([ModelComponent(BASE, 1.0)], out=tmp_path / "out")


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    models = [changed_copy(tmp_path / name, seed) for seed, name in enumerate("ab")]
    (place := tmp_path / "place").mkdir()
    words = ["average", *models, "--as", "me/both@1.0.0", "--out", "out"]
    told = run_limited(place, words, largest_file=1_000_000)  # room for the settings, and not for the weights
    assert told.returncode == 1
    assert "file too large" in told.stderr
    assert len(told.stderr.strip().splitlines()) == 1, told.stderr
    assert list(place.iterdir()) == []


PEAK = """
import resource, sys
from pathlib import Path
from adapter_hub.trainers.averaging.full_models import ModelComponent, average_models
first, second, out = map(Path, sys.argv[1:])
average_models([ModelComponent(first, 0.5), ModelComponent(second, 0.5)], out=out)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_of_average(place: Path, tensors: int) -> int:
    """Return the most resident memory, in bytes, of an average of two random models of tensors of 128 MiB."""
    names = [f"model.tensor{number}.weight" for number in range(tensors)]
    models = [place / "a", place / "b"]
    for seed, model in enumerate(models):
        shutil.copytree(BASE, model)
        (model / "model.safetensors").unlink()
        generator = torch.Generator().manual_seed(seed)
        plan = dict.fromkeys(names, ("float32", (8192, 4096)))
        with tensor_streams.TensorWriter(model / "model.safetensors", plan) as writer:
            for name in names:
                writer.write(name, torch.rand(8192, 4096, generator=generator))
    words = [sys.executable, "-c", PEAK, *map(str, models), str(place / "out")]
    peak = int(subprocess.run(words, check=True, capture_output=True, text=True).stdout) * 1024
    shutil.rmtree(place)
    return peak


@pytest.mark.slow
def test_two_gibibytes_of_weights_are_averaged_in_the_memory_of_a_few_tensors(tmp_path: Path) -> None:
    small, large = peak_of_average(tmp_path / "small", 2), peak_of_average(tmp_path / "large", 8)
    tensor = 128 * 2**20
    assert large < small + tensor / 4  # it does not grow with the models: 512 MiB here, 2 GiB there
    assert large < 2**30 + 3 * tensor  # Python and torch, and three tensors
