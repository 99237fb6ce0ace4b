"""A transcription, seen from the event loop: its segments as they come, its end, a client that goes away.

job = RunningJob(request)
job.submit(engine.submit, path, router=router)
async for segment in job.segments(): ...
job.transcript
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from starlette.requests import ClientDisconnect, Request

from adapter_hub.serving.engine import Job
from adapter_hub.transcription.transcript import Segment, Transcript


class RunningJob:
    """A job of the engine, and the client that waits for it.

    Attributes:
        transcript: once it is complete.
    """

    def __init__(self, request: Request) -> None:
        """Watch whether the client stays.

        Args:
            request: whose body was received.
        """
        self.transcript: Transcript | None = None
        self._loop = asyncio.get_running_loop()
        self._came: asyncio.Queue[Segment | Job] = asyncio.Queue()
        self._gone = asyncio.create_task(_until_gone(request))
        self._job: Job | None = None

    def submit(self, to_engine: Callable[..., Job], audio: Any, **how: Any) -> None:
        """Hand the recording to the engine.

        Args:
            to_engine: `Engine.submit`.
            audio: the recording.
            how: what else the engine is told.

        Raises:
            BusyError, InvalidInputError: as `Engine.submit`.
        """
        self._job = to_engine(audio, on_segment=self._tell, on_done=self._tell, **how)

    async def segments(self) -> AsyncIterator[Segment]:
        """Yield the segments as they come; when there are no more, `transcript` is complete.

        Raises:
            ClientDisconnect: the client went away. AdapterHubError: why there is no transcript.
        """
        while isinstance(item := await self._next(), Segment):
            yield item
        if item.error is not None:
            raise item.error
        self.transcript = item.transcript

    async def whole(self) -> Transcript:
        """Return the transcript when it is complete.

        Raises:
            ClientDisconnect: the client went away. AdapterHubError: why there is no transcript.
        """
        async for _ in self.segments():
            pass
        assert self.transcript is not None
        return self.transcript

    def close(self) -> None:
        """Give up what is not done."""
        self._gone.cancel()
        if self._job is not None and not self._job.done:
            self._job.cancel()

    async def _next(self) -> Segment | Job:
        coming = asyncio.create_task(self._came.get())
        try:
            await asyncio.wait({coming, self._gone}, return_when=asyncio.FIRST_COMPLETED)
            if coming.done():
                return coming.result()
            raise ClientDisconnect
        finally:
            coming.cancel()

    def _tell(self, item: Segment | Job) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._came.put_nowait, item)


async def _until_gone(request: Request) -> None:
    """Return when the client has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
