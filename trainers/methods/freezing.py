"""Parts of a base model that training leaves as they are, by name: `training.freeze` of a recipe.

freeze(trainable.model, ("decoder",))
frozen_modules(("decoder",))      # a pattern of linears that get no LoRA
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from adapter_hub.errors import InvalidInputError

# by the names of weights and modules, of a Whisper and of a Parakeet, whose decoder is its CTC head
PARTS: Mapping[str, str] = {
    "encoder": r"(?:^|\.)encoder\.",
    "decoder": r"(?:^|\.)(?:decoder|proj_out|ctc_head)(?:\.|$)",
    "embeddings": r"\.embed_(?:tokens|positions)(?:\.|$)",
    "convolutions": r"(?:^|\.)encoder\.(?:conv\d|subsampling)(?:\.|$)|\.(?:point|depth)wise_conv\d?(?:\.|$)",
    "layer-norms": r"layer_norm(?:\.|$)|\.norm_\w+(?:\.|$)|\.conv\.norm(?:\.|$)",
    "feed-forward": r"\.(?:fc|feed_forward)[12](?:\.|$)",
    "self-attention": r"\.self_attn(?:\.|$)",
    "cross-attention": r"\.encoder_attn(?:\.|$)",
    # Takashima et al., Interspeech 2022: only the encoder's attention is updated
    "all-but-encoder-attention": r"^(?!.*(?:^|\.)encoder\.layers\.\d+\.self_attn(?:\.|$))",
}


def is_frozen(name: str, parts: Sequence[str]) -> bool:
    """Tell whether a weight or module belongs to one of the parts.

    >>> is_frozen("model.decoder.layers.0.fc1", ["decoder"]), is_frozen("ctc_head.weight", ["decoder"])
    (True, True)

    Args:
        name: in a Whisper, or in a model that holds one.
        parts: of `PARTS`.
    """
    return any(re.search(PARTS[part], name) for part in parts)


def frozen_modules(parts: Sequence[str]) -> str:
    """Return a pattern that matches the whole name of every module of the parts, as PEFT excludes them.

    Args:
        parts: of `PARTS`, at least one.
    """
    return "|".join(
        f"(?:.*(?:{pattern}).*)" if pattern[0] != "^" else f"(?:{pattern}.*)"
        for pattern in map(PARTS.__getitem__, parts)
    )


def freeze(model: Any, parts: Sequence[str]) -> None:
    """Leave the weights of some parts out of training.

    Args:
        model: a module; what it trains requires gradients.
        parts: of `PARTS`.

    Raises:
        InvalidInputError: nothing is left to train.
    """
    for name, weight in model.named_parameters():
        if weight.requires_grad and is_frozen(name, parts):
            weight.requires_grad_(requires_grad=False)
    if not any(weight.requires_grad for weight in model.parameters()):
        raise InvalidInputError(f"training.freeze {list(parts)}: leaves nothing to train; name fewer parts")
