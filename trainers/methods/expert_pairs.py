"""Expert pairs in training: a frozen parent, a trainable child, and the gate that weighs them.

    trainable = trainable_pair(model_with_the_child, parent, "token")

LoRA-Whisper (section 3.3, figure 2) lets two LoRAs take part in the forward pass and defines no gate. Ours:

    y = W·x + g₀(x)·s_p·B_p·A_p·x + g₁(x)·s_c·B_c·A_c·x,   g(x) = softmax(G·x + b)

for every linear that either half adapts, each token by itself (kind `token`), or without G (kind `static`).
G and b start at zero: equal shares. `adapter_hub.model.pairs` computes the same from the files.

Layers of our own, not PEFT's `LoraVariant`: that interface is private, and PEFT reloads such a child as
an ordinary LoRA without a warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from adapter_hub.artifact.folder import Artifact
from adapter_hub.artifact.peft import PREFIX, WEIGHTS_FILE
from adapter_hub.errors import InvalidInputError
from adapter_hub.trainers.methods.injection import lora_layers, own_section
from adapter_hub.trainers.methods.low_rank import add_up_projection, down_project
from adapter_hub.trainers.methods.trainable import State, TrainableModel, check_names

EXPERTS = 2  # the parent, then the child


@dataclass(frozen=True)
class LoraFactors:
    """The two matrices of a LoRA at one linear.

    Attributes:
        a: A, `[rank, inputs]` float32.
        b: B, `[outputs, rank]` float32.
        scaling: alpha / rank, by which B·A is multiplied.
    """

    a: Tensor
    b: Tensor
    scaling: float


class GatedLinear(nn.Module):
    """A frozen linear with two LoRAs and their gate.

    Args:
        linear: of the base model, frozen.
        parent: frozen; None where it does not adapt this linear.
        child: trained; None where it does not adapt this linear.
        kind: of the gate, `token` or `static`.
        dropout: probability that an input of the child is set to zero in training.
    """

    parent_a: Tensor
    parent_b: Tensor

    def __init__(
        self,
        linear: nn.Linear,
        parent: LoraFactors | None,
        child: LoraFactors | None,
        kind: str,
        dropout: float,
    ) -> None:
        super().__init__()
        place = linear.weight.device
        self.linear, self.has_parent, self.has_child = linear, parent is not None, child is not None
        if parent is not None:
            self.register_buffer("parent_a", parent.a.to(place))
            self.register_buffer("parent_b", (parent.b * parent.scaling).to(place))
        if child is not None:
            self.child_a, self.child_b = nn.Parameter(child.a.to(place)), nn.Parameter(child.b.to(place))
            self.scaling, self.dropout = child.scaling, nn.Dropout(dropout)
        shape = (EXPERTS, linear.in_features)
        self.gate_weight = nn.Parameter(torch.zeros(shape, device=place)) if kind == "token" else None
        self.gate_bias = nn.Parameter(torch.zeros(EXPERTS, device=place))

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated sum of the linear and both LoRAs.

        Args:
            x: `[…, inputs]` float.

        Returns:
            `[…, outputs]`, in the dtype of the linear's output.
        """
        y: Tensor = self.linear(x)
        hidden = self._projected(x)
        logits = self.gate_bias[:, None]
        if "gate" in hidden:
            logits = logits + hidden["gate"]
        shares = logits.softmax(0)
        weighted, ups = [], []
        if self.has_parent:
            weighted.append(hidden["parent"] * shares[:1])
            ups.append(self.parent_b)
        if self.has_child:
            weighted.append(hidden["child"] * (shares[1:] * self.scaling))
            ups.append(self.child_b)
        return add_up_projection(y, torch.cat(weighted), torch.cat(ups, dim=1))

    def _projected(self, x: Tensor) -> dict[str, Tensor]:
        """Return gate logits and what each A gives, by name, `[rank, tokens]` float32, in one product."""
        downs: dict[str, Tensor] = {}
        if self.gate_weight is not None:
            downs["gate"] = self.gate_weight
        if self.has_parent:
            downs["parent"] = self.parent_a
        dropout = self.has_child and self.training and self.dropout.p > 0  # the child's own view of x
        if self.has_child and not dropout:
            downs["child"] = self.child_a
        hidden: dict[str, Tensor] = {}
        if downs:
            parts = (
                down_project(x, torch.cat(list(downs.values())))
                .float()
                .split([len(a) for a in downs.values()])
            )
            hidden = dict(zip(downs, parts, strict=True))
        if dropout:
            hidden["child"] = down_project(self.dropout(x), self.child_a).float()
        return hidden


def trainable_pair(model: Any, parent: Artifact, kind: str) -> TrainableModel:
    """Return an expert pair that can be trained.

    Args:
        model: a PEFT model whose LoRA becomes the child; its layers are replaced by gated ones.
        parent: an ordinary LoRA of the same base model, with modules and ranks of its own.
        kind: of the gate, `token` or `static`.

    Raises:
        InvalidInputError: the parent adapts linears that the base model lacks, or that have another width.
    """
    whisper, layers = model.get_base_model(), lora_layers(model)
    parents = _parent_factors(parent)
    gated: dict[str, GatedLinear] = {}
    for path in sorted({*layers, *parents}):
        layer = layers.get(path)
        linear = layer.base_layer if layer is not None else _linear(whisper, path, parent)
        own = parents.get(path)
        if own is not None and (own.b.shape[0], own.a.shape[1]) != tuple(linear.weight.shape):
            raise InvalidInputError(f"expert {parent.ref}: made for another width at {path}")
        dropout = 0.0
        if layer is not None and isinstance(layer.lora_dropout["default"], nn.Dropout):
            dropout = layer.lora_dropout["default"].p
        gated[path] = GatedLinear(
            linear, own, None if layer is None else _child_factors(layer), kind, dropout
        )
        whisper.set_submodule(path, gated[path])
    return TrainableModel(whisper, whisper, lambda: _state(gated), lambda state: _load(gated, state))


def split_state(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the child's tensors as PEFT names them, and the gate's as `gate.safetensors` does.

    Args:
        state: of a model made by `trainable_pair`.
    """
    child = {name: tensor for name, tensor in state.items() if name.startswith(PREFIX)}
    return child, {name: tensor for name, tensor in state.items() if name not in child}


def _parent_factors(parent: Artifact) -> dict[str, LoraFactors]:
    tensors = load_file(Path(parent.path) / WEIGHTS_FILE)
    factors = {}
    for module in own_section(parent, "expert").modules:
        a, b = (tensors[f"{PREFIX}{module.path}.lora_{matrix}.weight"].float() for matrix in "AB")
        factors[module.path] = LoraFactors(a, b, module.scaling)
    return factors


def _child_factors(layer: Any) -> LoraFactors:
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    return LoraFactors(a.detach().clone(), b.detach().clone(), layer.scaling["default"])


def _linear(whisper: Any, path: str, parent: Artifact) -> nn.Linear:
    found = dict(whisper.named_modules()).get(path)
    if not isinstance(found, nn.Linear):
        raise InvalidInputError(f"expert {parent.ref}: the base model has no linear at {path}")
    return found


def _tensors(gated: Mapping[str, GatedLinear]) -> dict[str, Tensor]:
    """Return everything that is trained under the names of the files."""
    found: dict[str, Tensor] = {}
    for path, layer in gated.items():
        if layer.has_child:
            found[f"{PREFIX}{path}.lora_A.weight"] = layer.child_a
            found[f"{PREFIX}{path}.lora_B.weight"] = layer.child_b
        if layer.gate_weight is not None:
            found[f"{path}.weight"] = layer.gate_weight
        found[f"{path}.bias"] = layer.gate_bias
    return found


def _state(gated: Mapping[str, GatedLinear]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in _tensors(gated).items()}


@torch.no_grad()
def _load(gated: Mapping[str, GatedLinear], state: State) -> None:
    tensors = _tensors(gated)
    check_names(state, tensors)
    for name, tensor in tensors.items():
        tensor.copy_(state[name])
