"""Reconstruction of masked patches."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ecg_hf.nn.precision import full_precision

__all__ = ["ReconstructionTarget", "normalize_patches", "reconstruction_loss"]

ReconstructionTarget = Literal["patch_zscore", "lead_zscore", "raw"]


def normalize_patches(patches: Tensor, target: ReconstructionTarget, *, eps: float = 1e-6) -> Tensor:
    """What the decoder is to predict.

    Args:
        patches: float ``(batch, leads, patches, patch_size)``.
        target: ``patch_zscore`` standardises each patch (ST-MEM: unbiased variance + 1e-6), ``lead_zscore`` each
            whole lead (D-BETA), ``raw`` leaves the signal as it is (CG-DMER Eq. 2 as printed).
        eps: Added to the variance, so that a flat patch gives zeros.

    Returns:
        Tensor of the same shape.

    Raises:
        ValueError: if the target is unknown.
    """
    if target == "raw":
        return patches
    if target == "patch_zscore":
        variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    elif target == "lead_zscore":
        variance, mean = torch.var_mean(patches, dim=(-2, -1), keepdim=True)
    else:
        raise ValueError(f"unknown reconstruction target {target!r}")
    return (patches - mean) * (variance + eps).rsqrt()


def reconstruction_loss(
    prediction: Tensor,
    target: Tensor,
    weights: Tensor,
    *,
    reduction: Literal["mean", "sum"] = "mean",
) -> Tensor:
    """Squared error of masked patches: mean over a record's masked patches, then over records.

    Paper: CG-DMER Eq. 2 is ``reduction="sum"`` (squared L2 norm per patch); ``mean`` over the patch's samples is
    what MAE and ST-MEM do. Computed in float32.

    Args:
        prediction: ``(batch, tokens, patch_size)``.
        target: Same shape.
        weights: float or bool ``(batch, tokens)``: 1 where the token counts.
        reduction: Over the samples of a patch.

    Returns:
        Scalar loss; a record without any counted patch contributes nothing.
    """
    squared = (full_precision(prediction) - full_precision(target)).square()
    error = squared.mean(-1) if reduction == "mean" else squared.sum(-1)
    weights = weights.to(error.dtype)
    counts = weights.sum(1)
    per_record = (error * weights).sum(1) / counts.clamp(min=1.0)
    return per_record.sum() / (counts > 0).sum().clamp(min=1)
