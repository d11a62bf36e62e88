"""Cross-entropy over masked text tokens."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from ecg_hf.nn.precision import full_precision

__all__ = ["masked_token_loss"]


def masked_token_loss(
    logits: Tensor, labels: Tensor, weights: Tensor, *, reduction: Literal["texts", "tokens"] = "texts"
) -> Tensor:
    """Cross-entropy in float32, averaged inside each text and then over texts, or over all tokens at once.

    Paper: CG-DMER Eq. 3. The usual mean over all masked tokens of a batch would give long reports more weight.

    Args:
        logits: float ``(batch, k, vocab)``.
        labels: int64 ``(batch, k)`` true token ids.
        weights: float ``(batch, k)``: 1 where the token was masked.
        reduction: ``texts``, which does not depend on how a batch is spread, or ``tokens``.

    Returns:
        Scalar loss; a text without masked tokens contributes nothing.
    """
    losses = F.cross_entropy(full_precision(logits).transpose(1, 2), labels, reduction="none")
    weights = weights.to(losses.dtype)
    if reduction == "tokens":
        return (losses * weights).sum() / weights.sum().clamp(min=1.0)
    counts = weights.sum(1)
    per_text = (losses * weights).sum(1) / counts.clamp(min=1.0)
    return per_text.sum() / (counts > 0).sum().clamp(min=1)
