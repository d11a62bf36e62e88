"""Separating what two modalities share from what is specific to one of them."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ecg_hf.nn.precision import full_precision

__all__ = ["orthogonality_loss"]


def orthogonality_loss(specific: Tensor, shared: Tensor) -> Tensor:
    """Mean squared cosine between the modality-specific and the shared embedding of the same record.

    Paper: CG-DMER Eq. 5 is the sum of this over the two modalities.

    Args:
        specific: float ``(batch, dim)``.
        shared: float ``(batch, dim)``.
    """
    return F.cosine_similarity(full_precision(specific), full_precision(shared), dim=-1).square().mean()
