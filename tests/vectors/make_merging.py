"""Make merging.json: what mergekit 0.1.5 gives on three small tensors, for tests/test_average_methods.py.

pip install mergekit==0.1.5 in an environment of its own, then: python tests/vectors/make_merging.py
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from mergekit.merge_methods import registry

WEIGHTS = [0.5, 0.3, 0.2]
RUNS = {
    "task-arithmetic": ("task_arithmetic", {"scale": 1.5}),
    "ties": ("ties", {"density": 1.0, "scale": 1.0}),
    "ties at density 0.5": ("ties", {"density": 0.5, "scale": 1.0}),
    "ties at density 0.2, scaled": ("ties", {"density": 0.2, "scale": 0.7}),
    "dare-linear": ("dare_linear", {"density": 0.5, "scale": 1.0, "random_seed": 7}),
    "dare-ties": ("dare_ties", {"density": 0.6, "scale": 1.2, "random_seed": 7}),
}


def merged(
    method: str, base: torch.Tensor, experts: list[torch.Tensor], options: dict[str, Any]
) -> torch.Tensor:
    merge = registry.get(method)
    entries = [SimpleNamespace(id=number, tensor=expert) for number, expert in enumerate(experts)]
    group = SimpleNamespace(base=SimpleNamespace(tensor=base), non_base=entries)
    torch.manual_seed(options.get("random_seed", 0))
    return merge.merge_group(
        group,
        weight=dict(enumerate(WEIGHTS)),
        density={number: options.get("density", 1.0) for number in range(len(experts))},
        normalize=merge.default_normalize,
        rescale=merge.default_rescale,
        int8_mask=False,
        **{"lambda": options.get("scale", 1.0)},
    )


def main() -> None:
    generator = torch.Generator().manual_seed(1)
    base = torch.randn(5, 4, generator=generator)
    experts = [base + 0.3 * torch.randn(5, 4, generator=generator) for _ in WEIGHTS]
    found = {
        name: {"options": options, "merged": merged(method, base, experts, options).tolist()}
        for name, (method, options) in RUNS.items()
    }
    record = {
        "made with": "mergekit 0.1.5, float32",
        "weights": WEIGHTS,
        "base": base.tolist(),
        "experts": [expert.tolist() for expert in experts],
        "results": found,
    }
    path = Path(__file__).with_name("merging.json")
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
