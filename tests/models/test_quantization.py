"""4-bit layers compute what their stored numbers say, on every processor."""

from __future__ import annotations

import bitsandbytes
import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, get_4bit_type, quantize_4bit
from torch import nn

from opinionlm.models.quantization import mend_cpu_kernels, quantized_modules

BLOCK = 64


def quantized_layer(rows: int, width: int, kind: str = "nf4") -> bitsandbytes.nn.Linear4bit:
    torch.manual_seed(width)
    layer = bitsandbytes.nn.Linear4bit(width, rows, bias=False, compute_dtype=torch.float32, quant_type=kind)
    layer.weight = bitsandbytes.nn.Params4bit(torch.randn(rows, width), quant_type=kind, compress_statistics=False)
    return layer.to("cpu")


def expanded_by_hand(layer: bitsandbytes.nn.Linear4bit) -> torch.Tensor:
    """Each half byte, the upper one first, is a place in the table of values; 64 of them share a scale."""
    state, octets = layer.weight.quant_state, layer.weight.data.flatten()
    places = torch.stack([octets >> 4, octets & 15], 1).flatten().long()
    scales = state.absmax.repeat_interleave(BLOCK)[: len(places)]
    return (get_4bit_type(state.quant_type, "cpu")[places] * scales)[: state.shape.numel()].view(state.shape)


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("width", [8, 16, 24, 32, 48, 64, 80, 96, 128, 176])
@pytest.mark.parametrize("rows", [7, 64])
def test_weights_of_any_width_expand_to_what_is_stored(rows: int, width: int, kind: str) -> None:
    layer = quantized_layer(rows, width, kind)
    mend_cpu_kernels(nn.Sequential(layer))
    expected = expanded_by_hand(layer)
    assert torch.equal(dequantize_4bit(layer.weight.data, layer.weight.quant_state), expected)
    texts = torch.randn(3, width)
    with torch.no_grad():
        assert layer.eval()(texts).numpy() == pytest.approx((texts @ expected.T).numpy(), abs=1e-4)
    half, state = quantize_4bit(expected.bfloat16(), quant_type=kind)
    assert (dequantize_4bit(half, state).float() - expected).abs().max() < 0.05


def test_nothing_is_packed_without_gradients() -> None:
    model = nn.Sequential(quantized_layer(64, 96), nn.Linear(64, 2))
    mend_cpu_kernels(model)
    assert quantized_modules(model) == ["0"] and model[0].support_avx512bf16_for_cpu is False
    stored = model[0].weight.data.clone()
    with torch.no_grad():
        model.eval()(torch.randn(2, 96))
    assert torch.equal(model[0].weight.data, stored)
