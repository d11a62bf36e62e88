"""Descriptors of stretches of a signal against what is known of simple ones."""

import math

import pytest
import torch

from ecg_hf.nn.shards import NUM_DESCRIPTORS, shard_descriptors


def test_a_sine_of_whole_periods_is_described_as_one() -> None:
    time = torch.arange(200) / 100.0
    signal = (0.5 + 2.0 * torch.sin(2 * math.pi * 6.0 * time))[None]
    found = shard_descriptors(signal, 100, 100.0)
    assert found.shape == (1, 2, NUM_DESCRIPTORS)
    mean, std, skewness, kurtosis, low, high, rms, _, _, changes, centroid, spread, entropy, *bands = found[
        0, 1
    ].tolist()
    assert (mean, std) == pytest.approx((0.5, math.sqrt(2.0)), abs=1e-4)
    assert (skewness, kurtosis) == pytest.approx((0.0, 1.5), abs=1e-4)
    assert (low, high) == pytest.approx((-1.5, 2.5), abs=0.02)
    assert rms == pytest.approx(math.sqrt(0.25 + 2.0), abs=1e-4)
    assert changes == pytest.approx(12 / 99, abs=0.02)
    assert (centroid, spread, entropy) == pytest.approx((6.0, 0.0, 0.0), abs=0.05)
    assert bands == pytest.approx([0.0, 1.0, 0.0], abs=1e-3)


def test_stretches_do_not_see_each_other_and_the_rest_is_left_out() -> None:
    signal = torch.randn(3, 150, generator=torch.Generator().manual_seed(0))
    changed = signal.clone()
    changed[:, 64:128] += 5.0
    changed[:, 128:] = torch.nan
    first, second = (shard_descriptors(values, 64, 100.0) for values in (signal, changed))
    assert first.shape == (3, 2, NUM_DESCRIPTORS)
    assert torch.equal(first[:, 0], second[:, 0])
    assert not torch.equal(first[:, 1], second[:, 1])


def test_a_flat_signal_is_finite() -> None:
    assert torch.isfinite(shard_descriptors(torch.full((2, 128), 3.0), 64, 100.0)).all()
