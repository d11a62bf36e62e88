"""Agreement of two views without negatives (BYOL, SimSiam, Barlow Twins) and with a teacher's keys (MoCo v3)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ecg_hf.nn.precision import full_precision, similarity

__all__ = ["cross_correlation_terms", "patient_cosine", "query_key_loss", "symmetric_cosine"]


def symmetric_cosine(first: Tensor, second: Tensor, first_target: Tensor, second_target: Tensor) -> Tensor:
    """Cosine of each view's prediction with the other view's target; mean over the rows, and over both directions.

    BYOL minimises ``4 - 4 *`` this, SimSiam its negative.

    Args:
        first: float ``(rows, dim)``, prediction of the first view.
        second: That of the second.
        first_target: float ``(rows, dim)``, what ``second`` predicts; gets no gradient.
        second_target: What ``first`` predicts.
    """
    one = F.cosine_similarity(full_precision(first), full_precision(second_target.detach()), dim=-1)
    two = F.cosine_similarity(full_precision(second), full_precision(first_target.detach()), dim=-1)
    return (one.mean() + two.mean()) / 2.0


def patient_cosine(
    first: Tensor, second: Tensor, first_target: Tensor, second_target: Tensor, patients: Tensor
) -> Tensor:
    """:func:`symmetric_cosine` with the targets of all records of the row's patient, averaged over those.

    Args:
        first: As for :func:`symmetric_cosine`, as are the next three.
        second: See there.
        first_target: See there.
        second_target: See there.
        patients: int64 ``(rows,)``.
    """
    same = patients[:, None] == patients[None, :]
    means = []
    for prediction, target in ((first, second_target), (second, first_target)):
        cosines = similarity(
            *(F.normalize(full_precision(rows), dim=-1) for rows in (prediction, target.detach()))
        )
        means.append((torch.where(same, cosines, 0.0).sum(1) / same.sum(1)).mean())
    return torch.stack(means).mean()


def cross_correlation_terms(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Distance of the cross-correlation of two views from the identity.

    Paper: Barlow Twins, Eqs. 1 and 2.

    Args:
        first: float ``(rows, dim)`` with mean 0 and variance 1 in every column.
        second: The same of the other view.

    Returns:
        The invariance term, ``sum of (C_ii - 1)^2``, and the redundancy term, ``sum of C_ij^2`` off the diagonal.
    """
    first, second = full_precision(first), full_precision(second)
    correlation = similarity(first.T, second.T) / len(first)
    diagonal = correlation.diagonal()
    return (diagonal - 1.0).square().sum(), correlation.square().sum() - diagonal.square().sum()


def query_key_loss(
    first: Tensor, second: Tensor, first_key: Tensor, second_key: Tensor, *, temperature: float
) -> Tensor:
    """Each query finds the key of the other view of its record among those of all records.

    Paper: MoCo v3, Algorithm 1: cross-entropies of both directions, added, times ``2 * temperature``.

    Args:
        first: float ``(rows, dim)``, queries of the first view.
        second: Those of the second.
        first_key: float ``(rows, dim)``, the teacher's keys of the first view; get no gradient.
        second_key: Those of the second.
        temperature: Divides the cosine similarities.
    """
    directions = [
        _one_way(query, key.detach(), temperature)
        for query, key in ((first, second_key), (second, first_key))
    ]
    return 2.0 * temperature * torch.stack(directions).sum()


def _one_way(query: Tensor, key: Tensor, temperature: float) -> Tensor:
    query, key = (F.normalize(full_precision(rows), dim=-1) for rows in (query, key))
    logits = similarity(query, key) / temperature
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))
