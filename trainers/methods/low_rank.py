"""The low-rank update of LoRA (arXiv 2106.09685, section 4.1), forward and backward, ordered for speed.

    use_fast_lora(model)        # of PEFT; the layers stay PEFT's, weights and names as they are
    y = add_up_projection(y, down_project(x, down) * scaling, up)        # the same for layers of our own

PEFT computes `W x + scaling * B(A x)` layer by layer and leaves the gradients to autograd: forward, two thin
products and three passes over the outputs; backward, products of a tall matrix with a thin one in the
orientation that MKL is slowest at (a step of the embedded base model spends half as long on the LoRA as on
Whisper). Here the thin matrix is `[rank, tokens]`, never `[tokens, rank]`, and in float32 the forward pass
multiplies once, with W + scaling * B A; bfloat16 would round a small B A away. For the backward pass only
the input is kept, where PEFT's way keeps two more tensors per layer.

Same function, other order of summation: results agree to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

ADAPTER = "default"


class _MergedLinear(torch.autograd.Function):
    """`y = x (W + scaling * B A)' + bias`, W and bias frozen."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor,
                scaling: float) -> Tensor:  # fmt: skip
        ctx.save_for_backward(x, weight, down, up)
        ctx.scaling = scaling
        return functional.linear(x, torch.addmm(weight, up, down, alpha=scaling), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, down, up = ctx.saved_tensors
        rows, grads = x.reshape(-1, x.shape[-1]), grad.reshape(-1, grad.shape[-1])
        # [rank, tokens]: the thin side first, twice as fast as [tokens, rank], five times in the worst case
        projected = torch.mm(down, rows.t())
        projected_grads = torch.mm(up.t(), grads.t())
        for_up = torch.mm(projected, grads).mul_(ctx.scaling).t()
        for_down = torch.mm(projected_grads, rows).mul_(ctx.scaling)
        for_x = None
        if ctx.needs_input_grad[0]:
            for_x = torch.mm(grads, torch.addmm(weight, up, down, alpha=ctx.scaling)).view_as(x)
        return for_x, None, None, for_down, for_up, None


class _DownProjection(torch.autograd.Function):
    """`A x'`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, down: Tensor) -> Tensor:
        dtype = _arithmetic(x)
        rows, down = x.reshape(-1, x.shape[-1]).to(dtype), down.to(dtype)
        ctx.save_for_backward(rows, down)
        ctx.shape = x.shape
        return torch.mm(down, rows.t())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, down = ctx.saved_tensors
        for_x = torch.mm(grad.t(), down).view(ctx.shape) if ctx.needs_input_grad[0] else None
        return for_x, torch.mm(grad, rows)


class _AddUpProjection(torch.autograd.Function):
    """`y + hidden' B'`."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, hidden: Tensor, up: Tensor) -> Tensor:
        hidden, up = hidden.to(y.dtype), up.to(y.dtype)
        ctx.save_for_backward(hidden, up)
        return torch.addmm(y.reshape(-1, y.shape[-1]), hidden.t(), up.t()).view_as(y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden, up = ctx.saved_tensors
        grads = grad.reshape(-1, grad.shape[-1])
        return grad, torch.mm(up.t(), grads.t()), torch.mm(hidden, grads).t()


def _arithmetic(x: Tensor) -> torch.dtype:
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def down_project(x: Tensor, down: Tensor) -> Tensor:
    """Return `down x'`, what a LoRA's A gives.

    Args:
        x: `[…, inputs]` float.
        down: A, `[rank, inputs]` float.

    Returns:
        `[rank, tokens]`, where tokens are all of x's other dimensions; in autocast's dtype under autocast,
        else in x's.
    """
    hidden: Tensor = _DownProjection.apply(x, down)
    return hidden


def add_up_projection(y: Tensor, hidden: Tensor, up: Tensor) -> Tensor:
    """Return `y + (up hidden)'`, what a LoRA's B adds to the output of its linear.

    Args:
        y: `[…, outputs]` float.
        hidden: `[rank, tokens]`, from `down_project`, scaled.
        up: B, `[outputs, rank]` float.

    Returns:
        `[…, outputs]` in y's dtype.
    """
    with torch.autocast(y.device.type, enabled=False):
        wide: Tensor = _AddUpProjection.apply(y, hidden, up)
    return wide


class _FastForward:
    """The `forward` of one of PEFT's LoRA linears, computed with fewer passes."""

    def __init__(self, layer: Linear) -> None:
        self.layer, self.peft_forward = layer, layer.forward

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        layer: Any = self.layer
        simple = not (args or kwargs or layer.disable_adapters or layer.merged)
        if not simple or layer.active_adapters != [ADAPTER]:
            return self.peft_forward(x, *args, **kwargs)
        base, scaling = layer.base_layer, layer.scaling[ADAPTER]
        down, up = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
        if torch.is_autocast_enabled(x.device.type):
            return add_up_projection(base(x), down_project(x, down) * scaling, up)
        y: Tensor = _MergedLinear.apply(x, base.weight, base.bias, down, up, scaling)
        return y


def use_fast_lora(model: nn.Module) -> int:
    """Make the plain LoRA layers of a PEFT model compute as this module does.

    Layers with dropout, with a bias of their own or a variant such as DoRA, and those on a base layer that
    is trained or not float32, keep PEFT's way.

    Args:
        model: its layers get another `forward`.

    Returns:
        The number of layers that were changed.
    """
    found = [module for module in model.modules() if type(module) is Linear and _is_plain_lora(module)]
    for layer in found:
        layer.forward = _FastForward(layer)
    return len(found)


def cast_frozen_linears(whisper: Any, dtype: torch.dtype) -> int:
    """Store the frozen linears of a Whisper in the dtype that autocast casts them to at every step.

    The same numbers in half the memory, and without a second copy for the backward pass. What is trained
    stays in float32, and so does the output layer, whose weights are the embedding's.

    Args:
        whisper: a model of any family; it is changed.
        dtype: autocast's.

    Returns:
        The number of linears that were changed.
    """
    found = [
        module
        for module in whisper.modules()
        if type(module) is nn.Linear
        and module is not getattr(whisper, "proj_out", None)
        and not any(parameter.requires_grad for parameter in module.parameters())
    ]
    for linear in found:
        linear.to(dtype)
    return len(found)


def _is_plain_lora(layer: Any) -> bool:
    if list(layer.lora_A) != [ADAPTER] or type(layer.base_layer) is not nn.Linear:
        return False
    frozen = not any(parameter.requires_grad for parameter in layer.base_layer.parameters())
    float32 = layer.base_layer.weight.dtype == torch.float32
    no_dropout = isinstance(layer.lora_dropout[ADAPTER], nn.Identity)
    no_bias = layer.lora_B[ADAPTER].bias is None
    return bool(
        frozen and float32 and no_dropout and no_bias and not layer.lora_variant and not layer.fan_in_fan_out
    )
