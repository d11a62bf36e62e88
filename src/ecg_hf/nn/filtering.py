"""Filters on whole batches, on the signal's device."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["zero_phase_bandpass"]

_MIRRORED_S = 2.0


def zero_phase_bandpass(
    signal: Tensor, sampling_rate: float, low_hz: float, high_hz: float, order: int = 2
) -> Tensor:
    """Band-pass without delay: the gain of a Butterworth filter run forwards and backwards.

    The signal is mirrored at both ends, up to two seconds, and multiplied in the frequency domain.

    Args:
        signal: float ``(..., samples)``.
        sampling_rate: Hertz.
        low_hz: Frequency whose amplitude is halved at the lower end.
        high_hz: The same at the upper end; ignored where it is not below half of the rate.
        order: Of one pass.

    Returns:
        float, same shape; float32 for half precision, which has no Fourier transform everywhere.
    """
    values = signal.float() if signal.dtype in (torch.float16, torch.bfloat16) else signal
    samples = values.shape[-1]
    mirrored = min(round(_MIRRORED_S * sampling_rate), samples - 1)
    # Point reflection: neither the value nor the slope jumps at the ends.
    left = 2.0 * values[..., :1] - values[..., 1 : mirrored + 1].flip(-1)
    right = 2.0 * values[..., -1:] - values[..., samples - 1 - mirrored : samples - 1].flip(-1)
    padded = torch.cat([left, values, right], dim=-1)
    length = padded.shape[-1]
    frequency = torch.arange(length // 2 + 1, device=values.device, dtype=values.dtype)
    frequency = frequency * (sampling_rate / length)
    gain = 1.0 / (1.0 + (low_hz / frequency.clamp(min=1e-9)) ** (2 * order))
    if high_hz < sampling_rate / 2:
        gain = gain / (1.0 + (frequency / high_hz) ** (2 * order))
    filtered: Tensor = torch.fft.irfft(torch.fft.rfft(padded) * gain, n=length)
    return filtered.narrow(-1, mirrored, samples)
