"""Pulling an adapter and loading it, against snapshot_download and PeftModel.from_pretrained.

    PYTHONPATH=tests python benchmarks/hub_pull.py

One Hub on loopback serves both sides the same repository: an adapter of 13.0 M parameters (rank 32 on every
linear) for a base model of whisper-small's shape with random weights. Every number is a median over runs in
which both sides take turns, after one run that does not count; on loopback a request costs under a
millisecond, so the number of requests is given beside the time: on a real network each is a round trip.
Both adapted models have to give the same logits.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.update(
    {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_XET": "1"}
)

import torch
from huggingface_hub import snapshot_download
from loopback_hub import LoopbackHub
from pages import page
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import WhisperForConditionalGeneration
from transformers import logging as transformers_logging

from adapter_hub import embedded
from adapter_hub.artifact.folder import Artifact, seal
from adapter_hub.exchange import Places, publish, pull
from adapter_hub.hub import HubClient, RepoId
from adapter_hub.model.base_model import BaseModel, load_base_model
from adapter_hub.model.loading import load_adapter
from adapter_hub.model.session import Session
from adapter_hub.registry.on_hub import HubRegistry
from adapter_hub.stores.cache import Cache
from adapter_hub.stores.hub import HubStore

NAME, VERSION = "alice/small-da", "1.0.0"
SMALL = {"d_model": 768, "encoder_layers": 12, "decoder_layers": 12, "ffn": 3072, "heads": 12}
TARGETS = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
RESULTS = Path(__file__).parent / "results"
COMMAND = "PYTHONPATH=tests python benchmarks/hub_pull.py"
ABOUT = """
The same repository on a Hub on loopback, pulled by this library and by the Hub's client, and loaded by this
library and by PEFT, in turns. Times are medians and lower is better; loopback hides the network, where
every request of the last column costs a round trip.
"""


def make_base_model(folder: Path) -> Path:
    """Write a base model of whisper-small's shape with random weights, and the embedded one's tokenizer."""
    shutil.copytree(embedded.base_model_path(), folder)
    config = json.loads((folder / "config.json").read_text())
    for side in ("encoder", "decoder"):
        config |= {
            f"{side}_layers": SMALL[f"{side}_layers"],
            f"{side}_ffn_dim": SMALL["ffn"],
            f"{side}_attention_heads": SMALL["heads"],
        }
    config |= {"d_model": SMALL["d_model"], "num_hidden_layers": SMALL["encoder_layers"]}
    (folder / "config.json").write_text(json.dumps(config))
    loaded = WhisperForConditionalGeneration.config_class.from_pretrained(folder)
    torch.manual_seed(1)
    WhisperForConditionalGeneration(loaded).save_pretrained(folder)
    return folder


def make_adapter(folder: Path, base: BaseModel) -> Artifact:
    """Write an adapter with random weights in both halves, as PEFT saves it, and seal it."""
    model = WhisperForConditionalGeneration.from_pretrained(base.folder)
    model = get_peft_model(model, LoraConfig(r=32, lora_alpha=64, target_modules=TARGETS))
    torch.manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(0.0, 0.01)
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    return seal(
        folder,
        {
            "name": NAME,
            "version": VERSION,
            "created": "2026-01-01T00:00:00Z",
            "authors": [],
            "license": "Apache-2.0",
            "method": "lora",
            "task": "transcribe",
            "timestamps": False,
            "languages": [{"tag": "da", "decode_language": "da"}],
            "base_model": base.pin.to_json() | {"id": "test/small"},
        },
    )


@dataclass
class Case:
    """One way to get the adapter; `seconds` and `requests` of every run."""

    what: str
    run: Callable[[], Any]
    before: Callable[[], None] = lambda: None
    seconds: list[float] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)

    def measure(self, hub: LoopbackHub) -> None:
        self.before()
        hub.log.clear()
        start = time.perf_counter()
        self.run()
        self.seconds.append(time.perf_counter() - start)
        self.requests.append(len(hub.log.entries()))

    def row(self) -> dict[str, Any]:
        counted = self.seconds[1:]
        return {
            "what": self.what,
            "seconds": round(statistics.median(counted), 5),
            "least": round(min(counted), 5),
            "most": round(max(counted), 5),
            "requests": statistics.median(self.requests[1:]),
        }


class Both:
    """The two sides, with one cache each."""

    def __init__(self, hub: LoopbackHub, folder: Path, base: BaseModel) -> None:
        self.hub, self.folder, self.base = hub, folder, base
        self.client = HubClient(hub.endpoint, hub.token("alice"))
        self.cache = Cache(folder / "cache")
        self.registry = self.new_registry()
        self.peer_model = WhisperForConditionalGeneration.from_pretrained(base.folder)

    def new_registry(self) -> HubRegistry:
        return HubRegistry("hf://datasets/alice/registry", client=self.client, cache=self.cache.folder)

    def forget(self) -> None:
        shutil.rmtree(self.folder / "cache", ignore_errors=True)
        self.registry = self.new_registry()

    def forget_peer(self) -> None:
        shutil.rmtree(self.folder / "peer", ignore_errors=True)

    def pull(self, ref: str) -> Artifact:
        return pull(ref, Places((self.new_registry(),), cache=self.cache))

    def snapshot(self, revision: str) -> Path:
        return Path(
            snapshot_download(
                NAME,
                revision=revision,
                endpoint=self.hub.endpoint,
                token=self.hub.token("alice"),
                cache_dir=self.folder / "peer",
            )
        )

    def load_peer(self, folder: Path) -> Any:
        model = PeftModel.from_pretrained(self.peer_model, folder)
        self.peer_model = model.unload()
        return model

    def check_equal(self) -> float:
        """Return the largest difference of the two sides' logits on one input."""
        artifact = self.pull(f"{NAME}@{VERSION}")
        session = Session(self.base)
        session.set_adapter(load_adapter(self.base, artifact))
        config = self.base.model.config
        torch.manual_seed(3)
        features = torch.randn(1, config.num_mel_bins, 2 * config.max_source_positions)
        tokens = torch.tensor([[config.decoder_start_token_id, 5, 6, 7]])
        peer = PeftModel.from_pretrained(
            WhisperForConditionalGeneration.from_pretrained(self.base.folder), self.snapshot(f"v{VERSION}")
        ).eval()
        with torch.no_grad():
            ours = session.model(input_features=features, decoder_input_ids=tokens).logits
            theirs = peer(input_features=features, decoder_input_ids=tokens).logits
            plain = self.base.model(input_features=features, decoder_input_ids=tokens).logits
        difference = float((ours - theirs).abs().max())
        assert float((ours - plain).abs().max()) > 100 * difference, "the adapter does nothing"
        assert difference < 1e-3, f"the two sides differ by {difference}"
        return difference


def cases(both: Both) -> list[Case]:
    commit = both.client.refs(RepoId(NAME)).tags[f"v{VERSION}"]
    pinned = f"{NAME}@{VERSION}"

    def forget() -> None:
        both.forget()
        both.new_registry().refresh()  # its copy, and nothing of the adapter

    return [
        Case("cold: pull by registry", lambda: both.pull(pinned), forget),
        Case("cold: pull hf://", lambda: both.pull(f"hf://{pinned}"), forget),
        Case("cold: snapshot_download", lambda: both.snapshot(f"v{VERSION}"), both.forget_peer),
        Case("warm: pull, newest version", lambda: both.pull(NAME)),
        Case("warm: pull hf://, newest version", lambda: both.pull(f"hf://{NAME}")),
        Case("warm: snapshot_download(tag)", lambda: both.snapshot(f"v{VERSION}")),
        Case("pinned: pull by registry", lambda: both.pull(pinned)),
        Case("pinned: pull hf://", lambda: both.pull(f"hf://{pinned}")),
        Case("pinned: snapshot_download(commit)", lambda: both.snapshot(commit)),
        Case("pinned and loaded: pull + load_adapter", lambda: load_adapter(both.base, both.pull(pinned))),
        Case(
            "pinned and loaded: snapshot_download + PeftModel.from_pretrained",
            lambda: both.load_peer(both.snapshot(commit)),
        ),
    ]


def write(rows: list[dict[str, Any]], about: dict[str, Any]) -> None:
    """Write the table and its numbers beside the other results."""
    lines = ["| what | ms, median (min - max) | requests |", "|---|--:|--:|"]
    for row in rows:
        spread = f"{1000 * row['seconds']:.1f} ({1000 * row['least']:.1f} - {1000 * row['most']:.1f})"
        lines.append(f"| {row['what']} | {spread} | {row['requests']:.0f} |")
    note = "; ".join(f"{name} {value}" for name, value in about.items() if name != "command")
    text = page("Pulling an adapter and loading it", ABOUT, COMMAND, "\n".join(lines), note)
    (RESULTS / "hub_pull.md").write_text(text, encoding="utf-8")
    (RESULTS / "hub_pull.json").write_text(json.dumps({"rows": rows, **about}, indent=2) + "\n", "utf-8")
    print("\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=11)
    runs = parser.parse_args().runs
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name, LoopbackHub(Path(name) / "hub") as hub:
        folder = Path(name)
        os.environ["HF_ENDPOINT"] = hub.endpoint
        os.environ["HF_TOKEN"] = hub.token("alice")
        base = load_base_model(make_base_model(folder / "base"), device="cpu", cache=folder / "stamps")
        artifact = make_adapter(folder / "adapter", base)
        both = Both(hub, folder, base)
        store = HubStore("alice", client=both.client, cache=folder / "publisher")
        publish(artifact.path, Places(both.registry, store))
        found = cases(both)
        for _ in range(runs + 1):
            for case in found:
                case.measure(hub)
        difference = both.check_equal()
        section = artifact.manifest.lora[0]
        about = {
            "adapter": f"{section.parameters / 1e6:.1f} M parameters, {artifact.size / 1e6:.1f} MB",
            "largest difference of the logits": f"{difference:.1e}",
            "runs": runs,
            "threads": 1,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "versions": ", ".join(
                f"{package} {version(package)}"
                for package in ("huggingface-hub", "peft", "transformers", "torch")
            ),
            "command": COMMAND,
        }
        write([case.row() for case in found], about)


if __name__ == "__main__":
    sys.exit(main())
