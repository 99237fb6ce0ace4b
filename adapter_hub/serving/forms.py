"""The fields of OpenAI's audio API: what a client asks for, checked one by one.

request = speech_request(form, "transcribe")
request.model, request.options(), request.response_format

Unknown fields are refused like unknown values, so that nothing that a client asks for is ignored in silence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from adapter_hub.errors import InvalidInputError
from adapter_hub.escaping import shown
from adapter_hub.serving.api_errors import ApiError
from adapter_hub.serving.uploads import Form, ReceivedFile
from adapter_hub.speech.languages import language_tag
from adapter_hub.transcription.options import TranscriptionOptions

FORMATS = ("json", "text", "srt", "vtt", "verbose_json")
STREAMED = ("json", "text", "verbose_json")
WITH_TIMES = ("srt", "vtt", "verbose_json")
GRANULARITIES = ("segment", "word")
LONGEST_MODEL = 300  # characters
Task = Literal["transcribe", "translate"]


@dataclass(frozen=True)
class SpeechRequest:
    """What a client asks for.

    Attributes:
        file: the recording.
        model: a name, as the client wrote it.
        task: transcribe, or translate into English.
        language: BCP 47 tag; None where the client does not say it.
        prompt: text before the recording, or how its words are spelt.
        response_format: one of `FORMATS`.
        temperature: 0 lets the sampling temperature rise where a text is improbable.
        granularities: what has times in `verbose_json`.
        stream: whether segments are sent as they come.
    """

    file: ReceivedFile
    model: str
    task: Task
    language: str | None = None
    prompt: str = ""
    response_format: str = "json"
    temperature: float = 0.0
    granularities: Sequence[str] = ("segment",)
    stream: bool = False

    def options(self) -> TranscriptionOptions:
        """Return how to transcribe."""
        chosen: dict[str, Any] = {
            "timestamps": "trained" if self.response_format in WITH_TIMES else False,
            "words": "word" in self.granularities,
        }
        if self.task == "translate":
            chosen["task"] = "translate"
        if self.temperature:
            chosen["temperatures"] = (self.temperature,)
        if self.prompt:
            chosen["prompt"] = self.prompt
        return TranscriptionOptions(**chosen)


def speech_request(form: Form, task: Task) -> SpeechRequest:
    """Return what a form asks for.

    Args:
        form: as it was received.
        task: of the route.

    Raises:
        ApiError: a field that is missing, twice there, unknown, or has an impossible value.
    """
    fields = _Fields(form)
    file = form.files.get("file")
    if file is None:
        raise ApiError(400, "no recording; expected an audio file in the field `file`", param="file")
    if file.bytes == 0:
        raise ApiError(400, f"{file.name}: an empty file (0 bytes); expected audio", param="file")
    model = fields.one("model", _model)
    if model is None:
        raise ApiError(400, "no model; expected its name in the field `model`", param="model")
    wanted = fields.one("response_format", _one_of(FORMATS)) or "json"
    more: dict[str, Any] = {}
    if task == "transcribe":
        more = _of_transcriptions(fields, wanted)
    request = SpeechRequest(
        file,
        model,
        task,
        prompt=fields.one("prompt", str) or "",
        response_format=wanted,
        temperature=fields.one("temperature", _temperature) or 0.0,
        **more,
    )
    fields.refuse_others()
    return request


def _of_transcriptions(fields: _Fields, wanted: str) -> dict[str, Any]:
    """Return what only transcriptions may ask for."""
    granularities = fields.several("timestamp_granularities", _one_of(GRANULARITIES))
    if granularities and wanted != "verbose_json":
        raise ApiError(
            400,
            f"timestamp_granularities: response_format {wanted} has no times; ask for verbose_json",
            code="invalid_value",
            param="timestamp_granularities",
        )
    stream = fields.one("stream", _boolean) or False
    if stream and wanted not in STREAMED:
        raise ApiError(
            400,
            f"stream: {wanted} is not sent in pieces; expected response_format {', '.join(STREAMED)}",
            code="invalid_value",
            param="stream",
        )
    fields.pass_over("chunking_strategy")  # recordings are always cut at their pauses
    return {
        "language": fields.one("language", _language),
        "granularities": granularities or ("segment",),
        "stream": stream,
    }


@dataclass
class _Fields:
    """The texts of a form, taken one after the other."""

    form: Form
    taken: set[str] = field(default_factory=set)

    def several(self, name: str, read: Callable[[str], Any]) -> tuple[Any, ...]:
        """Return all values of a field, which may be named as a list."""
        names = (name, f"{name}[]")
        self.taken.update(names)
        found = [self._read(name, text, read) for key, text in self.form.fields if key in names]
        return tuple(dict.fromkeys(found))

    def one(self, name: str, read: Callable[[str], Any]) -> Any:
        """Return the value of a field; None if it is not there, or empty."""
        self.taken.add(name)
        texts = [text for key, text in self.form.fields if key == name and text.strip()]
        if len(texts) > 1:
            raise ApiError(400, f"{name}: there {len(texts)} times; expected it once", param=name)
        return self._read(name, texts[0], read) if texts else None

    def pass_over(self, name: str) -> None:
        """Take a field, and those inside it, whatever they say."""
        self.taken.update({name, *(key for key, _ in self.form.fields if key.startswith(f"{name}["))})

    def refuse_others(self) -> None:
        """Refuse fields that nobody took."""
        names = [key for key, _ in self.form.fields if key not in self.taken]
        names += [key for key in self.form.files if key != "file"]
        if names:
            known = ", ".join(sorted({"file", *(name for name in self.taken if "[" not in name)}))
            raise ApiError(
                400,
                f"unknown field {shown(names[0], 60)!r}; expected {known}",
                code="unknown_parameter",
                param=shown(names[0], 60),
            )

    def _read(self, name: str, text: str, read: Callable[[str], Any]) -> Any:
        if "\0" in text:
            raise ApiError(400, f"{name}: has a NUL character in it", code="invalid_value", param=name)
        try:
            return read(text)
        except ValueError as error:
            reason = f"{shown(text, 60)!r}; expected {error}"
            raise ApiError(400, f"{name}: {reason}", code="invalid_value", param=name) from None


def _model(text: str) -> str:
    if len(text) > LONGEST_MODEL:
        raise ValueError(f"a name of up to {LONGEST_MODEL} characters")
    return text.strip()


def _language(text: str) -> str:
    try:
        return language_tag(text.strip())
    except InvalidInputError:
        raise ValueError("a language, like en") from None


def _temperature(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0.0 <= number <= 1.0:
        raise ValueError("a number from 0 to 1")
    return number


def _boolean(text: str) -> bool:
    known = {"true": True, "1": True, "false": False, "0": False}
    if text.strip().lower() not in known:
        raise ValueError("true or false")
    return known[text.strip().lower()]


def _one_of(values: Sequence[str]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text.strip() not in values:
            raise ValueError(", ".join(values))
        return text.strip()

    return read
