"""Signals without what is missing."""

from __future__ import annotations

from torch import Tensor

__all__ = ["zero_missing"]


def zero_missing(signal: Tensor, lead_mask: Tensor | None, sample_mask: Tensor | None) -> Tensor:
    """The signal with zeros for missing leads and padding, whatever stood there.

    Args:
        signal: float ``(batch, leads, samples)``; left as it is.
        lead_mask: ``(batch, leads)``, 0 for missing leads; None if all are there.
        sample_mask: ``(batch, samples)``, 0 for padding; None if there is none.
    """
    if lead_mask is not None:
        signal = signal.masked_fill(lead_mask.unsqueeze(-1) == 0, 0.0)
    if sample_mask is not None:
        signal = signal.masked_fill(sample_mask.unsqueeze(1) == 0, 0.0)
    return signal
