"""Adapters with weights as one adapter in memory: an average that is tried before it is published.

    blended([(danish, 0.5), (polish, 0.5)])        # the update of every linear is the weighted sum of theirs

Factors are concatenated, as `adapter-hub average` does, so the outcome is the published average's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from adapter_hub.errors import InvalidInputError
from adapter_hub.model.layout import AdapterLayout, ModuleLayout
from adapter_hub.model.loading import ResidentAdapter


def blended(parts: Sequence[tuple[ResidentAdapter, float]]) -> ResidentAdapter:
    """Return the weighted sum of adapters as one adapter, exactly.

    Args:
        parts: adapters of one base model, each with its weight.

    Returns:
        An adapter without a manifest of its own, named like `mini/pl@1.0.0*0.5+mini/it@1.0.0*0.5`; the rank
        of each linear is the sum of theirs.

    Raises:
        InvalidInputError: a token-gated pair, whose experts are weighed for every token.
    """
    for adapter, _ in parts:
        if any(module.gated for module in adapter.layout.values()):
            raise InvalidInputError(
                f"{adapter.name} weighs its experts for every token, which no weighted sum does; "
                "name its parent and its child instead"
            )
    modules: list[ModuleLayout] = []
    pieces: list[Tensor] = []
    size = 0
    for path in sorted({path for adapter, _ in parts for path in adapter.layout}):
        own = [(adapter.layout[path], adapter, w) for adapter, w in parts if path in adapter.layout]
        a = torch.cat([module.lora_a(adapter.buffer) for module, adapter, _ in own])
        b = torch.cat([w * module.lora_b(adapter.buffer) for module, adapter, w in own], dim=1)
        modules.append(
            ModuleLayout(
                path=path,
                rank=a.shape[0],
                in_features=a.shape[1],
                out_features=b.shape[0],
                a_start=size,
                b_start=size + a.numel(),
            )
        )
        pieces += [a.reshape(-1), b.reshape(-1)]
        size += a.numel() + b.numel()
    name = "+".join(f"{adapter.name}*{weight:g}" for adapter, weight in parts)
    return ResidentAdapter(name, AdapterLayout(tuple(modules), size), torch.cat(pieces))
