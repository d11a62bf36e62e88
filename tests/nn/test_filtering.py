"""The band-pass of batches against SciPy's Butterworth filter run forwards and backwards."""

import numpy as np
import torch
from scipy.signal import butter, sosfiltfilt

from ecg_hf.nn.filtering import zero_phase_bandpass


def test_equals_a_butterworth_filter_run_twice_away_from_the_ends():
    signal = np.random.default_rng(0).normal(size=(2, 3, 1000)).cumsum(-1) * 0.05
    expected = sosfiltfilt(butter(2, (0.6, 40.0), "bandpass", fs=100.0, output="sos"), signal)
    found = zero_phase_bandpass(torch.from_numpy(signal), 100.0, 0.6, 40.0).numpy()
    # A band-pass made from one prototype and a high-pass times a low-pass differ a little near the edges.
    middle = slice(200, 800)
    error = np.sqrt(((found - expected)[..., middle] ** 2).mean() / (expected[..., middle] ** 2).mean())
    assert error < 0.05, error


def test_half_of_the_amplitude_is_left_at_the_edges_and_all_between():
    time = torch.arange(4000, dtype=torch.float64) / 200.0
    for frequency, gain in ((0.6, 0.5), (40.0, 0.5), (6.0, 1.0), (0.05, 0.0), (90.0, 0.0)):
        tone = torch.sin(2 * torch.pi * frequency * time)
        found = zero_phase_bandpass(tone, 200.0, 0.6, 40.0)[1000:3000]
        assert abs(float(found.abs().max()) - gain) < 0.06, frequency


def test_an_upper_edge_beyond_half_of_the_rate_filters_nothing_there():
    signal = torch.randn(1, 500, generator=torch.Generator().manual_seed(0))
    assert torch.equal(
        zero_phase_bandpass(signal, 50.0, 0.6, 40.0), zero_phase_bandpass(signal, 50.0, 0.6, 1000.0)
    )
    assert zero_phase_bandpass(signal.half(), 50.0, 0.6, 40.0).dtype == torch.float32
