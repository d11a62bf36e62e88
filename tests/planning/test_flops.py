"""Operations against formulas worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from ecg_hf.nn.attention import eager_attention
from ecg_hf.nn.backbones.s4 import fft_convolve
from ecg_hf.nn.backbones.transformer import TransformerBlock
from ecg_hf.planning.flops import OperationCounts, count_operations


def sdpa(_: object, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **__: object) -> tuple:
    attended = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return attended.transpose(1, 2).contiguous(), None


@pytest.mark.parametrize("kernel", [sdpa, eager_attention], ids=["fused", "eager"])
def test_transformer_block(kernel: object) -> None:
    """24 B T D^2 in the linear layers and 4 B T^2 D in attention; twice that backward, whatever the kernel."""
    batch, tokens, width = 3, 20, 32
    block = TransformerBlock(width, 4, 4 * width, kernel=kernel)
    hidden = torch.randn(batch, tokens, width, requires_grad=True)
    expected = 24 * batch * tokens * width**2 + 4 * batch * tokens**2 * width
    with count_operations() as forward:
        total = block(hidden).sum()
    with count_operations() as backward:
        total.backward()
    assert forward.products == expected
    assert backward.products == 2 * expected
    assert forward.convolutions == forward.fourier == 0.0
    assert forward.other_elements > 3 * batch * tokens * width  # norms, GELU, residuals


@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("needs_input_gradient", [False, True])
def test_grouped_convolution(groups: int, needs_input_gradient: bool) -> None:
    """Each gradient of a convolution costs what its forward pass does, in groups too."""
    batch, channels, filters, kernel, length = 2, 8, 16, 5, 30
    layer = nn.Conv1d(channels, filters, kernel, groups=groups, bias=False)
    signal = torch.randn(batch, channels, length, requires_grad=needs_input_gradient)
    expected = 2 * batch * (length - kernel + 1) * filters * (channels // groups) * kernel
    with count_operations() as forward:
        total = layer(signal).sum()
    with count_operations() as backward:
        total.backward()
    assert forward.convolutions == expected
    assert backward.convolutions == (1 + needs_input_gradient) * expected


def test_transposed_convolution() -> None:
    layer = nn.ConvTranspose1d(4, 6, 3, stride=2, bias=False)
    signal = torch.randn(2, 4, 10, requires_grad=True)
    expected = 2 * 2 * 10 * 4 * 6 * 3
    with count_operations() as counts:
        layer(signal).sum().backward()
    assert counts.convolutions == 3 * expected


def test_fourier_convolution() -> None:
    """Two real transforms of signal and kernel and one back, each 2.5 n log2 n, and one complex product."""
    batch, features, length = 3, 4, 64
    signal, kernel = torch.randn(batch, features, length), torch.randn(features, length)
    with count_operations() as counts:
        fft_convolve(signal, kernel)
    one = 2.5 * 2 * length * math.log2(2 * length)
    rows = batch * features
    assert counts.fourier == pytest.approx((2 * rows + features) * one + 6 * rows * (length + 1))
    assert counts.products == 0.0


def test_elements_of_everything_else() -> None:
    values = torch.randn(5, 7)
    with count_operations() as counts:
        (values + 1.0).T.exp().sum()
    assert counts.other_elements == 35 + 35 + 1  # the transpose is a view and writes nothing


def test_counts_add_up_and_scale() -> None:
    one = OperationCounts(products=1.0, convolutions=2.0, fourier=3.0, other_elements=4.0)
    both = (one + one) * 0.5
    assert both == one
    assert (one.matrix, one.total) == (3.0, 6.0)
