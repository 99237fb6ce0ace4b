"""What the training loop trains: a model, the Whisper inside it, and the tensors that a checkpoint holds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict

from adapter_hub.errors import IntegrityError

State = Mapping[str, torch.Tensor]
PREFIX = "base_model.model."  # of the names that PEFT saves tensors by


@dataclass(frozen=True)
class Trainee:
    """A model in training.

    Attributes:
        model: what the optimiser gets; only what it trains requires gradients.
        whisper: the `WhisperForConditionalGeneration` in it; LoRA layers in it apply as usual.
        state: returns a copy of the trained tensors on the CPU, by the names that a checkpoint uses.
        load_state: puts such tensors back.
    """

    model: Any
    whisper: Any
    state: Callable[[], dict[str, torch.Tensor]]
    load_state: Callable[[State], None]


def lora_trainee(model: Any) -> Trainee:
    """Return the trainee of a PEFT model with one LoRA."""

    def load_state(state: State) -> None:
        check_names(state, lora_state(model))
        set_peft_model_state_dict(model, dict(state))

    return Trainee(model, model.get_base_model(), lambda: lora_state(model), load_state)


def whole_trainee(whisper: Any) -> Trainee:
    """Return the trainee that is a whole Whisper; its state leaves out weights that are tied to others."""
    tied = set(whisper.all_tied_weights_keys)

    def state() -> dict[str, torch.Tensor]:
        found = whisper.state_dict()
        return {key: _copied(found[key]) for key in found if key not in tied}

    def load_state(state: State) -> None:
        check_names(state, whisper.state_dict().keys() - tied)
        whisper.load_state_dict(dict(state), strict=False)

    return Trainee(whisper, whisper, state, load_state)


def lora_state(model: Any, name: str = "default") -> dict[str, torch.Tensor]:
    """Return the tensors of a PEFT model's LoRA under the names that PEFT saves them by, on the CPU."""
    state = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    return {key: _copied(tensor) for key, tensor in state.items()}


def check_names(found: Collection[str], wanted: Collection[str]) -> None:
    """Refuse a checkpoint's tensors unless their names are exactly the wanted ones.

    Raises:
        IntegrityError: with every name that only one of the two has.
    """
    missing = [f"{name}: missing" for name in sorted(set(wanted) - set(found))]
    strange = [f"{name}: not in this model" for name in sorted(set(found) - set(wanted))]
    if missing or strange:
        raise IntegrityError("checkpoint", [*missing, *strange])


def _copied(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()
