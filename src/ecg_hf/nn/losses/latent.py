"""Prediction of a teacher's tokens."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ecg_hf.nn.precision import full_precision

__all__ = ["latent_prediction_loss", "latent_statistics"]


def latent_prediction_loss(
    prediction: Tensor, target: Tensor, weights: Tensor | None = None, *, beta: float = 1.0
) -> Tensor:
    """SmoothL1 between predicted and teacher's tokens, mean over all elements; in float32.

    Papers: ECG-JEPA (Kim), official code (``nn.SmoothL1Loss()``); ECG-JEPA (Weimann), the absolute error, ``beta`` 0.

    Args:
        prediction: ``(batch, tokens, dim)``.
        target: Same shape.
        weights: float or bool ``(batch, tokens)``: 1 where the token counts; all count if not given.
        beta: Error below which it is squared; 0 for the absolute error throughout.
    """
    prediction, target = full_precision(prediction), full_precision(target)
    if weights is None:
        return F.smooth_l1_loss(prediction, target, beta=beta)
    error = F.smooth_l1_loss(prediction, target, reduction="none", beta=beta).mean(-1)
    weights = weights.to(error.dtype)
    return (error * weights).sum() / weights.sum().clamp(min=1.0)


@torch.no_grad()
def latent_statistics(prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> dict[str, Tensor]:
    """Statistics that tell a collapsing teacher from a learning one, as their losses may look alike.

    Args:
        prediction: ``(batch, tokens, dim)``.
        target: Same shape.
        weights: As in :func:`latent_prediction_loss`.

    Returns:
        Scalars. ``target_std``: standard deviation of the targets' features over all tokens. ``target_content_std``:
        the same over records at one place (same lead, same time), which is 0 if the teacher encodes only where a
        token is and nothing about the record. ``unexplained``: squared error of the prediction over the variance
        around each place's mean; 1 is what knowing the place alone would give. The latter two are for batches of
        more than one record with the same mask; with a mask per record their places are mixed.
    """
    prediction, target = full_precision(prediction), full_precision(target)
    weights = target.new_ones(target.shape[:2]) if weights is None else weights.to(target.dtype)
    weights = weights[..., None]
    total = weights.sum().clamp(min=1.0)

    def average(values: Tensor) -> Tensor:
        return (values * weights).sum((0, 1)) / total

    statistics = {"target_std": average((target - average(target)).square()).sqrt().mean()}
    if len(target) > 1:
        place = (target * weights).sum(0) / weights.sum(0).clamp(min=1.0)
        variance = average((target - place).square()).mean()
        error = average((prediction - target).square()).mean()
        statistics["target_content_std"] = variance.sqrt()
        statistics["unexplained"] = error / variance.clamp(min=1e-6)
    return statistics
