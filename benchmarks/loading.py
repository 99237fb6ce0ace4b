"""Loading an adapter and switching between adapters, against reading and hashing the file, and PEFT.

    OMP_NUM_THREADS=1 python benchmarks/loading.py

Rank 32 on every linear of whisper-small's shape, 13 million parameters, float32, from the page cache. All
take turns in one process; seconds are CPU seconds of the one thread that computes. "By stamp" is how an app
loads: from the cache, whose stamp says that nothing was touched since every byte was hashed. "Hashed" is how
an adapter is loaded from anywhere else. Writes Markdown and JSON.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import peft
import safetensors.torch
import torch
from pages import page
from random_whisper import LINEARS, peft_model, random_adapter, random_base
from timing import Row, in_turns, machine, peer_line, ratio

from adapter_hub.artifact.folder import Artifact, seal
from adapter_hub.artifact.peft import WEIGHTS_FILE
from adapter_hub.formats.canonical import digest_of
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.loading import ResidentAdapter, load_adapter
from adapter_hub.model.quiet import quiet
from adapter_hub.model.session import Session
from adapter_hub.stores.cache import Cache

TITLE = "Loading an adapter and switching between adapters"
COMMAND = "OMP_NUM_THREADS=1 python benchmarks/loading.py"
ABOUT = """
Adapters of 13 million parameters, loaded from the page cache and made the active one, in turns with PEFT;
CPU seconds. The ratio is PEFT's time over this library's: above 1 this library is faster. In the rows `to
reading and hashing` it is this library's slowest load (last column) over reading and hashing the file (the
column before): below 1 is faster.
"""


def measure(plain: BaseModel, adapter: ResidentAdapter, count: int) -> list[Row]:
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        base, artifact = sealed(plain, adapter, Path(name) / "sealed")
        cache = Cache(Path(name) / "cache")
        digest = cache.add(artifact).digest
        weights, resident = artifact.path / WEIGHTS_FILE, []
        model = peft_model(plain, [adapter])
        session = Session(base)

        def read_and_hash() -> None:
            data = weights.read_bytes()
            {key: value.clone() for key, value in safetensors.torch.load(data).items()}
            hashlib.sha256(data).hexdigest()

        runs: dict[str, Callable[[], Any]] = {
            "ours": lambda: resident.append(load_adapter(base, checked(cache.get(digest)))),
            "hashed": lambda: load_adapter(base, artifact),
            "read": read_and_hash,
            "peft": lambda: model.load_adapter(str(artifact.path), f"b{len(resident)}"),
        }
        touched = [torch.ones(2**28) for _ in range(4)]  # a virtual machine gets its memory when it is used
        del touched
        loads = in_turns(runs, count)
        for key, how in (("ours", "by stamp"), ("hashed", "hashed")):
            slowest = ratio([max(loads[key])], [statistics.median(loads["read"])])
            rows.append({"what": f"slowest load, {how}, to reading and hashing", **slowest})
            for number in (2, count):
                near = slice(max(0, number - 2), number + 1)  # the load itself and its neighbours
                one = ratio(loads["peft"][near], loads[key][near])
                rows.append({"what": f"load {number}, PEFT to ours, {how}", **one})
        turns = itertools.count()
        switches = in_turns(
            {
                "ours": lambda: session.set_adapters([resident[next(turns) % count]]),
                "peft": lambda: model.set_adapter(f"b{1 + next(turns) % count}"),
            },
            2 * count + 4,
        )
        known = {key: times[count + 2 :] for key, times in switches.items()}  # all have been set before
        rows.append({"what": "switch, PEFT to ours", **ratio(known["peft"], known["ours"])})
    for row in rows:
        print(row, flush=True)
    return rows


def checked(artifact: Artifact | None) -> Artifact:
    if artifact is None:
        sys.exit("error: the artifact is not in the cache any more")
    return artifact


def sealed(plain: BaseModel, adapter: ResidentAdapter, folder: Path) -> tuple[BaseModel, Artifact]:
    """Write an adapter in PEFT's format, with a manifest."""
    folder.mkdir()
    base = replace(plain, digest=digest_of(b"random weights"))
    tensors = {}
    for path, part in adapter.layout.items():
        tensors[f"base_model.model.{path}.lora_A.weight"] = part.lora_a(adapter.buffer).clone()
        tensors[f"base_model.model.{path}.lora_B.weight"] = part.lora_b(adapter.buffer).clone()
    safetensors.torch.save_file(tensors, folder / WEIGHTS_FILE)
    config = peft.LoraConfig(r=32, lora_alpha=32, target_modules=list(LINEARS)).to_dict()
    config["target_modules"] = sorted(config["target_modules"])
    (folder / "adapter_config.json").write_text(json.dumps(config))
    fields = {
        "name": "benchmark/random",
        "version": "1.0.0",
        "authors": ["nobody"],
        "license": "CC0-1.0",
        "method": "lora",
        "task": "transcribe",
        "timestamps": False,
        "languages": [{"tag": "en", "decode_language": "en"}],
        "base_model": base.pin,
    }
    return base, seal(folder, fields)


@click.command()
@click.option("--shape", default="small", type=click.Choice(["tiny", "small"]))
@click.option("--count", default=24, help="Adapters that are loaded.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmarks/results/loading"))
def main(shape: str, count: int, out: Path) -> None:
    torch.set_num_threads(1)
    base = random_base(shape)
    with quiet():
        rows = measure(base, random_adapter(base, 1), count)
    lines = ["| shape | what | peer / ours (low - high) | ours, s | peer, s |", "|" + "---|" * 5]
    for row in rows:
        lines.append(peer_line(row, shape, row["what"]))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n")
    text = "\n".join(lines)
    out.with_suffix(".md").write_text(page(TITLE, ABOUT, COMMAND, text, machine()))
    print(text)


if __name__ == "__main__":
    main()
