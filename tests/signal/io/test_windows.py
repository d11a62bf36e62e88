"""Long recordings read window by window, in constant memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import wfdb

import ecg_hf
from ecg_hf import EcgRecord, iter_windows, read_record
from ecg_hf.errors import ConfigurationError, EcgError, SignalError
from ecg_hf.signal.io import windows
from tests.signal.io.test_clinical_traps import edf, ishne


def record_of(samples: int = 1000, rate: float = 100.0) -> EcgRecord:
    signal = np.arange(2 * samples, dtype=np.float32).reshape(2, samples)
    return EcgRecord(signal=signal, sampling_rate=rate, lead_names=("I", "II"))


def test_windows_of_a_record():
    found = list(iter_windows(record_of(), window_s=3, stride_s=2))
    assert [start for start, _ in found] == [0.0, 2.0, 4.0, 6.0]
    assert all(window.signal.shape == (2, 300) for _, window in found)
    assert found[1][1].signal[0, 0] == 200.0
    assert [start for start, _ in iter_windows(record_of())] == [0.0]
    ((start, short),) = iter_windows(record_of(), window_s=60)
    assert (start, short.signal.shape) == (0.0, (2, 1000))
    for wrong in (0, -1, float("nan"), "10", True):
        with pytest.raises(ConfigurationError):
            iter_windows(record_of(), window_s=wrong)
        with pytest.raises(ConfigurationError):
            iter_windows(record_of(), stride_s=wrong)
    with pytest.raises(ConfigurationError, match="shorter than a sample"):
        list(iter_windows(record_of(), window_s=0.001))
    assert ecg_hf.iter_windows is iter_windows


def test_fractional_rates_do_not_drift():
    starts = [window.signal[0, 0] for _, window in iter_windows(record_of(20_000, 62.4725))]
    assert starts == [round(k * 10 * 62.4725) for k in range(len(starts))]
    assert len(starts) == 32


@pytest.mark.parametrize("kind", ["wfdb", "ishne", "edf"])
def test_blocks_give_what_reading_the_whole_gives(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    counts = np.random.default_rng(1).integers(-2000, 2000, (2, 4000))
    counts[0, 500:530] = -32768
    path = tmp_path / "long"
    if kind == "wfdb":
        wfdb.wrsamp("long", 200, ["mV"] * 2, ["I", "V1"], d_signal=counts.T, fmt=["16"] * 2, adc_gain=[1000.0] * 2,
                    baseline=[0, 5], write_dir=str(tmp_path))  # fmt: skip
    else:
        path.write_bytes(ishne(counts, [5, 11], [1000, 2500]) if kind == "ishne" else edf())
    whole = read_record(path)
    monkeypatch.setattr(windows, "_BLOCK_VALUES", 900)
    found = list(iter_windows(path, window_s=1.5, stride_s=0.7))
    assert len(found) == (whole.signal.shape[1] - 300) // 140 + 1
    for k, (start, window) in enumerate(found):
        assert start == pytest.approx(0.7 * k)
        np.testing.assert_allclose(
            window.signal, whole.signal[:, 140 * k : 140 * k + 300], rtol=1e-6, atol=1e-6
        )
        assert window.lead_names == whole.lead_names
    (leads,) = {window.lead_names for _, window in iter_windows(path, leads=[whole.lead_names[1]])}
    assert leads == whole.lead_names[1:]


def test_a_gap_is_seen_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    content = bytearray(edf())
    size = (len(content) - 1024) // 10
    onset = content.index(b"+5\x14", 1024 + 5 * size)
    content[onset : onset + 2] = b"+9"
    (tmp_path / "gap.edf").write_bytes(content)
    monkeypatch.setattr(windows, "_BLOCK_VALUES", 600)
    with pytest.raises(SignalError, match=r"gap\.edf: .*gap"):
        list(iter_windows(tmp_path / "gap.edf", window_s=1, stride_s=1))
    (tmp_path / "short.edf").write_bytes(content[: -2 * size])
    with pytest.raises(EcgError, match=r"short\.edf: "):
        list(iter_windows(tmp_path / "short.edf"))


def test_memory_does_not_grow_with_the_recording(tmp_path: Path):
    counts = np.zeros((12, 200 * 3600), dtype=np.int16)
    counts[:, ::7] = 50
    path = tmp_path / "hour.ecg"
    path.write_bytes(ishne(counts, list(range(5, 17)), [1000] * 12))
    del counts
    tracemalloc.start()
    try:
        assert sum(1 for _ in iter_windows(path)) == 360
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()
