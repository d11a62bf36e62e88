"""Contrast of two views of the same records."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ecg_hf.nn.precision import full_precision, similarity

__all__ = ["nt_xent_loss", "patient_contrast_loss", "view_pairs_loss"]


def nt_xent_loss(
    first: Tensor, second: Tensor, *, temperature: float | Tensor, groups: Tensor | None = None
) -> Tensor:
    """NT-Xent (SimCLR): each of the ``2 * rows`` vectors finds its partner among all others.

    Unlike :func:`~ecg_hf.nn.losses.info_nce_loss`, which compares one set with the other, vectors of the same view
    are negatives too. With unrelated vectors of high dimension it starts near ``ln(2 * rows - 1)``.

    Args:
        first: float ``(..., rows, dim)``; leading dimensions are independent pools.
        second: float ``(..., rows, dim)``; row i belongs to row i of ``first``.
        temperature: Divides the cosine similarities.
        groups: int64 ``(rows,)``: records of one group (one patient) are not negatives of each other. A row
            with a negative number is in no group.

    Returns:
        Mean over the ``2 * rows`` anchors, ``(...)``; in float32 for half-precision inputs.
    """
    rows = first.shape[-2]
    vectors = F.normalize(full_precision(torch.cat([first, second], dim=-2)), dim=-1)
    logits = similarity(vectors, vectors) / temperature
    index = torch.arange(2 * rows, device=logits.device)
    # Row i's partner is i + rows, and the other way round: the two off-diagonals of distance ``rows``.
    positive = torch.cat([logits.diagonal(rows, -2, -1), logits.diagonal(-rows, -2, -1)], dim=-1)
    removed = index[:, None] == index[None, :]
    if groups is not None:
        group = torch.cat([groups, groups])
        same = (group[:, None] == group[None, :]) & (group[:, None] >= 0)
        removed = removed | (same & (index[:, None] % rows != index[None, :] % rows))
    return (logits.masked_fill(removed, -torch.inf).logsumexp(-1) - positive).mean(-1)


def patient_contrast_loss(embeddings: Tensor, patients: Tensor, *, temperature: float) -> Tensor:
    """Each embedding finds each other one of its patient among those of all other patients.

    Paper: 3KG. Every ordered pair of two embeddings of a patient has a softmax of its own, over that pair and the
    embeddings of other patients.

    Differs from official code: the mean over pairs instead of the sum, and the gradient passes through the length of
    the embeddings.

    Args:
        embeddings: float ``(rows, dim)``.
        patients: int64 ``(rows,)``; at least two rows have the same number.
        temperature: Divides the cosine similarities.
    """
    vectors = F.normalize(full_precision(embeddings), dim=-1)
    logits = similarity(vectors, vectors) / temperature
    same = patients[:, None] == patients[None, :]
    # Not minus infinity: a row without any negative would have no gradient but NaN.
    negatives = logits.masked_fill(same, torch.finfo(logits.dtype).min).logsumexp(1, keepdim=True)
    pairs = same & ~torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    losses = torch.where(pairs, torch.logaddexp(logits, negatives) - logits, 0.0)
    return losses.sum() / pairs.sum()


def view_pairs_loss(
    views: Tensor,
    patients: Tensor,
    *,
    temperature: float,
    present: Tensor | None = None,
    both_ways: bool = False,
    fixed_length: bool = False,
) -> Tensor:
    """Contrast of every pair of views; all embeddings of a patient are positives (CLOCS).

    In a pair, rows of the one view are compared with all rows of the other, the softmax of a row or of a column
    including its positive. Each record's own embedding is a positive of its row and of its column; that of another
    record of the patient is one of the earlier record's row, and of its column. The four means are averaged, without
    those that have no positives, and so are the pairs.

    Paper: CLOCS, Eqs. 1 and 2. The two options are how fairseq-signals computes it for ECG-FM.

    Differs from official code: that keeps the last pair alone, but divides by the number of all. With two views both
    agree.

    Args:
        views: float ``(views, rows, dim)``, two views or more.
        patients: int64 ``(rows,)``.
        temperature: Divides the cosine similarities.
        present: bool ``(views, rows)``, False for embeddings that are to be left out; None if there are none.
        both_ways: Each embedding of a patient in the one view is a positive of each in the other, of rows and of
            columns; the two means over all of them are averaged.
        fixed_length: No gradient passes through the length of embeddings.
    """
    views = full_precision(views)
    if fixed_length:
        # The smallest length is that of ``normalize``.
        vectors = views / views.detach().norm(dim=-1, keepdim=True).clamp(min=1e-12)
    else:
        vectors = F.normalize(views, dim=-1)
    first, second = torch.triu_indices(len(views), len(views), 1, device=views.device)
    logits = similarity(vectors[first], vectors[second]) / temperature
    usable = torch.ones_like(logits, dtype=torch.bool)
    if present is not None:
        usable = present[first][:, :, None] & present[second][:, None, :]
        # Not minus infinity: a row without any embedding would have no gradient but NaN.
        logits = logits.masked_fill(~usable, torch.finfo(logits.dtype).min)
    by_row = logits.logsumexp(2, keepdim=True) - logits
    by_column = logits.logsumexp(1, keepdim=True) - logits
    same = patients[:, None] == patients[None, :]
    own = torch.eye(len(same), dtype=torch.bool, device=same.device)
    means, counts = [], []
    clocs = ((by_row, own), (by_column, own), (by_row, same.triu(1)), (by_column, same.tril(-1)))
    for losses, positives in ((by_row, same), (by_column, same)) if both_ways else clocs:
        kept = positives & usable
        counts.append(kept.sum((1, 2)))
        means.append(torch.where(kept, losses, 0.0).sum((1, 2)) / counts[-1].clamp(min=1))
    terms = (torch.stack(counts) > 0).sum(0)
    pairs = torch.stack(means).sum(0) / terms.clamp(min=1)
    return pairs.sum() / (terms > 0).sum().clamp(min=1)
