"""An average of adapters written as a full model: base + ΔW, whole, with the record of its components."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from command_line import Run
from peft import PeftModel
from safetensors.torch import load_file
from test_averaging_adapters import REF, base, equal_shares, shipped, updates
from test_parakeet_commands import Folders, places
from transformers import ParakeetForCTC

from adapter_hub import embedded
from adapter_hub.errors import ConflictError, InvalidInputError
from adapter_hub.formats.full_fine_tune import FullFineTune
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.model.base_model import BaseModel, load_base_model
from adapter_hub.trainers.averaging.adapters import average
from adapter_hub.trainers.averaging.factors import Factors
from adapter_hub.trainers.averaging.methods import MethodOptions
from adapter_hub.trainers.averaging.model_record import average_as_full_model
from adapter_hub.trainers.averaging.updates import AverageOptions, whole_updates

__all__ = ["base", "places"]  # fixtures


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_a_full_model_holds_all_of_an_update_that_no_lora_does(base: BaseModel, tmp_path: Path) -> None:
    options = AverageOptions("ties", MethodOptions(density=0.3, scale=1.5))
    components = equal_shares("pl", "it")
    record = average_as_full_model(base, components, tmp_path / "out", REF, options, dtype="float32")
    before, after = weights(base.folder), weights(tmp_path / "out")
    assert before.keys() == after.keys()
    wanted = {f"{path}.weight": whole for path, whole, _ in whole_updates(base, components, options)}
    assert len(wanted) == 44
    for name, tensor in after.items():
        if name in wanted:
            assert not isinstance(wanted[name], Factors)
            torch.testing.assert_close(tensor - before[name].float(), wanted[name], atol=1e-6, rtol=1e-5)
        else:
            assert torch.equal(tensor, before[name].float())
    cut, update = average(base, components, tmp_path / "lora", AdapterRef.parse("test/cut@1.0.0"), options)
    assert update.error > 0.1  # what the LoRA of rank 16 loses
    assert record.average is not None
    assert record.average.error == 0.0
    assert (record.average.density, record.average.scale) == (0.3, 1.5)
    assert record == FullFineTune.read(tmp_path / "out")
    assert load_base_model(tmp_path / "out").digest == record.digest != base.digest


def test_the_record_names_the_adapters_and_the_base_model(base: BaseModel, tmp_path: Path) -> None:
    record = average_as_full_model(
        base, equal_shares("pl", "it"), tmp_path / "out", REF, AverageOptions(), dtype="float16"
    )
    assert record.parents is not None
    assert [(p.kind, p.name, p.digest, p.weight) for p in record.parents] == [
        ("adapter", "mini/pl", shipped("pl").digest, 0.5),
        ("adapter", "mini/it", shipped("it").digest, 0.5),
    ]
    assert record.base_model is not None
    assert record.base_model.digest == base.digest
    assert record.decode_languages == ("it", "pl")
    assert [source.id for source in record.data] == ["spoken-numbers-pl", "spoken-numbers-it"]
    before, after = weights(base.folder), weights(tmp_path / "out")
    assert {tensor.dtype for tensor in after.values()} == {torch.float16}
    both = [updates(base, shipped(name)) for name in ("pl", "it")]
    for path in both[0]:
        mean = before[f"{path}.weight"].float() + (both[0][path] + both[1][path]) / 2
        torch.testing.assert_close(after[f"{path}.weight"].float(), mean, atol=1e-3, rtol=1e-3)


def test_a_truncation_and_a_folder_that_exists_are_refused(base: BaseModel, tmp_path: Path) -> None:
    components = equal_shares("pl", "it")
    with pytest.raises(InvalidInputError, match="leave out --rank and --energy"):
        average_as_full_model(base, components, tmp_path / "out", REF, AverageOptions(rank=8))
    (tmp_path / "out").mkdir()
    with pytest.raises(ConflictError, match="already exists"):
        average_as_full_model(base, components, tmp_path / "out", REF, AverageOptions())


def test_the_command_writes_a_model_that_is_a_base_model_like_any_other(run: Run, tmp_path: Path) -> None:
    words = ("average", "mini/pl", "mini/it", "--as", "test/full@1.0.0", "--as-full-model", "--out", "out")
    made = run(*words, "--method", "task-arithmetic", "--scale", "0.9")
    assert made.code == 0, made.err
    assert "mini/pl@1.0.0" in made.out
    assert made.err == "next: adapter-hub evaluate base-model --data FOLDER --base-model out\n"
    clip = Path(__file__).parent / "clips" / "pl.flac"
    heard = run("transcribe", "base-model", "--base-model", "./out", "--language", "pl", clip)
    assert heard.out.startswith("siedem")
    again = run("average", "./out", embedded.base_model_path(), "--as", "test/two@1.0.0", "--out", "two")
    assert again.code == 0, again.err
    for more in (["--rank", "8"], ["--energy", "0.9"]):
        refused = run(*words, *more)
        assert refused.code == 2
        assert f"{more[0]} truncates adapters; a model keeps every weight" in refused.err
    models = run("average", "./out", "./two", "--as-full-model", "--as", "test/x@1.0.0", "--out", "x")
    assert models.code == 2
    assert "--as-full-model is for adapters" in models.err


def test_a_parakeet_s_convolutions_are_changed_as_peft_merges_them(run: Run, places: Folders) -> None:
    words = ("average", places["en"], places["da"], "--base-model", places["parakeet"])
    assert run(*words, "--as", "small/mean@1.0.0", "--out", "mean").code == 0
    made = run(*words, "--as", "small/full@1.0.0", "--out", "full", "--as-full-model")
    assert made.code == 0, made.err
    merged = PeftModel.from_pretrained(ParakeetForCTC.from_pretrained(places["parakeet"]), "mean")
    wanted, found = (
        merged.merge_and_unload().state_dict(),
        ParakeetForCTC.from_pretrained("full").state_dict(),
    )
    for name, value in wanted.items():
        assert torch.allclose(found[name].float(), value.float(), atol=1e-6), name
