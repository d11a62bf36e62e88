"""Contrastive alignment of two sets of paired embeddings."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ecg_hf.nn.precision import full_precision, similarity

__all__ = ["ContrastiveForm", "PairReduction", "info_nce_loss", "siglip_loss"]

ContrastiveForm = Literal["info_nce", "decoupled", "all_pairs"]
PairReduction = Literal["per_row", "mean_pairs"]


def info_nce_loss(
    ecg: Tensor,
    text: Tensor,
    *,
    temperature: float | Tensor,
    form: ContrastiveForm = "info_nce",
    reduction: Literal["mean", "sum"] = "mean",
    ignored_pairs: Tensor | None = None,
    normalize: bool = True,
) -> Tensor:
    """Symmetric cross-modal contrastive loss over a batch of pairs.

    Args:
        ecg: float ``(batch, dim)``.
        text: float ``(batch, dim)``; row i belongs to row i of ``ecg``.
        temperature: Divides the cosine similarities.
        form: ``info_nce`` keeps the positive in the denominator (MERL's code); ``decoupled`` leaves it out
            (CG-DMER Eqs. 7-8 read literally, diagonal numerators; unbounded below); ``all_pairs`` sums every
            (i, j) as numerator (Eq. 9 read literally), which pulls negatives together.
        reduction: ``mean`` or ``sum`` (MERL) of the two directions.
        ignored_pairs: bool ``(batch, batch)``; True pairs (never the diagonal) are taken out of the denominators.
        normalize: L2-normalise the rows first.

    Returns:
        Scalar loss.
    """
    ecg, text = full_precision(ecg), full_precision(text)
    if normalize:
        ecg, text = F.normalize(ecg, dim=-1), F.normalize(text, dim=-1)
    logits = similarity(ecg, text) / temperature
    diagonal = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    removed = diagonal if form != "info_nce" else torch.zeros_like(diagonal)
    if ignored_pairs is not None:
        removed = removed | (ignored_pairs & ~diagonal)
    denominators = logits.masked_fill(removed, -torch.inf)
    to_text, to_ecg = denominators.logsumexp(1), denominators.logsumexp(0)
    if form == "all_pairs":
        # Eq. 9: (1 / 2B) sum over all (i, j) of both directions' -log softmax, so each row counts B times.
        total = (to_text[:, None] - logits).sum() + (to_ecg[None, :] - logits).sum()
        loss = total / (2 * len(logits))
    else:
        positive = logits.diagonal()
        loss = ((to_text - positive).mean() + (to_ecg - positive).mean()) / 2
    return loss if reduction == "mean" else 2 * loss


def siglip_loss(
    ecg: Tensor,
    text: Tensor,
    *,
    scale: float | Tensor,
    bias: float | Tensor,
    reduction: PairReduction = "per_row",
    ignored_pairs: Tensor | None = None,
    matching: Tensor | None = None,
    normalize: bool = True,
) -> Tensor:
    """Sigmoid loss over all pairs: matching pairs against all others, each pair independently.

    Paper: SigLIP; CG-DMER Eq. 6 is ``scale=1, bias=0, normalize=False`` (the paper calls the dot product a cosine).

    Args:
        ecg: float ``(batch, dim)``.
        text: float ``(batch, dim)``.
        scale: Factor on the similarities.
        bias: Added to the logits; negative, because most pairs do not match.
        reduction: ``per_row`` sums over pairs and divides by the batch (SigLIP, Eq. 6); ``mean_pairs`` divides by
            the number of pairs (D-BETA).
        ignored_pairs: bool ``(batch, batch)``; True pairs contribute nothing (never the diagonal).
        matching: bool ``(batch,)``: whether row i of both sides does belong together; all do if not given.
        normalize: L2-normalise the rows first.

    Returns:
        Scalar loss.
    """
    ecg, text = full_precision(ecg), full_precision(text)
    if normalize:
        ecg, text = F.normalize(ecg, dim=-1), F.normalize(text, dim=-1)
    logits = similarity(ecg, text) * scale + bias
    diagonal = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    positive = diagonal if matching is None else diagonal & matching
    losses = F.softplus(torch.where(positive, -logits, logits))
    if ignored_pairs is not None:
        losses = losses.masked_fill(ignored_pairs & ~diagonal, 0.0)
    return losses.sum() / len(logits) if reduction == "per_row" else losses.mean()
