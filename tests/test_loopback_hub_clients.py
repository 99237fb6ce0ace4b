"""Do other people's programs, unchanged, work with the loopback Hub: `hf` and PEFT?"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback_hub import Entry, LoopbackHub

HF = Path(sys.executable).parent / "hf"
CARD = (
    "---\nlanguage: pl\nlicense: mit\nbase_model: openai/whisper-small\nlibrary_name: peft\n---\n# Polish\n"
)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    with LoopbackHub(tmp_path / "hub") as running:
        yield running


def run(hub: LoopbackHub, *command: str | Path, user: str | None = "alice") -> str:
    done = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, **hub.environment(user), "NO_COLOR": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{hub.log}"
    return done.stdout


def adapter(folder: Path) -> Path:
    folder.mkdir()
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    (folder / "adapter_config.json").write_text("{}", encoding="utf-8")
    (folder / "adapter_model.safetensors").write_bytes(os.urandom(50_000))
    return folder


def test_hf_uploads_tags_lists_and_downloads(hub: LoopbackHub, tmp_path: Path) -> None:
    source = adapter(tmp_path / "source")
    run(hub, HF, "repos", "create", "alice/pl")
    run(hub, HF, "upload", "alice/pl", source, "--commit-message", "weights")
    run(hub, HF, "repos", "tag", "create", "alice/pl", "v1.0.0", "-m", "first")
    assert hub.refs("alice/pl").tags == {"v1.0.0": hub.refs("alice/pl").branches["main"]}
    run(hub, HF, "download", "alice/pl", "--revision", "v1.0.0", "--local-dir", tmp_path / "to", user=None)
    for file in source.iterdir():
        assert (
            (tmp_path / "to" / file.name).read_bytes()
            == file.read_bytes()
            == hub.files("alice/pl")[file.name]
        )
    found = json.loads(
        run(
            hub,
            *(HF, "models", "list", "--filter", "pl", "--filter", "base_model:adapter:openai/whisper-small"),
            *("--format", "json"),
        )
    )
    assert [row["id"] for row in found] == ["alice/pl"]
    assert json.loads(run(hub, HF, "models", "list", "--filter", "da", "--format", "json")) == []


def test_a_client_can_be_killed_at_any_exchange(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.create("alice/pl")
    source = adapter(tmp_path / "source")
    environment = {**os.environ, **hub.environment()}

    def kill(phase: str, entry: Entry) -> None:
        if (phase, entry.endpoint) == ("processed", "commit"):
            process.kill()
            process.wait()

    end = hub.on_exchange(kill)
    with subprocess.Popen([str(HF), "upload", "alice/pl", str(source)], env=environment) as process:
        assert process.wait(timeout=60) == -signal.SIGKILL
    end()
    assert set(hub.files("alice/pl")) > {"adapter_config.json"}  # carried out, though the client was not told
    before = hub.refs("alice/pl")
    run(hub, HF, "upload", "alice/pl", source)
    assert hub.refs("alice/pl") == before


PUSH = """
import sys, torch
from peft import LoraConfig, get_peft_model
from torch import nn
torch.manual_seed(0)
base = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
model = get_peft_model(base, LoraConfig(r=2, target_modules=["0", "1"], init_lora_weights=False))
model.push_to_hub("alice/pl")
torch.save(model(torch.ones(1, 8)), sys.argv[1])
"""
PULL = """
import sys, torch
from peft import PeftModel
from torch import nn
torch.manual_seed(0)
base = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
model = PeftModel.from_pretrained(base, "alice/pl", revision="v1")
assert torch.equal(model(torch.ones(1, 8)), torch.load(sys.argv[1]))
"""


@pytest.mark.slow
def test_peft_pushes_and_loads_the_same_adapter(hub: LoopbackHub, tmp_path: Path) -> None:
    run(hub, sys.executable, "-c", PUSH, tmp_path / "expected")
    first = hub.refs("alice/pl").branches["main"]
    hub.move_tag("alice/pl", "v1", first)
    hub.write("alice/pl", {"adapter_model.safetensors": b"newer and broken"})
    run(hub, sys.executable, "-c", PULL, tmp_path / "expected", user="bob")
    assert hub.log.count("GET", r"/resolve/v1/adapter_model.safetensors") == 1


def test_hf_uploads_and_downloads_over_xet(tmp_path: Path) -> None:
    source = adapter(tmp_path / "source")
    (source / "even.safetensors").write_bytes(b"compressible " * 20_000)
    (source / "floats.bin").write_bytes(struct.pack("<30000f", *(i / 1000 for i in range(30000))))
    with LoopbackHub(tmp_path / "hub", xet=True) as hub:
        run(hub, HF, "upload", "alice/pl", source)
        assert hub.log.count(endpoint="xet-token") > 0
        assert hub.log.count(endpoint="lfs-upload") == 0
        hub.log.clear()
        run(hub, HF, "download", "alice/pl", "--local-dir", tmp_path / "to", user="bob")
        assert hub.log.count(endpoint="xet-token") > 0
        for file in source.iterdir():
            content = file.read_bytes()
            assert (tmp_path / "to" / file.name).read_bytes() == content
            assert hub.files("alice/pl")[file.name] == content  # and whoever knows no Xet gets it too
