"""Losses of classification heads."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ecg_hf.errors import ConfigurationError

__all__ = ["classification_loss"]


def classification_loss(logits: Tensor, labels: Tensor, problem_type: str) -> Tensor:
    """Loss of an ECG classifier.

    Args:
        logits: float ``(batch, classes)``.
        labels: ``multi_label_classification``: 0/1 ``(batch, classes)``, NaN where a label is unknown;
            ``single_label_classification``: int64 ``(batch,)``; ``regression``: float ``(batch, classes)``.
        problem_type: One of the three above, as ``config.problem_type``.

    Returns:
        Scalar mean loss in float32.

    Raises:
        ConfigurationError: if ``problem_type`` is none of them.
    """
    if problem_type == "multi_label_classification":
        target = labels.float()
        known = ~target.isnan()
        losses = F.binary_cross_entropy_with_logits(logits.float(), target.nan_to_num(), reduction="none")
        return (losses * known).sum() / known.sum().clamp(min=1)
    if problem_type == "single_label_classification":
        return F.cross_entropy(logits.float(), labels.long())
    if problem_type == "regression":
        return F.mse_loss(logits.float(), labels.float().view_as(logits))
    raise ConfigurationError(f"unknown problem_type {problem_type!r}", value=problem_type)
