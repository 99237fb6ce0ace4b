"""Decoder steps: the logits of transformers, and calls that do not grow with the adapters in a batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from small_whisper import make_adapter, make_pair
from test_composition import features_of
from torch.utils._python_dispatch import TorchDispatchMode

from adapter_hub.artifact.folder import Artifact
from adapter_hub.decoding.decoder import DecoderSteps
from adapter_hub.errors import InvalidInputError
from adapter_hub.model.base_model import BaseModel, load_base_model
from adapter_hub.model.loading import load_adapter
from adapter_hub.model.session import RowAdapters, Session


def steps_of(session: Session, rows: Sequence[RowAdapters], beams: int) -> DecoderSteps:
    session.set_adapters(rows)
    features = features_of(session.base, len(rows)).to(session.base.dtype)
    encoder_output = session.model.get_encoder()(features).last_hidden_state
    return DecoderSteps(session, encoder_output, beams=beams)


@torch.inference_mode()
def test_every_beam_sees_its_own_history_and_no_other(base: BaseModel, adapters: list[Artifact]) -> None:
    """Beams that cross, recordings that end and prompts of two lengths, against whole forward passes."""
    adapter, random = load_adapter(base, adapters[0]), torch.Generator().manual_seed(3)
    session = Session(base)
    steps = steps_of(session, [adapter, None, None], 3)
    prompts = [[5, 6, 7, 8], [9], [10, 11]]
    logits = steps.prefill(prompts, 20)
    histories = [[list(prompt) for _ in range(3)] for prompt in prompts]
    features, origin = features_of(base, 3), [0, 1, 2]
    for turn in range(8):
        for row, source in enumerate(origin):
            whole = Session(base)
            whole.set_adapters([adapter if source == 0 else None])
            for beam in range(logits.shape[1]):
                ids = torch.tensor([histories[row][beam]])
                wanted = whole.model(
                    input_features=features[source : source + 1], decoder_input_ids=ids
                ).logits[0, -1]
                torch.testing.assert_close(logits[row, beam], wanted, atol=1e-4, rtol=1e-4)
        if turn == 4:
            steps.keep([0, 2])
            histories, origin = [histories[0], histories[2]], [0, 2]
        parents = torch.randint(0, 3, (len(origin), 3), generator=random)
        tokens = torch.randint(0, 50, (len(origin), 3), generator=random)
        if turn:
            steps.reorder(parents)
        histories = [
            [[*own[parent], token] for parent, token in zip(chosen, new, strict=True)]
            for own, chosen, new in zip(histories, parents.tolist(), tokens.tolist(), strict=True)
        ]
        logits = steps.advance(tokens)


class Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += 1
        return func(*args, **(kwargs or {}))


@torch.inference_mode()
def calls_of_a_step(base: BaseModel, rows: Sequence[RowAdapters], beams: int) -> int:
    steps = steps_of(Session(base), rows, beams)
    steps.prefill([[1, 2]] * len(rows), 10)
    with Counter() as counter:
        steps.advance(torch.zeros(len(rows), beams, dtype=torch.long))
    return counter.calls


@pytest.mark.parametrize("beams", [1, 5])
def test_calls_of_a_step_do_not_depend_on_how_many_adapters_are_in_the_batch(
    base: BaseModel, tmp_path: Path, beams: int
) -> None:
    ranks = [4, 4, 7, 8]  # all are computed at one width
    loaded = [
        load_adapter(base, make_adapter(tmp_path / str(i), base, seed=i, rank=rank))
        for i, rank in enumerate(ranks)
    ]
    plain = calls_of_a_step(base, [None] * 4, beams)
    counts = {calls_of_a_step(base, [loaded[row % n] for row in range(4)], beams) for n in (1, 2, 3, 4)}
    counts.add(calls_of_a_step(base, [None, loaded[2], None, loaded[1]], beams))
    assert len(counts) == 1
    assert counts.pop() < 2.1 * plain


@torch.inference_mode()
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_mixed_batch_runs_in_half_precision(
    base_folder: Path, base: BaseModel, adapters: list[Artifact], tmp_path: Path, dtype: str
) -> None:
    pair = make_pair(tmp_path / "pair", base, adapters[0], kind="token", seed=5)
    half = load_base_model(base_folder, device="cpu", dtype=dtype)
    found = []
    for model in (base, half):
        loaded = [load_adapter(model, artifact) for artifact in (*adapters, pair)]
        rows = [None, loaded[0], loaded[2], loaded[3], [(loaded[1], 0.5), (loaded[3], 0.5)]]
        steps = steps_of(Session(model), rows, 2)
        steps.prefill([[1, 2]] * 5, 10)
        found.append(steps.advance(torch.tensor([[3, 4]] * 5)))
    assert float((found[0] - found[1]).abs().mean()) < 0.05 * float(found[0].abs().mean())
    assert not torch.equal(found[1][0], found[1][1])


def test_a_prompt_without_room_for_text_is_refused(base: BaseModel) -> None:
    positions = base.model.config.max_target_positions
    steps = steps_of(Session(base), [None], 1)
    with pytest.raises(
        InvalidInputError, match=f"the base model has {positions} positions; shorten the prompt"
    ):
        steps.prefill([[1] * positions], positions)
