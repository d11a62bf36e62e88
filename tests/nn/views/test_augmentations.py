"""Views by name: what each keeps of a record, and that draws alone decide."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ecg_hf.errors import ConfigurationError
from ecg_hf.nn.views.augmentations import (
    AUGMENTATIONS,
    Signals,
    apply_views,
    check_views,
    count_draws,
    lead_locked,
)
from ecg_hf.signal.leads import STANDARD_LEADS
from ecg_hf.signal.synthetic import simulate

RATE, SAMPLES = 250.0, 2500
KEEP_IDENTITIES = (
    *("crop_resize", "time_out", "gain", "wander", "powerline", "vcg"),
    *("segment", "scaling", "permutation", "bandpass"),
)


@pytest.fixture(scope="module")
def signals() -> Signals:
    values = torch.from_numpy(simulate(6, seed=1, sampling_rate=RATE).signal)
    return Signals(values, None, STANDARD_LEADS, RATE)


def view(signals: Signals, *entries: dict[str, Any], seed: int = 0) -> Signals:
    check_views(entries)
    draws = torch.rand(
        len(signals.values), count_draws(entries, 12, SAMPLES), generator=torch.Generator().manual_seed(seed)
    )
    return apply_views(signals, entries, draws, max_samples=SAMPLES)


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_draws_decide_and_shapes_stay(signals: Signals, name: str) -> None:
    first, again, other = (view(signals, {"op": name}, seed=seed).values for seed in (1, 1, 2))
    assert first.shape == (6, 12, SAMPLES // 2 if name == "segment" else SAMPLES)
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (name == "bandpass")
    assert first.isfinite().all()


@pytest.mark.parametrize("name", KEEP_IDENTITIES)
def test_einthoven_and_goldberger_hold_afterwards(signals: Signals, name: str) -> None:
    one, two, three, right, left, foot = view(signals, {"op": name}).values.unbind(1)[:6]
    before = signals.values
    tolerance = float((before[:, 2] - (before[:, 1] - before[:, 0])).abs().max()) + 1e-4
    for found, expected in (
        (three, two - one),
        (right, -(one + two) / 2),
        (left, one - two / 2),
        (foot, two - one / 2),
    ):
        assert float((found - expected).abs().max()) <= 2 * tolerance


def test_crops_start_and_end_inside_the_record() -> None:
    ramp = torch.arange(SAMPLES, dtype=torch.float32).expand(64, 12, SAMPLES)
    out = view(Signals(ramp, None, STANDARD_LEADS, RATE), {"op": "crop_resize", "length": [0.5, 0.5]}).values
    length = out[:, 0, -1] - out[:, 0, 0]
    torch.testing.assert_close(length / SAMPLES, torch.full((64,), 0.5), rtol=2e-3, atol=0.0)
    assert out.min() >= 0
    assert out.max() <= SAMPLES - 1


def test_time_out_zeroes_one_window_of_the_share() -> None:
    ones = torch.ones(64, 12, SAMPLES)
    out = view(Signals(ones, None, STANDARD_LEADS, RATE), {"op": "time_out", "share": [0.2, 0.4]}).values
    assert (out == out[:, :1]).all()
    share = 1.0 - out[:, 0].mean(1)
    assert 0.199 < share.min() < 0.23
    assert 0.37 < share.max() < 0.401
    assert (out[:, 0].diff().abs().sum(1) <= 2).all()


def test_noise_and_gain_have_their_sizes(signals: Signals) -> None:
    added = view(signals, {"op": "noise", "std": 0.5}).values - signals.values
    assert added.std() == pytest.approx(0.5, rel=0.01)
    assert added.abs().max() < 0.5 * 6
    ones = Signals(torch.ones(400, 12, 10), None, STANDARD_LEADS, RATE)
    factors = view(ones, {"op": "gain", "factor": [0.5, 2.0]}).values
    assert 0.5 <= factors.min() < 0.52
    assert 1.9 < factors.max() <= 2.0
    assert factors.log2().mean() == pytest.approx(0.0, abs=0.1)
    assert (factors == factors[:, :1]).all()
    assert not (view(ones, {"op": "gain", "per_lead": True}).values == factors[:, :1]).all()


def test_hum_needs_a_rate_that_can_hold_it(signals: Signals) -> None:
    assert not torch.equal(view(signals, {"op": "powerline"}).values, signals.values)
    slow = signals._replace(sampling_rate=100.0)
    assert torch.equal(view(slow, {"op": "powerline"}).values, signals.values)


def test_a_lead_always_stays(signals: Signals) -> None:
    out = view(signals, {"op": "lead_mask", "probability": 1.0}).values
    assert (out.abs().amax(-1) > 0).sum(1).tolist() == [1] * len(out)


def test_a_probability_is_per_record(signals: Signals) -> None:
    many = signals._replace(values=signals.values.repeat(40, 1, 1)[..., :100])
    changed = (view(many, {"op": "gain", "p": 0.25}).values != many.values).flatten(1).any(1)
    assert 0.15 < changed.float().mean() < 0.35


def test_padding_goes_with_the_crop() -> None:
    values = torch.ones(8, 12, SAMPLES)
    mask = torch.ones(8, SAMPLES, dtype=torch.bool)
    values[:, :, 1000:], mask[:, 1000:] = 0.0, False
    out = view(Signals(values, mask, STANDARD_LEADS, RATE), {"op": "crop_resize", "length": [0.5, 0.9]})
    assert out.mask is not None
    agrees = (out.values[:, 0] > 0.5) == out.mask
    assert agrees.float().mean() > 0.998


def test_limb_leads_follow_from_two() -> None:
    amplitudes = torch.arange(1.0, 15.0)[None]
    sizes = lead_locked(amplitudes, STANDARD_LEADS)[0]
    assert sizes[:6].tolist() == [1.0, 2.0, 1.0, -1.5, 0.0, 1.5]
    assert sizes[6:].tolist() == amplitudes[0, 8:].tolist()


def test_a_segment_is_a_stretch_of_the_record(signals: Signals) -> None:
    mask = torch.ones(6, SAMPLES, dtype=torch.bool)
    mask[:, 2000:] = False
    whole = signals._replace(mask=mask)
    half = view(whole, {"op": "segment", "start": [0.5, 0.5], "length": 0.5})
    assert torch.equal(half.values, signals.values[..., SAMPLES // 2 :])
    assert half.mask is not None
    assert torch.equal(half.mask, mask[:, SAMPLES // 2 :])


def test_a_permutation_moves_pieces_of_all_leads_together(signals: Signals) -> None:
    """Up to five pieces, each whole: at most four neighbours are no neighbours any more."""
    time = torch.arange(float(SAMPLES)).expand(6, 12, SAMPLES)
    moved = view(signals._replace(values=time), {"op": "permutation", "segments": 5}).values
    assert torch.equal(moved, moved[:, :1].expand(-1, 12, -1))
    assert torch.equal(moved.sort(dim=2).values, time)
    breaks = (moved[:, 0].diff() != 1.0).sum(1)
    assert breaks.max() <= 4
    assert breaks.max() > 0
    with pytest.raises(ConfigurationError, match="segments must be 1 to 16"):
        view(signals, {"op": "permutation", "segments": 17})


@pytest.mark.parametrize("name", ["noise", "wander", "powerline"])
def test_what_is_added_has_the_power_that_was_asked_for(signals: Signals, name: str) -> None:
    made = view(signals, {"op": name, "snr_db": [12.0, 12.0]}).values
    power, added = (values.square().mean((1, 2)) for values in (signals.values, made - signals.values))
    torch.testing.assert_close(10.0 * (power / added).log10(), torch.full((6,), 12.0), rtol=0.0, atol=0.01)


def test_noise_of_muscles_and_denoising_are_of_other_frequencies(signals: Signals) -> None:
    frequency = torch.fft.rfftfreq(SAMPLES, 1.0 / RATE)
    added = view(signals, {"op": "noise", "std": 1.0, "above_hz": 20.0}).values - signals.values
    spectrum = torch.fft.rfft(added).abs().square().mean((0, 1))
    assert spectrum[frequency < 5.0].mean() < 0.01 * spectrum[frequency > 40.0].mean()
    slow = torch.sin(2.0 * torch.pi * 0.1 * torch.arange(SAMPLES) / RATE).expand(6, 12, SAMPLES)
    filtered = view(signals._replace(values=slow), {"op": "bandpass"}).values
    assert filtered[..., 500:-500].abs().max() < 0.05


def test_scaling_is_about_one_and_common_to_all_leads(signals: Signals) -> None:
    ones = signals._replace(values=torch.ones(6, 12, SAMPLES))
    factors = view(ones, {"op": "scaling", "std": 0.1}).values
    assert torch.equal(factors, factors[:, :1].expand(-1, 12, -1))
    assert float(factors.mean()) == pytest.approx(1.0, abs=0.01)
    assert float(factors[:, 0].std()) == pytest.approx(0.1, rel=0.05)
