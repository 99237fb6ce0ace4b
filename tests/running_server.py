"""A server of the embedded catalogue on this machine, and the official client that asks it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import openai

from adapter_hub import embedded
from adapter_hub.serving.options import ServingOptions
from adapter_hub.serving.server import Server
from adapter_hub.serving.service import Service

CLIPS = Path(__file__).parent / "clips"
ALIASES = {"whisper-1": "auto", "danish": "mini/da@1.0.0"}


@dataclass(frozen=True)
class Serving:
    """A server that runs in a thread."""

    url: str
    service: Service
    told: list[str]
    server: Server
    clients: list[openai.OpenAI] = field(default_factory=list)

    def client(self, key: str = "none", **more: object) -> openai.OpenAI:
        """Return the official client; it does not try again, so that every answer is seen."""
        made = openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, **more)  # type: ignore[arg-type]
        self.clients.append(made)
        return made


@contextmanager
def serving(folder: Path, **options: object) -> Iterator[Serving]:
    """Serve the embedded catalogue, with a registry and a cache in a folder."""
    told: list[str] = []
    chosen = ServingOptions(
        **{  # type: ignore[arg-type]
            "registry": str(embedded.registry_path()),
            "cache": str(folder / "cache"),
            "aliases": ALIASES,
            **options,
        }
    )
    server = Server.bound("127.0.0.1", 0)
    with closing(server), closing(Service.open(chosen, told.append)) as service:
        begun = threading.Event()
        thread = threading.Thread(target=server.run, args=(service, begun.set))
        thread.start()
        assert begun.wait(30)
        running = Serving(server.url, service, told, server)
        try:
            yield running
        finally:
            for client in running.clients:
                client.close()
            server.stop()
            thread.join(30)
            assert not thread.is_alive()
