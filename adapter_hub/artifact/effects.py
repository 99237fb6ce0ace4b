"""Whether an adapter does anything: one rule for import, sealing, audit and loading.

    effect = effect_of(folder / "adapter_model.safetensors")
    effect.nothing, effect.idle        # the whole adapter is without effect; the modules that are

A module's update B·A can differ from zero if some rank has a value in its row of A and one in its column of
B. Modules without effect are allowed, and reported: an encoder that was frozen while the decoder was trained
has them. An adapter in which no module has an effect is the base model under another name, and refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from adapter_hub.artifact.safetensors_file import TensorEntry, any_nonzero, tensor_bytes

LORA_KEY = re.compile(r"base_model\.model\.(?P<path>[A-Za-z0-9_.]+)\.lora_(?P<half>[AB])\.weight")
NO_EFFECT = "every update is zero: it changes nothing"


@dataclass(frozen=True)
class Effect:
    """Which modules of a LoRA change nothing.

    Attributes:
        idle: their paths, sorted.
        modules: how many there are in all.
    """

    idle: tuple[str, ...]
    modules: int

    @property
    def nothing(self) -> bool:
        """Whether no module changes anything."""
        return len(self.idle) == self.modules

    def __str__(self) -> str:
        return idle_text(self.idle, self.modules)


def idle_text(idle: Sequence[str], modules: int) -> str:
    """Return what messages say about modules without effect; empty if there are none.

    Args:
        idle: paths of the modules without effect.
        modules: how many there are in all.
    """
    if not idle:
        return ""
    if len(idle) == modules:
        return NO_EFFECT
    return f"{len(idle)} of {modules} modules change nothing, their updates are zero (the first: {idle[0]})"


def effect_of(weights: Path) -> Effect:
    """Return which modules of a LoRA's file have an effect.

    Args:
        weights: `adapter_model.safetensors` of a LoRA.

    Raises:
        IntegrityError: not a sound safetensors file.
    """
    found = dict(_updates(weights))
    return Effect(tuple(sorted(path for path, moves in found.items() if not moves)), len(found))


def has_effect(weights: Path) -> bool:
    """Tell whether any module of a LoRA's file has an effect; reads no further than the first that has.

    Args:
        weights: `adapter_model.safetensors` of a LoRA.

    Raises:
        IntegrityError: not a sound safetensors file.
    """
    return any(moves for _, moves in _updates(weights))


def _updates(weights: Path) -> Iterator[tuple[str, bool]]:
    """Yield every module with both halves, and whether its update can differ from zero."""
    path, rows = "", list[int]()
    for entry, data in tensor_bytes(weights):  # by name: a module's A comes right before its B
        match = LORA_KEY.fullmatch(entry.name)
        if not match or not entry.is_matrix:
            continue
        if match["half"] == "A":
            path, rows = match["path"], _rows(entry, data)
        elif match["path"] == path:
            yield path, _meets(entry, data, rows)


def _rows(entry: TensorEntry, data: memoryview) -> list[int]:
    """Return the rows of A with a value that is not zero."""
    rank = entry.shape[0]
    width = len(data) // rank if rank else 0
    return [row for row in range(rank) if any_nonzero(entry, data[row * width : (row + 1) * width])]


def _meets(entry: TensorEntry, data: memoryview, rows: list[int]) -> bool:
    """Tell whether B has a value in the column of one of these ranks."""
    rank = entry.shape[1]
    if not rank or not rows or rows[-1] >= rank:
        return False
    width = len(data) // (entry.shape[0] * rank) if entry.shape[0] else 0
    if rank == 1:
        return any_nonzero(entry, data)
    step, raw = rank * width, bytes(data)
    return any(any_nonzero(entry, memoryview(_column(raw, row * width, width, step))) for row in rows)


def _column(raw: bytes, start: int, width: int, step: int) -> bytes:
    column = bytearray(len(raw) // step * width)
    for place in range(width):
        column[place::width] = raw[start + place :: step]
    return bytes(column)
