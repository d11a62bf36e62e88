"""Views against one-record-at-a-time numpy, and what each operation promises."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import resample

from ecg_hf.nn.views.cardiac import CardiacView, mask_cycles, render, render_mask, scale_crop, shift

SAMPLES, PEAKS, WINDOWS = 500, 12, 4


def random_peaks(rng: np.random.Generator, batch: int, samples: int = SAMPLES) -> torch.Tensor:
    """Tables as the feature extractor makes them; rows of any number of beats, none included."""
    table = np.full((batch, PEAKS), -1)
    for row in table:
        count = rng.integers(0, PEAKS + 1)
        row[:count] = np.sort(rng.choice(samples, count, replace=False))
    return torch.from_numpy(table)


def random_view(
    seed: int, batch: int = 16, **mask: object
) -> tuple[CardiacView, torch.Tensor, dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    draws = {
        "ratio": rng.uniform(0.5, 1.0, batch).astype(np.float32),
        "place": rng.random(batch, dtype=np.float32),
        "share": rng.uniform(0.1, 0.3, batch).astype(np.float32),
        "places": rng.random((batch, PEAKS - 1 + WINDOWS), dtype=np.float32),
        "offset": rng.integers(-50, 51, batch),
        "peaks": random_peaks(rng, batch).numpy(),
    }
    t = {name: torch.from_numpy(value) for name, value in draws.items()}
    view = scale_crop(t["ratio"], t["place"], SAMPLES, t["peaks"])
    options = {"min_cycle": 15.0, "guard": 2, "fallback_windows": WINDOWS, **mask}
    view, blind = mask_cycles(view, t["share"], t["places"], **options)
    return shift(view, t["offset"]), blind, draws


def naive_view(
    signal: np.ndarray, row: int, draws: dict[str, np.ndarray], mode: str = "within"
) -> np.ndarray:
    """One record, step by step: crop and stretch, mask every cycle, shift with zeros."""
    leads, samples = signal.shape
    ratio, place = float(draws["ratio"][row]), float(draws["place"][row])
    start = place * (1 - ratio) * (samples - 1)

    def at(lead: int, position: int) -> float:
        return float(signal[lead, min(max(position, 0), samples - 1)])

    stretched = np.zeros((leads, samples))
    for i in range(samples):
        position = start + ratio * i
        k, t = math.floor(position), position - math.floor(position)
        for lead in range(leads):
            p0, p1, p2, p3 = (at(lead, k + d) for d in (-1, 0, 1, 2))
            slope_1, slope_2 = (p2 - p0) / 2, (p3 - p1) / 2  # Hermite form of the same cubic
            stretched[lead, i] = (
                (2 * t**3 - 3 * t**2 + 1) * p1
                + (t**3 - 2 * t**2 + t) * slope_1
                + (-2 * t**3 + 3 * t**2) * p2
                + (t**3 - t**2) * slope_2
            )
    peaks = [(np.float32(p) - np.float32(start)) / np.float32(ratio) for p in draws["peaks"][row] if p >= 0]
    cycles = [
        (k, a, b) for k, (a, b) in enumerate(pairwise(peaks)) if a >= 0 and b <= samples - 1 and b - a >= 15
    ]
    places, share = draws["places"][row], draws["share"][row]
    bounds = [(math.ceil(a) + 3, math.floor(b) - 2, b - a, places[k]) for k, a, b in cycles]
    if sum(b - a for _, a, b in cycles) < 0.5 * samples:
        step = samples // WINDOWS
        bounds = [(w * step, (w + 1) * step, step, places[PEAKS - 1 + w]) for w in range(WINDOWS)]
    keep = np.ones(samples)
    for low, high, period, u in bounds:
        if high <= low:
            continue
        if mode == "cycle":
            if u < 0.15:
                keep[low:high] = 0
            continue
        length = min(math.floor(share * np.float32(period)), high - low)
        begin = min(low + math.floor(u * np.float32(high - low - length + 1)), high - length)
        keep[begin : begin + length] = 0
    for peak in peaks:
        if 0 <= peak <= samples - 1:
            keep[max(math.floor(peak) - 2, 0) : math.ceil(peak) + 3] = 1
    masked = stretched * keep
    output = np.zeros_like(masked)
    for i in range(samples):
        source = i - int(draws["offset"][row])
        if 0 <= source < samples:
            output[:, i] = masked[:, source]
    return output


@pytest.mark.parametrize("mode", ["within", "cycle"])
def test_equals_one_record_at_a_time(mode: str):
    view, blind, draws = random_view(0, mode=mode)
    signal = np.random.default_rng(1).normal(size=(16, 3, SAMPLES)).cumsum(-1).astype(np.float32) / 10
    batched = render(torch.from_numpy(signal), view).numpy()
    assert 0 < blind.sum() < len(blind)  # both ways of masking are there
    for row in range(16):
        expected = naive_view(signal[row], row, draws, mode)
        np.testing.assert_array_equal(batched[row] == 0, expected == 0)
        np.testing.assert_allclose(batched[row], expected, atol=2e-4)


@given(seed=st.integers(0, 10_000), mode=st.sampled_from(["within", "cycle"]), guard=st.integers(0, 5))
@settings(max_examples=80, deadline=None)
def test_no_mask_contains_an_r_peak(seed: int, mode: str, guard: int):
    """Nor a sample beside one, in whichever way the record was masked and wherever it was shifted."""
    view, _, draws = random_view(seed, batch=8, mode=mode, guard=guard, cycle_probability=0.9)
    for row in range(8):
        offset = int(draws["offset"][row])
        for peak in view.r_peaks[row].tolist():
            if math.isnan(peak) or not offset <= peak <= SAMPLES - 1 + offset:
                continue  # no peak, or outside the crop
            for sample in (math.floor(peak), round(peak), math.ceil(peak)):
                if max(0, offset) <= sample < min(SAMPLES, SAMPLES + offset):
                    assert view.gain[row, sample] == 1.0


def test_masked_share_is_what_was_drawn():
    batch = 64
    peaks = torch.arange(0, 500, 50)[:PEAKS].expand(batch, -1)
    ones = torch.ones(batch)
    share = torch.linspace(0.1, 0.3, batch)
    places = torch.rand(batch, PEAKS - 1 + WINDOWS, generator=torch.Generator().manual_seed(0))
    view, blind = mask_cycles(scale_crop(ones, 0 * ones, SAMPLES, peaks), share, places, min_cycle=15.0)
    assert not blind.any()
    masked = (view.gain == 0).sum(1)
    assert torch.equal(masked, 9 * (share * 50).floor().long())


def test_positions_of_masks_reach_both_ends_of_a_cycle():
    batch = 4000
    peaks = torch.tensor([0, 100, 200, 300, 400, 499]).expand(batch, -1)
    ones = torch.ones(batch)
    places = torch.rand(batch, 5 + WINDOWS, generator=torch.Generator().manual_seed(0))
    view, _ = mask_cycles(scale_crop(ones, 0 * ones, SAMPLES, peaks), 0.2 * ones, places, min_cycle=15.0)
    often = 1.0 - view.gain[:, :101].mean(0)
    assert often[0] == often[100] == 0
    assert (often[1:100] > 0).all()
    assert often[25:75].sub(20 / 80).abs().max() < 0.03  # 80 equally likely begins of a mask of 20


def test_records_without_beats_are_masked_blindly():
    batch = 8
    places = torch.rand(batch, PEAKS - 1 + WINDOWS)
    for peaks in (torch.full((batch, PEAKS), -1), torch.full((batch, 1), -1), torch.full((batch, 1), 250)):
        begun = scale_crop(torch.ones(batch), torch.zeros(batch), SAMPLES, peaks)
        view, blind = mask_cycles(begun, torch.full((batch,), 0.2), places, min_cycle=15.0)
        assert blind.all()
        masked = (view.gain == 0).view(batch, WINDOWS, -1).sum(-1)
        if (peaks < 0).all():
            assert (masked == 25).all()
        else:
            assert (view.gain[:, 250] == 1).all()


def test_lead_identities_hold_in_every_view():
    view, _, _ = random_view(3)
    one, two = torch.randn(2, 16, SAMPLES, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    leads = torch.stack([one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2], dim=1)
    seen = render(leads, view)
    one, two = seen[:, 0], seen[:, 1]
    expected = torch.stack([one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2], dim=1)
    torch.testing.assert_close(seen, expected)
    assert seen.abs().sum() > 0


def test_shift_and_back_restores_the_interior():
    signal = torch.randn(4, 2, SAMPLES)
    begun = scale_crop(torch.ones(4), torch.zeros(4), SAMPLES, torch.full((4, 1), 200))
    offset = torch.tensor([50, -50, 7, 0])
    there = shift(begun, offset)
    for row, d in enumerate(offset.tolist()):
        moved = render(signal, there)[row]
        if d > 0:
            assert torch.equal(moved[:, d:], signal[row, :, :-d])
            assert (moved[:, :d] == 0).all()  # not circular
        elif d < 0:
            assert torch.equal(moved[:, :d], signal[row, :, -d:])
            assert (moved[:, d:] == 0).all()
    assert torch.equal(there.r_peaks[:, 0], 200.0 + offset)
    back = render(signal, shift(there, -offset))
    assert torch.equal(back[:, :, 50:-50], signal[:, :, 50:-50])


def test_whole_crop_changes_nothing():
    signal = torch.randn(3, 8, SAMPLES)
    view = scale_crop(torch.ones(3), torch.rand(3), SAMPLES, torch.full((3, 1), -1))
    assert torch.equal(render(signal, view), signal)


def test_crop_follows_the_family_of_fft_stretches_away_from_its_ends():
    rng = np.random.default_rng(0)
    smooth = resample(rng.normal(size=(4, 2, 60)), SAMPLES, axis=-1).astype(np.float32)
    start, length = 100, 300
    stretched = resample(smooth[..., start : start + length], SAMPLES, axis=-1)
    ratio = length / SAMPLES
    place = start / ((1 - ratio) * (SAMPLES - 1))
    view = scale_crop(
        torch.full((4,), ratio), torch.full((4,), place), SAMPLES, torch.full((4, 1), start + 30)
    )
    inside = slice(50, -50)
    error = render(torch.from_numpy(smooth), view).numpy()[..., inside] - stretched[..., inside]
    assert np.abs(error).max() < 0.05 * np.abs(stretched).max()
    torch.testing.assert_close(view.r_peaks[:, 0], torch.full((4,), 30 / ratio))


def test_regular_rhythm_stays_regular():
    peaks = torch.arange(10, 500, 45)[None].expand(5, -1)
    view = scale_crop(torch.linspace(0.5, 1.0, 5), torch.rand(5), SAMPLES, peaks)
    intervals = view.r_peaks.diff(dim=1)
    torch.testing.assert_close(intervals, (45.0 / view.step)[:, None].expand_as(intervals), atol=1e-3, rtol=0)


def test_mask_of_padding_moves_with_the_signal():
    mask = torch.ones(3, SAMPLES)
    mask[:, 400:] = 0
    view = shift(
        scale_crop(
            torch.tensor([1.0, 0.5, 1.0]), torch.tensor([0.0, 1.0, 0.0]), SAMPLES, torch.full((3, 1), -1)
        ),
        torch.tensor([0, 0, -20]),
    )
    counts = render_mask(mask, view).sum(1).tolist()
    assert counts == [400, pytest.approx(301, abs=1), 380]


def test_does_not_synchronise_or_depend_on_values():
    """Shapes and control flow are the same for every batch: it traces as one graph."""
    view, _, draws = random_view(0)
    t = {name: torch.from_numpy(value) for name, value in draws.items()}

    def whole(signal: torch.Tensor, t: dict[str, torch.Tensor]) -> torch.Tensor:
        view = scale_crop(t["ratio"], t["place"], SAMPLES, t["peaks"])
        view, _ = mask_cycles(view, t["share"], t["places"], min_cycle=15.0, guard=2)
        return render(signal, shift(view, t["offset"]))

    signal = torch.randn(16, 8, SAMPLES)
    compiled = torch.compile(whole, fullgraph=True, backend="eager")
    assert torch.equal(compiled(signal, t), render(signal, view))
