"""Reading a recording, routing it, and cutting it into windows, on a thread of its own.

So nobody waits for a slow disk, a long MP3, or an adapter that has to be loaded for somebody else.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from adapter_hub.model.base_model import BaseModel
from adapter_hub.serving.accepted import Work
from adapter_hub.serving.queue import WorkQueue
from adapter_hub.speech.phrases import Phrase
from adapter_hub.transcription.pipeline import IDENTIFIED_AHEAD
from adapter_hub.transcription.recordings import Request, open_recording
from adapter_hub.transcription.stages import routes
from adapter_hub.transcription.windows import Recording


def prepare(
    base: BaseModel, work: Work, queue: WorkQueue, ahead: int, reading: AbstractContextManager[object]
) -> None:
    """Put the windows of a recording into the queue as there is room for them.

    Args:
        base: the base model.
        work: of the recording.
        queue: of the engine.
        ahead: windows that are kept ready, at most.
        reading: is held while a phrase is read.

    Raises:
        AdapterHubError: why there is no transcript.
    """
    job = work.job
    with reading:
        recording = work.recording = open_recording(
            base, Request(job.audio, job.router, job.options, job.tag)
        )
    identifies = job.router.identifies(job.tag)
    if not identifies:
        recording.before = job.router.route(job.tag)
    try:
        while queue.wait_for_room(work, ahead) and not recording.ended:
            phrases = _phrases(recording, _together(recording, identifies=identifies), reading)
            heard = queue.hear(work, phrases) if identifies and phrases else None
            if work.over or not phrases:
                break
            for routed in routes(recording, phrases, heard):
                queue.add(work, recording.add(routed))
        if not work.over:
            queue.add(work, recording.finish())
    finally:
        close = getattr(recording.phrases, "close", None)
        if close is not None:
            close()  # the file, if it is not read to its end


def _together(recording: Recording, *, identifies: bool) -> int:
    """Return how many phrases are read and identified together: as many as offline, for the same answer."""
    options = recording.options
    return options.batch_size * IDENTIFIED_AHEAD if identifies and not options.previous_text else 1


def _phrases(recording: Recording, count: int, reading: AbstractContextManager[object]) -> list[Phrase]:
    found: list[Phrase] = []
    while len(found) < count:
        with reading:
            phrase = recording.next_phrase()
        if phrase is None:
            break
        found.append(phrase)
    return found
