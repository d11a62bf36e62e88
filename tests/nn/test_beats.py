"""Beat slicing against a loop written from the specification, one beat at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ecg_hf.nn.beats import evenly_spaced_peaks, slice_beats


def sliced_by_loop(
    lead: np.ndarray, peaks: list[int], slots: int, width: int, rate: float
) -> tuple[np.ndarray, np.ndarray]:
    samples, half = len(lead), width // 2
    beats, times = np.zeros((slots, width)), np.zeros(slots, int)
    for i, r in enumerate(peaks[:slots]):
        first, last = i == 0, i == len(peaks) - 1
        start = max(r - half, 0) if first else (peaks[i - 1] + r) // 2
        if first and last:
            stop = min(start + width, samples)
        elif last:
            stop = min(r + half, samples)
        else:
            stop = (r + peaks[i + 1]) // 2
        if stop - start > width:
            start = max(r - half, 0)
            stop = min(start + width, samples)
        offset = max(half - (r - start), 0)
        piece = lead[start:stop][: width - offset]
        beats[i, offset : offset + len(piece)] = piece
        times[i] = 0 if r == 0 else int(r / rate) + 1
    return beats, times


@settings(max_examples=60, deadline=None)
@given(
    records=st.lists(
        st.lists(st.integers(0, 399), min_size=1, max_size=12, unique=True).map(sorted),
        min_size=1,
        max_size=4,
    ),
    slots=st.integers(1, 8),
    width=st.integers(2, 90),
)
def test_equals_the_loop(records: list[list[int]], slots: int, width: int) -> None:
    signal = np.random.default_rng(0).normal(size=(len(records), 3, 400))
    table = torch.full((len(records), 12), -1)
    for row, peaks in zip(table, records, strict=True):
        row[: len(peaks)] = torch.tensor(peaks)
    tokens = slice_beats(
        torch.from_numpy(signal), table, beats_per_lead=slots, beat_length=width, sampling_rate=100.0
    )
    assert tokens.beats.shape == (len(records), 3 * slots, width)
    for i, peaks in enumerate(records):
        for lead in range(3):
            own = slice(lead * slots, (lead + 1) * slots)
            beats, times = sliced_by_loop(signal[i, lead], peaks, slots, width, 100.0)
            assert np.array_equal(tokens.beats[i, own].numpy(), beats)
            assert tokens.time_ids[i, own].tolist() == times.tolist()
            assert tokens.beat_mask[i, own].tolist() == [j < len(peaks) for j in range(slots)]


def cut(
    signal: torch.Tensor, peaks: torch.Tensor | None = None, **options: object
) -> tuple[torch.Tensor, ...]:
    return slice_beats(
        signal, peaks, **{"beats_per_lead": 5, "beat_length": 40, "sampling_rate": 100.0, **options}
    )


def test_the_peak_stands_in_the_middle() -> None:
    signal = torch.zeros(1, 1, 400)
    peaks = torch.tensor([[50, 130, 210, 290]])
    signal[0, 0, peaks[0]] = 1.0
    beats, _, mask = cut(signal, peaks)
    assert beats.argmax(2)[mask].tolist() == [20] * 4
    assert beats.sum() == 4


def test_a_record_without_peaks_is_cut_evenly() -> None:
    signal = torch.randn(2, 2, 400)
    spaced = evenly_spaced_peaks(400, 5, signal.device)
    assert spaced.tolist() == [int(x) for x in np.linspace(0, 399, 5)]
    known = torch.tensor([[30, 90, -1, -1, -1, -1]])
    mixed = cut(signal, torch.cat([known, torch.full((1, 6), -1)]))
    assert torch.equal(mixed[0][1:], cut(signal[1:], spaced[None])[0])
    assert torch.equal(mixed[0][:1], cut(signal[:1], known)[0])
    assert torch.equal(cut(signal)[0], cut(signal, torch.full((2, 3), -1))[0])


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_holds_no_beats_and_none_of_its_samples_count(side: str) -> None:
    signal = torch.randn(1, 2, 400)
    real = torch.zeros(1, 400, dtype=torch.long)
    real[:, slice(200, 400) if side == "left" else slice(0, 200)] = 1
    peaks = torch.tensor([[40, 120, 190, 250, 330]])
    beats, times, mask = cut(signal, peaks, sample_mask=real)
    assert mask[0, :5].tolist() == ([True, True] if side == "left" else [True] * 3) + [False] * (
        3 if side == "left" else 2
    )
    assert times[0, 0] == (3 if side == "left" else 1)
    noisy = torch.where(real.bool()[:, None], signal, 100.0)
    assert torch.equal(cut(noisy, peaks, sample_mask=real)[0], beats)


def test_gradients_reach_the_samples_that_were_cut() -> None:
    signal = torch.randn(1, 1, 400, requires_grad=True)
    cut(signal, torch.tensor([[100]]))[0].sum().backward()
    assert signal.grad[0, 0].nonzero().flatten().tolist() == list(range(80, 120))
