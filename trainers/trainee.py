"""What the training loop trains: a model, the Whisper inside it, and the tensors that a checkpoint holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
        state: returns the trained tensors on the CPU, by the names that a checkpoint uses.
        load_state: puts such tensors back.
    """

    model: Any
    whisper: Any
    state: Callable[[], dict[str, torch.Tensor]]
    load_state: Callable[[State], None]


def lora_trainee(model: Any) -> Trainee:
    """Return the trainee of a PEFT model with one LoRA."""

    def load_state(state: State) -> None:
        set_peft_model_state_dict(model, dict(state))

    return Trainee(model, model.get_base_model(), lambda: lora_state(model), load_state)


def whole_trainee(whisper: Any) -> Trainee:
    """Return the trainee that is a whole Whisper; its state leaves out weights that are tied to others."""
    tied = set(whisper.all_tied_weights_keys)

    def state() -> dict[str, torch.Tensor]:
        found = whisper.state_dict()
        return {key: found[key].detach().cpu().contiguous() for key in found if key not in tied}

    def load_state(state: State) -> None:
        outcome = whisper.load_state_dict(dict(state), strict=False)
        if outcome.unexpected_keys or set(outcome.missing_keys) - tied:
            raise IntegrityError(
                "checkpoint: not of this base model", [*outcome.unexpected_keys, *outcome.missing_keys]
            )

    return Trainee(whisper, whisper, state, load_state)


def lora_state(model: Any, name: str = "default") -> dict[str, torch.Tensor]:
    """Return the tensors of a PEFT model's LoRA under the names that PEFT saves them by, on the CPU."""
    state = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    return {key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}
