"""Is a folder exactly what its manifest says, and is every difference reported?"""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest
from making import (
    MODULES,
    lora_tensors,
    make_artifact,
    manifest_fields,
    peft_config,
    write_safetensors,
    write_weights,
)

from adapter_hub.artifact.folder import Artifact, seal
from adapter_hub.errors import ConflictError, IntegrityError, InvalidInputError, NotFoundError
from adapter_hub.formats.canonical import digest_of

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return make_artifact(tmp_path / "da")


def test_a_sealed_folder_verifies_and_opens_by_its_manifest_too(artifact: Artifact) -> None:
    artifact.verify()
    assert Artifact.open(artifact.path / "adapter.json") == artifact
    assert artifact.ref == "test/da@1.0.0"
    assert artifact.digest == digest_of((artifact.path / "adapter.json").read_bytes())


def test_sealing_records_modules_rank_and_scaling_from_the_files(artifact: Artifact) -> None:
    section = artifact.manifest.lora[0]
    assert [module.path for module in section.modules] == sorted(MODULES)
    assert {(module.rank, module.scaling) for module in section.modules} == {(2, 2.0)}
    assert section.dtype == "float32"
    assert section.parameters == 32


def test_the_digest_of_weights_does_not_depend_on_the_order_of_tensors(tmp_path: Path) -> None:
    first = make_artifact(tmp_path / "a")
    write_weights(tmp_path / "b")
    tensors = dict(reversed(lora_tensors().items()))
    write_safetensors(tmp_path / "b" / WEIGHTS, tensors)
    second = seal(tmp_path / "b", manifest_fields())
    assert second.manifest.weights_digest == first.manifest.weights_digest
    assert second.digest != first.digest


def test_a_missing_file_is_named(artifact: Artifact) -> None:
    (artifact.path / "adapter_config.json").unlink()
    with pytest.raises(IntegrityError, match="adapter_config.json: missing"):
        artifact.verify()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("notes.txt", "notes.txt: not listed in the manifest"),
        (".gitattributes", ".gitattributes: not listed in the manifest"),
        ("ancestors/x.json", "ancestors/x.json: not listed in the manifest"),
    ],
)
def test_an_extra_file_is_named(artifact: Artifact, name: str, message: str) -> None:
    (artifact.path / name).parent.mkdir(exist_ok=True)
    (artifact.path / name).write_text("{}")
    with pytest.raises(IntegrityError, match=message):
        artifact.verify()


def test_an_empty_folder_is_an_extra_too(artifact: Artifact) -> None:
    (artifact.path / "empty").mkdir()
    with pytest.raises(IntegrityError, match="empty: an empty folder"):
        artifact.verify()


def test_one_flipped_bit_is_found(artifact: Artifact) -> None:
    path = artifact.path / WEIGHTS
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=rf"{WEIGHTS}: sha256 [0-9a-f]+…, expected [0-9a-f]+…"):
        artifact.verify()


def test_truncated_weights_are_found_by_size_in_an_artifact(artifact: Artifact) -> None:
    path = artifact.path / WEIGHTS
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(IntegrityError, match=f"{WEIGHTS}: {size - 4} bytes, expected {size}"):
        artifact.verify()


def test_truncated_weights_cannot_be_sealed(tmp_path: Path) -> None:
    write_weights(tmp_path)
    path = tmp_path / WEIGHTS
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(IntegrityError, match="truncated or padded"):
        seal(tmp_path, manifest_fields())
    assert not (tmp_path / "adapter.json").exists()


def test_an_oversized_header_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    write_weights(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(struct.pack("<Q", 2**40) + b"{}")
    with pytest.raises(IntegrityError, match=f"header of {2**40} bytes, at most"):
        seal(tmp_path, manifest_fields())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinite_weights_cannot_be_sealed(tmp_path: Path, value: float) -> None:
    write_weights(tmp_path)
    tensors = dict(lora_tensors())
    name = f"base_model.model.{MODULES[0]}.lora_B.weight"
    shape, values = tensors[name]
    tensors[name] = (shape, [value, *values[1:]])
    write_safetensors(tmp_path / WEIGHTS, tensors)
    with pytest.raises(IntegrityError, match="q_proj.lora_B.weight holds NaN or infinite values"):
        seal(tmp_path, manifest_fields())


def test_a_pickle_in_place_of_safetensors_is_never_read(tmp_path: Path) -> None:
    write_weights(tmp_path)
    (tmp_path / WEIGHTS).rename(tmp_path / "adapter_model.bin")
    with pytest.raises(IntegrityError, match="adapter_model.bin: may be a pickle; .*safetensors only"):
        seal(tmp_path, manifest_fields())


def test_a_pickle_beside_the_weights_is_reported_as_such(artifact: Artifact) -> None:
    (artifact.path / "optimizer.pt").write_bytes(b"\x80\x04")
    with pytest.raises(IntegrityError, match="optimizer.pt: may be a pickle"):
        artifact.verify()


def test_another_rank_in_the_config_than_in_the_tensors_is_refused(tmp_path: Path) -> None:
    write_weights(tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps(peft_config(rank=4)))
    with pytest.raises(IntegrityError, match="rank 2, adapter_config.json says 4"):
        seal(tmp_path, manifest_fields())


def test_a_manifest_that_claims_another_rank_than_the_files_is_refused(tmp_path: Path) -> None:
    honest = make_artifact(tmp_path / "a").manifest.to_json()["lora"]
    for module in honest[0]["modules"]:
        module["rank"] = 8
    write_weights(tmp_path / "b")
    with pytest.raises(IntegrityError, match="rank 8 in the manifest, 2 in the weights"):
        seal(tmp_path / "b", manifest_fields(lora=honest))


def test_a_pattern_for_modules_is_refused(tmp_path: Path) -> None:
    write_weights(tmp_path, target_modules=".*(q_proj|fc1)")
    with pytest.raises(IntegrityError, match="target_modules is a pattern"):
        seal(tmp_path, manifest_fields())


def test_a_link_is_refused_even_if_it_points_to_the_right_bytes(artifact: Artifact, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (artifact.path / WEIGHTS).rename(elsewhere)
    (artifact.path / WEIGHTS).symlink_to(elsewhere)
    with pytest.raises(IntegrityError, match=f"{WEIGHTS}: a symbolic link"):
        artifact.verify()


def test_a_linked_folder_is_not_walked(artifact: Artifact, tmp_path: Path) -> None:
    (artifact.path / "ancestors").symlink_to(tmp_path)
    with pytest.raises(IntegrityError, match="ancestors: a symbolic link"):
        artifact.verify()


def test_a_linked_manifest_is_refused(artifact: Artifact, tmp_path: Path) -> None:
    (artifact.path / "adapter.json").rename(tmp_path / "adapter.json")
    (artifact.path / "adapter.json").symlink_to(tmp_path / "adapter.json")
    with pytest.raises(InvalidInputError, match="not an ordinary file"):
        Artifact.open(artifact.path)


def test_a_pipe_is_refused_and_not_waited_for(artifact: Artifact) -> None:
    os.mkfifo(artifact.path / "pipe.txt")
    with pytest.raises(IntegrityError, match="pipe.txt: not an ordinary file"):
        artifact.verify()


def test_all_differences_come_in_one_error(artifact: Artifact) -> None:
    (artifact.path / "adapter_config.json").unlink()
    (artifact.path / "extra.txt").write_text("x")
    (artifact.path / WEIGHTS).write_bytes(b"short")
    with pytest.raises(IntegrityError, match="3|extra") as caught:
        artifact.verify()
    assert len(caught.value.differences) == 3


def edit_manifest(artifact: Artifact, old: str, new: str) -> None:
    path = artifact.path / "adapter.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"path":"adapter_config.json"', '"path":"../adapter_config.json"', "is not safe"),
        ('"path":"adapter_config.json"', '"path":"/etc/adapter_config.json"', "is not safe"),
        ('"license":', '"license":"MIT","license":', "duplicate key 'license'"),
        ('"license":', '"licence":"MIT","license":', "unknown field 'licence'"),
        ('"license":"Apache-2.0",', "", "missing field 'license'"),
        ('"timestamps":false', '"timestamps": false', "not canonical JSON"),
        ('"dropout":0', '"dropout":NaN', "NaN is not JSON"),
        ('"schema":"adapter/1"', '"schema":"adapter/2"', "schema"),
        ('"version":"1.0.0"', '"version":"1.0"', "version"),
        ('"name":"test/da"', '"name":"test/latest"', "'latest' is a reserved word"),
    ],
)
def test_an_unsound_manifest_is_refused_with_its_fault(
    artifact: Artifact, old: str, new: str, message: str
) -> None:
    edit_manifest(artifact, old, new)
    with pytest.raises(InvalidInputError, match=message):
        Artifact.open(artifact.path)


def test_a_manifest_without_bounds_is_not_read(artifact: Artifact) -> None:
    with (artifact.path / "adapter.json").open("r+b") as file:
        file.truncate(2**40)  # sparse
    with pytest.raises(InvalidInputError, match="larger than"):
        Artifact.open(artifact.path)


def test_a_folder_without_manifest_is_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no adapter.json; expected an artifact's folder"):
        Artifact.open(tmp_path)
    with pytest.raises(NotFoundError, match="no adapter.json"):
        Artifact.open(tmp_path / "nowhere")


def test_sealing_twice_is_refused(artifact: Artifact) -> None:
    with pytest.raises(ConflictError, match="is an artifact already"):
        seal(artifact.path, manifest_fields())


def test_sealing_with_a_wrong_field_leaves_no_manifest(tmp_path: Path) -> None:
    write_weights(tmp_path)
    with pytest.raises(InvalidInputError, match=r"unknown field 'colour'; missing field|missing.*unknown"):
        seal(tmp_path, {"colour": "red"})
    assert not (tmp_path / "adapter.json").exists()


def test_sealing_removes_what_a_killed_sealing_left(tmp_path: Path) -> None:
    write_weights(tmp_path)
    (tmp_path / ".tmp-1-0123456789ab").write_text("half a manifest")
    seal(tmp_path, manifest_fields()).verify()
