"""Frequency Dynamic Augmentation against one record at a time in numpy, and what it promises an ECG reader."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from ecg_hf.nn.views.frequency import frequency_noise_size, frequency_views, spectral_importance
from ecg_hf.signal import read_record
from ecg_hf.signal.beats.heartbeats import detect_r_peaks


def reference_view(x, gain_noise, phase_noise, rate, sigma=1.0, kappa=0.2 * math.pi):
    """One view of one record ``(leads, samples)``, bin by bin."""
    samples = x.shape[1]
    spectrum = np.fft.rfft(x, axis=1)
    bins, step = spectrum.shape[1], rate / samples
    raw = (np.abs(spectrum) ** 2).mean(0)
    reach = round(0.5 / step) // 2
    energy = [raw[max(0, f - reach) : f + reach + 1].mean() for f in range(bins)]
    band = [f for f in range(bins) if 0.5 - 1e-9 <= f * step <= 40.0 + 1e-9]
    floor = 1e-6 * np.mean([energy[f] for f in band])
    level = {f: math.log(energy[f] + floor) for f in band}
    low, high = np.percentile(list(level.values()), [5, 95])
    width = round(1.0 / step)
    factors = np.ones(bins, complex)
    for f in range(1, bins):
        importance = min(max((level[f] - low) / (high - low), 0.0), 1.0) if f in level else 0.0
        n = gain_noise[f : f + width].sum() / math.sqrt(width)
        u = min(max(phase_noise[f : f + width].sum() / math.sqrt(width), -2.0), 2.0)
        gain = math.exp(min(max(sigma * (1 - importance) * n, -1.0), 1.0))
        phase = 0.0 if samples % 2 == 0 and f == bins - 1 else kappa * (1 - importance) * u
        factors[f] = gain * complex(math.cos(phase), math.sin(phase))
    return np.fft.irfft(spectrum * factors, n=samples, axis=1)


def noise(batch, samples, rate, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    size = frequency_noise_size(samples, rate)
    return torch.randn(2, batch, 2, size, generator=generator, dtype=dtype).unbind()


def ecg_like(batch=3, leads=8, samples=1000, rate=100, seed=0):
    """Narrow beats on noise."""
    rng = np.random.default_rng(seed)
    times = np.arange(samples) / rate
    beats = sum(np.exp(-(((times - at) / 0.03) ** 2)) for at in np.arange(0.4, samples / rate, 0.8))
    gains = rng.normal(size=(batch, leads, 1))
    return torch.from_numpy(gains * beats + 0.03 * rng.normal(size=(batch, leads, samples)))


@pytest.mark.parametrize(("samples", "rate"), [(1000, 100), (999, 100), (2500, 250)])
def test_equals_the_reference(samples, rate):
    x = ecg_like(3, 8, samples, rate)
    gain, phase = noise(3, samples, rate)
    views = frequency_views(x, gain, phase, sampling_rate=rate)
    for record in range(3):
        for view in range(2):
            expected = reference_view(
                x[record].numpy(), gain[record, view].numpy(), phase[record, view].numpy(), rate
            )
            np.testing.assert_allclose(views[record, view].numpy(), expected, atol=1e-12)


def test_limb_lead_equations_hold_in_every_view():
    """What is done to I and II is what is done to the leads that follow from them."""
    independent = ecg_like(4, 2)
    one, two = independent[:, 0], independent[:, 1]
    limb = torch.stack([one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2], dim=1)
    views = frequency_views(limb, *noise(4, 1000, 100), sampling_rate=100)
    i, ii, iii, avr, avl, avf = views.unbind(2)
    for left, right in ((i + iii, ii), (avr, -(i + ii) / 2), (avl, i - ii / 2), (avf, ii - i / 2)):
        torch.testing.assert_close(left, right, atol=1e-12, rtol=0)
    assert (views[:, 0] - limb).abs().max() > 0.01
    assert (views[:, 0] - views[:, 1]).abs().max() > 0.01


def test_a_filter_common_to_all_leads():
    """Any linear combination of leads may be taken before or after, given the record's importance."""
    x = ecg_like(2, 3)
    mixing = torch.linalg.qr(
        torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    )[0]
    gain, phase = noise(2, 1000, 100)
    after = mixing @ frequency_views(x, gain, phase, sampling_rate=100)
    before = frequency_views(mixing @ x, gain, phase, sampling_rate=100)  # orthogonal: the same energies
    torch.testing.assert_close(after, before, atol=1e-10, rtol=0)


def test_strong_frequencies_stay_and_weak_ones_move():
    x = ecg_like(16)
    views = frequency_views(x, *noise(16, 1000, 100), sampling_rate=100)
    spectrum = torch.fft.rfft(x)
    importance = spectral_importance(spectrum, 0.1)
    ratio = torch.fft.rfft(views).abs() / spectrum.abs()[:, None]
    change = (ratio.log().abs() * torch.ones(8, 1)).mean((1, 2))
    assert change[importance > 0.95].mean() < 0.03
    assert change[importance == 0.0].mean() > 0.4
    inside = torch.arange(501) * 0.1
    assert (importance[:, (inside < 0.45) | (inside > 40.05)] == 0).all()


def test_mean_and_flat_records_are_untouched():
    x = ecg_like(2) + 3.0
    views = frequency_views(x, *noise(2, 1000, 100), sampling_rate=100)
    torch.testing.assert_close(views.mean(-1), x.mean(-1)[:, None].expand(-1, 2, -1))
    flat = torch.full((2, 8, 1000), 0.7)
    views = frequency_views(flat, *noise(2, 1000, 100, dtype=torch.float32), sampling_rate=100)
    torch.testing.assert_close(views, flat[:, None].expand_as(views))


def test_no_strength_no_change():
    x = ecg_like(2)
    views = frequency_views(x, *noise(2, 1000, 100), sampling_rate=100, gain_strength=0.0, phase_strength=0.0)
    torch.testing.assert_close(views, x[:, None].expand_as(views))


def test_records_do_not_change_each_other():
    x = ecg_like(3)
    gain, phase = noise(3, 1000, 100)
    together = frequency_views(x, gain, phase, sampling_rate=100)
    alone = frequency_views(x[1:2], gain[1:2], phase[1:2], sampling_rate=100)
    torch.testing.assert_close(together[1:2], alone)


def test_smoothed_noise_has_unit_variance_everywhere():
    """At the ends too: with little strength the log gain is the noise itself."""
    x = torch.zeros(4000, 1, 200, dtype=torch.float64)
    x[..., 0] = 1.0  # an impulse is flat over frequency: nothing in the band stands out
    gain, phase = noise(4000, 200, 100)
    views = frequency_views(x, gain, phase, sampling_rate=100, gain_strength=0.1, phase_strength=0.0)
    log_gain = torch.fft.rfft(views)[:, 0, 0].abs().log()
    above = log_gain[:, 82:]  # beyond 40 Hz importance is 0
    torch.testing.assert_close(above.std(0), torch.full((19,), 0.1, dtype=torch.float64), atol=0.005, rtol=0)


@pytest.mark.realdata
def test_beats_stay_where_they_are(recordings: Path):
    """Rhythm survives: the strongest moment around each R peak, over all leads, hardly moves."""
    headers = sorted((recordings / "ptbxl").rglob("*_lr.hea"))[:24]
    assert headers
    x = torch.stack([torch.as_tensor(np.asarray(read_record(h.with_suffix("")).signal)) for h in headers])
    views = frequency_views(x, *noise(len(x), 1000, 100, dtype=torch.float32), sampling_rate=100)
    magnitude = [(v - v.median(-1, keepdim=True).values).norm(dim=1).numpy() for v in (x, views[:, 0])]
    moved = []
    for record in range(len(x)):
        for peak in detect_r_peaks(x[record, 1].numpy(), 100):
            if 15 <= peak < 985:
                before, after = (m[record, peak - 10 : peak + 11].argmax() for m in magnitude)
                moved.append(abs(int(before) - int(after)))
    assert len(moved) > 200
    assert np.mean(np.array(moved) <= 4) > 0.9
    change = (views[:, 0] - x).flatten(1).norm(dim=1) / (x - x.mean(-1, keepdim=True)).flatten(1).norm(dim=1)
    assert 0.1 < change.median() < 0.5
