"""What a base model is: the digest that tells a swapped one from a re-saved or re-sharded one.

    base_model_digest(folder)                 # reads every weight once
    stamped_digest(folder, cache_folder())    # computed once

The digest covers every tensor and all that decides the text beside them (`adapter_hub.base_model.settings`):
what shapes the computation, suppressed tokens and special ids, features, the tokenizer; not file names,
sharding, or what a newer transformers adds to the JSON files. What that is depends on the family
(`adapter_hub.base_model.families`).
"""

from __future__ import annotations

import json
from collections.abc import Collection
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

from adapter_hub.artifact.safetensors_file import (
    TensorEntry,
    all_finite,
    read_header,
    tensor_bytes,
)
from adapter_hub.artifact.tensor_conversion import float32_digests
from adapter_hub.base_model.families import FAMILIES, family_of, settings_record, tensor_problems
from adapter_hub.base_model.repairs import no_file, no_weights
from adapter_hub.base_model.settings import FILES, read_config
from adapter_hub.base_model.tensors import EMBEDDINGS, TIED, WEIGHTS
from adapter_hub.errors import IntegrityError, InvalidInputError, NotFoundError, few
from adapter_hub.escaping import escaped
from adapter_hub.files.ownership import is_ours, is_private
from adapter_hub.files.reading import read_bounded
from adapter_hub.files.writing import Stamp, make_folder, make_private, write_atomically
from adapter_hub.formats.canonical import canonical_bytes, digest_of, sha256_hex

MAXIMUM_NOTE = 2**12  # bytes

EMBEDDED_ID = "adapter-hub/whisper-mini"
INDEX = "model.safetensors.index.json"
COVERED = (*FILES, INDEX, "adapter_config.json")  # with the weights; the last must not be there
RECORD = "base-model/2, whole"  # names what is remembered


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files that transformers would load, sharded or not.

    Other precisions may be beside them (`model.fp32-00001-of-00002.safetensors`) and do not count.

    Args:
        folder: of the base model.

    Raises:
        NotFoundError: there are none, or one that the index names is missing.
        InvalidInputError: the index names none.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / INDEX).is_file():
        if not (folder / "config.json").is_file():
            raise NotFoundError(no_file(folder, "config.json"))
        raise NotFoundError(no_weights(folder, FAMILIES[family_of(folder)].architecture))
    shards = read_config(folder, INDEX).get("weight_map")
    names = sorted({str(name) for name in shards.values()}) if isinstance(shards, dict) else []
    if not names:
        raise InvalidInputError(f"{folder}: {INDEX} names no files of weights")
    if missing := [name for name in names if "/" in name or not (folder / name).is_file()]:
        raise NotFoundError(f"{folder}: {INDEX} names {few(missing, separator=', ')}, which is missing")
    return [folder / name for name in names]


def stamped_digest(folder: Path, cache: Path) -> str:
    """Return the digest of the base model in `folder`, remembered by the stamps of all files that it covers.

    What is remembered is believed only where nobody else can have written it (`ownership`).

    Args:
        folder: of the base model.
        cache: where it is remembered.
    """
    files = [path for name in COVERED if (path := folder / name).is_file()] + weight_files(folder)
    stamp = [[path.name, *map(str, Stamp.of(path.stat()))] for path in files]
    key = sha256_hex(canonical_bytes([RECORD, str(folder.resolve()), stamp]))
    note = cache / "base_models" / f"{key}.json"
    with suppress(OSError, ValueError):  # not computed yet, or a broken note: compute it
        if is_private(note.parent) and is_ours(note.lstat()):
            known = json.loads(read_bounded(note, MAXIMUM_NOTE))
            if isinstance(known, str):
                return known
    digest = base_model_digest(folder)
    with suppress(OSError):  # a cache that cannot be written costs time, nothing else
        make_private(cache)
        make_folder(note.parent)
        if is_private(note.parent):
            write_atomically(note, canonical_bytes(digest))
    return digest


def base_model_digest(folder: Path) -> str:
    """Return the digest of the base model in `folder`; reads every weight once.

    Args:
        folder: of the base model.

    Raises:
        NotFoundError: a file is missing. InvalidInputError: a value cannot be, see `settings_record`.
        IntegrityError: damaged weights, a tensor that is there twice, tensors that are missing or unknown,
            or values that are NaN or infinite.
    """
    settings = settings_record(folder)
    if problems := tensor_problems(folder, tensor_shapes(folder)):
        raise IntegrityError(f"{folder}: not the weights of its config.json: {few(problems)}")
    record = {
        **settings,
        "weights": digest_of(canonical_bytes(_weights(folder))),
    }
    return digest_of(canonical_bytes(record))


def _weights(folder: Path) -> list[list[Any]]:
    """Return `[tensor, dtype, shape, sha256]` of every tensor once, sorted.

    The output matrix counts unless it is the token embeddings' very copy: transformers takes another one.
    """
    rows = sorted(
        _finite_row(path, *tensor) for path in weight_files(folder) for tensor in tensor_bytes(path)
    )
    names = [row[0] for row in rows]
    if twice := sorted({a for a, b in pairwise(names) if a == b}):
        raise IntegrityError(f"{folder}: tensor {escaped(twice[0])} is in two files; expected each once")
    contents = {row[0]: row[1:] for row in rows}
    if TIED in contents and contents[TIED] == contents.get(EMBEDDINGS):
        rows = [row for row in rows if row[0] != TIED]
    return rows


def _finite_row(path: Path, entry: TensorEntry, data: memoryview) -> list[Any]:
    if not all_finite(entry, data):
        raise IntegrityError(f"{path}: {escaped(entry.name)} has values that are NaN or infinite")
    return [entry.name, entry.dtype, list(entry.shape), sha256_hex(data)]


def tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return `{tensor: shape}` of all weights, from the headers of their files.

    Args:
        folder: of the base model.
    """
    return {e.name: e.shape for path in weight_files(folder) for e in read_header(path).values()}


def linear_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return `{module path: shape}` of every matrix of the base model.

    The shape is (out_features, in_features), and (out_features, in_features, 1) of a convolution over single
    positions, which is a linear. A Whisper has its output matrix whether or not its files hold the copy.

    Args:
        folder: of the base model.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for path in weight_files(folder):
        for entry in read_header(path).values():
            if entry.is_matrix and entry.name.endswith(".weight"):
                shapes[entry.name.removesuffix(".weight")] = entry.shape
    if _path(EMBEDDINGS) in shapes:
        shapes[_path(TIED)] = shapes[_path(EMBEDDINGS)]
    return shapes


def module_paths(folder: Path) -> set[str]:
    """Return the paths of all modules of the base model that hold weights, themselves or further below.

    Args:
        folder: of the base model.
    """
    found = {_path(TIED)} if EMBEDDINGS in (names := tensor_shapes(folder)) else set()
    for name in names:
        parts = name.split(".")
        found |= {".".join(parts[:count]) for count in range(1, len(parts))}
    return found


def tensor_digests(folder: Path, names: Collection[str]) -> dict[str, str]:
    """Return the digests of some tensors by name, see `float32_digests`.

    Args:
        folder: of the base model.
        names: of the tensors; those that are not there are left out.
    """
    found = float32_digests(weight_files(folder), {*names, *({EMBEDDINGS} if TIED in names else ())})
    return {TIED: found[EMBEDDINGS], **found} if EMBEDDINGS in found else found


def _path(tensor: str) -> str:
    return tensor.removesuffix(".weight")
