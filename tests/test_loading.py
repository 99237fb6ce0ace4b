"""Loading is strict: what does not fit is refused, every difference at once, and nothing is guessed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_whisper import make_base_model, write_peft

from adapter_hub.artifact.folder import Artifact
from adapter_hub.errors import (
    AdapterHubError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    OutOfMemoryError,
)
from adapter_hub.files.reading import file_sha256
from adapter_hub.formats.manifest import FileEntry, LoraModule
from adapter_hub.model.base_model import BaseModel, load_base_model
from adapter_hub.model.loading import load_adapter, load_weights
from adapter_hub.transcription.opening import load

WEIGHTS = "adapter_model.safetensors"
KEY = "base_model.model.model.encoder.layers.0.fc1.lora_{}.weight"
Tensors = dict[str, torch.Tensor]


def with_tensors(artifact: Artifact, folder: Path, change: Callable[[Tensors], object]) -> Artifact:
    """Return a copy with other tensors, and a manifest that lists the new bytes as if nothing happened."""
    shutil.copytree(artifact.path, folder)
    tensors = {name: value.clone() for name, value in load_file(folder / WEIGHTS).items()}
    change(tensors)
    save_file(tensors, folder / WEIGHTS)
    return relisted(artifact, folder)


def relisted(artifact: Artifact, folder: Path, name: str = WEIGHTS) -> Artifact:
    entry = FileEntry(path=name, size=(folder / name).stat().st_size, sha256=file_sha256(folder / name))
    files = tuple(entry if e.path == name else e for e in artifact.manifest.files)
    return Artifact(folder, artifact.manifest.model_copy(update={"files": files}), artifact.digest)


def set_value(tensors: Tensors, half: str, value: float) -> None:
    tensors[KEY.format(half)][0, 0] = value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(KEY.format("A")), r"layers\.0\.fc1\.lora_A\.weight: missing"),
        (lambda t: t.update(stray=torch.ones(2)), "stray: not in the manifest"),
        (
            lambda t: t.update({KEY.format("B"): torch.ones(64, 5)}),
            r"lora_B\.weight: shape \[64, 5\], expected \[64, 4\]",
        ),
        (
            lambda t: t.update({KEY.format("B"): torch.ones(64, 4, dtype=torch.float16)}),
            r"lora_B\.weight: dtype F16, expected F32",
        ),
        (lambda t: set_value(t, "A", float("nan")), r"fc1\.lora_A\.weight: holds NaN or infinite values"),
        (lambda t: set_value(t, "B", float("inf")), r"fc1\.lora_B\.weight: holds NaN or infinite values"),
        (lambda t: [t[key].zero_() for key in t if "lora_B" in key], "every update is zero"),
        (lambda t: [t[key].zero_() for key in t if "lora_A" in key], "every update is zero"),
    ],
)
def test_wrong_tensors_are_refused(
    base: BaseModel,
    adapters: list[Artifact],
    tmp_path: Path,
    change: Callable[[Tensors], object],
    message: str,
) -> None:
    broken = with_tensors(adapters[0], tmp_path / "broken", change)
    with pytest.raises(IntegrityError, match=message):
        load_adapter(base, broken)


def test_every_difference_is_listed_at_once(
    base: BaseModel, adapters: list[Artifact], tmp_path: Path
) -> None:
    def change(tensors: Tensors) -> None:
        tensors.pop(KEY.format("A"))
        tensors["stray"] = torch.ones(2)
        tensors[KEY.format("B")] = torch.ones(3, 3)

    broken = with_tensors(adapters[0], tmp_path / "broken", change)
    other = broken.manifest.base_model.model_copy(update={"digest": "sha256:" + "0" * 64})
    broken = Artifact(broken.path, broken.manifest.model_copy(update={"base_model": other}), broken.digest)
    with pytest.raises(IntegrityError, match="made for base model") as caught:
        load_adapter(base, broken)
    assert len(caught.value.differences) == 4
    assert "\n" not in str(caught.value)


def test_an_adapter_of_another_base_model_is_refused(adapters: list[Artifact], tmp_path: Path) -> None:
    other = load_base_model(make_base_model(tmp_path / "other", seed=9), device="cpu")
    with pytest.raises(IntegrityError, match=r"made for base model .* \(sha256:.*\), but .*other"):
        load_adapter(other, adapters[0])


def test_modules_that_the_base_model_lacks_are_named(base: BaseModel, adapters: list[Artifact]) -> None:
    section = adapters[0].manifest.lora[0]
    extra = LoraModule(path="model.encoder.layers.7.fc1", rank=4, scaling=2.0)
    modules = tuple(sorted((*section.modules, extra), key=lambda m: m.path))
    manifest = adapters[0].manifest.model_copy(
        update={"lora": (section.model_copy(update={"modules": modules}),)}
    )
    with pytest.raises(IntegrityError, match=r"layers\.7\.fc1: the base model has no such linear"):
        load_adapter(base, Artifact(adapters[0].path, manifest, adapters[0].digest))


def test_a_rank_beyond_the_limit_is_refused_before_memory_is_taken(
    base: BaseModel, adapters: list[Artifact]
) -> None:
    section = adapters[0].manifest.lora[0]
    modules = tuple(module.model_copy(update={"rank": 4096}) for module in section.modules)
    manifest = adapters[0].manifest.model_copy(
        update={"lora": (section.model_copy(update={"modules": modules}),)}
    )
    with pytest.raises(IntegrityError, match="rank 4096, at most 512 allowed"):
        load_adapter(base, Artifact(adapters[0].path, manifest, adapters[0].digest))


@pytest.mark.parametrize("keep", [4, 100, -10])
def test_a_truncated_file_is_refused(
    base: BaseModel, adapters: list[Artifact], tmp_path: Path, keep: int
) -> None:
    shutil.copytree(adapters[0].path, tmp_path / "broken")
    path = tmp_path / "broken" / WEIGHTS
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(IntegrityError, match="too short|truncated"):
        load_adapter(base, Artifact.open(tmp_path / "broken"))


def test_one_flipped_bit_is_refused(base: BaseModel, adapters: list[Artifact], tmp_path: Path) -> None:
    shutil.copytree(adapters[0].path, tmp_path / "broken")
    path = tmp_path / "broken" / WEIGHTS
    data = bytearray(path.read_bytes())
    data[-4] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(IntegrityError, match=r"sha256 [0-9a-f]{12}…, expected [0-9a-f]{12}…"):
        load_adapter(base, Artifact.open(tmp_path / "broken"))


def test_missing_weights_are_refused(base: BaseModel, adapters: list[Artifact], tmp_path: Path) -> None:
    shutil.copytree(adapters[0].path, tmp_path / "broken")
    (tmp_path / "broken" / WEIGHTS).unlink()
    with pytest.raises(IntegrityError, match="adapter_model.safetensors is missing"):
        load_adapter(base, Artifact.open(tmp_path / "broken"))


def test_a_loaded_adapter_is_one_buffer_with_the_values_of_the_file(
    base: BaseModel, adapters: list[Artifact]
) -> None:
    adapter = load_adapter(base, adapters[2])  # float16 on disk
    tensors = load_file(adapters[2].path / WEIGHTS)
    assert adapter.buffer.is_contiguous()
    assert adapter.buffer.numel() == adapter.layout.size == sum(t.numel() for t in tensors.values())
    for part in adapter.layout.modules:
        a, b = part.lora_a(adapter.buffer), part.lora_b(adapter.buffer)
        key = f"base_model.model.{part.path}.lora_{{}}.weight"
        assert torch.equal(a, tensors[key.format("A")].float())
        assert torch.equal(b, tensors[key.format("B")].float())  # alpha / rank is 1


def test_bare_weights_of_a_training_run_load_as_strictly(base: BaseModel, tmp_path: Path) -> None:
    folder = write_peft(tmp_path / "run", base, seed=4)
    assert load_weights(base, folder).manifest is None
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "r": 8}))
    with pytest.raises(AdapterHubError, match="rank"):
        load_weights(base, folder)


def test_weights_too_large_for_the_dtype_are_refused(
    base_folder: Path, base: BaseModel, tmp_path: Path
) -> None:
    half = load_base_model(base_folder, device="cpu", dtype="float16")
    folder = write_peft(tmp_path / "run", base, seed=4)
    tensors = load_file(folder / WEIGHTS)
    tensors[KEY.format("A")][0, 0] = 1e6
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(IntegrityError, match=r"too large for torch\.float16; load in float32"):
        load_weights(half, folder)


def test_a_base_model_is_frozen_float32_and_known_by_its_digest(base: BaseModel, base_folder: Path) -> None:
    from adapter_hub.base_model.digest import base_model_digest

    assert base.dtype == torch.float32
    assert not base.model.training
    assert not any(parameter.requires_grad for parameter in base.model.parameters())
    assert base.digest == base_model_digest(base_folder)
    assert (base.chunk_seconds, base.multilingual) == (4.0, True)
    assert base.decode_languages == ("da", "en", "ja", "pl", "zh")


def test_a_changed_base_model_gets_a_new_digest_in_spite_of_the_cache(tmp_path: Path) -> None:
    folder = make_base_model(tmp_path / "base")
    before = load_base_model(folder, device="cpu").digest
    assert load_base_model(folder, device="cpu").digest == before
    tensors = load_file(folder / "model.safetensors")
    tensors["model.encoder.layers.0.fc1.bias"][0] += 1
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert load_base_model(folder, device="cpu").digest != before


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("./absent", {}, NotFoundError, r"\./absent: no such folder"),
        ("openai/whisper-absent", {}, NotFoundError, "is not on this machine; fetch it with `adapter-hub"),
        ("no spaces allowed", {}, NotFoundError, "no spaces allowed: no such folder"),
        (None, {"dtype": "float8"}, InvalidInputError, "dtype 'float8': expected one of float32"),
        (None, {"device": "abacus"}, InvalidInputError, "device 'abacus': not usable here"),
        (None, {"device": "meta"}, InvalidInputError, "device 'meta': not usable here .Cannot copy out of"),
        (None, {"device": "hpu"}, InvalidInputError, "device 'hpu': not usable here"),
    ],
)
def test_a_base_model_that_cannot_be_loaded_is_explained(
    base_folder: Path, name: str | None, options: dict[str, str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        load_base_model(name or base_folder, **options)


def test_nothing_reaches_the_network(base_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*arguments: object) -> None:
        pytest.fail(f"a connection was tried: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    load_base_model(base_folder, device="cpu")
    with pytest.raises(NotFoundError, match="is not on this machine"):
        load_base_model("openai/whisper-absent")


def test_a_base_model_in_the_hub_s_cache_is_found_by_id_and_revision(
    base_folder: Path, base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--test--small"
    shutil.copytree(base_folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for revision in (None, "main", commit):
        found = load_base_model("test/small", revision=revision, device="cpu")
        assert (found.id, found.revision, found.digest) == ("test/small", commit, base.digest)
    assert found.pin.revision == commit
    with pytest.raises(NotFoundError, match="base-model fetch test/small --revision v2"):
        load_base_model("test/small", revision="v2")


def test_a_folder_that_is_no_whisper_is_refused(base_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(base_folder, tmp_path / "other")
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    (tmp_path / "other" / "config.json").write_text(json.dumps({**config, "model_type": "bert"}))
    with pytest.raises(InvalidInputError, match="model_type is 'bert' in config.json; expected 'whisper'"):
        load_base_model(tmp_path / "other")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match="no config.json; expected a Whisper model"):
        load_base_model(tmp_path / "empty")


def test_a_device_without_room_is_told_in_one_line(
    base: BaseModel, adapters: list[Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: object, *args: object, **_: object) -> object:
        if args and isinstance(args[0], torch.device):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return to(self, *args)

    to = torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "to", fails)
    with pytest.raises(OutOfMemoryError, match=r"with small/da-1@1\.0\.0 on cpu; use fewer adapters at once"):
        load_adapter(base, adapters[0])
    with pytest.raises(OutOfMemoryError, match=r"with .* on cpu; use fewer adapters at once, --dtype"):
        load_weights(base, adapters[0].path)
    monkeypatch.setattr(torch.nn.Module, "to", fails)
    with pytest.raises(OutOfMemoryError, match=r"with .*base.* on cpu; use --dtype bfloat16, or a smaller"):
        load_base_model(base.folder, device="cpu")


def test_a_probe_that_needs_too_much_memory_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 64 bytes.")

    monkeypatch.setattr("torch.nn.functional.linear", fails)
    with pytest.raises(OutOfMemoryError, match=r"with mini/da@\S+ on cpu; use --dtype bfloat16"):
        load("mini/da", device="cpu")
