"""On a GPU: recorded steps are replayed as CUDA graphs, and say what steps computed one by one say.

Everything but the recording itself is tested without one, in `test_recorded_steps.py`. A CPU's probe holds.
"""

from __future__ import annotations

import gc
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from small_whisper import make_pair
from test_composition import ending_with
from test_recorded_steps import LANGUAGES, same, texts

from adapter_hub.artifact.folder import Artifact
from adapter_hub.decoding.probe import FLOOR, check_probe, measure_probe
from adapter_hub.model.base_model import BaseModel, load_base_model
from adapter_hub.model.cuda_graphs import CudaGraphRecorder, empty_cache
from adapter_hub.model.loading import load_adapter
from adapter_hub.model.session import RowAdapters, Session

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(autouse=True)
def recording(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switch recording on; by default it is off."""
    monkeypatch.setenv("ADAPTER_HUB_GRAPHS", "1")


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def gpu(request: pytest.FixtureRequest, base_folder: Path) -> BaseModel:
    """The small base model on a GPU."""
    return load_base_model(base_folder, device="cuda", dtype=request.param)


@pytest.fixture(scope="module")
def rows(
    gpu: BaseModel, adapters: list[Artifact], tmp_path_factory: pytest.TempPathFactory
) -> list[RowAdapters]:
    """The base model, a plain adapter, a token-gated pair, a weighted sum, an adapter of few modules."""
    folder = tmp_path_factory.mktemp("pair")
    pair = make_pair(folder, gpu, adapters[0], kind="token", seed=9)
    loaded = [load_adapter(gpu, artifact) for artifact in (*adapters, pair)]
    return [None, loaded[0], loaded[3], [(loaded[0], 0.5), (loaded[1], 0.5)], loaded[2]]


def not_recorded(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> Session:
    with monkeypatch.context() as patch:
        patch.setenv("ADAPTER_HUB_GRAPHS", "0")
        session = Session(base)
    assert session.recorded_steps is None
    return session


def recordings(session: Session) -> int:
    assert session.recorded_steps is not None
    return sum(step is not None for step in session.recorded_steps._known.values())


@pytest.mark.parametrize("beams", [1, 4])
def test_graphs_say_what_single_steps_say(
    gpu: BaseModel, rows: list[RowAdapters], beams: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(gpu)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # that recording failed is a warning
        found = [texts(session, rows, beams=beams, shrink=False) for _ in range(3)]
    assert found[0] == found[1] == found[2]
    assert recordings(session) >= 1
    plain = texts(not_recorded(gpu, monkeypatch), rows, beams=beams, shrink=False)
    if gpu.dtype == torch.float32:
        same(found[0], plain)
    else:
        assert sum(a.tokens == b.tokens for a, b in zip(found[0], plain, strict=True)) >= len(rows) // 2


def test_no_number_of_a_row_depends_on_the_other_rows_on_a_gpu(
    gpu: BaseModel, rows: list[RowAdapters]
) -> None:
    session, seen = Session(gpu), []
    for batch in (rows, [None, rows[1], None, None, None], [None, rows[1], rows[1], rows[4], rows[3]]):
        seen += [texts(session, batch, beams=3, shrink=False)[:2] for _ in range(2)]
    assert all(item == seen[0] for item in seen)  # floats of the scores and all


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "one by one"])
def test_a_pair_s_numbers_are_the_same_in_a_batch_of_its_own_and_beside_others(
    gpu: BaseModel, rows: list[RowAdapters], recorded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(gpu) if recorded else not_recorded(gpu, monkeypatch)
    alone = [texts(session, [rows[2]] * len(rows), beams=3, shrink=False)[2] for _ in range(2)]
    beside = [texts(session, rows, beams=3, shrink=False)[2] for _ in range(2)]
    assert alone[0] == alone[1] == beside[0] == beside[1]  # floats of the scores and all


def test_audios_leave_graphs(
    gpu: BaseModel, rows: list[RowAdapters], monkeypatch: pytest.MonkeyPatch
) -> None:
    if gpu.dtype != torch.float32:
        pytest.skip("tokens of two batch sizes are compared")
    first = texts(Session(gpu), rows, beams=3)
    for token in sorted({token for text in first for token in text.tokens})[:4]:
        ending = ending_with(gpu, token)
        same(texts(Session(ending), rows, beams=3), texts(not_recorded(ending, monkeypatch), rows, beams=3))


def test_two_threads_record_and_replay_at_once(gpu: BaseModel, rows: list[RowAdapters]) -> None:
    plans = [rows, rows[::-1]]
    wanted = [texts(Session(gpu), plan, beams=2, shrink=False) for plan in plans]
    wrong: list[int] = []

    def work(number: int) -> None:
        own = Session(gpu)
        for turn in range(6):
            which = (number + turn) % 2
            if texts(own, plans[which], beams=2, shrink=False) != wanted[which]:
                wrong.append(number)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(2)))
    assert wrong == []
    assert len(LANGUAGES) == len(rows)


def test_the_probe_of_a_cpu_holds_to_the_rounding_of_float32(
    gpu: BaseModel, base_folder: Path, adapters: list[Artifact]
) -> None:
    if gpu.dtype != torch.float32:
        pytest.skip("a probe is of float32")
    home = load_base_model(base_folder, device="cpu")
    probe = measure_probe(home, load_adapter(home, adapters[0]))
    least = FLOOR * max(abs(value) for value in probe.base_model_logits)  # TF32 would move logits further
    check_probe(gpu, load_adapter(gpu, adapters[0]), probe.model_copy(update={"tolerance": least}))


def test_recordings_outlive_the_session_beside_them(gpu: BaseModel, rows: list[RowAdapters]) -> None:
    sessions = [Session(gpu), Session(gpu)]
    wanted = [texts(session, rows, beams=2, shrink=False) for _ in range(2) for session in sessions][-1]
    del sessions[0]
    gc.collect()
    empty_cache()
    assert recordings(sessions[0]) >= 1
    assert texts(sessions[0], rows, beams=2, shrink=False) == wanted


def test_a_recording_that_fails_leaves_the_thread_as_it_was(gpu: BaseModel) -> None:
    values, stream = torch.ones(3, device=gpu.device), torch.cuda.current_stream()

    def reads() -> None:
        values.add_(values.sum().item())

    def doubles() -> None:
        values.mul_(2)

    with pytest.raises(RuntimeError, match="captur"):
        CudaGraphRecorder(gpu.device)(reads)
    assert torch.cuda.current_stream() == stream
    assert gc.isenabled()
    doubles()  # what is recorded has been computed once
    CudaGraphRecorder(gpu.device)(doubles)()
    assert values.tolist() == [4.0, 4.0, 4.0]
    empty_cache()


def test_a_model_on_a_gpu_has_no_attention_that_plans_for_every_shape(gpu: BaseModel) -> None:
    assert gpu.device.type == "cuda"
    assert not torch.backends.cuda.cudnn_sdp_enabled()
    assert torch.backends.cuda.flash_sdp_enabled()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_record_in_one_process(base_folder: Path, adapters: list[Artifact]) -> None:
    found = []
    for place in ("cuda:0", "cuda:1", "cuda:0"):
        base = load_base_model(base_folder, device=place)
        session, rows = Session(base), [load_adapter(base, adapters[0]), None]
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # that recording failed is a warning, and that a graph is empty
            found += [texts(session, rows, beams=2) for _ in range(3)]
        assert recordings(session) >= 1
        assert torch.cuda.current_device() == 0
    assert all(item == found[0] for item in found)
