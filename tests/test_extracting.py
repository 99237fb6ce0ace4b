"""A full fine-tune becomes an adapter: what a LoRA holds of it is found, and the rest is reported."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
from audit_defects import forge
from command_line import Run
from limited import run_limited
from loopback_hub import LoopbackHub
from safetensors.torch import load_file, save_file
from test_evaluating import write_data
from test_hub_commands import upload

from adapter_hub import embedded
from adapter_hub.artifact.folder import Artifact
from adapter_hub.base_model.digest import base_model_digest
from adapter_hub.errors import IntegrityError, InvalidInputError
from adapter_hub.exchange.importing import Identity
from adapter_hub.formats.claims import EvaluationReport
from adapter_hub.formats.manifest import Language, Manifest
from adapter_hub.hub import RepoId
from adapter_hub.model.base_model import BaseModel, load_base_model
from adapter_hub.model.loading import load_adapter
from adapter_hub.trainers.averaging.extracting import ExtractionOptions, extract
from adapter_hub.trainers.averaging.updates import factors_of

BASE = embedded.base_model_path()
CHANGED = "model.decoder.layers.0.fc1"


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return load_base_model(BASE)


def identity(base: BaseModel) -> Identity:
    tag = base.decode_languages[0]
    return Identity("test/extracted", "1.0.0", (Language(tag=tag, decode_language=tag),), "MIT")


def fine_tune(folder: Path, rank: int, **others: float) -> tuple[Path, torch.Tensor]:
    """Copy the embedded model with a change of one linear of a rank, and of whole tensors by a constant."""
    shutil.copytree(BASE, folder)
    tensors = {name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()}
    generator = torch.Generator().manual_seed(0)
    rows, columns = tensors[f"{CHANGED}.weight"].shape
    left, right = (torch.randn(size, generator=generator) for size in ((rows, rank), (rank, columns)))
    tensors[f"{CHANGED}.weight"] += (change := 0.05 * left @ right)
    for name, value in others.items():
        tensors[name] += value
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder, change


def test_a_change_of_low_rank_is_extracted_whole(base: BaseModel, tmp_path: Path) -> None:
    folder, change = fine_tune(tmp_path / "full", 4)
    made, found = extract(BASE, folder, tmp_path / "out", identity(base), ExtractionOptions(rank=4))
    adapter = load_adapter(base, made)
    assert torch.allclose(factors_of(adapter, CHANGED).dense(), change, atol=1e-5)
    assert found.section.left_out is None
    assert found.section.logits_error is not None
    assert found.section.logits_error < 1e-3


def test_what_no_lora_holds_is_reported(base: BaseModel, tmp_path: Path) -> None:
    folder, _ = fine_tune(tmp_path / "full", 4, **{"model.encoder.layer_norm.bias": 0.1})
    _, found = extract(BASE, folder, tmp_path / "out", identity(base), ExtractionOptions(rank=2))
    section = found.section
    assert list(section.left_out or ()) == ["model.encoder.layer_norm.bias"]
    assert 0.0 < section.error < 1.0
    assert section.error == pytest.approx(section.largest_error)
    assert section.logits_error is not None
    assert section.logits_error > 1e-3


def test_a_model_without_a_change_is_refused(base: BaseModel, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="nothing to extract"):
        extract(BASE, BASE, tmp_path / "out", identity(base), ExtractionOptions(rank=4))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("rank", "energy"), [(0, None), (None, 2.0), (None, None)])
def test_a_truncation_that_makes_no_sense_is_refused(
    rank: int | None, energy: float | None, base: BaseModel, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInputError, match="expected"):
        extract(BASE, BASE, tmp_path / "out", identity(base), ExtractionOptions(rank, energy))


def test_values_that_are_not_finite_are_refused(base: BaseModel, tmp_path: Path) -> None:
    folder, _ = fine_tune(tmp_path / "full", 4, **{"model.encoder.layer_norm.bias": float("nan")})
    with pytest.raises(IntegrityError, match=r"layer_norm\.bias has values that are NaN or infinite"):
        extract(BASE, folder, tmp_path / "out", identity(base), ExtractionOptions(rank=4))


def edited(folder: Path, name: str, **values: object) -> None:
    tree = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(tree | values))


def test_a_model_of_other_settings_is_refused_before_anything_is_computed(
    base: BaseModel, tmp_path: Path
) -> None:
    folder, _ = fine_tune(tmp_path / "full", 4)
    path = folder / "processor_config.json"
    path.write_text(path.read_text().replace('"padding_value": 0.0', '"padding_value": 0.5'))
    with pytest.raises(InvalidInputError, match="not a fine-tune of .*; it differs in its features"):
        extract(BASE, folder, tmp_path / "out", identity(base), ExtractionOptions(rank=4))
    assert not (tmp_path / "out").exists()


def test_an_extracted_adapter_says_what_it_was_trained_for_and_is_published_like_any_other(
    run: Run, tmp_path: Path
) -> None:
    folder, _ = fine_tune(tmp_path / "full", 4)
    edited(folder, "generation_config.json", suppress_tokens=[1, 2])
    words = ["--base-model", BASE, "--language", "pl", "--license", "MIT", "--rank", "4", "--out", "out"]
    more = ["--task", "translate", "--author", "Ada", "--as", "test/extracted@1.0.0"]
    told = run("extract", folder, *words, *more)
    assert told.code == 0, told.err
    assert "generates by other settings" in told.err
    manifest = Artifact.open(tmp_path / "out").manifest
    assert (manifest.task, manifest.authors, manifest.method) == ("translate", ("Ada",), "imported")
    assert run("--store", "store", "publish", "out").code == 0
    audited = run("--store", "store", "audit", "test/extracted")
    assert audited.code == 0, audited.out
    assert run("extract", folder, *words, *more[:-1], "test/extracted").err.startswith("error: --as test/ext")


@pytest.mark.parametrize("content", ["version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "{"])
def test_a_file_that_is_no_weights_is_one_line(content: str, run: Run, tmp_path: Path) -> None:
    folder, _ = fine_tune(tmp_path / "full", 4)
    (folder / "model.safetensors").write_text(content)
    words = ["--base-model", BASE, "--language", "pl", "--license", "MIT", "--as", "test/x@1.0.0"]
    told = run("extract", folder, *words, "--rank", "2", "--out", "out")
    assert told.code == 1
    assert "model.safetensors" in told.err
    assert told.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_command_extracts_and_tells_what_was_lost(run: Run, tmp_path: Path) -> None:
    folder, _ = fine_tune(tmp_path / "full", 4, **{"model.encoder.layer_norm.bias": 0.1})
    words = ["--base-model", BASE, "--language", "pl", "--license", "MIT", "--as", "test/extracted@1.0.0"]
    told = run("extract", folder, *words, "--rank", "2", "--out", "out")
    assert told.code == 0, told.err
    assert "model.encoder.layer_norm.bias" in told.out
    told = run("extract", folder, *words, "--energy", "0.99", "--out", "again", "--json")
    assert set(told.json["left_out"]) == {"model.encoder.layer_norm.bias"}
    assert run("extract", folder, *words, "--energy", "2", "--out", "third").code == 1
    assert run("extract", BASE, *words, "--rank", "2", "--out", "third").code == 1


WORDS = ["--base-model", BASE, "--language", "pl", "--license", "MIT", "--as", "test/extracted@1.0.0"]
BIAS = "model.encoder.layer_norm.bias"


def test_the_manifest_says_what_was_taken_from_where_and_what_was_lost(run: Run, tmp_path: Path) -> None:
    folder, _ = fine_tune(tmp_path / "full", 4, **{BIAS: 0.1})
    told = run("extract", folder, *WORDS, "--rank", "2", "--out", "out", "--json")
    section = Artifact.open(tmp_path / "out").manifest.extraction
    assert section is not None
    assert told.json["digest"] == Artifact.open(Path("out")).digest
    assert told.json["full_model"]["digest"] == base_model_digest(folder) == section.digest
    rest = {name: value for name, value in section.to_json().items() if name not in told.json["full_model"]}
    assert {name: told.json[name] for name in rest} == rest
    assert (section.rank, section.energy, section.name) == (2, None, None)
    assert section.errors == {CHANGED: section.largest_error}
    assert set(section.left_out or ()) == {BIAS}
    shown = run("card", "./out").out
    assert "the nearest LoRA to a full fine-tune, rank 2" in shown
    assert f"| taken out of | a full model (`{section.digest}`), rank 2 at most |" in shown
    assert f"| `{BIAS}` | {100 * (section.left_out or {})[BIAS]:.1f} % |" in shown


def test_a_record_of_the_full_model_is_named_and_has_to_be_its_own(run: Run, tmp_path: Path) -> None:
    first, _ = fine_tune(tmp_path / "a", 4)
    second, _ = fine_tune(tmp_path / "b", 3)
    assert run("average", first, second, "--as", "me/both@1.0.0", "--out", "both").code == 0
    assert run("extract", "both", *WORDS, "--energy", "0.9", "--out", "out").code == 0
    section = Artifact.open(tmp_path / "out").manifest.extraction
    assert section is not None
    assert (section.name, section.version, section.energy) == ("me/both", "1.0.0", 0.9)
    shutil.copy(first / "model.safetensors", tmp_path / "both")
    told = run("extract", "both", *WORDS, "--rank", "2", "--out", "again")
    assert "are not those that full_fine_tuning.json describes" in told.err
    assert not (tmp_path / "again").exists()


def test_an_audit_measures_the_errors_again_where_the_full_model_is(run: Run, tmp_path: Path) -> None:
    folder, _ = fine_tune(tmp_path / "full", 4, **{BIAS: 0.1})
    assert run("extract", folder, *WORDS, "--rank", "2", "--out", "out").code == 0

    def found(*words: str | Path) -> dict[str, str]:
        return {item["code"]: item["message"] for item in run("audit", "./out", "--json", *words).json}

    plain = found("--probe")  # the folder was used here before, so that it is remembered
    assert set(plain) == {"provenance-unknown"}
    assert "taken out of a full model" in plain["provenance-unknown"]
    fields = json.loads((tmp_path / "out" / "adapter.json").read_bytes())["extraction"]
    forge(tmp_path / "out", extraction=fields | {"errors": {CHANGED: 0.1}, "largest_error": 0.1})
    assert (
        f"{CHANGED}: 0.6550 of the full model's change is missing; 0.1000 is recorded"
        in found("--probe")["extraction-differs"]
    )
    forge(tmp_path / "out", extraction=fields | {"left_out": {BIAS: 0.5}})
    assert f"{BIAS}: a change of 0.948 is left out; 0.5 is recorded" in found("--probe")["extraction-differs"]
    forge(tmp_path / "out", extraction=fields)
    (tmp_path / "full").rename(tmp_path / "elsewhere")
    assert "is not on this machine" in found("--probe")["extraction-unchecked"]
    assert set(found("--probe", "--base-model", tmp_path / "elsewhere")) == {"provenance-unknown"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"errors": {CHANGED: 0.5}}, "largest_error is not the largest of errors"),
        (
            {"errors": {"model.nowhere": 0.25}, "largest_error": 0.25},
            "error of model.nowhere, which is not adapt",
        ),
        ({"energy": 0.5}, "expected a rank or an energy"),
        ({"rank": 100_000}, "less than or equal to 512"),
        ({"left_out": {BIAS: -1.0}}, "greater than or equal to 0"),
        ({"left_out": {f"t{n}": 1.0 for n in range(9000)}}, "at most 8192 items"),
        ({"logits_error": 1e300}, "less than or equal to 1"),
        ({"digest": "sha256:0"}, "should match pattern"),
    ],
)
def test_a_section_that_cannot_be_is_refused(
    changes: dict[str, object], message: str, extracted: Path, tmp_path: Path
) -> None:
    fields = json.loads((extracted / "adapter.json").read_bytes())
    fields["extraction"] |= changes
    with pytest.raises(InvalidInputError, match=message):
        Manifest.parse(json.dumps(fields).encode(), "adapter.json")


def test_only_an_imported_adapter_is_taken_out_of_a_model(extracted: Path) -> None:
    fields = json.loads((extracted / "adapter.json").read_bytes()) | {"method": "lora"}
    with pytest.raises(InvalidInputError, match="extraction is for imported adapters only"):
        Manifest.parse(json.dumps(fields).encode(), "adapter.json")


@pytest.fixture(scope="module")
def extracted(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("extracted")
    folder, _ = fine_tune(place / "full", 4)
    return extract(BASE, folder, place / "out", identity(base), ExtractionOptions(rank=2))[0].path


def test_both_models_are_evaluated_on_the_same_data_and_reported(run: Run, tmp_path: Path) -> None:
    folder, _ = fine_tune(tmp_path / "full", 4)
    write_data(tmp_path / "data" / "test")
    words = ["--data", "data", "--beams", "1", "--rank", "2", "--out", "out"]
    told = run("extract", folder, *WORDS, *words)
    assert told.code == 0, told.err
    assert "WER on data/test, 3 utterances: full model" in told.out
    names = ["full-model", "adapter"]
    full, adapter = (
        EvaluationReport.parse_canonical((tmp_path / f"out-reports/{name}.json").read_bytes(), name)
        for name in names
    )
    section = Artifact.open(tmp_path / "out").manifest.extraction
    assert section is not None
    assert (full.subject.name, full.base_model_digest) == (None, section.digest)
    assert (adapter.subject.name, full.data_sha256) == ("test/extracted", adapter.data_sha256)
    assert run("compare", *(f"out-reports/{name}.json" for name in names)).code == 0
    missing = run("extract", folder, *WORDS, *words[:-1], "none", "--split", "dev")
    assert missing.code == 1
    assert not (tmp_path / "none").exists()


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    folder, _ = fine_tune(tmp_path / "full", 4)
    (place := tmp_path / "place").mkdir()
    told = run_limited(
        place, ["extract", folder, *WORDS, "--rank", "32", "--out", "out"], largest_file=20_000
    )
    assert told.returncode == 1
    assert "file too large" in told.stderr
    assert len(told.stderr.strip().splitlines()) == 1, told.stderr
    assert list(place.iterdir()) == []


def test_a_process_that_dies_before_the_end_leaves_no_adapter_and_the_next_one_makes_it(
    run: Run, tmp_path: Path
) -> None:
    folder, _ = fine_tune(tmp_path / "full", 4)
    words = ["extract", folder, *WORDS, "--rank", "4", "--out", "out"]
    assert run_limited(tmp_path, words, dies_at="rename").returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert run(*words).code == 0
    Artifact.open(tmp_path / "out").verify()


def test_a_fine_tune_on_the_hub_is_taken_at_one_commit_and_found_again(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = fine_tune(tmp_path / "full", 4)
    repo = RepoId("bob/whisper-numbers")
    with LoopbackHub(tmp_path / "hub") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("HF_TOKEN", hub.token("alice"))
        monkeypatch.setenv("ADAPTER_HUB_RETRY_SECONDS", "1")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub_cache"))
        hub.token("bob")
        commit = upload(hub, repo, folder, "bob")
        shutil.rmtree(folder)
        told = run("extract", f"{repo}@main", *WORDS, "--rank", "4", "--out", "out")
        assert told.code == 0, told.err
        manifest = Artifact.open(tmp_path / "out").manifest
        assert manifest.source == f"hf://bob/whisper-numbers@{commit}"
        assert f"taken in from `{manifest.source}`" in run("card", "./out").out
        found = run("audit", "./out", "--probe", "--json").json
        assert [item["code"] for item in found] == ["provenance-unknown"]  # the full model is in the cache
        absent = run("extract", "hf://bob/none", *WORDS, "--rank", "4", "--out", "none")
        assert (absent.code, absent.err.count("\n")) == (1, 1)
        assert "bob/none" in absent.err
