"""Contrastive prediction of the future: which moment (CPC), or which record (TS-TCC), comes next?"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ecg_hf.nn.precision import similarity

__all__ = ["CpcLoss", "cpc_logits", "cpc_loss", "draw_negatives", "temporal_prediction_loss"]


class CpcLoss(NamedTuple):
    """What :func:`cpc_loss` gives.

    Attributes:
        loss: Scalar: summed over positions, averaged over records.
        mean_loss: Scalar: averaged over positions too; chance is ``log(1 + negatives)``.
        accuracy: Scalar: share of positions whose positive has the largest logit.
    """

    loss: Tensor
    mean_loss: Tensor
    accuracy: Tensor


def draw_negatives(
    rows: int, tokens: int, steps: int, negatives: int, *, generator: torch.Generator, device: torch.device
) -> Tensor:
    """Indices of negatives: uniform with replacement over all tokens of the sequence but the positive.

    Past, future and the predicting token itself may be drawn.

    Args:
        rows: Sequences.
        tokens: Length of each.
        steps: How far ahead is predicted: position i has its positive at i + steps.
        negatives: How many for each position.
        generator: Source of randomness on ``device``.
        device: Where to draw.

    Returns:
        int64 ``(rows, tokens - steps, negatives)``.
    """
    shape = (rows, tokens - steps, negatives)
    drawn = torch.randint(0, tokens - 1, shape, generator=generator, device=device)
    positive = torch.arange(steps, tokens, device=device)[:, None]
    return drawn + (drawn >= positive)


def cpc_logits(predictions: Tensor, targets: Tensor, negative_index: Tensor, steps: int) -> Tensor:
    """Dot products of each prediction with its positive and its negatives: neither normalised nor tempered.

    All pairs of a sequence are multiplied out, ``(batch, tokens - steps, tokens)``, and the drawn columns gathered:
    with half as many negatives as tokens this costs a fraction of gathering their vectors first.

    Args:
        predictions: float ``(batch, tokens, dim)``: row i predicts the target ``steps`` later.
        targets: float ``(batch, tokens, dim)``.
        negative_index: int64 ``(batch, tokens - steps, negatives)``.
        steps: Prediction distance in tokens.

    Returns:
        float32 (or float64) ``(batch, tokens - steps, 1 + negatives)``, the positive first.
    """
    positions = negative_index.shape[1]
    similar = similarity(predictions[:, :positions], targets)
    positive = similar.diagonal(offset=steps, dim1=1, dim2=2).unsqueeze(-1)
    return torch.cat([positive, similar.gather(2, negative_index)], dim=-1)


def cpc_loss(
    predictions: Tensor,
    targets: Tensor,
    negative_index: Tensor,
    steps: int,
    token_mask: Tensor | None = None,
) -> CpcLoss:
    """Cross entropy of picking the positive, at one prediction distance.

    Paper: arXiv 2605.12241 and 2509.25095 (official ``selfsupervised.py``): one horizon instead of CPC's 1..S, no
    bilinear matrix per step, gradients into predictions and targets alike, and the sum (not the mean) over positions.

    Args:
        predictions: float ``(batch, tokens, dim)``.
        targets: float ``(batch, tokens, dim)``.
        negative_index: int64 ``(batch, tokens - steps, negatives)``, see :func:`draw_negatives`.
        steps: Prediction distance in tokens.
        token_mask: bool ``(batch, tokens)``: False tokens (padding) neither predict, nor are predicted, nor serve as
            negatives. A record with fewer tokens has less weight, because it has fewer positions to sum over.
    """
    logits = cpc_logits(predictions, targets, negative_index, steps)
    batch, positions, _ = logits.shape
    weights = logits.new_ones(batch, positions)
    if token_mask is not None:
        weights = (token_mask[:, :positions] & token_mask[:, steps:]).to(logits.dtype)
        padded = ~token_mask.unsqueeze(1).expand(-1, positions, -1).gather(2, negative_index)
        logits = torch.cat([logits[..., :1], logits[..., 1:].masked_fill(padded, -torch.inf)], dim=-1)
    losses = (logits.logsumexp(-1) - logits[..., 0]) * weights
    total = losses.sum()
    with torch.no_grad():
        count = weights.sum().clamp(min=1.0)
        correct = (logits[..., 0] >= logits[..., 1:].amax(-1)).to(logits.dtype)
        accuracy, mean = (correct * weights).sum() / count, total / count
    return CpcLoss(total / batch, mean, accuracy)


def temporal_prediction_loss(predictions: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """Each step to come finds the prediction from its own record among those from all records.

    Paper: TS-TCC, Eqs. 1 and 2; dot products, without a temperature.

    Differs from official code: steps that hold no signal are left out of the mean.

    Args:
        predictions: float ``(rows, steps, dim)``.
        targets: float ``(rows, steps, dim)``.
        valid: float or bool ``(rows, steps)``: which targets count.
    """
    logits = similarity(targets.transpose(0, 1), predictions.transpose(0, 1))
    losses = logits.logsumexp(2) - logits.diagonal(dim1=1, dim2=2)
    weights = valid.to(losses.dtype).T
    return (losses * weights).sum() / weights.sum().clamp(min=1.0)
