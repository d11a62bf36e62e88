"""Factorised CroPA equals masked attention, and what it is built of."""

import pytest
import torch
from torch.testing import assert_close

from ecg_hf.nn.attention import SelfAttention, eager_attention
from ecg_hf.nn.backbones.transformer import DropPath, TransformerBlock, TransformerStack, drop_path_rates
from ecg_hf.nn.cropa import (
    cropa_kernel,
    cropa_mask,
    factorised_cropa_mask,
    masked_cropa_mask,
    restrict_cropa,
)
from ecg_hf.nn.positions import grid_sincos_positions, sincos_positions


def token_mask(kind: str, batch: int, leads: int, times: int) -> torch.Tensor | None:
    present = torch.ones(batch, leads, times, dtype=torch.bool)
    if kind == "none":
        return None
    if kind == "leads":
        present[0, leads // 2] = False
        present[1, : leads - 1] = False
    elif kind == "padding":
        present[0, :, times // 2 :] = False
    elif kind == "nothing":
        present[0] = False
    else:
        present = torch.rand(batch, leads, times, generator=torch.Generator().manual_seed(1)) > 0.4
    return present.flatten(1)


@pytest.mark.parametrize("kind", ["none", "leads", "padding", "scattered", "nothing"])
@pytest.mark.parametrize(("leads", "times"), [(8, 50), (3, 7), (1, 9), (5, 1)])
def test_factorised_equals_masked_forward_and_backward(kind: str, leads: int, times: int):
    torch.manual_seed(0)
    present = token_mask(kind, 2, leads, times)
    attention = SelfAttention(32, 4, kernel=cropa_kernel(eager_attention), qkv_bias=False)
    tokens = torch.randn(2, leads * times, 32)
    masks = (
        masked_cropa_mask(cropa_mask(leads, times), present),
        factorised_cropa_mask(leads, times, present, tokens.device),
    )
    results = []
    for mask in masks:
        leaf = tokens.clone().requires_grad_()
        attention.zero_grad()
        output, weights = attention(leaf, mask)
        assert (weights is None) == (mask.ndim == 5)
        # Outputs of absent tokens count too: they are defined, if useless, and agree.
        (output * torch.arange(output.numel()).view_as(output).cos()).sum().backward()
        results.append((output.detach(), leaf.grad, attention.qkv.weight.grad.clone()))
    for masked, factorised in zip(*results, strict=True):
        assert_close(factorised, masked, rtol=1e-5, atol=1e-5)


def test_a_token_sees_its_lead_and_its_moment():
    """Which inputs an output depends on, by gradient, with nothing but the definition to compare with."""
    attention = SelfAttention(16, 2, kernel=cropa_kernel(eager_attention))
    tokens = torch.randn(1, 4 * 5, 16, requires_grad=True)
    output, _ = attention(tokens, factorised_cropa_mask(4, 5, None, tokens.device))
    lead, time = 2, 3
    output[0, lead * 5 + time].sum().backward()
    reached = tokens.grad[0].abs().sum(-1).gt(0).view(4, 5)
    expected = torch.zeros(4, 5, dtype=torch.bool)
    expected[lead], expected[:, time] = True, True
    assert torch.equal(reached, expected)


def test_restricting_the_mask_is_taking_rows_and_columns():
    mask = cropa_mask(8, 50)
    assert mask.sum(1).unique().tolist() == [57]
    moments = torch.randperm(50, generator=torch.Generator().manual_seed(0))[:23].sort().values
    kept = (torch.arange(8)[:, None] * 50 + moments).flatten()
    assert torch.equal(restrict_cropa(mask, 8, 23), mask[kept][:, kept])


def test_absent_tokens_are_not_attended_to():
    attention = SelfAttention(16, 2, kernel=cropa_kernel(eager_attention)).eval()
    present = token_mask("scattered", 2, 4, 6)
    tokens = torch.randn(2, 24, 16)
    changed = torch.where(present[..., None], tokens, torch.full_like(tokens, 50.0))
    mask = factorised_cropa_mask(4, 6, present, tokens.device)
    a, b = (attention(x, mask)[0][present] for x in (tokens, changed))
    assert_close(a, b)


@pytest.mark.parametrize("layout", ["masked", "factorised"])
def test_half_precision(layout: str):
    attention = SelfAttention(16, 2, kernel=cropa_kernel(eager_attention))
    tokens = torch.randn(1, 20, 16)
    mask = masked_cropa_mask(cropa_mask(4, 5), None)
    if layout == "factorised":
        mask = factorised_cropa_mask(4, 5, None, tokens.device)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = attention(tokens, mask)[0]
    assert half.dtype == torch.bfloat16
    assert_close(half.float(), attention(tokens, mask)[0], rtol=0.05, atol=0.02)


def test_factorised_attention_refuses_dropout():
    attention = SelfAttention(8, 2, kernel=cropa_kernel(eager_attention), dropout=0.1)
    with pytest.raises(ValueError, match="no dropout"):
        attention(torch.randn(1, 6, 8), factorised_cropa_mask(2, 3, None, torch.device("cpu")))


def test_grid_positions_have_time_first_and_lead_second():
    table = grid_sincos_positions([0, 2, 5], 7, 16)
    assert table.shape == (3, 7, 16)
    assert_close(table[1, :, :8], sincos_positions(7, 8))
    assert_close(table[:, 4, 8:], sincos_positions(6, 8)[[0, 2, 5]])
    with pytest.raises(ValueError, match="multiple of 4"):
        grid_sincos_positions([0], 3, 6)


def test_positions_are_exact():
    angle = torch.tensor(49.0, dtype=torch.float64) * 10_000.0 ** -(1 / 8)
    assert_close(sincos_positions(50, 16)[49, 1], angle.sin().float(), rtol=0.0, atol=1e-7)


def test_positions_are_added_before_every_block():
    torch.manual_seed(0)
    stack = TransformerStack(3, lambda: TransformerBlock(8, 2, 16)).eval()
    tokens, positions = torch.randn(2, 5, 8), torch.randn(1, 5, 8)
    expected = tokens
    for block in stack.blocks:
        expected = block(expected + positions)
    assert_close(stack(tokens, None, positions), expected)


def test_drop_path_drops_whole_rows_and_keeps_the_mean():
    torch.manual_seed(0)
    layer = DropPath(0.25)
    branch = torch.ones(4000, 3, 2)
    dropped = layer(branch)
    assert_close(dropped.unique(), torch.tensor([0.0, 1 / 0.75]))
    assert (dropped.flatten(1).std(1) == 0).all()
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.03)
    assert layer.eval()(branch) is branch
    assert drop_path_rates(0.1, 12)[0] == 0.0
    assert drop_path_rates(0.1, 12)[11] == pytest.approx(0.1)
    assert drop_path_rates(0.1, 1) == [0.0]
    with pytest.raises(ValueError, match="probability"):
        DropPath(1.0)
