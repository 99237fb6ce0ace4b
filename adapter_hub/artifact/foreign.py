"""Somebody's PEFT adapter as it is on disk: which linear every tensor belongs to, whatever its name.

    found = read_foreign(folder, BaseModelParts(linears, modules, digests))
    found.adapter                # what it is, in our spelling; refused with the reason if it is no LoRA
    write_plain(found, folder / WEIGHTS_FILE, target / WEIGHTS_FILE)

torch.compile, DataParallel and FSDP leave their names in those of the tensors, old programs the adapter's
name; some save in float64 or in two formats. The tensors say what was trained. The config has to let PEFT
apply all of them: it passes over those that its target modules do not match, and so they are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from adapter_hub.artifact.contents import PICKLES
from adapter_hub.artifact.foreign_config import read_foreign_config
from adapter_hub.artifact.peft import DTYPES, PREFIX, WEIGHTS_FILE, PeftAdapter, assembled
from adapter_hub.artifact.peft_config import CONFIG_FILE
from adapter_hub.artifact.safetensors_file import TensorEntry, copy_without_notes, read_header
from adapter_hub.artifact.tensor_conversion import CONVERTED, float32_digests, write_converted
from adapter_hub.errors import IntegrityError, InvalidInputError, NotFoundError, few
from adapter_hub.escaping import shown

# what wrappers put between the parts of a name
WRAPPERS = frozenset({"_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
_KEY = re.compile(r"(?P<path>[A-Za-z0-9_.]+)\.lora_(?P<half>[AB])(?:\.(?P<name>[A-Za-z0-9_-]+))?\.weight")
# what tensors that no plain LoRA has are of, by a part of their names
STRANGE = {
    "lora_embedding_": "a LoRA on an embedding, which is no linear",
    "lora_magnitude_vector": "of DoRA",
    "lora_E": "of AdaLoRA",
    "lora_B.bias": "a bias on lora_B",
    ".bias": "a bias in the base model's place",
    "prompt_embeddings": "of prompt learning",
}


@dataclass(frozen=True)
class BaseModelParts:
    """What of a base model decides whether an adapter fits.

    Attributes:
        linears: `{path: (out_features, in_features)}`, see `base_model.digest.linear_shapes`.
        modules: paths of all modules.
        digests: returns the digests of some of its tensors by name, see `float32_digests`.
    """

    linears: Mapping[str, tuple[int, ...]]
    modules: Collection[str]
    digests: Callable[[Collection[str]], Mapping[str, str]]


@dataclass(frozen=True)
class ForeignAdapter:
    """Somebody's LoRA.

    Attributes:
        adapter: what it is.
        names: the tensors' names in its file, and the names that PEFT gives them.
        dtype: that they are written in, as safetensors names it.
        whole: whether its file can stay as it is.
    """

    adapter: PeftAdapter
    names: Mapping[str, str]
    dtype: str
    whole: bool


def read_foreign(folder: Path, base: BaseModelParts) -> ForeignAdapter:
    """Read somebody's LoRA; of the tensors only the header.

    Args:
        folder: holds `adapter_config.json` and `adapter_model.safetensors`.
        base: of the base model that it is for.

    Raises:
        NotFoundError: a file is missing. InvalidInputError: not a plain LoRA on linears.
        IntegrityError: the tensors do not fit the config or PEFT would not apply all of them.
    """
    config = read_foreign_config(folder, base.modules)
    path, where = _weights_file(folder), str(folder / CONFIG_FILE)
    header = read_header(path)
    names, strange = _names(header, base.linears)
    differences = [*_strangers(path, strange, base), *_twice(names), *_dtype_problems(header, names)]
    if not names:
        raise IntegrityError(
            str(path), [*differences, "no LoRA tensors at all"], f"is {CONFIG_FILE} its own?"
        )
    renamed = {new: header[old] for old, new in names.items()}
    dtypes = {entry.dtype for entry in renamed.values()}
    dtype = dtypes.pop() if len(dtypes) == 1 and dtypes <= DTYPES.keys() else CONVERTED
    modules = sorted({new.partition(".lora_")[0].removeprefix(PREFIX) for new in renamed})
    if alone := sorted(set(modules) - config.targeted(modules, where)):
        differences.append(
            f"PEFT would leave {len(alone)} of {len(modules)} modules alone, which target_modules and the "
            f"fields beside it do not name ({few(alone, separator=', ', most=2)}); write the names of what "
            "was trained there"
        )
    if differences:
        raise IntegrityError(str(path), differences)
    adapter = assembled(config.plain(modules, where), renamed, path, dtype=DTYPES[dtype])
    whole = not strange and all(old == new and header[old].dtype == dtype for old, new in names.items())
    return ForeignAdapter(adapter, names, dtype, whole)


def write_plain(found: ForeignAdapter, source: Path, target: Path) -> None:
    """Write the tensors as PEFT names them: byte for byte where that is what they are.

    Args:
        found: what was read of them.
        source: their file.
        target: a new file.

    Raises:
        IntegrityError: a value is too large for float32.
    """
    if found.whole:
        copy_without_notes(source, target)
    else:
        write_converted(source, target, found.names, found.dtype)


def _weights_file(folder: Path) -> Path:
    path = folder / WEIGHTS_FILE
    if path.is_file():
        return path
    pickles = sorted(item.name for item in folder.iterdir() if item.suffix in PICKLES)
    if not pickles:
        raise NotFoundError(f"{folder}: no {WEIGHTS_FILE}; save the adapter as safetensors")
    raise NotFoundError(no_pickles(str(folder), pickles))


def no_pickles(where: str, pickles: Iterable[str]) -> str:
    """Return why an adapter without safetensors is not read, and the two lines that convert it.

    Args:
        where: the folder or repository.
        pickles: files in it.
    """
    named = sorted(pickles)
    advice = "save the adapter as safetensors"
    if "adapter_model.bin" in named:
        advice = (
            "convert it where you trust it: `import torch, safetensors.torch as s` and "
            "`s.save_file({k: v.contiguous() for k, v in torch.load('adapter_model.bin', weights_only=True)"
            ".items()}, 'adapter_model.safetensors')`"
        )
    listed = few(named, separator=", ", most=3)
    return f"{where}: no {WEIGHTS_FILE} but {listed}, and pickles are never read; {advice}"


def _names(header: Iterable[str], linears: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, str], list[str]]:
    """Return PEFT's name of every LoRA tensor by its name in the file, and the names of the others."""
    found: dict[str, re.Match[str]] = {}
    strange = []
    for name in sorted(header):
        own = ".".join(part for part in name.split(".") if part not in WRAPPERS).rpartition(PREFIX)[2]
        if match := _KEY.fullmatch(own):
            found[name] = match
        else:
            strange.append(name)
    if len(adapters := {match["name"] for match in found.values()}) > 1:
        named = sorted(str(name) for name in adapters if name)
        raise InvalidInputError(
            f"tensors of several adapters ({few(named, separator=', ', most=4)}); save the one that is meant"
        )
    return {
        name: f"{PREFIX}{_path(match['path'], linears)}.lora_{match['half']}.weight"
        for name, match in found.items()
    }, strange


def _path(path: str, linears: Mapping[str, tuple[int, ...]]) -> str:
    """Return a module's path in the base model; WhisperModel, without the head, leaves out `model.`."""
    return f"model.{path}" if path not in linears and f"model.{path}" in linears else path


def _strangers(path: Path, strange: list[str], base: BaseModelParts) -> Iterator[str]:
    """Yield the tensors that are no half of a LoRA, but for copies of the base model's own."""
    if not strange:
        return
    own = base.digests({name.removeprefix(PREFIX) for name in strange})
    digests = float32_digests([path], strange) if own else {}
    for name in strange:
        if digests.get(name, "") != own.get(name.removeprefix(PREFIX)):
            kind = next((what for part, what in STRANGE.items() if part in name), "not of a LoRA on a linear")
            yield f"unknown tensor '{shown(name, 100)}': {kind}"


def _twice(names: Mapping[str, str]) -> Iterator[str]:
    seen: dict[str, str] = {}
    for old, new in names.items():
        if new in seen:
            yield f"'{shown(seen[new], 100)}' and '{shown(old, 100)}' are both {new}"
        seen[new] = old


def _dtype_problems(header: Mapping[str, TensorEntry], names: Iterable[str]) -> Iterator[str]:
    if odd := sorted({header[name].dtype for name in names} - DTYPES.keys() - {"F64"}):
        yield f"dtypes {', '.join(odd)}, expected one of {', '.join(DTYPES)} or F64"
