"""Recorded decoder steps: the same texts, few recordings, and nothing in a step that a graph cannot hold."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from small_whisper import make_adapter, make_pair, speech
from step_tape import CaptureError, Tape
from test_composition import ending_with, features_of

from adapter_hub.artifact.folder import Artifact
from adapter_hub.decoding.decode import DecodingResult, decode
from adapter_hub.decoding.options import DecodingOptions
from adapter_hub.decoding.static_steps import StaticSteps, decoder_steps, padded_slots
from adapter_hub.errors import InvalidInputError
from adapter_hub.model.base_model import BaseModel, load_base_model
from adapter_hub.model.cuda_graphs import (
    RecordedSteps,
    _recording,
    empty_cache,
    padded_row_count,
    recorder_for,
)
from adapter_hub.model.loading import ResidentAdapter, load_adapter
from adapter_hub.model.session import RowAdapters, Session
from adapter_hub.transcription.routing import FixedRoute
from adapter_hub.transcription.transcriber import Transcriber

LANGUAGES = ["en", "da", "pl", "ja", "zh"]
KINDS = (
    "base model", "one adapter", "one padded", "one of high rank", "one pair", "mixed", "weighted",
    "of every kind",
)  # fmt: skip


@pytest.fixture(scope="module")
def resident(
    base: BaseModel, adapters: list[Artifact], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, ResidentAdapter]:
    """An adapter of every kind that is computed in a way of its own."""
    folder = tmp_path_factory.mktemp("kinds")
    artifacts = {"plain": adapters[0], "other": adapters[1], "partial": adapters[2]}
    artifacts |= {
        name: make_adapter(folder / name, base, seed=seed, rank=8)
        for seed, name in ((5, "eight"), (6, "eighth"))
    }
    artifacts["odd"] = make_adapter(folder / "odd", base, seed=7, rank=7)
    artifacts["high"] = make_adapter(folder / "high", base, seed=8, rank=72, alpha=72)
    artifacts["pair"] = make_pair(folder / "pair", base, adapters[0], kind="token", seed=9, biased=True)
    artifacts["static"] = make_pair(folder / "static", base, adapters[0], kind="static", seed=10)
    return {name: load_adapter(base, artifact) for name, artifact in artifacts.items()}


def batches(resident: dict[str, ResidentAdapter]) -> dict[str, list[RowAdapters]]:
    plain, other = resident["plain"], resident["other"]
    return {
        "base model": [None] * 3,
        "one adapter": [resident["eight"]] * 3,
        "one padded": [resident["odd"]] * 3,
        "one of high rank": [resident["high"]] * 3,
        "one pair": [resident["pair"]] * 3,
        "mixed": [plain, None, other, resident["partial"], resident["odd"]],
        "weighted": [[(plain, 0.25), (other, 0.75)], plain, None],
        "of every kind": [resident["pair"], resident["high"], resident["static"], None, plain],
    }


def texts(session: Session, rows: Sequence[RowAdapters], **options: int | bool) -> list[DecodingResult]:
    return decode(
        session,
        features_of(session.base, len(rows)),
        rows=rows,
        languages=LANGUAGES[: len(rows)],
        options=DecodingOptions(**options),
    )


def same(ours: list[DecodingResult], theirs: list[DecodingResult]) -> None:
    assert [text.tokens for text in ours] == [text.tokens for text in theirs]
    assert [text.score for text in ours] == pytest.approx([text.score for text in theirs], abs=1e-4)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_recorded_steps_give_the_same_text_for_every_kind_of_row(
    base: BaseModel, resident: dict[str, ResidentAdapter], kind: str, beams: int
) -> None:
    tape, rows = Tape(), batches(resident)[kind]
    session = Session(base, recorder=tape)
    for _ in range(2):
        same(texts(session, rows, beams=beams), texts(Session(base), rows, beams=beams))
    assert tape.recorded >= 1
    assert tape.replayed > 20


@pytest.mark.parametrize("beams", [1, 4])
def test_recorded_steps_go_on_when_audios_leave(
    base: BaseModel, resident: dict[str, ResidentAdapter], beams: int
) -> None:
    rows = batches(resident)["of every kind"]
    found, lengths = texts(Session(base), rows, beams=beams), set()
    for token in sorted({token for text in found for token in text.tokens})[:5]:
        ending = ending_with(base, token)
        session = Session(ending, recorder=Tape())
        recorded = texts(session, rows, beams=beams)
        same(recorded, texts(Session(ending), rows, beams=beams))
        assert session.recorded_steps is not None
        lengths.add((len({len(text.tokens) for text in recorded}), len(session.recorded_steps._known)))
    assert max(lengths)[0] >= 2  # recordings of one batch ended at different times
    assert max(shapes for _, shapes in lengths) >= 2  # and smaller batches went on


def test_a_recording_outlives_its_batch_and_its_adapters(
    base: BaseModel, resident: dict[str, ResidentAdapter]
) -> None:
    plain, other, partial = (resident[name] for name in ("plain", "other", "partial"))
    tape = Tape()
    session = Session(base, recorder=tape)
    for rows in ([resident["eight"]] * 3, [resident["eighth"]] * 4):  # three rows are filled up to four
        same(texts(session, rows, beams=2), texts(Session(base), rows, beams=2))
    first = tape.recorded
    assert first == len({padded_slots(2 * count, 10**6) for count in range(1, 37)})
    texts(session, [plain, other, None], beams=2)
    mixed = tape.recorded
    for order in itertools.permutations([plain, other, None]):
        same(texts(session, list(order), beams=2), texts(Session(base), list(order), beams=2))
    four = [plain, other, plain, None]
    same(texts(session, four, beams=2), texts(Session(base), four, beams=2))
    assert tape.recorded == mixed == 2 * first
    texts(session, [partial] * 3, beams=2)  # has other linears
    assert tape.recorded == 3 * first


def test_no_number_of_a_row_depends_on_the_other_rows_of_recorded_steps(
    base: BaseModel, resident: dict[str, ResidentAdapter]
) -> None:
    """Invariant 6: also with rows that only fill up, and with what earlier batches left in memory."""
    plain, other, pair = (resident[name] for name in ("plain", "other", "pair"))
    session, seen = Session(base, recorder=Tape()), []
    for rows in ([None, plain, None], [None, plain, other], [None, plain, [(other, 0.5), (plain, 0.5)]],
                 [None, plain, pair]):  # fmt: skip
        seen += [texts(session, rows, beams=3, shrink=False), texts(session, rows, beams=3, shrink=False)]
    assert all(item[:2] == seen[0][:2] for item in seen)  # floats of the scores and all
    assert seen[0][2] != seen[-1][2]


@torch.inference_mode()
def test_nothing_moves_or_is_read_back_from_step_to_step(
    base: BaseModel, resident: dict[str, ResidentAdapter]
) -> None:
    keys: list[object] = []

    class Watching(RecordedSteps):
        def run(self, key: object, step: Callable[[], None]) -> None:
            keys.append(key)
            Tape()(step)  # raises where a graph could not hold it; changes nothing
            super().run(key, step)

    session = Session(base, recorder=Tape())
    session.recorded_steps = Watching(Tape())
    session.set_adapters([resident["plain"], None, resident["pair"]])
    encoder_output = session.model.get_encoder()(features_of(base, 3)).last_hidden_state
    steps = decoder_steps(session, encoder_output, beams=2)
    assert isinstance(steps, StaticSteps)
    steps.prefill([[1, 2, 3], [4], [5, 6]], 30)
    places = set()
    for turn in range(20):
        logits = steps.advance(torch.tensor([[turn, turn + 1]] * 3))
        places.add((logits.data_ptr(), logits.shape))
        steps.reorder(torch.tensor([[1, 0], [0, 0], [1, 1]]))
    assert len(places) == 1
    assert len(set(keys)) == 1


def test_a_tape_refuses_what_a_graph_cannot_hold() -> None:
    values = torch.ones(3)

    def reads() -> None:
        if values.sum() > 1:
            values.add_(1)

    with pytest.raises(CaptureError, match="is_nonzero|_local_scalar_dense"):
        Tape()(reads)
    with pytest.raises(CaptureError, match="lift_fresh"):
        Tape()(lambda: values.add_(torch.tensor([1.0, 2.0, 3.0])) and None)


def test_steps_whose_recording_fails_are_computed_as_they_are_with_one_warning(
    base: BaseModel, resident: dict[str, ResidentAdapter]
) -> None:
    def fails(step: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("operation not permitted when stream is capturing")

    session, rows = Session(base, recorder=fails), [resident["plain"], None]
    with pytest.warns(
        UserWarning, match="cannot be recorded here .operation not permitted.*unset ADAPTER_HUB_GRAPHS"
    ):
        found = texts(session, rows, beams=2)
    same(found, texts(Session(base), rows, beams=2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same(texts(session, rows, beams=2), found)
    assert session.recorded_steps is None  # not even with the padded rows and caches that recordings need


def test_out_of_memory_while_recording_is_told_as_such() -> None:
    def fails(step: Callable[[], None]) -> Callable[[], None]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    steps = RecordedSteps(fails)
    steps.run("key", lambda: None)
    with pytest.raises(RuntimeError, match="out of memory"):
        steps.run("key", lambda: None)


def test_recordings_make_room_for_new_ones() -> None:
    made: list[int] = []
    steps = RecordedSteps(lambda step: made.append(1) or step, most=2)
    for key in (1, 1, 2, 2, 1, 3, 3):
        steps.run(key, lambda: None)
    assert len(made) == 3
    steps.run(1, lambda: None)  # used later than 2
    assert list(steps._known) == [3, 1]
    steps.run(2, lambda: None)
    steps.run(2, lambda: None)
    assert len(made) == 4


def test_recording_is_for_gpus_and_off_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ADAPTER_HUB_GRAPHS", raising=False)
    assert recorder_for(torch.device("cuda")) is None
    monkeypatch.setenv("ADAPTER_HUB_GRAPHS", "1")
    assert recorder_for(torch.device("cuda")) is not None
    assert recorder_for(torch.device("cpu")) is None
    monkeypatch.setenv("ADAPTER_HUB_GRAPHS", "0")
    assert recorder_for(torch.device("cuda")) is None
    monkeypatch.setenv("ADAPTER_HUB_GRAPHS", "off")
    with pytest.raises(InvalidInputError, match="ADAPTER_HUB_GRAPHS=off: expected 1 .* or 0"):
        recorder_for(torch.device("cpu"))


@torch.inference_mode()
def test_a_step_is_one_graph_for_a_compiler(base: BaseModel, resident: dict[str, ResidentAdapter]) -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    session = Session(base, recorder=lambda step: torch.compile(step, backend="eager", fullgraph=True))
    rows = [resident["plain"], None, resident["pair"]]
    same(texts(session, rows, beams=1, most_tokens=20), texts(Session(base), rows, beams=1, most_tokens=20))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_recorded_steps_give_the_same_in_half_precision(
    base_folder: Path, adapters: list[Artifact], dtype: str
) -> None:
    half = load_base_model(base_folder, device="cpu", dtype=dtype)
    rows = [load_adapter(half, adapters[0]), None, load_adapter(half, adapters[2])]
    recorded = texts(Session(half, recorder=Tape()), rows, beams=2, shrink=False, most_tokens=12)
    plain = texts(Session(half), rows, beams=2, shrink=False, most_tokens=12)
    assert len(recorded) == len(plain) == len(rows)
    assert sum(a.tokens == b.tokens for a, b in zip(recorded, plain, strict=True)) >= 2


@pytest.mark.parametrize(("rows", "usual"), [(1, 1), (5, 8), (8, 8), (13, 16), (17, 24)])
def test_rows_are_filled_up_to_few_numbers(rows: int, usual: int) -> None:
    assert padded_row_count(rows) == usual


def test_calls_one_after_another_share_what_was_recorded_and_calls_at_once_do_not(
    base: BaseModel, resident: dict[str, ResidentAdapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    tapes: list[Tape] = []
    alone: Any = {"beams": 2, "temperatures": (0.0,)}

    def recorder(device: torch.device) -> Tape:
        tapes.append(Tape())
        return tapes[-1]

    plain = Transcriber(base, FixedRoute(base, resident["plain"], "da"))
    recordings = [speech(1.0, seed) for seed in range(3)]
    wanted = [item.text for item in plain.transcribe(recordings, **alone)]
    monkeypatch.setattr("adapter_hub.model.session.recorder_for", recorder)
    transcriber = Transcriber(base, FixedRoute(base, resident["plain"], "da"))
    for _ in range(3):
        assert [item.text for item in transcriber.transcribe(recordings, **alone)] == wanted
    assert len(tapes) == 1
    assert tapes[0].recorded == 2
    first, second = (
        transcriber.transcribe_each(recordings, **alone),
        transcriber.transcribe_each(recordings, **alone),
    )
    assert [next(first).text, next(second).text] == wanted[:1] * 2
    assert [item.text for item in first] == [item.text for item in second] == wanted[1:]
    assert len(tapes) == 2


def test_what_a_step_looks_up_is_small_however_much_it_stands_for() -> None:
    class Counted(tuple):
        hashed = 0

        def __hash__(self) -> int:
            Counted.hashed += 1
            return super().__hash__()

    steps = RecordedSteps(lambda step: step, most=3)
    addresses = [Counted(range(100 * i, 100 * i + 100)) for i in range(4)]
    numbers = [steps.number(item) for item in addresses[:3]]
    assert len(set(numbers)) == 3
    assert steps.number(Counted(addresses[0])) == numbers[0]
    hashed = Counted.hashed
    for _ in range(5):
        steps.run((64, numbers[0]), lambda: None)
    assert Counted.hashed == hashed
    assert steps.number(addresses[3]) not in numbers
    assert len(steps._numbers) == 3
    assert steps.number(addresses[0]) == numbers[0]  # used later than the second, which made room
    assert steps.number(addresses[1]) not in numbers


def test_cached_memory_is_given_back_while_nothing_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def refuses() -> None:
        seen.append(_recording.locked())
        raise RuntimeError("captures_underway.empty() INTERNAL ASSERT FAILED")

    monkeypatch.setattr(torch.cuda, "empty_cache", refuses)
    empty_cache()
    assert seen == [True]
    assert not _recording.locked()
