"""Answers in OpenAI's formats.

transcript_response(transcript, request)

No path is in any of them: a recording is called by the name that its sender gave it.
"""

from __future__ import annotations

import json
import math
from typing import Any

from starlette.responses import Response

from adapter_hub.serving.forms import SpeechRequest
from adapter_hub.transcription.subtitles import to_srt, to_vtt
from adapter_hub.transcription.transcript import Transcript

JSON = "application/json"
PLAIN = "text/plain; charset=utf-8"
ADAPTER_HEADER = "x-adapter-hub-adapter"  # tells who transcribed, in formats without a place for it


def transcript_response(transcript: Transcript, request: SpeechRequest) -> Response:
    """Return the answer to a request.

    Args:
        transcript: the whole one.
        request: says in which format.
    """
    form = request.response_format
    if form == "text":
        content, kind = f"{transcript.text}\n", PLAIN
    elif form in ("srt", "vtt"):
        content, kind = (to_srt if form == "srt" else to_vtt)(transcript.segments) + "\n", PLAIN
    else:
        content, kind = json_of(transcript_json(transcript, request)), JSON
    headers = {"content-type": kind}
    if transcript.adapter:
        headers[ADAPTER_HEADER] = transcript.adapter
    return Response(content.encode("utf-8", "backslashreplace"), headers=headers)


def transcript_json(transcript: Transcript, request: SpeechRequest) -> dict[str, Any]:
    """Return a transcript as plain data: the text alone, or all of it for `verbose_json`.

    Args:
        transcript: the whole one.
        request: says in which format.
    """
    usage = {"type": "duration", "seconds": math.ceil(transcript.seconds)}
    if request.response_format != "verbose_json":
        return {"text": transcript.text, "usage": usage}
    found = transcript.to_json() | {"source": request.file.name, "usage": usage}
    if request.task == "translate":
        found["language"] = "english"  # that of the text, as OpenAI has it
    if "segment" not in request.granularities:
        del found["segments"]
    if "word" in request.granularities:
        found.setdefault("words", [])
    return found


def json_of(value: Any) -> str:
    """Return plain data as JSON of one line; what is not finite is null."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
