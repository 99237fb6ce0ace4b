"""Packed weights give the same numbers, and are left out where they cannot be had."""

from __future__ import annotations

import pytest
import torch

from adapter_hub.model.packing import pack, packed_linear


@pytest.mark.parametrize("rows", [1, 5, 40])
def test_a_packed_linear_gives_what_a_plain_one_gives(rows: int) -> None:
    torch.manual_seed(1)
    weight, bias, x = torch.randn(1024, 512), torch.randn(1024), torch.randn(rows, 3, 512)
    packed = pack(weight)
    if packed is None:
        pytest.skip("this PyTorch has no such kernel")
    for added in (bias, None):
        found = packed_linear(x, packed, added)
        torch.testing.assert_close(found, torch.nn.functional.linear(x, weight, added), atol=1e-3, rtol=1e-4)


def test_small_and_half_precision_weights_are_not_packed() -> None:
    assert pack(torch.randn(64, 64)) is None
    assert pack(torch.randn(1024, 512).bfloat16()) is None
