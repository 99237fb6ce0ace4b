"""An adapter merged into a base model: a plain transformers model, for other people's code.

    merge_into(base, adapter)          # base.model now answers as the composition does; base is spent

Saving, converting or halving it keeps the adapter. A mixed batch, another adapter and the base model's own
answers need the composition instead (`adapter_hub.model.session`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from adapter_hub.errors import InvalidInputError
from adapter_hub.formats.manifest import Language
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.loading import ResidentAdapter


def merge_into(base: BaseModel, adapter: ResidentAdapter) -> None:
    """Add an adapter's updates to the weights of a base model, in float32, and name its language and task.

    Args:
        base: loaded for this alone: its weights are no longer those of its digest.
        adapter: of this base model.

    Raises:
        InvalidInputError: a token-gated pair, whose experts are weighed for every token.
    """
    if any(module.gated for module in adapter.layout.values()):
        raise InvalidInputError(
            f"{adapter.name} weighs its two experts for every token, so no plain model is equal to it; "
            "`transcribe` and `serve` run it, and a pair with a static gate can be merged, or made a LoRA by "
            "`fold`"
        )
    for path, module in adapter.layout.items():
        linear: Any = base.model.get_submodule(path)
        _untie(base.model, linear)
        a, b = (part(adapter.buffer).float() for part in (module.lora_a, module.lora_b))
        weight = linear.weight
        with torch.no_grad():
            weight.copy_((weight.float() + (b @ a).reshape(weight.shape)).to(weight.dtype))
    if adapter.manifest is not None:
        name_speech(base, adapter.manifest.task, adapter.manifest.languages)


def name_speech(base: BaseModel, task: str, languages: Sequence[Language]) -> None:
    """Write into the generation settings what speech a merged model is for, where these can hold it.

    Args:
        base: that an adapter was merged into.
        task: of the adapter.
        languages: of the adapter; of several none is written, and `generate` identifies it.
    """
    if not base.multilingual or not base.decode_languages:
        return
    generation, codes = base.model.generation_config, {language.decode_language for language in languages}
    generation.task = task
    generation.language = codes.pop() if len(codes) == 1 else None


def _untie(model: Any, linear: Any) -> None:
    """Give the output matrix memory of its own before it changes: it is also the token embeddings."""
    tied = [
        name
        for name, other in model.named_modules()
        if other is not linear and getattr(other, "weight", None) is linear.weight
    ]
    if tied:
        linear.weight = nn.Parameter(linear.weight.detach().clone(), requires_grad=False)
        model.config.tie_word_embeddings = False
