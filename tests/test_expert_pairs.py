"""Expert pairs: parent and child weighed by a gate, alone and beside other adapters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_whisper import make_pair
from test_composition import features_of, logits_of, same_bits
from test_loading import relisted

from adapter_hub.artifact.folder import Artifact
from adapter_hub.decoding.decode import decode
from adapter_hub.decoding.options import DecodingOptions
from adapter_hub.errors import IntegrityError
from adapter_hub.model.base_model import BaseModel, load_base_model
from adapter_hub.model.loading import ResidentAdapter, load_adapter
from adapter_hub.model.session import Session

GATE = "gate.safetensors"


@pytest.fixture(scope="module")
def resident(base: BaseModel, adapters: Sequence[Artifact]) -> list[ResidentAdapter]:
    return [load_adapter(base, artifact) for artifact in adapters]


@pytest.fixture(scope="module")
def pairs(base: BaseModel, adapters: Sequence[Artifact], tmp_path_factory: Any) -> dict[str, Artifact]:
    """Pairs of both kinds; the child of the second has another rank, and adapts other linears too."""
    folder = tmp_path_factory.mktemp("pairs")
    return {
        "token": make_pair(folder / "token", base, adapters[0], kind="token", seed=21),
        "uneven": make_pair(
            folder / "uneven", base, adapters[2], kind="token", seed=22, biased=True, rank=3, alpha=6
        ),
        "static": make_pair(folder / "static", base, adapters[2], kind="static", seed=23),
    }


class GatedByHand(torch.nn.Module):
    """A linear with a pair, as the format's description says it."""

    def __init__(self, linear: torch.nn.Linear, artifact: Artifact, path: str) -> None:
        super().__init__()
        self.linear, self.halves = linear, []
        for role in ("parent", "child"):
            tensors = load_file(artifact.path / "experts" / role / "adapter_model.safetensors")
            section = next(item for item in artifact.manifest.lora if item.role == role)
            scaling = next((m.scaling for m in section.modules if m.path == path), 0.0)
            key = f"base_model.model.{path}.lora_{{}}.weight"
            self.halves.append(
                (tensors[key.format("A")].float(), tensors[key.format("B")].float(), scaling)
                if scaling
                else None
            )
        gate = load_file(artifact.path / GATE)
        self.weight, self.bias = gate.get(f"{path}.weight"), gate.get(f"{path}.bias")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(*x.shape[:-1], 2)
        logits = logits if self.weight is None else x @ self.weight.T
        weights = (logits if self.bias is None else logits + self.bias).softmax(-1)
        y = self.linear(x)
        for place, half in enumerate(self.halves):
            if half is not None:
                a, b, scaling = half
                y = y + weights[..., place : place + 1] * (x @ a.T @ b.T) * scaling
        return y


def by_hand(base: BaseModel, artifact: Artifact) -> Any:
    import copy

    model = copy.deepcopy(base.model)
    for path in sorted({m.path for section in artifact.manifest.lora for m in section.modules}):
        parent, _, name = path.rpartition(".")
        linear = model.get_submodule(path)
        setattr(model.get_submodule(parent), name, GatedByHand(linear, artifact, path))
    return model


@pytest.mark.parametrize("kind", ["token", "uneven", "static"])
def test_a_pair_gives_the_logits_that_its_format_describes(
    base: BaseModel, pairs: dict[str, Artifact], kind: str
) -> None:
    features = features_of(base, 2)
    theirs = logits_of(by_hand(base, pairs[kind]), base, features)
    session = Session(base)
    session.set_adapters([load_adapter(base, pairs[kind])] * 2)
    ours = logits_of(session.model, base, features)
    assert float((theirs - logits_of(base.model, base, features)).abs().max()) > 0.1
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("beams", [1, 3])
def test_pairs_sums_and_single_adapters_share_a_batch(
    base: BaseModel, pairs: dict[str, Artifact], resident: Sequence[ResidentAdapter], beams: int
) -> None:
    features, options = features_of(base, 6), DecodingOptions(beams=beams)
    languages = ["en", "da", "pl", "ja", "da", "pl"]
    token, uneven, static = (load_adapter(base, pairs[kind]) for kind in ("token", "uneven", "static"))
    rows = [None, token, resident[1], [(token, 0.5), (resident[2], 0.3), (uneven, 0.2)], static, uneven]
    together = decode(Session(base), features, rows=rows, languages=languages, options=options)
    for row, experts in enumerate(rows):
        alone = decode(
            Session(base),
            features[row : row + 1],
            rows=[experts],
            languages=languages[row : row + 1],
            options=options,
        )[0]
        assert together[row].tokens == alone.tokens, f"row {row}"
        assert together[row].score == pytest.approx(alone.score, abs=1e-4)


def test_a_pair_beside_other_rows_changes_no_bit_of_them(
    base: BaseModel, pairs: dict[str, Artifact], resident: Sequence[ResidentAdapter]
) -> None:
    features = features_of(base, 4)
    token, static = load_adapter(base, pairs["token"]), load_adapter(base, pairs["static"])
    session, seen = Session(base), []
    for others in ([None, None], [token, static], [resident[0], token], [[(token, 0.5), (token, 0.5)], None]):
        session.set_adapters([None, resident[2], *others])
        seen.append(logits_of(session.model, base, features)[:2])
    assert all(same_bits(rows, seen[0]) for rows in seen)
    assert same_bits(seen[0][0], logits_of(base.model, base, features)[0])


def with_gate(artifact: Artifact, folder: Path, change: Callable[[dict], object]) -> Artifact:
    import shutil

    shutil.copytree(artifact.path, folder)
    tensors = {name: value.clone() for name, value in load_file(folder / GATE).items()}
    change(tensors)
    save_file(tensors, folder / GATE)
    return relisted(artifact, folder, GATE)


FC1 = "model.decoder.layers.0.fc1"


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("token", lambda t: t.pop(f"{FC1}.weight"), r"layers\.0\.fc1\.weight: missing"),
        ("token", lambda t: t.update(stray=torch.ones(2)), "stray: no such tensor in a token gate"),
        (
            "token",
            lambda t: t.update({f"{FC1}.weight": torch.ones(2, 5)}),
            r"fc1\.weight: shape \[2, 5\], expected \[2, 32\]",
        ),
        ("static", lambda t: t[f"{FC1}.bias"].fill_(float("nan")), "gate.safetensors: holds NaN or infinite"),
        (
            "static",
            lambda t: t.update({f"{FC1}.bias": torch.ones(2, dtype=torch.float16)}),
            "gate.safetensors: dtypes F16, F32, expected one float dtype",
        ),
    ],
)
def test_a_gate_that_does_not_fit_is_refused(
    base: BaseModel,
    pairs: dict[str, Artifact],
    tmp_path: Path,
    kind: str,
    change: Callable[[dict], object],
    message: str,
) -> None:
    with pytest.raises(IntegrityError, match=message):
        load_adapter(base, with_gate(pairs[kind], tmp_path / "broken", change))


@pytest.mark.parametrize("missing", ["experts/parent", "experts/child", "gate.safetensors"])
def test_a_pair_without_one_of_its_parts_is_refused(
    base: BaseModel, pairs: dict[str, Artifact], tmp_path: Path, missing: str
) -> None:
    import shutil

    shutil.copytree(pairs["token"].path, tmp_path / "half")
    path = tmp_path / "half" / missing
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    broken = Artifact(tmp_path / "half", pairs["token"].manifest, pairs["token"].digest)
    with pytest.raises(IntegrityError, match="safetensors is missing"):
        load_adapter(base, broken)


def test_an_adapter_that_is_called_a_pair_is_refused(base: BaseModel, adapters: list[Artifact]) -> None:
    manifest = adapters[0].manifest.model_copy(update={"method": "expert-pair"})
    with pytest.raises(IntegrityError, match="no lora section of role parent; .* describes no gate"):
        load_adapter(base, Artifact(adapters[0].path, manifest, adapters[0].digest))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["token", "uneven", "static"])
def test_every_part_of_a_pair_begins_at_a_multiple_of_16_bytes(
    base_folder: Path, pairs: dict[str, Artifact], kind: str, dtype: str
) -> None:
    pair = load_adapter(load_base_model(base_folder, device="cpu", dtype=dtype), pairs[kind])
    size = pair.buffer.element_size()
    assert pair.layout.size == pair.buffer.numel()
    for path, part in pair.layout.items():
        starts = [part.a_start, part.b_start] + ([] if part.bias_start is None else [part.bias_start])
        assert [start * size % 16 for start in starts] == [0] * len(starts), path
