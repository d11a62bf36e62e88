"""Losses of classification heads."""

from __future__ import annotations

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional as F

from ecg_hf.errors import ConfigurationError

__all__ = ["classification_loss"]


def classification_loss(
    logits: Tensor, labels: Tensor, problem_type: str, class_weights: Tensor | None = None
) -> Tensor:
    """Loss of an ECG classifier.

    Args:
        logits: float ``(batch, classes)``.
        labels: ``multi_label_classification``: 0 to 1 ``(batch, classes)``, NaN where a label is unknown;
            ``single_label_classification``: class numbers ``(batch,)``; ``regression``: float ``(batch, classes)``,
            or ``(batch,)`` for one class.
        problem_type: One of the three above, as ``config.problem_type``.
        class_weights: float ``(classes,)``: of several labels, the factor on the loss of each one's positives; of one
            label, the weight of each class in the mean. Regression takes none.

    Returns:
        Scalar mean loss in float32.

    Raises:
        ConfigurationError: for an unknown ``problem_type``, or impossible labels: another shape, a value
            outside its range (-1 for "uncertain" and the library's -100 included). On an accelerator checking
            takes one transfer of one number; in compiled and exported graphs values are not checked.
    """
    if problem_type == "multi_label_classification":
        _check_shape(labels, logits.shape)
        target = labels.float()
        _check_values(labels, ~((target < 0) | (target > 1)), "between 0 and 1, or NaN where unknown")
        known = ~target.isnan()
        losses = F.binary_cross_entropy_with_logits(
            logits.float(), target.nan_to_num(), reduction="none", pos_weight=class_weights
        )
        return (losses * known).sum() / known.sum().clamp(min=1)
    if problem_type == "single_label_classification":
        _check_shape(labels, logits.shape[:1])
        classes = logits.shape[-1]
        fits = (labels >= 0) & (labels < classes)
        if labels.is_floating_point():
            fits = fits & (labels == labels.floor())
        _check_values(labels, fits, f"class numbers from 0 to {classes - 1}")
        return F.cross_entropy(logits.float(), labels.long(), weight=class_weights)
    if problem_type == "regression":
        _check_shape(labels, logits.shape[:1] if logits.shape[-1] == 1 and labels.ndim == 1 else logits.shape)
        target = labels.float()
        _check_values(labels, target.isfinite(), "finite")
        return F.mse_loss(logits.float(), target.view_as(logits))
    raise ConfigurationError(f"unknown problem_type {problem_type!r}", value=problem_type)


def _check_shape(labels: Tensor, wanted: torch.Size) -> None:
    if labels.shape != wanted:
        raise ConfigurationError(
            f"labels have the shape {tuple(labels.shape)}, the logits ask for {tuple(wanted)}",
            value=tuple(labels.shape),
        )


def _check_values(labels: Tensor, fits: Tensor, wanted: str) -> None:
    """Refuse labels where ``fits`` is False; traced tensors have no values to check."""
    traced = labels.is_meta or isinstance(labels, FakeTensor)
    if traced or torch.compiler.is_compiling() or bool(fits.all()):
        return
    value = labels[~fits][0].item()
    raise ConfigurationError(f"label {value:g} can't be one: labels must be {wanted}", value=value)
