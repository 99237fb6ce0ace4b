"""A transcript as OpenAI's server-sent events: `transcript.text.delta`, then `transcript.text.done`.

The texts of all deltas, one after the other, are the text at the end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from adapter_hub.serving.answers import json_of, transcript_json
from adapter_hub.serving.api_errors import ApiError
from adapter_hub.serving.forms import SpeechRequest
from adapter_hub.serving.jobs import RunningJob
from adapter_hub.transcription.transcript import Segment, joined_text

HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # nginx would keep them until the end
}


async def transcript_events(job: RunningJob, request: SpeechRequest) -> AsyncIterator[bytes]:
    """Yield the events of a transcription.

    Args:
        job: that is running.
        request: says in which format; with `verbose_json` the last event has all that this has.

    Raises:
        ClientDisconnect, AdapterHubError: as `RunningJob.segments`.
    """
    before: Segment | None = None
    async for segment in job.segments():
        delta = segment.text if before is None else joined_text([before, segment])[len(before.text) :]
        before = segment
        yield _event("transcript.text.delta", {"delta": delta})
    assert job.transcript is not None
    about = transcript_json(job.transcript, request)
    if request.response_format != "verbose_json":
        del about["usage"]  # that of events counts tokens
    yield _event("transcript.text.done", about)


def error_event(error: ApiError) -> bytes:
    """Return the event of an error after the beginning of an answer."""
    return _event("error", error.to_json())


def _event(kind: str, about: dict[str, Any]) -> bytes:
    return f"event: {kind}\ndata: {json_of({'type': kind, **about})}\n\n".encode("utf-8", "backslashreplace")
