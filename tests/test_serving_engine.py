"""The engine of the server: common batches, and to everybody the answer that their recording gets alone."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import soundfile
import torch
from small_whisper import speech, write_speech

import adapter_hub
from adapter_hub.artifact.folder import Artifact
from adapter_hub.errors import InvalidInputError, OutOfMemoryError
from adapter_hub.isolation import UnexpectedError
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.loading import load_adapter
from adapter_hub.serving.engine import BusyError, CancelledError, Engine, Job
from adapter_hub.transcription.options import TranscriptionOptions
from adapter_hub.transcription.routing import FixedRoute, Route, Router
from adapter_hub.transcription.transcriber import Transcriber
from adapter_hub.transcription.transcript import Transcript

RATE = 16_000
GREEDY = TranscriptionOptions(beams=1, temperatures=(0.0,))
LONG = 300.0  # seconds within which the slowest machine answers


@pytest.fixture
def engine(base: BaseModel) -> Iterator[Engine]:
    engine = Engine(base, batch_size=4, max_wait=0.02, most_waiting=100)
    yield engine
    engine.close(drain=False)


@pytest.fixture
def routers(base: BaseModel, adapters: list[Artifact]) -> list[Router]:
    return [FixedRoute(base, None, "pl"), *(FixedRoute(base, load_adapter(base, one)) for one in adapters)]


def alone(
    base: BaseModel,
    router: Router,
    audio: object,
    options: TranscriptionOptions = GREEDY,
    tag: str | None = None,
) -> Transcript:
    words = {name: getattr(options, name) for name in options.__dataclass_fields__}
    return Transcriber(base, router).transcribe(audio, languages=[tag], **words)[0]


def facts(found: Transcript) -> tuple:
    """What does not depend on the last bits of a batch's arithmetic."""
    segments = [
        replace(
            item,
            language_probability=item.language_probability and round(item.language_probability, 3),
            log_probability=round(item.log_probability, 3),
            no_speech=round(item.no_speech, 3),
        )
        for item in found.segments
    ]
    about = (found.text, found.tokens, found.language, found.adapter, found.task, found.seconds)
    return *about, found.error, found.truncated, segments


class Held(io.BytesIO):
    """A file that comes when it may, so that several come at once."""

    def __init__(self, samples: np.ndarray, may: threading.Event) -> None:
        whole = io.BytesIO()
        soundfile.write(whole, samples, RATE, format="WAV", subtype="FLOAT")
        super().__init__(whole.getvalue())
        self.may = may

    def read(self, size: int | None = -1, /) -> bytes:
        assert self.may.wait(LONG)
        return super().read(size)


def at_once(engine: Engine, routers: list[Router], samples: list[np.ndarray]) -> list[Job]:
    """Submit recordings that all come at the same time."""
    may = threading.Event()
    jobs = [
        engine.submit(Held(item, may), router=router, tag="pl", options=GREEDY)
        for item, router in zip(samples, routers, strict=True)
    ]
    may.set()
    return jobs


def together(count: int, act) -> list:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(act, range(count)))


OPTIONS = (
    {},
    {"words": True},
    {"timestamps": True},
    {"timestamps": "trained", "words": True},
    {"beams": 2},
    {"previous_text": True},
    {"prompt": "tusind"},
    {"temperatures": (0.0, 0.4)},
    {"window_seconds": 2.0},
    {"batch_size": 2},
)


def test_sixty_mixed_requests_get_the_answers_that_each_gets_alone() -> None:
    auto = adapter_hub.load("auto", adapters=["mini/da", "mini/pl"])
    routers = [auto.router, *map(auto._router_of, ("mini/da", "mini/pl", "base-model"))]
    clips = [soundfile.read(Path(__file__).parent / f"clips/{name}.flac")[0] for name in ("da", "pl")]
    both = np.concatenate([clips[0], np.full(RATE, 1e-4), clips[1]])
    recordings = [clips[0][: 3 * RATE // 2], clips[1], clips[0], both]
    random = np.random.default_rng(5)
    asked = [
        (
            routers[random.integers(4)],
            recordings[0 if number % 3 else number // 3 % 4],
            replace(GREEDY, **OPTIONS[number % 4 and random.integers(10)]),
        )
        for number in range(12)
    ]
    wanted = [alone(auto.base, router, audio, options) for router, audio, options in asked]
    engine = Engine(auto.base)

    def ask(number: int) -> Transcript:
        router, audio, options = asked[number % 12]
        segments: list = []
        job = engine.submit(audio, router=router, options=options, on_segment=segments.append)
        found = job.result(LONG)
        assert tuple(segments) == found.segments
        return found

    found = together(60, ask)
    assert [facts(item) for item in found] == [facts(item) for item in wanted] * 5
    statistics = engine.statistics()
    assert (statistics.finished, statistics.jobs, statistics.windows) == (60, 0, 0)
    assert {"mini/da@1.0.0", "mini/pl@1.0.0", "base-model"} <= set(statistics.compute_seconds)
    engine.close()


def test_windows_of_all_adapters_share_a_batch(base: BaseModel, routers: list[Router]) -> None:
    engine = Engine(base, batch_size=4, max_wait=LONG)
    for job in at_once(engine, (routers * 4)[:4], [speech(1.0, seed) for seed in range(4)]):
        job.result(LONG)
    statistics = engine.statistics()
    assert (statistics.batches, statistics.batch_fill) == (1, 1.0)
    engine.close()


def test_a_lone_request_does_not_wait_for_others(base: BaseModel, routers: list[Router]) -> None:
    engine = Engine(base, batch_size=4, max_wait=LONG)
    for seed in range(3):
        engine.submit(speech(1.0, seed), router=routers[0], options=GREEDY).result(LONG / 2)
    engine.close()


def test_a_short_recording_overtakes_a_long_one_that_is_read_as_it_is_needed(
    engine: Engine, routers: list[Router], tmp_path: Path
) -> None:
    long = write_speech(tmp_path / "long.wav", 200.0)
    slow = engine.submit(long, router=routers[0], options=GREEDY, client="a")
    while not engine.statistics().batches:
        time.sleep(0.01)
    assert engine.statistics().windows <= 2 * engine.batch_size
    for seed in range(3):
        engine.submit(speech(1.0, seed), router=routers[1], options=GREEDY, client="b").result(LONG)
        assert not slow.done
    slow.cancel()


def test_a_short_recording_is_decoded_between_the_steps_of_a_long_batch(
    base: BaseModel, routers: list[Router]
) -> None:
    engine, may, done = Engine(base), threading.Event(), list[Job]()
    short = engine.submit(Held(speech(1.0, 1), may), router=routers[0], options=GREEDY, on_done=done.append)
    wide = TranscriptionOptions(temperatures=(0.0,))
    long = engine.submit(speech(3.8, 2), router=routers[0], options=wide, on_done=done.append)
    while not any(work.in_batch for work in engine._queue._works):
        time.sleep(0.001)
    may.set()
    assert long.result(LONG).tokens == alone(base, routers[0], speech(3.8, 2), wide).tokens
    assert done == [short, long]
    assert short.result(LONG).tokens == alone(base, routers[0], speech(1.0, 1)).tokens
    engine.close()


def test_a_caller_that_goes_away_frees_its_windows_and_its_file(
    engine: Engine, routers: list[Router], tmp_path: Path
) -> None:
    long = write_speech(tmp_path / "long.wav", 200.0)
    job = engine.submit(long, router=routers[0], options=GREEDY)
    while not engine.statistics().windows:
        time.sleep(0.01)
    job.cancel()
    with pytest.raises(CancelledError, match=r"long\.wav: cancelled"):
        job.result(LONG)
    statistics = engine.statistics()
    assert (statistics.jobs, statistics.windows, statistics.cancelled) == (0, 0, 1)
    handles = Path("/proc/self/fd")
    if handles.is_dir():
        assert long not in [item.readlink() for item in handles.iterdir() if item.is_symlink()]


def test_a_window_that_waits_for_its_turn_leaves_with_its_caller(
    base: BaseModel, routers: list[Router]
) -> None:
    engine = Engine(base)
    wide = TranscriptionOptions(temperatures=(0.0,))
    first = engine.submit(speech(3.8, 2), router=routers[0], options=wide, client="a")
    while not any(work.in_batch for work in engine._queue._works):
        time.sleep(0.001)
    second = engine.submit(speech(1.0, 1), router=routers[0], options=GREEDY, client="a")
    while not any(work.prepared and work.windows for work in engine._queue._works):
        time.sleep(0.001)
    second.cancel()
    assert second.done
    assert isinstance(second.error, CancelledError)
    assert not first.done
    engine.close(drain=True)
    assert first.error is None


def test_bad_audio_is_the_error_of_its_request_alone(
    engine: Engine, routers: list[Router], tmp_path: Path
) -> None:
    (tmp_path / "noise.wav").write_bytes(b"RIFF nothing of the kind")
    told: list[Job] = []
    bad = [
        engine.submit(tmp_path / name, router=routers[0], options=GREEDY, on_done=told.append)
        for name in ("noise.wav", "absent.wav")
    ]
    good = engine.submit(speech(1.0, 1), router=routers[0], options=GREEDY)
    assert good.result(LONG).error is None
    for job in bad:
        with pytest.raises(InvalidInputError, match=r"(noise|absent)\.wav: "):
            job.result(LONG)
        assert "\n" not in str(job.error)
    assert {id(job) for job in told} == {id(job) for job in bad}
    with pytest.raises(InvalidInputError, match="int as a recording"):
        engine.submit(3, router=routers[0])  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="beams 0: expected 1"):
        engine.submit(speech(1.0, 1), router=routers[0], options=replace(GREEDY, beams=0))


def test_what_fails_in_a_batch_fails_alone(base: BaseModel, routers: list[Router]) -> None:
    engine = Engine(base, batch_size=3, max_wait=LONG)
    unknown = FixedRoute(base, None, "pl", decode_language="xx")
    jobs = at_once(engine, [routers[0], unknown, routers[1]], [speech(1.0, seed) for seed in range(3)])
    with pytest.raises(InvalidInputError, match="xx"):
        jobs[1].result(LONG)
    for seed in (0, 2):
        wanted = alone(base, jobs[seed].router, speech(1.0, seed), tag="pl")
        assert jobs[seed].result(LONG).tokens == wanted.tokens
    engine.close()


def test_a_window_that_no_batch_takes_fails_alone(engine: Engine, routers: list[Router]) -> None:
    class Odd(Route):
        @property
        def task(self) -> Literal["transcribe"]:
            raise RuntimeError("no task")

    class OddRouter(FixedRoute):
        def route(self, *_: object) -> Route:
            return Odd(None, "pl", "pl")

    odd = engine.submit(speech(1.0, 1), router=OddRouter(engine.base, None), tag="pl", options=GREEDY)
    good = engine.submit(speech(1.0, 2), router=routers[0], options=GREEDY)
    assert good.result(LONG).text
    with pytest.raises(UnexpectedError, match=r"unexpected RuntimeError .*no task"):
        odd.result(LONG)


def test_a_caller_that_fails_to_listen_fails_alone(engine: Engine, routers: list[Router]) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("the loop is closed")

    deaf = engine.submit(speech(1.0, 1), router=routers[0], options=GREEDY, on_segment=fail, on_done=fail)
    heard = engine.submit(speech(1.0, 2), router=routers[0], options=GREEDY)
    assert heard.result(LONG).text
    with pytest.raises(UnexpectedError, match="unexpected RuntimeError"):
        deaf.result(LONG)


def test_too_little_memory_makes_batches_smaller(
    base: BaseModel, routers: list[Router], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(base, batch_size=4, max_wait=0.5)
    real, most = torch.nn.functional.scaled_dot_product_attention, [2]

    def attention(query: torch.Tensor, *args: object, **words: object) -> torch.Tensor:
        if query.shape[0] > most[0]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return real(query, *args, **words)

    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", attention)
    samples = [speech(1.0, seed) for seed in range(4)]
    jobs = at_once(engine, [routers[0]] * 4, samples)
    found = [job.result(LONG).tokens for job in jobs]
    assert found == [alone(base, routers[0], item, tag="pl").tokens for item in samples]
    most[0] = 0
    with pytest.raises(OutOfMemoryError, match="1 windows with 1 beams on cpu; use fewer --beams"):
        engine.submit(samples[0], router=routers[0], options=GREEDY).result(LONG)
    most[0] = 8
    assert engine.submit(samples[0], router=routers[0], options=GREEDY).result(LONG).tokens == found[0]
    engine.close()


def test_more_than_may_wait_are_sent_away_and_what_was_accepted_is_finished(
    base: BaseModel, routers: list[Router]
) -> None:
    engine = Engine(base, batch_size=2, most_waiting=3)
    hold = threading.Event()
    first = engine.submit(
        speech(1.0, 0), router=routers[0], options=GREEDY, on_done=lambda _: hold.wait(LONG)
    )
    first.result(LONG)
    jobs = [engine.submit(speech(1.0, seed), router=routers[0], options=GREEDY) for seed in range(3)]
    with pytest.raises(BusyError, match="3 recordings wait already; try again later") as busy:
        engine.submit(speech(1.0, 9), router=routers[0], options=GREEDY)
    assert busy.value.seconds > 0
    hold.set()
    engine.close(drain=True)
    assert all(job.done and job.error is None for job in jobs)
    with pytest.raises(BusyError, match="this server is stopping"):
        engine.submit(speech(1.0, 9), router=routers[0], options=GREEDY)
    with pytest.raises(TimeoutError, match="no transcript after 0"):
        Job(b"", routers[0], None, GREEDY).result(0)
