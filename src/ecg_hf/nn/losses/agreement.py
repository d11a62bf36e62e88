"""Agreement of two views without negatives (BYOL, SimSiam, Barlow Twins)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ecg_hf.nn.precision import full_precision

__all__ = ["symmetric_cosine"]


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
