"""Prediction of a teacher's tokens."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ecg_hf.nn.precision import full_precision

__all__ = ["latent_prediction_loss", "latent_statistics"]


def latent_prediction_loss(prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """SmoothL1 (beta 1) between predicted and teacher's tokens, mean over all elements; in float32.

    Paper: ECG-JEPA (Kim), official code (``nn.SmoothL1Loss()``).

    Args:
        prediction: ``(batch, tokens, dim)``.
        target: Same shape.
        weights: float or bool ``(batch, tokens)``: 1 where the token counts; all count if not given.
    """
    prediction, target = full_precision(prediction), full_precision(target)
    if weights is None:
        return F.smooth_l1_loss(prediction, target)
    error = F.smooth_l1_loss(prediction, target, reduction="none").mean(-1)
    weights = weights.to(error.dtype)
    return (error * weights).sum() / weights.sum().clamp(min=1.0)


@torch.no_grad()
def latent_statistics(prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> dict[str, Tensor]:
    """What tells a collapsing teacher from a learning one, whose losses may look alike.

    Args:
        prediction: ``(batch, tokens, dim)``.
        target: Same shape.
        weights: As in :func:`latent_prediction_loss`.

    Returns:
        Scalars. ``target_std``: standard deviation of target features over all tokens, 0 when every token has become
        the same. ``target_record_std``: the same of each record's mean token, 0 when every record has.
        ``unexplained``: squared error of the prediction over the targets' variance; 1 is what predicting their mean
        would give.
    """
    prediction, target = full_precision(prediction), full_precision(target)
    if weights is None:
        weights = target.new_ones(target.shape[:2])
    weights = weights.to(target.dtype)[..., None]
    total = weights.sum().clamp(min=1.0)
    mean = (target * weights).sum((0, 1)) / total
    variance = ((target - mean).square() * weights).sum((0, 1)) / total
    error = ((prediction - target).square() * weights).sum((0, 1)) / total
    records = (target * weights).sum(1) / weights.sum(1).clamp(min=1.0)
    return {
        "target_std": variance.sqrt().mean(),
        "target_record_std": records.std(0, correction=0).mean(),
        "unexplained": error.mean() / variance.mean().clamp(min=torch.finfo(variance.dtype).tiny),
    }
