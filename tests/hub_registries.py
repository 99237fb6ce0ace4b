"""Registries on the loopback Hub, with small blocks; as a program: a writer in a process of its own.

python tests/hub_registries.py CACHE WRITER COUNT      # adds test/WRITER 1.0.0, 1.1.0, …, one update each
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from hub_places import IMPATIENT, hub_client
from loopback_hub import LoopbackHub

from adapter_hub.formats.canonical import digest_of
from adapter_hub.formats.registry_file import Adapters, VersionBlock
from adapter_hub.hub import HubClient
from adapter_hub.registry.on_hub import HubRegistry

REPO = "datasets/alice/registry"
LABEL = f"hf://{REPO}"


def hub_registry(hub: LoopbackHub, cache: Path, user: str = "alice") -> HubRegistry:
    """Return the registry as seen by a machine whose cache folder is `cache`."""
    return HubRegistry(LABEL, client=hub_client(hub, user), cache=cache)


def block(text: str) -> VersionBlock:
    """Return a block whose digests depend on `text`."""
    return VersionBlock.model_validate(
        {
            "schema": "version/1",
            "digest": digest_of(text.encode()),
            "weights_digest": digest_of(f"weights of {text}".encode()),
            "function_digest": digest_of(f"function of {text}".encode()),
            "method": "lora",
            "languages": ("da",),
            "decode_languages": ("da",),
            "base_model": {"id": "test/tiny", "digest": digest_of(b"a base model")},
            "rank": 2,
            "license": "Apache-2.0",
            "size": 1000,
            "published": "2026-01-01T00:00:00Z",
            "status": "active",
        }
    )


def adding(name: str, version: str) -> Callable[[Adapters], None]:
    """Return a change that adds a version."""

    def change(adapters: Adapters) -> None:
        adapters.setdefault(name, {})[version] = block(f"{name}@{version}")

    return change


def start_writer(hub: LoopbackHub, cache: Path, writer: str, count: int) -> subprocess.Popen[str]:
    """Start a process that writes `count` versions of `test/writer`."""
    command = [sys.executable, __file__, str(cache), writer, str(count)]
    tests = Path(__file__).parent
    environment = {**hub.environment("alice"), "PATH": "", "PYTHONPATH": f"{tests}:{tests.parent}"}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def write_many(cache: Path, writer: str, count: int) -> None:
    registry = HubRegistry(LABEL, client=HubClient(retries=IMPATIENT), cache=cache)
    for number in range(count):
        assert registry.update(adding(f"test/{writer}", f"1.{number}.0"))


if __name__ == "__main__":
    write_many(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
