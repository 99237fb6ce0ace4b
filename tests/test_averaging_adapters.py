"""Averages of adapters: the update is the mean of the merged models' updates, whatever the components are."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from audit_defects import forge
from command_line import Run
from limited import run_limited
from safetensors.torch import load_file, save_file

from adapter_hub import embedded
from adapter_hub.artifact.folder import Artifact
from adapter_hub.artifact.peft import WEIGHTS_FILE
from adapter_hub.cli.average import METHODS as COMMAND_METHODS
from adapter_hub.errors import ConflictError, InvalidInputError
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.model.base_model import BaseModel, load_base_model
from adapter_hub.model.loading import load_adapter
from adapter_hub.trainers.averaging.adapters import average
from adapter_hub.trainers.averaging.methods import METHODS, MethodOptions
from adapter_hub.trainers.averaging.recomputing import differences
from adapter_hub.trainers.averaging.updates import AverageOptions, Component, factors_of

REF = AdapterRef.parse("test/average@1.0.0")


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return load_base_model(embedded.base_model_path())


def shipped(name: str) -> Artifact:
    return Artifact.open(embedded.store_path() / "mini" / name / "1.0.0")


def updates(base: BaseModel, artifact: Artifact) -> dict[str, torch.Tensor]:
    adapter = load_adapter(base, artifact)
    return {path: factors_of(adapter, path).dense() for path in adapter.layout}


def equal_shares(*names: str) -> list[Component]:
    return [Component(shipped(name), 1 / len(names)) for name in names]


def test_an_average_of_adapters_is_the_average_of_the_merged_models(base: BaseModel, tmp_path: Path) -> None:
    components = [Component(shipped("pl"), 0.5), Component(shipped("it"), 0.3), Component(shipped("zh"), 0.2)]
    made, update = average(base, components, tmp_path / "out", REF)
    wanted = [updates(base, component.artifact) for component in components]
    for path, found in updates(base, made).items():
        mean = sum(c.weight * each[path] for c, each in zip(components, wanted, strict=True))
        assert torch.allclose(found, mean, atol=1e-6)  # type: ignore[arg-type]
    assert update.largest_error == 0.0
    assert made.manifest.rank == 24


def test_an_average_says_where_it_comes_from(base: BaseModel, tmp_path: Path) -> None:
    made, _ = average(base, equal_shares("pl", "it"), tmp_path / "out", REF)
    manifest = made.manifest
    assert [(parent.name, parent.role, parent.weight) for parent in manifest.parents] == [
        ("mini/pl", "component", 0.5),
        ("mini/it", "component", 0.5),
    ]
    assert [language.tag for language in manifest.languages] == ["it", "pl"]
    assert manifest.average is not None
    assert manifest.average.method == "mean"
    assert set(made.ancestors()) == {parent.digest for parent in manifest.parents}
    assert manifest.probe is not None


def test_a_truncated_average_states_its_error(base: BaseModel, tmp_path: Path) -> None:
    components = equal_shares("pl", "it", "pt", "zh")
    exact, _ = average(base, components, tmp_path / "exact", REF)
    cut, update = average(base, components, tmp_path / "cut", REF, AverageOptions(rank=8))
    section = cut.manifest.average
    assert section is not None
    assert section.errors is not None
    assert cut.manifest.rank == 8
    wanted, found = updates(base, exact), updates(base, cut)
    for path, error in section.errors.items():
        gap = torch.linalg.matrix_norm(found[path] - wanted[path]) / torch.linalg.matrix_norm(wanted[path])
        assert float(gap) == pytest.approx(error, rel=1e-3)
    assert section.largest_error == update.largest_error == max(section.errors.values())
    assert 0.1 < section.error < 0.4


def test_energy_gives_every_module_a_rank_of_its_own(base: BaseModel, tmp_path: Path) -> None:
    made, update = average(base, equal_shares("pl", "it"), tmp_path / "out", REF, AverageOptions(energy=0.9))
    assert len({module.rank for module in made.manifest.lora[0].modules}) > 1
    assert update.largest_error <= 0.1**0.5 + 1e-9


def test_an_average_of_averages_and_of_warm_starts_is_an_average_again(
    base: BaseModel, tmp_path: Path
) -> None:
    first, _ = average(base, equal_shares("pl", "da"), tmp_path / "first", REF)
    second = AdapterRef.parse("test/second@1.0.0")
    components = [Component(first, 0.5), Component(shipped("da"), 0.5)]
    made, _ = average(base, components, tmp_path / "second", second)
    pl, da = updates(base, shipped("pl")), updates(base, shipped("da"))
    for path, found in updates(base, made).items():
        assert torch.allclose(found, 0.25 * pl[path] + 0.75 * da[path], atol=1e-6)
    assert len(made.ancestors()) >= 3


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_an_average_is_published_in_the_dtype_that_was_asked_for(
    dtype: str, base: BaseModel, tmp_path: Path
) -> None:
    options = AverageOptions(dtype=dtype)  # type: ignore[arg-type]
    made, _ = average(base, equal_shares("pl", "it"), tmp_path / "out", REF, options)
    assert made.manifest.lora[0].dtype == dtype
    assert not list(differences(base, made, equal_shares("pl", "it")))


@pytest.mark.parametrize("method", [name for name in METHODS if name != "greedy"])
def test_every_method_makes_an_adapter_that_an_audit_can_make_again(
    method: str, base: BaseModel, tmp_path: Path
) -> None:
    options = AverageOptions(method=method, parameters=MethodOptions(density=0.5, random_seed=3), rank=16)
    components = equal_shares("pl", "it")
    made, update = average(base, components, tmp_path / "out", REF, options)
    assert made.manifest.average is not None
    assert made.manifest.average.method == method
    assert update.largest_error < 1.0
    assert not list(differences(base, made, components))


def test_an_average_with_other_weights_than_it_says_is_noticed(base: BaseModel, tmp_path: Path) -> None:
    made, _ = average(base, equal_shares("pl", "it"), tmp_path / "out", REF)
    components = [Component(shipped("pl"), 0.6), Component(shipped("it"), 0.4)]
    found = list(differences(base, made, components))
    assert len(found) == len(made.manifest.lora[0].modules)
    assert "the update is" in found[0]


def test_a_token_gated_pair_is_refused_with_what_to_do(base: BaseModel, tmp_path: Path) -> None:
    with pytest.raises(
        InvalidInputError, match=r"da-pair@1.0.0 weighs its experts for every token.*its parent"
    ):
        average(base, equal_shares("pl", "da-pair"), tmp_path / "out", REF)


def test_bad_components_are_refused_before_anything_is_written(base: BaseModel, tmp_path: Path) -> None:
    cases = [
        ([], REF, "no component"),
        (equal_shares("pl", "pl"), REF, "named twice"),
        ([Component(shipped("pl"), 0.7), Component(shipped("it"), 0.7)], REF, "weights sum to 1.4"),
        (equal_shares("pl"), AdapterRef.parse("mini/pl@1.1.0"), "a component's own name"),
        (equal_shares("pl"), AdapterRef.parse("test/average"), "expected NAME@VERSION"),
    ]
    for components, ref, message in cases:
        with pytest.raises(InvalidInputError, match=message):
            average(base, components, tmp_path / "out", ref)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (AverageOptions(rank=0), "rank 0"),
        (AverageOptions(rank=1000), "rank 1000: expected at most 512"),
        (AverageOptions(energy=2.0), "energy 2.0"),
        (AverageOptions(rank=4, energy=0.9), "one of the two"),
        (AverageOptions(method="median"), "method 'median'"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    options: AverageOptions, message: str, base: BaseModel, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        average(base, equal_shares("pl", "it"), tmp_path / "out", REF, options)


def test_a_folder_that_exists_is_left_alone(base: BaseModel, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(ConflictError, match="already exists"):
        average(base, equal_shares("pl", "it"), tmp_path / "out", REF)


def test_the_command_averages_says_the_error_and_takes_relative_weights(run: Run, tmp_path: Path) -> None:
    outcome = run(
        "average", "mini/pl", "mini/it", "--weights", "3,1", "--with-base-model",
        "--rank", "8", "--as", "test/average@1.0.0", "--out", "out", "--json",
    )  # fmt: skip
    assert outcome.code == 0
    assert [parent["weight"] for parent in outcome.json["parents"]] == [0.6, 0.2]
    assert outcome.json["average"]["rank"] == 8
    assert 0.0 < outcome.json["average"]["largest_error"] < 0.5
    assert run("audit", "./out").code == 0
    text = run("average", "mini/pl", "mini/it", "--energy", "0.9", "--as", "test/a@1.0.0", "--out", "two").out
    assert "relative error" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--weights", "1"], "expected 2 numbers"),
        (["--weights", "1,x"], "expected numbers, like 4,1,1,1"),
        (["--weights", "1,0"], "expected numbers above 0"),
        (["--weights", "1,nan"], "expected numbers above 0"),
        (["--with-base-model=nan"], "expected a number of 0 or more"),
        (["--rank", "0"], "rank 0: expected 1 or more"),
        (["--energy", "2"], "energy 2.0: expected a share"),
        (["--density", "0"], "density 0.0"),
    ],
)
def test_the_command_refuses_in_one_line(words: list[str], message: str, run: Run, tmp_path: Path) -> None:
    outcome = run("average", "mini/pl", "mini/it", *words, "--as", "test/average@1.0.0", "--out", "out")
    assert outcome.code == 1
    assert message in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def with_nan(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS_FILE)
    tensors[min(tensors)][0, 0] = float("nan")
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    forge(folder)


def cut_short(folder: Path) -> None:
    content = (folder / WEIGHTS_FILE).read_bytes()
    (folder / WEIGHTS_FILE).write_bytes(content[: len(content) // 2])


def of_another_base_model(folder: Path) -> None:
    pin = json.loads((folder / "adapter.json").read_bytes())["base_model"]
    forge(folder, base_model={**pin, "id": "test/other", "digest": f"sha256:{'1' * 64}"})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (with_nan, r"lora_[AB]\.weight"),
        (cut_short, "adapter_model.safetensors"),
        (of_another_base_model, "only adapters of one base model can be averaged"),
    ],
)
def test_the_command_refuses_a_spoilt_component_in_one_line(
    spoil: Callable[[Path], None], message: str, run: Run, tmp_path: Path
) -> None:
    shutil.copytree(shipped("it").path, tmp_path / "spoilt")
    spoil(tmp_path / "spoilt")
    outcome = run("average", "mini/pl", "./spoilt", "--as", "test/average@1.0.0", "--out", "out")
    assert outcome.code == 1
    assert re.search(message, outcome.err)
    assert len(outcome.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "REF"),
        (["mini/pl", "mini/pl"], 1, "mini/pl@1.0.0 is named twice"),
        (["mini/pl", "mini/da-pair"], 1, "weighs its experts for every token"),
        (["mini/pl", "mini/it", "--rank", "4", "--energy", "0.9"], 1, "one of the two"),
        (["mini/pl", "mini/it", "--out", "taken"], 1, "already exists"),
    ],
)
def test_the_command_refuses_components_in_one_line(
    words: list[str], code: int, message: str, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "taken").mkdir()
    outcome = run("average", "--as", "test/average@1.0.0", "--out", "out", *words)
    assert outcome.code == code
    assert message in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "registry.json") == ["taken"]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    words = ["average", "mini/pl", "mini/it", "--as", "test/average@1.0.0", "--out", "out"]
    told = run_limited(tmp_path, words, largest_file=500_000)  # room for the components, and not for it
    assert told.returncode == 1
    assert "file too large" in told.stderr
    assert len(told.stderr.strip().splitlines()) == 1, told.stderr
    assert not [path for path in tmp_path.iterdir() if path.name != "registry.json"]


def test_the_average_of_one_component_is_that_component(base: BaseModel, tmp_path: Path) -> None:
    made, _ = average(base, [Component(shipped("pl"), 1.0)], tmp_path / "out", REF)
    wanted = updates(base, shipped("pl"))
    assert all(torch.allclose(found, wanted[path], atol=1e-6) for path, found in updates(base, made).items())


def test_the_command_offers_the_methods_that_there_are() -> None:
    assert tuple(METHODS) == COMMAND_METHODS
