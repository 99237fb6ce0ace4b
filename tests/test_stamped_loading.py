"""Loading from the cache: what was verified on landing is read once and not hashed again, while untouched."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_whisper import make_pair

from adapter_hub.artifact.folder import Artifact
from adapter_hub.errors import IntegrityError
from adapter_hub.files.writing import Stamp
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.loading import load_adapter
from adapter_hub.model.lora_file import ExpectedFile, open_weights, read_values
from adapter_hub.stores.cache import Cache

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def cached(adapters: list[Artifact], tmp_path: Path) -> Artifact:
    """An artifact that has landed in the cache."""
    return Cache(tmp_path / "cache").add(adapters[0])


def flip(path: Path, place: int = -4) -> None:
    """Change one bit in place, and turn the time of modification back."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(place, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(place, os.SEEK_END)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_what_landed_in_the_cache_has_stamps_at_once_and_later(
    cached: Artifact, adapters: list[Artifact], tmp_path: Path
) -> None:
    later = Cache(tmp_path / "cache").get(cached.digest)
    assert later is not None
    assert later.stamps == cached.stamps
    assert cached.stamps[WEIGHTS] == Stamp.of((cached.path / WEIGHTS).stat())
    assert adapters[0].stamps == {}
    assert later == Artifact.open(later.path)  # stamps are no part of what it is


@pytest.mark.parametrize("kind", ["lora", "pair"])
def test_a_load_by_stamp_gives_the_same_values(
    base: BaseModel, adapters: list[Artifact], tmp_path: Path, kind: str
) -> None:
    artifact = adapters[0]
    if kind == "pair":
        artifact = make_pair(tmp_path / "pair", base, adapters[0], kind="token", seed=4)
    landed = Cache(tmp_path / "cache").add(artifact)
    hashed, stamped = load_adapter(base, artifact), load_adapter(base, landed)
    assert torch.equal(hashed.buffer, stamped.buffer)
    assert hashed.layout == stamped.layout


def test_an_untouched_file_is_not_hashed(base: BaseModel, cached: Artifact) -> None:
    path = cached.path / WEIGHTS
    flip(path)
    believed = replace(cached, stamps=cached.stamps | {WEIGHTS: Stamp.of(path.stat())})
    load_adapter(base, believed)  # nothing but the hash could tell
    with pytest.raises(IntegrityError, match=r"sha256 [0-9a-f]{12}…, expected [0-9a-f]{12}…"):
        load_adapter(base, replace(cached, stamps={}))


def test_a_file_that_was_changed_since_it_was_verified_is_hashed(base: BaseModel, cached: Artifact) -> None:
    flip(cached.path / WEIGHTS)
    with pytest.raises(IntegrityError, match=r"sha256 [0-9a-f]{12}…, expected [0-9a-f]{12}…"):
        load_adapter(base, cached)


def test_another_file_in_the_place_of_the_verified_one_is_hashed(
    base: BaseModel, cached: Artifact, adapters: list[Artifact], tmp_path: Path
) -> None:
    shutil.copy2(adapters[1].path / WEIGHTS, tmp_path / "other")
    (tmp_path / "other").replace(cached.path / WEIGHTS)
    with pytest.raises(IntegrityError, match=r"sha256 [0-9a-f]{12}…, expected"):
        load_adapter(base, cached)


def test_a_gate_that_was_changed_is_refused(
    base: BaseModel, adapters: list[Artifact], tmp_path: Path
) -> None:
    artifact = make_pair(tmp_path / "pair", base, adapters[0], kind="token", seed=4)
    landed = Cache(tmp_path / "cache").add(artifact)
    flip(landed.path / "gate.safetensors")
    with pytest.raises(IntegrityError, match=r"gate\.safetensors: sha256"):
        load_adapter(base, landed)


def test_a_file_that_ends_early_while_it_is_read_is_refused(cached: Artifact) -> None:
    path = cached.path / WEIGHTS
    with open_weights(path, "small/da") as weights:
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(
            IntegrityError, match="small/da: adapter_model.safetensors: changed while it was read"
        ):
            read_values(weights, None)


def test_header_and_values_are_of_one_file_whatever_takes_its_place(cached: Artifact, tmp_path: Path) -> None:
    path = cached.path / WEIGHTS
    (sha256,) = (entry.sha256 for entry in cached.manifest.files if entry.path == WEIGHTS)
    raw = path.read_bytes()
    (tmp_path / "other").write_bytes(bytes([*raw[:-4], 1, 2, 3, 4]))
    with open_weights(path, "small/da") as weights:
        path.unlink()
        (tmp_path / "other").rename(path)
        with pytest.raises(IntegrityError, match="changed while it was read"):  # it has no name any more
            read_values(weights, ExpectedFile(sha256))


def test_a_header_that_is_exchanged_in_place_is_noticed(cached: Artifact) -> None:
    path = cached.path / WEIGHTS
    (sha256,) = (entry.sha256 for entry in cached.manifest.files if entry.path == WEIGHTS)
    with open_weights(path, "small/da") as weights:
        first, second, *others = weights.header
        header = {**weights.header, first: weights.header[second], second: weights.header[first]}
        with pytest.raises(IntegrityError, match="changed while it was read"):
            read_values(replace(weights, header=header), ExpectedFile(sha256))
    assert others
