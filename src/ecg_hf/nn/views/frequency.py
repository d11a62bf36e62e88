"""Frequency Dynamic Augmentation: change the weak part of a record's spectrum, keep the strong part.

Idea: CoRe-ECG (arXiv 2604.11359), which perturbs "by frequency-domain importance". The paper's equations are not
known to us; everything here is inferred. The nearest published method is SimPSI (arXiv 2312.05790), which mixes the
spectra of the original and of an augmented signal by an importance map.

A view is the record after one random linear filter that all its leads share, so relations between leads
(III = II - I, axes, amplitude ratios) hold in the view too.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ecg_hf.nn.precision import full_precision

__all__ = ["frequency_noise_size", "frequency_views", "spectral_importance"]

ECG_BAND_HZ = (0.5, 40.0)
"""Outside this band are baseline wander, muscle noise and mains hum, which are never important, however strong."""

_SMOOTHING_HZ = 0.5  # smoothed over this width, because single bins mean little: heart beats make a comb
_FLOOR = 1e-6  # of the band's mean energy: filtered-out bins must not stretch the scale
_MAX_LOG_GAIN = 1.0
_MAX_PHASE_DEVIATIONS = 2.0


def frequency_noise_size(num_samples: int, sampling_rate: float, correlation_hz: float = 1.0) -> int:
    """Normal numbers per view that :func:`frequency_views` needs for each of gain and phase."""
    return num_samples // 2 + 1 + _bins(correlation_hz, num_samples, sampling_rate) - 1


def spectral_importance(
    spectrum: Tensor, resolution_hz: float, band_hz: tuple[float, float] = ECG_BAND_HZ
) -> Tensor:
    """How much each frequency matters to a record, from its own spectrum.

    The log of the energy of all leads together, smoothed over 0.5 Hz, scaled so that the 5th and 95th percentile of
    the band become 0 and 1, clipped; 0 outside the band. QRS complexes (5-25 Hz), P and T waves and the comb of the
    heart rate come out high, the noise floor low.

    Args:
        spectrum: complex ``(batch, leads, bins)``, as ``torch.fft.rfft`` gives it.
        resolution_hz: Distance of two bins.
        band_hz: Frequencies that can matter.

    Returns:
        float ``(batch, bins)`` in ``[0, 1]``. A flat record has 0 everywhere.
    """
    energy = torch.view_as_real(spectrum).square().sum(-1).mean(1)
    width = 2 * (round(_SMOOTHING_HZ / resolution_hz) // 2) + 1
    energy = F.avg_pool1d(energy[:, None], width, 1, width // 2, count_include_pad=False)[:, 0]
    bins = energy.shape[-1]
    # The tolerance keeps a border that is a multiple of the resolution inside, whatever rounding makes of it.
    low = math.ceil(band_hz[0] / resolution_hz - 1e-6)
    high = min(bins, math.floor(band_hz[1] / resolution_hz + 1e-6) + 1)
    band = energy[:, low:high]
    floor = _FLOOR * band.mean(-1, keepdim=True) + torch.finfo(energy.dtype).tiny
    level = (band + floor).log()
    weakest, strongest = level.quantile(level.new_tensor([0.05, 0.95]), dim=-1, keepdim=True).unbind()
    importance = ((level - weakest) / (strongest - weakest).clamp(min=1e-6)).clamp(0.0, 1.0)
    return F.pad(importance, (low, bins - high))


def frequency_views(
    signal: Tensor,
    gain_noise: Tensor,
    phase_noise: Tensor,
    *,
    sampling_rate: float,
    gain_strength: float = 1.0,
    phase_strength: float = 0.2 * math.pi,
    correlation_hz: float = 1.0,
    band_hz: tuple[float, float] = ECG_BAND_HZ,
) -> Tensor:
    """Several views of each record: every bin is scaled and rotated, the more the less important it is.

    With importance ``s`` and noise ``n``, ``u`` of unit variance and a correlation length of ``correlation_hz``, bin
    ``f`` is multiplied by ``exp(clip(gain_strength (1 - s) n, -1, 1))`` and turned by
    ``phase_strength (1 - s) clip(u, -2, 2)``. The mean of each lead is untouched. One Fourier transform of the
    batch serves all views.

    Args:
        signal: float ``(batch, leads, samples)``; missing leads must be zero, or they count as energy.
        gain_noise: float ``(batch, views, size)``, standard normal; ``size`` is that of
            :func:`frequency_noise_size` or more, the surplus is not used.
        phase_noise: The same for the phase.
        sampling_rate: Hertz.
        gain_strength: Standard deviation of the log gain where nothing is important.
        phase_strength: That of the phase, in radians.
        correlation_hz: Width of the window that smooths the noise.
        band_hz: See :func:`spectral_importance`.

    Returns:
        float ``(batch, views, leads, samples)``; float32 for half-precision signals.
    """
    signal = full_precision(signal)
    samples = signal.shape[-1]
    spectrum = torch.fft.rfft(signal)
    unimportant = 1.0 - spectral_importance(spectrum, sampling_rate / samples, band_hz)[:, None, :]
    width = _bins(correlation_hz, samples, sampling_rate)
    gain = _smooth(gain_noise, spectrum.shape[-1], width).to(signal.dtype)
    phase = _smooth(phase_noise, spectrum.shape[-1], width).to(signal.dtype)
    gain = (gain_strength * unimportant * gain).clamp(-_MAX_LOG_GAIN, _MAX_LOG_GAIN)
    phase = phase_strength * unimportant * phase.clamp(-_MAX_PHASE_DEVIATIONS, _MAX_PHASE_DEVIATIONS)
    # The mean is kept; at the Nyquist frequency (even lengths) only a real factor keeps the signal real.
    end = phase.shape[-1] - (samples + 1) % 2
    gain = F.pad(gain[..., 1:], (1, 0))
    phase = F.pad(phase[..., 1:end], (1, phase.shape[-1] - end))
    factor = torch.polar(gain.exp(), phase)
    views: Tensor = torch.fft.irfft(factor[:, :, None, :] * spectrum[:, None], n=samples)
    return views


def _bins(width_hz: float, num_samples: int, sampling_rate: float) -> int:
    return max(1, round(width_hz * num_samples / sampling_rate))


def _smooth(noise: Tensor, bins: int, width: int) -> Tensor:
    """Moving average of exactly unit variance: ``(batch, views, bins + width - 1 or more)`` to ``(..., bins)``."""
    return F.avg_pool1d(noise[..., : bins + width - 1], width, 1) * math.sqrt(width)
