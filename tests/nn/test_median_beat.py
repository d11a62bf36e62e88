"""Median beats of batches against a loop over records and beats."""

import numpy as np
import pytest
import torch

from ecg_hf.nn.filtering import zero_phase_bandpass
from ecg_hf.nn.median_beat import median_beats, representative_beats


def test_equals_a_loop_with_numpy():
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(4, 3, 400)).astype(np.float32)
    peaks = np.array([[10, 60, 150, 250, 390], [40, 100, 200, -1, -1], [5, 395, -1, -1, -1], [-1] * 5])
    found = median_beats(torch.from_numpy(signal), torch.from_numpy(peaks), before=30, after=50).numpy()
    for row in range(4):
        whole = [p for p in peaks[row] if p - 30 >= 0 and p + 50 <= 400] or [200]
        beats = np.stack([signal[row, :, p - 30 : p + 50] for p in whole])
        np.testing.assert_allclose(found[row], np.median(beats, axis=0), atol=1e-6)


def test_level_is_taken_off():
    signal = torch.randn(2, 3, 400) + 5.0
    beats = median_beats(signal, torch.tensor([[200], [100]]), before=30, after=50, level=(18, 23))
    torch.testing.assert_close(beats[..., 18:23].median(-1).values, torch.zeros(2, 3))


def test_an_outlier_beat_does_not_count():
    beat = torch.sin(torch.linspace(0, 6.28, 80))
    signal = beat.repeat(5)[None, None].clone()
    signal[..., 160:240] = 100.0
    found = median_beats(signal, torch.tensor([[30, 110, 190, 270, 350]]), before=30, after=50)
    torch.testing.assert_close(found[0, 0], beat)


def test_padding_holds_no_beat():
    signal = torch.zeros(1, 2, 1000)
    signal[..., 100:600:100] = 1.0
    signal[..., 700:1000:100] = -9.0
    mask = torch.ones(1, 1000)
    mask[:, 650:] = 0
    options = {"before_s": 0.3, "after_s": 0.5, "level_s": (0.12, 0.07)}
    peaks = torch.tensor([[100, 200, 300, 400, 500, 700, 800, 900]])
    kept = representative_beats(signal, 100.0, r_peaks=peaks, sample_mask=mask, **options)
    alone = representative_beats(signal, 100.0, r_peaks=peaks[:, :5], **options)
    torch.testing.assert_close(kept, alone)


@pytest.mark.parametrize(("hertz", "gain"), [(0.1, 0.01), (0.6, 0.5), (5.0, 1.0), (40.0, 0.5), (49.0, 0.31)])
def test_bandpass_has_the_gain_of_a_butterworth_run_both_ways(hertz: float, gain: float):
    time = torch.arange(6000, dtype=torch.float64) / 100.0
    wave = torch.sin(2 * torch.pi * hertz * time)
    found = zero_phase_bandpass(wave, 100.0, 0.6, 40.0)[1500:4500]
    assert float(found @ wave[1500:4500] / (wave[1500:4500] @ wave[1500:4500])) == pytest.approx(
        gain, abs=0.04
    )


def test_bandpass_keeps_shape_of_short_signals_and_removes_offsets():
    found = zero_phase_bandpass(torch.full((2, 3, 50), 7.0), 100.0, 0.6, 40.0)
    assert found.shape == (2, 3, 50)
    assert found.abs().max() < 1e-4
