"""A model as the training loop takes it, with the Whisper in it and the tensors that a checkpoint holds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict

from adapter_hub.errors import IntegrityError

State = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Teacher:
    """The base model that training started from, as a target of training.

    Attributes:
        whisper: while entered, gives a Whisper that computes what the base model does.
        weight: of the distance to it; that of the references is 1.
        temperature: of both distributions.
    """

    whisper: Callable[[], AbstractContextManager[Any]]
    weight: float
    temperature: float


@dataclass(frozen=True)
class TrainableModel:
    """A model in training.

    Attributes:
        model: what the optimiser gets; only what it trains requires gradients.
        whisper: the `WhisperForConditionalGeneration` in it; LoRA layers in it apply as usual.
        state: returns a copy of the trained tensors on the CPU, by their names in a checkpoint.
        load_state: loads such tensors back.
        teacher: whose predictions training stays close to; None for no such target.
    """

    model: Any
    whisper: Any
    state: Callable[[], dict[str, torch.Tensor]]
    load_state: Callable[[State], None]
    teacher: Teacher | None = None


def trainable_lora(model: Any) -> TrainableModel:
    """Return a PEFT model with one LoRA as a trainable model."""

    def load_state(state: State) -> None:
        check_names(state, lora_state(model))
        set_peft_model_state_dict(model, dict(state))

    return TrainableModel(model, model.get_base_model(), lambda: lora_state(model), load_state)


def trainable_whisper(whisper: Any) -> TrainableModel:
    """Return a whole Whisper as a trainable model; its state leaves out weights that are tied to others."""
    tied = set(whisper.all_tied_weights_keys)

    def state() -> dict[str, torch.Tensor]:
        found = whisper.state_dict()
        return {key: _copied(found[key]) for key in found if key not in tied}

    def load_state(state: State) -> None:
        check_names(state, whisper.state_dict().keys() - tied)
        whisper.load_state_dict(dict(state), strict=False)

    return TrainableModel(whisper, whisper, state, load_state)


def without_lora(model: Any) -> Callable[[], AbstractContextManager[Any]]:
    """Return what gives the base model of a PEFT model: the same weights in memory, LoRA layers off.

    Args:
        model: with a LoRA.
    """

    @contextmanager
    def entered() -> Iterator[Any]:
        with model.disable_adapter():
            yield model.get_base_model()

    return entered


def copied_whisper(whisper: Any) -> Callable[[], AbstractContextManager[Any]]:
    """Return what gives a frozen copy of a Whisper as it is now.

    Args:
        whisper: before its training.
    """
    copy = deepcopy(whisper).requires_grad_(requires_grad=False).eval()

    @contextmanager
    def entered() -> Iterator[Any]:
        yield copy

    return entered


def lora_state(model: Any, name: str = "default") -> dict[str, torch.Tensor]:
    """Return copies of the tensors of a PEFT model's LoRA, on the CPU, by the names that PEFT saves.

    Args:
        model: with one or more LoRAs.
        name: of the LoRA in it.
    """
    state = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    return {key: _copied(tensor) for key, tensor in state.items()}


def check_names(found: Collection[str], wanted: Collection[str]) -> None:
    """Refuse a checkpoint's tensors unless their names are exactly the expected ones.

    Args:
        found: names in the checkpoint.
        wanted: names in the model.

    Raises:
        IntegrityError: with every name that only one of the two has.
    """
    missing = [f"{name}: missing" for name in sorted(set(wanted) - set(found))]
    strange = [f"{name}: not in this model" for name in sorted(set(found) - set(wanted))]
    if missing or strange:
        raise IntegrityError("checkpoint", [*missing, *strange])


def _copied(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()
