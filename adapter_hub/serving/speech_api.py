"""`POST /v1/audio/transcriptions` and `/v1/audio/translations`: from a form to a transcript.

SpeechApi(service, "transcribe")

A form is received, its fields are checked, the model is looked up, the recording goes to the engine. A client
that goes away at any of these steps takes its file and its windows with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from adapter_hub.errors import AdapterHubError, InvalidInputError
from adapter_hub.isolation import UnexpectedError
from adapter_hub.serving.access_log import AccessRecord
from adapter_hub.serving.answers import transcript_response
from adapter_hub.serving.api_errors import ApiError, api_error_of
from adapter_hub.serving.events import HEADERS, error_event, transcript_events
from adapter_hub.serving.forms import SpeechRequest, Task, speech_request
from adapter_hub.serving.jobs import RunningJob
from adapter_hub.serving.service import Service
from adapter_hub.speech.audio import audio_seconds
from adapter_hub.transcription.routing import Router
from adapter_hub.transcription.transcript import Transcript

LOADING = 8  # models that are looked up or loaded at once


class SpeechApi:
    """One of the two routes, as an ASGI application."""

    def __init__(self, service: Service, task: Task) -> None:
        """Answer with what a server has.

        Args:
            service: models, engine and all else.
            task: transcribe, or translate into English.
        """
        self.service, self.task = service, task
        self._loading = CapacityLimiter(LOADING)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        record: AccessRecord = scope["adapter_hub"]
        request, limits = Request(scope, receive), self.service.options
        with self.service.admission.turn(record.client):
            receiving = self.service.uploads.receiving(request, limits.upload_bytes, limits.timeout)
            async with receiving as form:
                asked = speech_request(form, self.task)
                record.note(
                    model=asked.model,
                    format=asked.response_format,
                    stream=asked.stream,
                    bytes=asked.file.bytes,
                )
                with self._explained("file", asked):
                    await to_thread.run_sync(self._check_duration, asked)
                with self._explained("model", asked):
                    router = await to_thread.run_sync(
                        self.service.models.router, asked.model, limiter=self._loading
                    )
                if asked.language is not None:
                    with self._explained("language", asked):  # whose adapter `auto` loads now
                        await to_thread.run_sync(router.route, asked.language, limiter=self._loading)
                await self._run(asked, router, request, send)

    async def _run(self, asked: SpeechRequest, router: Router, request: Request, send: Send) -> None:
        """Let the engine transcribe, and answer."""
        record: AccessRecord = request.scope["adapter_hub"]
        job, started = RunningJob(request), monotonic()
        try:
            with self._explained(None, asked):
                job.submit(
                    self.service.engine.submit,
                    asked.file.path,
                    router=router,
                    tag=asked.language,
                    options=asked.options(),
                    client=record.client,
                )
            with self._explained("file", asked):
                if asked.stream:
                    transcript = await self._stream(job, asked, send)
                else:
                    transcript = await job.whole()
                    _check_whole(transcript)
        finally:
            job.close()
        if transcript is None:
            return
        record.note(
            adapter=transcript.adapter,
            language=transcript.language,
            audio_seconds=round(transcript.seconds, 3),
        )
        self.service.metrics.transcribed(transcript.adapter, transcript.seconds, monotonic() - started)
        if not asked.stream:
            await transcript_response(transcript, asked)(request.scope, request.receive, send)

    async def _stream(self, job: RunningJob, asked: SpeechRequest, send: Send) -> Transcript | None:
        """Send the events; an error before the first of them is a plain one."""
        events = transcript_events(job, asked)
        first = await anext(events)
        headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": first, "more_body": True})
        try:
            with self._explained("file", asked):
                async for event in events:
                    await send({"type": "http.response.body", "body": event, "more_body": True})
        except ApiError as error:
            await send({"type": "http.response.body", "body": error_event(error), "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return job.transcript

    def _check_duration(self, asked: SpeechRequest) -> None:
        """Refuse what is not audio, or too long, before it waits for its turn."""
        seconds, most = audio_seconds(asked.file.path), self.service.options.max_seconds
        if seconds > most:
            raise ApiError(
                400,
                f"{asked.file.name}: {seconds:.1f} s of audio; at most {most:g} s are taken, send parts",
                code="audio_too_long",
                param="file",
            )

    @contextmanager
    def _explained(self, param: str | None, asked: SpeechRequest) -> Iterator[None]:
        """Answer errors of this library with the client's own words for its recording."""
        try:
            yield
        except UnexpectedError:
            raise
        except AdapterHubError as error:
            redacted = self.service.redacted.also(str(asked.file.path), asked.file.name)
            raise api_error_of(error, redacted, param) from None


def _check_whole(transcript: Transcript) -> None:
    if transcript.error is not None:
        raise InvalidInputError(transcript.error)
