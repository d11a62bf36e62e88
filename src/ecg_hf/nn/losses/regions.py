"""Contrast of anatomical regions between two views of the same hearts."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ecg_hf.nn.precision import full_precision, similarity

__all__ = ["RegionContrast", "RegionReduction", "region_contrast_loss", "region_pair_losses"]

RegionReduction = Literal["sum", "mean"]

# Finite, so that a fully masked row has a gradient of zero instead of NaN.
_REMOVED = -1e9


class RegionContrast(NamedTuple):
    """The two terms of ACL-ECG.

    Attributes:
        intra: Scalar, regions against themselves (Eq. 10).
        inter: Scalar, regions against the other regions of the same record (Eq. 11).
    """

    intra: Tensor
    inter: Tensor


def region_pair_losses(
    first: Tensor, second: Tensor, *, temperature: float | Tensor, present: Tensor | None = None
) -> Tensor:
    """NT-Xent of every ordered pair of regions.

    Element ``(d, e)`` contrasts region d of view 1 with region e of view 2 over a pool of exactly these ``2 * rows``
    vectors. The positive of a vector is the same record's vector of the other set; all negatives are of other
    records. Neither a third region nor any other vector of the same record is ever in the pool, so one record alone
    has the loss 0.

    Equals :func:`~ecg_hf.nn.losses.nt_xent_loss` of each pair; similarities inside a view are computed once per
    region instead of once per pair.

    Args:
        first: float ``(rows, regions, dim)``, view 1.
        second: float ``(rows, regions, dim)``, view 2 of the same records.
        temperature: Divides the cosine similarities.
        present: ``(rows, regions)``, 0 where a record lacks all leads of a region: such vectors are neither anchors
            nor negatives.

    Returns:
        ``(regions, regions)``, the mean over the anchors of each pair; 0 where a pair has none. In float32 for
        half-precision inputs.
    """
    with torch.autocast(first.device.type, enabled=False):
        one = F.normalize(full_precision(first), dim=-1).transpose(0, 1)
        two = F.normalize(full_precision(second), dim=-1).transpose(0, 1)
        within_one = similarity(one, one) / temperature
        within_two = similarity(two, two) / temperature
        across = similarity(one.unsqueeze(1), two.unsqueeze(0)) / temperature
        itself = torch.eye(first.shape[0], dtype=torch.bool, device=first.device)
        removed_one = removed_two = itself
        positive = across.diagonal(dim1=2, dim2=3)
        anchors = torch.ones_like(positive)
        if present is not None:
            there = present.bool().T
            removed_one = removed_two = itself | ~there.unsqueeze(1)
            both = there.unsqueeze(1) & there.unsqueeze(0)
            anchors = both.to(positive.dtype)
            # Of the two sets of negatives in ``across``, columns are of region e and rows of region d.
            to_two = across.masked_fill(~there[None, :, None, :], _REMOVED).logsumexp(3)
            to_one = across.masked_fill(~there[:, None, :, None], _REMOVED).logsumexp(2)
        else:
            to_two, to_one = across.logsumexp(3), across.logsumexp(2)
        from_one = torch.logaddexp(
            within_one.masked_fill(removed_one, _REMOVED).logsumexp(2)[:, None], to_two
        )
        from_two = torch.logaddexp(within_two.masked_fill(removed_two, _REMOVED).logsumexp(2)[None], to_one)
        losses = (from_one + from_two - 2 * positive) * anchors
        return losses.sum(-1) / (2 * anchors.sum(-1)).clamp(min=1.0)


def region_contrast_loss(
    first: Tensor,
    second: Tensor,
    *,
    temperature: float | Tensor,
    present: Tensor | None = None,
    reduction: RegionReduction = "sum",
) -> RegionContrast:
    """Intra- and inter-region contrast.

    Paper: ACL-ECG Eqs. 10 and 11. Note that in Eq. 11 the other regions of the same record, in the other view, are
    positives: "inter-region" does not mean that the regions of one heart are pushed apart.

    Args:
        first: float ``(rows, regions, dim)``, view 1.
        second: float ``(rows, regions, dim)``, view 2.
        temperature: Divides the cosine similarities.
        present: See :func:`region_pair_losses`.
        reduction: ``sum``: over regions, and over ordered pairs divided by ``regions - 1`` (the paper); ``mean``
            divides both by the number of regions as well.

    Returns:
        Both terms; with unrelated vectors of high dimension and D regions each starts near ``D ln(2 rows - 1)``
        (``sum``) or ``ln(2 rows - 1)`` (``mean``).
    """
    losses = region_pair_losses(first, second, temperature=temperature, present=present)
    regions = losses.shape[0]
    intra = losses.diagonal().sum()
    inter = (losses.sum() - intra) / max(regions - 1, 1)
    if reduction == "mean":
        return RegionContrast(intra / regions, inter / regions)
    return RegionContrast(intra, inter)
