"""A line of JSON for every request: who asked for what, how it ended, how long it took; nothing said.

{"time": "2026-11-29T16:20:00.123Z", "id": "req_5f…", "client": "alice", "route": "transcriptions",
 "status": 200, "seconds": 0.412, "model": "auto", "adapter": "mini/da@1.0.0", "audio_seconds": 3.1, …}

No text, no prompt, no name of a file, no key. They go to the logger of this module's `LOGGER`.
"""

from __future__ import annotations

import json
import logging
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from adapter_hub.escaping import shown

LOGGER = logging.getLogger("adapter_hub.serving.access")


@dataclass
class AccessRecord:
    """What is known of a request; `about` holds only what is written down here.

    Attributes:
        client: the owner of its key, or its address.
        route: short name of what was asked for.
        id: of the request, also in the answer's `x-request-id`.
        started: as `time.monotonic`.
        status: of the answer; 499 if the client went away before.
        about: further fields.
    """

    client: str
    route: str = "other"
    id: str = field(default_factory=lambda: f"req_{secrets.token_hex(12)}")
    started: float = field(default_factory=monotonic)
    status: int = 499
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """How long it has taken."""
        return monotonic() - self.started

    def note(self, **about: Any) -> None:
        """Keep further fields.

        Args:
            about: names and values; texts may be a client's.
        """
        self.about |= {
            key: shown(value, 120) if isinstance(value, str) else value for key, value in about.items()
        }

    def write(self) -> None:
        """Write the line."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {
            "time": now,
            "id": self.id,
            "client": self.client,
            "route": self.route,
            "status": self.status,
            "seconds": round(self.seconds, 4),
            **self.about,
        }
        LOGGER.info(json.dumps(line))
