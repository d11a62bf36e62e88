"""Contrast of masked tokens with quantised ones of the same record, and the use of all codes.

Paper: wav2vec 2.0, arXiv 2006.11477, Eqs. 3 and 4; official code: ``compute_preds`` of fairseq's ``Wav2Vec2Model``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ecg_hf.nn.precision import full_precision, similarity

__all__ = ["CodeContrast", "code_contrast_logits", "code_contrast_loss", "code_perplexity"]


class CodeContrast(NamedTuple):
    """What :func:`code_contrast_loss` gives.

    Attributes:
        loss: Scalar; chance is ``log(1 + negatives)``.
        accuracy: Scalar: share of masked tokens whose own target is the most similar.
    """

    loss: Tensor
    accuracy: Tensor


def code_contrast_logits(
    predictions: Tensor, targets: Tensor, codes: Tensor, negative_index: Tensor, *, temperature: float
) -> Tensor:
    """Cosines of each token with its own target and with those of other tokens, divided by a temperature.

    Args:
        predictions: float ``(rows, tokens, dim)``.
        targets: float ``(rows, tokens, dim)``.
        codes: int64 ``(rows, tokens)``: a negative of the same code as the positive is no negative.
        negative_index: int64 ``(rows, tokens, negatives)``, positions of tokens.
        temperature: Divides the cosines.

    Returns:
        float32 (or float64) ``(rows, tokens, 1 + negatives)``, the positive first; minus infinity for no negatives.
    """
    cosines = similarity(
        F.normalize(full_precision(predictions), dim=-1), F.normalize(full_precision(targets), dim=-1)
    )
    same = codes[:, :, None] == codes[:, None, :]
    logits = cosines.gather(2, negative_index) / temperature
    logits = logits.masked_fill(same.gather(2, negative_index), -torch.inf)
    return torch.cat([cosines.diagonal(dim1=1, dim2=2)[..., None] / temperature, logits], dim=-1)


def code_contrast_loss(
    predictions: Tensor,
    targets: Tensor,
    codes: Tensor,
    masked: Tensor,
    negative_index: Tensor,
    *,
    temperature: float,
) -> CodeContrast:
    """Cross entropy of finding the own target: mean over a record's masked tokens, then over records.

    Differs from official code: that adds up all masked tokens and divides the gradient by their number, of which each
    record of a batch has the same.

    Args:
        predictions: As for :func:`code_contrast_logits`.
        targets: See there.
        codes: See there.
        masked: bool ``(rows, tokens)``: tokens that count. A record with fewer than two contributes nothing.
        negative_index: See there; of masked tokens.
        temperature: See there.
    """
    logits = code_contrast_logits(predictions, targets, codes, negative_index, temperature=temperature)
    weights = (masked & (masked.sum(1, keepdim=True) > 1)).to(logits.dtype)
    losses = (logits.logsumexp(-1) - logits[..., 0]) * weights
    loss = (losses.sum(1) / weights.sum(1).clamp(min=1.0)).mean()
    with torch.no_grad():
        correct = (logits[..., 0] >= logits[..., 1:].amax(-1)).to(logits.dtype) * weights
        accuracy = correct.sum() / weights.sum().clamp(min=1.0)
    return CodeContrast(loss, accuracy)


def code_perplexity(probabilities: Tensor) -> Tensor:
    """How many codes are in use: the exponential of the entropy of the mean distribution, added up over groups.

    Args:
        probabilities: float ``(rows, groups, codes)``.

    Returns:
        Scalar between the number of groups and that of all codes.
    """
    mean = full_precision(probabilities).mean(0)
    return torch.exp(-(mean * (mean + 1e-7).log()).sum(-1)).sum()
