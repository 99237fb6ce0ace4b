"""Half precision: every kind of row runs, agrees with float32, and is left alone by the other rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from small_whisper import make_adapter, make_pair
from test_composition import features_of, prompt_of

from adapter_hub.artifact.folder import Artifact
from adapter_hub.decoding.decode import decode
from adapter_hub.decoding.options import DecodingOptions
from adapter_hub.model.base_model import BaseModel, load_base_model
from adapter_hub.model.loading import load_adapter
from adapter_hub.model.packing import pack
from adapter_hub.model.session import AdaptedLinear, BatchRows, RowAdapters, Session

# how far a logit may be off, as a share of the usual logit: 8 and 11 bits of precision over some 30 products
TOLERANCES = {"bfloat16": 0.02, "float16": 0.002}
LANGUAGES = ["en", "da", "pl", "ja", "zh"]
KINDS = ("plain", "base model", "pair", "high", "static", "weighted")


@pytest.fixture(scope="module")
def artifacts(
    base: BaseModel, adapters: list[Artifact], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Artifact]:
    """An artifact of every kind: ranks 4 to 72, float16 on the disk, pairs with both gates."""
    folder = tmp_path_factory.mktemp("kinds")
    return {
        "plain": adapters[0],
        "other": adapters[1],
        "partial": adapters[2],
        "odd": make_adapter(folder / "odd", base, seed=7, rank=7),
        "high": make_adapter(folder / "high", base, seed=8, rank=72, alpha=24),
        "pair": make_pair(folder / "pair", base, adapters[0], kind="token", seed=9, biased=True),
        "static": make_pair(folder / "static", base, adapters[0], kind="static", seed=10),
    }


@pytest.fixture(scope="module", params=list(TOLERANCES))
def half(request: pytest.FixtureRequest, base_folder: Path) -> BaseModel:
    """The small base model in half precision."""
    return load_base_model(base_folder, device="cpu", dtype=request.param)


def rows_of(base: BaseModel, artifacts: dict[str, Artifact]) -> dict[str, RowAdapters]:
    loaded = {name: load_adapter(base, artifact) for name, artifact in artifacts.items()}
    weighted = [(loaded["plain"], 0.25), (loaded["other"], 0.75)]
    return {"base model": None, **loaded, "weighted": weighted}


@torch.inference_mode()
def logits_of(base: BaseModel, rows: Sequence[RowAdapters]) -> torch.Tensor:
    session = Session(base)
    session.set_adapters(rows)
    features = features_of(base, len(rows)).to(base.dtype)
    return session.model(input_features=features, decoder_input_ids=prompt_of(base, len(rows))).logits


def test_every_kind_of_row_agrees_with_float32(
    base: BaseModel, half: BaseModel, artifacts: dict[str, Artifact]
) -> None:
    kinds = list(rows_of(base, artifacts))
    whole = logits_of(base, list(rows_of(base, artifacts).values()))
    ours = logits_of(half, list(rows_of(half, artifacts).values()))
    assert ours.dtype == half.dtype
    tolerance = TOLERANCES[str(half.dtype).removeprefix("torch.")]
    for row, kind in enumerate(kinds):
        off = (ours[row].float() - whole[row]).abs().mean() / whole[row].abs().mean()
        # this pair's gates have logits of some tens, so that what is rounded off them shows in the weights
        assert 0 < float(off) < tolerance * (5 if kind == "pair" else 1), kind
    assert float((whole[1] - whole[0]).abs().mean()) > 5 * tolerance * float(whole[0].abs().mean())


@pytest.mark.parametrize("beams", [1, 3])
def test_short_texts_are_those_of_float32_but_for_near_ties(
    base: BaseModel, half: BaseModel, artifacts: dict[str, Artifact], beams: int
) -> None:
    """A model with random weights is undecided: one token in some is settled by less than the rounding."""
    texts: list[list[tuple[int, ...]]] = []
    options = DecodingOptions(beams=beams, most_tokens=3)
    for model in (base, half):
        rows = list(rows_of(model, artifacts).values())
        languages = (LANGUAGES * 2)[: len(rows)]
        found = decode(
            Session(model), features_of(model, len(rows)), rows=rows, languages=languages, options=options
        )
        texts.append([item.tokens for item in found])
    same = sum(a == b for a, b in zip(*texts, strict=True))
    assert same >= len(texts[0]) * 2 // 3, f"{same} of {len(texts[0])}"
    assert len(set(texts[1])) > len(texts[1]) // 2  # and they differ from one another


def test_no_number_of_a_row_depends_on_the_other_rows(
    half: BaseModel, artifacts: dict[str, Artifact]
) -> None:
    """Invariant 6 in half precision: the same batch, with the other rows' adapters and without."""
    kinds = rows_of(half, artifacts)
    plain, pair, high = kinds["plain"], kinds["pair"], kinds["high"]
    batches: list[list[RowAdapters]] = [
        [None, plain, pair, None, None],
        [None, plain, pair, kinds["other"], kinds["static"]],
        [None, plain, pair, kinds["weighted"], high],
        [None, plain, pair, plain, pair],
    ]
    logits = [logits_of(half, rows)[:3] for rows in batches]
    assert all(torch.equal(item.view(torch.int16), logits[0].view(torch.int16)) for item in logits)
    for beams in (1, 3):
        options = DecodingOptions(beams=beams, shrink=False, most_tokens=12)
        features = features_of(half, 5)
        texts = [
            decode(Session(half), features, rows=rows, languages=LANGUAGES, options=options)[:3]
            for rows in batches
        ]
        assert texts[0] == texts[1] == texts[2] == texts[3]  # floats of the scores and all


@pytest.mark.parametrize("grad", [False, True], ids=["inference", "grad"])
def test_under_autocast_adapters_compute_in_the_type_of_their_weights(
    base: BaseModel, artifacts: dict[str, Artifact], grad: bool
) -> None:
    features, session = features_of(base, len(KINDS)), Session(base)
    kinds = rows_of(base, artifacts)
    session.set_adapters([kinds[name] for name in KINDS])
    ids = prompt_of(base, len(KINDS))
    with torch.set_grad_enabled(grad):
        plain = session.model(input_features=features, decoder_input_ids=ids).logits
        with torch.autocast("cpu", torch.bfloat16):
            cast = session.model(input_features=features, decoder_input_ids=ids).logits
    assert not torch.equal(cast, plain)
    assert float((cast.float() - plain).abs().mean()) < 0.1 * float(plain.abs().mean())
    with torch.autocast("cpu", torch.bfloat16):
        (found,) = decode(
            session,
            features[:1],
            rows=[kinds["plain"]],
            languages=["da"],
            options=DecodingOptions(most_tokens=8),
        )
    assert found.tokens


def test_under_autocast_reordered_weights_compute_in_their_own_type() -> None:
    linear = torch.nn.Linear(1024, 512)
    view = AdaptedLinear.over(linear, "proj_out", BatchRows())
    view.packed = pack(linear.weight)
    x = torch.randn(2, 1, 1024).bfloat16()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(view(x), linear.forward(x).float(), atol=0.02, rtol=0.02)
