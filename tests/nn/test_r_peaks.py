from pathlib import Path

import numpy as np
import pytest
import torch

from ecg_hf import read_record
from ecg_hf.nn.r_peaks import estimate_r_peaks
from ecg_hf.processing.feature_extraction import EcgFeatureExtractor
from ecg_hf.processing.r_peaks import r_peak_table


def beats(rate: float, positions: list[float], seconds: float = 10.0) -> torch.Tensor:
    """Narrow spikes with a slow, lower wave behind each."""
    time = torch.arange(round(seconds * rate)) / rate
    signal = torch.zeros_like(time)
    for position in positions:
        signal += torch.exp(-(((time - position) / 0.015) ** 2))
        signal += 0.3 * torch.exp(-(((time - position - 0.3) / 0.06) ** 2))
    return signal


@pytest.mark.parametrize("rate", [100.0, 204.8, 500.0])
def test_finds_each_beat_at_its_peak(rate: float):
    regular, irregular = [0.5 + 0.8 * k for k in range(12)], [0.2, 1.0, 1.5, 3.1, 3.8, 5.5, 6.0, 8.9]
    signal = (
        torch.stack([beats(rate, regular), beats(rate, irregular)])[:, None]
        * torch.tensor([1.0, -0.5])[:, None]
    )
    table = estimate_r_peaks(signal + 3.0, rate, 40)
    for row, positions in zip(table, (regular, irregular), strict=True):
        found = row[row >= 0]
        assert len(found) == len(positions)
        assert (found / rate - torch.tensor(positions)).abs().max() <= 1.0 / rate
        assert (row[len(found) :] == -1).all()


def test_flat_records_have_no_beats_and_tables_are_filled_up():
    table = estimate_r_peaks(torch.zeros(2, 8, 500), 100.0, 40)
    assert table.shape == (2, 40)
    assert (table == -1).all()
    crowded = estimate_r_peaks(beats(100.0, [0.5 + 0.8 * k for k in range(12)])[None, None], 100.0, 5)
    assert (crowded >= 0).all()
    assert torch.equal(crowded, crowded.sort(1).values)


@pytest.mark.realdata
def test_agrees_with_xqrs_on_real_records(recordings: Path):
    headers = sorted((recordings / "ptbxl").rglob("*_lr.hea"))
    extractor = EcgFeatureExtractor(sampling_rate=100, normalization="zscore_record")
    records = [read_record(header.with_suffix("")) for header in headers]
    values = extractor(records, return_tensors="pt")["input_values"]
    known = r_peak_table(values.numpy(), 100.0, extractor.lead_names, max_peaks=40)
    found = estimate_r_peaks(values, 100.0, 40).numpy()
    hits = of_known = of_found = 0
    for ours, theirs in zip(found, known, strict=True):
        ours, theirs = ours[ours >= 0], theirs[theirs >= 0]
        of_known, of_found = of_known + len(theirs), of_found + len(ours)
        hits += int((np.abs(theirs[:, None] - ours).min(1) <= 7).sum()) if len(ours) else 0
    assert of_known > 300
    assert hits / of_known > 0.95
    assert hits / of_found > 0.95
