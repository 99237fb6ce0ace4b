"""Make tsv.json: what TSV-M of fusion-bench 0.2.33 gives on small updates, for tests/test_average_methods.py.

pip install --no-deps --target FOLDER fusion-bench==0.2.33, then: python tests/vectors/make_tsv.py FOLDER
The one file that does the arithmetic is run; all that it wants of its package is the name of a type.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

FILE = "fusion_bench/method/task_singular_vector/utils/TSVM_utils.py"
SHAPES = {  # outputs, inputs, rank, number of updates; with rank None the matrices are drawn whole
    "whole matrices": (8, 6, None, 3),
    "updates of rank 2": (8, 6, 2, 3),
    "updates of rank 5, of which each gives 2": (7, 9, 5, 3),
}


def oracle(folder: Path) -> Any:
    types = ModuleType("fusion_bench.utils.type")
    types.StateDictType = dict  # type: ignore[attr-defined]
    for name in ("fusion_bench", "fusion_bench.utils"):
        sys.modules[name] = ModuleType(name)
    sys.modules[types.__name__] = types
    spec = importlib.util.spec_from_file_location("tsvm", folder / FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return SimpleNamespace(merge=module.compute_and_sum_svd_mem_reduction)


def main() -> None:
    merge, generator, found = oracle(Path(sys.argv[1])).merge, torch.Generator().manual_seed(1), {}
    for name, (outputs, inputs, rank, count) in SHAPES.items():
        inner = inputs if rank is None else rank
        b = [torch.randn(outputs, inner, generator=generator) for _ in range(count)]
        a = [
            torch.eye(inputs) if rank is None else torch.randn(inner, inputs, generator=generator) for _ in b
        ]
        merged = merge([{"w": y @ x} for x, y in zip(a, b, strict=True)], accelerator="cpu")["w"]
        found[name] = {"a": [x.tolist() for x in a], "b": [y.tolist() for y in b], "merged": merged.tolist()}
    record = {"made with": "fusion-bench 0.2.33, float32", "results": found}
    path = Path(__file__).with_name("tsv.json")
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
