"""Losses of targets that are known beforehand: terms of reports, measurements, a teacher's embedding."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ecg_hf.nn.precision import full_precision

__all__ = ["regression_target_loss", "term_entropy", "term_loss"]


def term_entropy(prior: Tensor) -> Tensor:
    """Mean entropy of independent terms in nats: the loss of always predicting their frequencies.

    Args:
        prior: float ``(terms,)``: share of the training reports that contain each.
    """
    p = prior.float().clamp(1e-5, 1.0 - 1e-5)
    return -(p * p.log() + (1.0 - p) * (1.0 - p).log()).mean()


def term_loss(logits: Tensor, terms: Tensor, entropy: Tensor, known: Tensor | None = None) -> Tensor:
    """Binary cross-entropy over terms, divided by that of predicting their frequencies: 1 has learnt nothing.

    Args:
        logits: float ``(batch, terms)``.
        terms: float ``(batch, terms)`` in [0, 1].
        entropy: Of :func:`term_entropy`.
        known: bool ``(batch,)``: records with a report; the others take no part.
    """
    loss = F.binary_cross_entropy_with_logits(full_precision(logits), terms.float(), reduction="none").mean(1)
    if known is not None:
        weight = known.to(loss.dtype)
        return (loss * weight).sum() / weight.sum().clamp(min=1.0) / entropy
    return loss.mean() / entropy


def regression_target_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Smooth L1 (beta 1) of standardised values, a mean over those that are known.

    Args:
        predicted: float ``(batch, values)``.
        target: Same shape; NaN where a value is not known.
    """
    known = torch.isfinite(target)
    error = F.smooth_l1_loss(
        full_precision(predicted), torch.where(known, target, predicted.detach()).float(), reduction="none"
    )
    return (error * known).sum() / known.sum().clamp(min=1)
