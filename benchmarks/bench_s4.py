"""S4 as ECG-CPC uses it: against a transformer block, its kernel, and the loss' similarities.

Three comparisons:

* an S4 block (post-norm, GLU) against a transformer block of the same width (8 heads, MLP of four times the width,
  ``scaled_dot_product_attention``), over 300, 1,200 and 4,800 tokens, forward and forward + backward. The S4 block
  has a sixth of the transformer block's weights, as its only linear layer is the GLU's: with few tokens that is
  where the ratio comes from, with many it is attention's quadratic cost;
* the convolution kernel from the precomputed basis against one whose basis is rebuilt in each step;
* the CPC similarities of one batch: all pairs multiplied out and the drawn ones gathered, against gathering the
  negatives' vectors first. Both give the same numbers, which is checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from ecg_hf.nn.backbones.s4 import S4Block, S4Layer
from ecg_hf.nn.backbones.transformer import TransformerBlock
from ecg_hf.nn.losses import cpc_logits, draw_negatives
from rows import Row, alternate, memory


def sdpa(
    module: object, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **_: object
) -> tuple:
    """``scaled_dot_product_attention`` as an attention kernel of this package."""
    attended = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return attended.transpose(1, 2).contiguous(), None


def against_transformer(tokens: int, batch: int, width: int, rounds: int) -> Iterator[Row]:
    """One block each, forward and forward + backward."""
    blocks = {
        "s4": S4Block(width, max_length=tokens),
        "transformer": TransformerBlock(width, 8, 4 * width, kernel=sdpa),
    }
    values = torch.randn(batch, tokens, width)

    def forward(name: str) -> None:
        with torch.no_grad():
            blocks[name](values)

    def training(name: str) -> None:
        blocks[name].zero_grad(set_to_none=True)
        blocks[name](values.requires_grad_()).sum().backward()
        values.grad = None

    for label, step in (("forward", forward), ("forward and backward", training)):
        name = f"S4 block, {tokens} tokens x {batch}, width {width}, {label}"
        ours, reference = partial(step, "s4"), partial(step, "transformer")
        yield alternate(name, ours, reference, "transformer block", rounds=rounds, operators=True)
        yield memory(name, ours, reference, "transformer block")


def kernels(tokens: int, width: int, rounds: int) -> Row:
    """The kernel as it is computed in each step, and with its basis rebuilt each time."""
    layer = S4Layer(width, max_length=tokens)

    @torch.no_grad()
    def precomputed() -> Tensor:
        return layer.kernel(tokens)

    @torch.no_grad()
    def rebuilt() -> Tensor:
        return torch.einsum("chn,hnl->chl", layer.C, layer.make_basis(tokens))

    torch.testing.assert_close(precomputed(), rebuilt())
    name = f"S4 kernel, {tokens} tokens, width {width}"
    return alternate(name, precomputed, rebuilt, "basis rebuilt", rounds=rounds, operators=True)


def similarities(tokens: int, batch: int, width: int, rounds: int) -> Row:
    """Logits of the CPC loss and their gradient, both ways."""
    generator = torch.Generator().manual_seed(0)
    index = draw_negatives(batch, tokens, 14, 128, generator=generator, device=torch.device("cpu"))
    predictions = torch.randn(batch, tokens, width, requires_grad=True)
    targets = torch.randn(batch, tokens, width, requires_grad=True)

    def gathered() -> Tensor:
        places = torch.arange(batch)[:, None, None]
        candidates = torch.cat([targets[:, 14:].unsqueeze(2), targets[places, index]], 2)
        return (candidates * predictions[:, : tokens - 14].unsqueeze(2)).sum(-1)

    def all_pairs() -> Tensor:
        return cpc_logits(predictions, targets, index, 14)

    def with_gradient(logits: Callable[[], Tensor]) -> None:
        torch.autograd.grad(logits().logsumexp(-1).sum(), (predictions, targets))

    with torch.no_grad():
        torch.testing.assert_close(all_pairs(), gathered(), rtol=1e-3, atol=1e-3)
    return alternate(
        f"CPC similarities and gradient, {tokens} tokens x {batch}, width {width}",
        lambda: with_gradient(all_pairs),
        lambda: with_gradient(gathered),
        "negatives gathered",
        rounds=rounds,
        operators=True,
    )


def rows(quick: bool) -> Iterator[Row]:
    """Blocks of three lengths, two kernels, one loss; narrow ones where it has to be quick."""
    width, rounds = (128, 5) if quick else (512, 7)
    torch.manual_seed(0)
    for tokens, batch in ((300, 4), (1200, 1), (4800, 1)):
        yield from against_transformer(tokens, batch, width, rounds)
    for tokens in (300, 1200):
        yield kernels(tokens, width, rounds)
    yield similarities(300, 4, width, rounds)
