"""R peak tables: detection, known peaks, and their way through the feature extractor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import wfdb

from ecg_hf.errors import ConfigurationError, SignalError
from ecg_hf.processing import EcgFeatureExtractor
from ecg_hf.processing.r_peaks import NO_PEAK, max_peaks_in, r_peak_table
from ecg_hf.signal import STANDARD_LEADS, read_record
from ecg_hf.signal.synthetic import simulate

RATE = 100.0


class PeakExtractor(EcgFeatureExtractor):
    wants_r_peaks = True


@pytest.fixture(scope="module")
def batch() -> Any:
    return simulate(4, seed=3, sampling_rate=RATE)


def make_extractor(**options: Any) -> PeakExtractor:
    return PeakExtractor(**{"sampling_rate": RATE, "normalization": "zscore_lead", **options})


def peaks_of(extractor: EcgFeatureExtractor, ecg: Any, rate: float = RATE, **options: Any) -> np.ndarray:
    return extractor(ecg, sampling_rate=rate, lead_names=STANDARD_LEADS, **options)["r_peaks"]


def listed(row: np.ndarray) -> list[int]:
    """Peaks of a row, having checked that padding comes last and nowhere else."""
    count = int((row != NO_PEAK).sum())
    assert (row[count:] == NO_PEAK).all()
    assert (np.diff(row[:count]) > 0).all()
    return row[:count].tolist()


def matched(found: list[int], true: np.ndarray, tolerance: float) -> float:
    """Share of true beats with a found one within ``tolerance`` samples."""
    if not found:
        return 0.0
    return float((np.abs(np.asarray(found)[:, None] - true).min(axis=0) <= tolerance).mean())


def test_detects_the_simulated_beats(batch: Any) -> None:
    table = r_peak_table(batch.signal, RATE, STANDARD_LEADS, max_peaks=40)
    assert table.shape == (4, 40)
    assert table.dtype == np.int64
    shares = []
    for row, true in zip(table, batch.r_peaks, strict=True):
        inner = true[(true > 30) & (true < 970)]
        shares.append(matched(listed(row), inner, 8))
    assert min(shares) >= 0.9


def test_xqrs_falls_back_when_lead_ii_is_absent(batch: Any) -> None:
    options: Any = {"max_peaks": 40, "detector": "xqrs"}
    whole = r_peak_table(batch.signal, RATE, STANDARD_LEADS, **options)
    without = batch.signal.copy()
    without[:, 1] = 0.0
    table = r_peak_table(without, RATE, STANDARD_LEADS, **options)
    # Lead I is next in order: the same as if it were the only one.
    assert np.array_equal(table, r_peak_table(batch.signal[:, :1], RATE, ["I"], **options))
    assert not np.array_equal(table, whole)
    nothing = r_peak_table(np.zeros((1, 12, 1000)), RATE, STANDARD_LEADS, max_peaks=5)
    assert nothing.tolist() == [[NO_PEAK] * 5]


def test_known_peaks_are_taken_as_they_are_where_there_are_any(batch: Any) -> None:
    detected = r_peak_table(batch.signal, RATE, STANDARD_LEADS, max_peaks=40)
    known = [[300, 100, 200, 100, 5000, -7], None, [], np.array([7], np.int32)]
    table = r_peak_table(batch.signal, RATE, STANDARD_LEADS, max_peaks=40, known=known)
    assert listed(table[0]) == [100, 200, 300]
    assert np.array_equal(table[1:3], detected[1:3])
    assert listed(table[3]) == [7]
    cut = r_peak_table(batch.signal, RATE, STANDARD_LEADS, max_peaks=2, known=known)
    assert cut[0].tolist() == [100, 200]


def test_mistakes_are_typed_errors(batch: Any) -> None:
    def table(signal: np.ndarray = batch.signal, max_peaks: int = 4, known: Any = None) -> np.ndarray:
        return r_peak_table(signal, RATE, STANDARD_LEADS, max_peaks=max_peaks, known=known)

    with pytest.raises(SignalError, match="got shape"):
        table(batch.signal[0])
    with pytest.raises(ConfigurationError, match="positive"):
        table(max_peaks=0)
    with pytest.raises(ConfigurationError, match="got 1 for 4"):
        table(known=[[1]])
    with pytest.raises(ConfigurationError, match="record 2"):
        table(known=[None, None, [1.5], None])


# ---------------------------------------------------------------- feature extractor


def test_only_extractors_that_want_peaks_detect_them(batch: Any) -> None:
    plain = EcgFeatureExtractor(sampling_rate=RATE)
    assert "r_peaks" not in plain(batch.signal, RATE, STANDARD_LEADS, r_peaks=batch.r_peaks)
    table = peaks_of(make_extractor(), batch.signal)
    assert table.shape == (4, max_peaks_in(1000, RATE)) == (4, 40)
    # Detected on millivolts, whatever the model's amplitude scale.
    assert np.array_equal(table, r_peak_table(batch.signal, RATE, STANDARD_LEADS, max_peaks=40))
    assert np.array_equal(table, peaks_of(make_extractor(normalization="minmax_record"), batch.signal))


def test_known_peaks_follow_resampling(batch: Any) -> None:
    wide = simulate(2, seed=5, sampling_rate=500.0)
    table = peaks_of(make_extractor(), wide.signal, 500.0, r_peaks=wide.r_peaks)
    for row, true in zip(table, wide.r_peaks, strict=True):
        expected = np.unique(np.rint(np.asarray(true) / 5).astype(int))
        assert listed(row) == expected[expected < 1000].tolist()


@pytest.mark.parametrize(
    ("options", "length", "known", "expected"),
    [
        ({"crop": "start", "duration_s": 4.0}, 1000, [10, 399, 400, 800], [10, 399]),
        ({"crop": "center", "duration_s": 4.0}, 1000, [299, 300, 699, 700], [0, 399]),
        ({"padding_side": "right"}, 600, [0, 599, 600], [0, 599]),
        ({"padding_side": "left"}, 600, [0, 599, 600], [400, 999]),
    ],
)
def test_known_peaks_follow_cropping_and_padding(
    batch: Any, options: dict[str, Any], length: int, known: list[int], expected: list[int]
) -> None:
    table = peaks_of(make_extractor(**options), batch.signal[:1, :, :length], r_peaks=[known])
    assert listed(table[0]) == expected


def test_peaks_mark_the_same_samples_after_left_padding(batch: Any) -> None:
    short = batch.signal[:2, :, :600]
    right = peaks_of(make_extractor(padding_side="right"), short)
    left = peaks_of(make_extractor(padding_side="left"), short)
    assert np.array_equal(np.where(right >= 0, right + 400, right), left)


def test_peaks_stay_with_their_record_in_a_mixed_batch(batch: Any) -> None:
    """Records of different lengths and leads are prepared in groups."""
    ecgs = [
        {"signal": batch.signal[0], "sampling_rate": RATE, "lead_names": STANDARD_LEADS},
        {"signal": batch.signal[1, :6, :500], "sampling_rate": RATE, "lead_names": STANDARD_LEADS[:6]},
        {"signal": batch.signal[2], "sampling_rate": RATE, "lead_names": STANDARD_LEADS},
    ]
    extractor = make_extractor()
    table = extractor(ecgs, r_peaks=[[11], [22], None])["r_peaks"]
    assert listed(table[0]) == [11]
    assert listed(table[1]) == [22]
    assert np.array_equal(table[2], extractor(ecgs[2])["r_peaks"][0])


def test_tensors_give_the_same_peaks(batch: Any) -> None:
    table = peaks_of(make_extractor(), torch.from_numpy(batch.signal))
    assert table.dtype == torch.int64
    assert np.array_equal(table.numpy(), peaks_of(make_extractor(), batch.signal))


# ---------------------------------------------------------------- real recordings


@pytest.mark.realdata
def test_cardiologists_r_peaks_are_found_in_ludb(recordings: Path) -> None:
    """LUDB's manual R peaks of lead II against the table at the model's rate."""
    headers = sorted((recordings / "ludb" / "data").glob("*.hea"), key=lambda p: int(p.stem))
    assert len(headers) == 10
    extractor = make_extractor()
    found, shares = 0, []
    for header in headers:
        record = read_record(header.with_suffix(""))
        annotation = wfdb.rdann(str(header.with_suffix("")), "ii")
        marks = np.array(annotation.sample)[[symbol == "N" for symbol in annotation.symbol]]
        table = extractor(record)["r_peaks"]
        found += len(listed(table[0]))
        # Annotations cover the inner beats only: every one of them must have a partner within 80 ms.
        shares.append(matched(listed(table[0]), marks * RATE / record.sampling_rate, 8))
        known = extractor(record, r_peaks=[marks])["r_peaks"]
        assert listed(known[0]) == sorted(set(np.rint(marks * RATE / record.sampling_rate).astype(int)))
    assert np.mean(shares) > 0.95
    assert found >= 5 * len(headers)


@pytest.mark.realdata
def test_rates_of_real_ptbxl_records_are_plausible_and_agree_between_its_two_versions(
    recordings: Path,
) -> None:
    low = sorted((recordings / "ptbxl" / "records100").rglob("*.hea"))[:12]
    extractor = make_extractor()
    agreeing = []
    for header in low:
        row = listed(extractor(read_record(header.with_suffix("")))["r_peaks"][0])
        assert 3 <= len(row) <= 40
        name = header.name.replace("_lr", "_hr")
        twin = recordings / "ptbxl" / "records500" / header.parent.name / name
        if twin.is_file():
            other = listed(extractor(read_record(twin.with_suffix("")))["r_peaks"][0])
            agreeing.append(matched(other, np.asarray(row), 3))
    assert len(agreeing) == 5
    assert np.mean(agreeing) > 0.95
