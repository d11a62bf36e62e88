"""Feature extraction of a batch against scipy record by record, and of ten seconds out of a day.

The loop does the same: scipy's ``resample_poly`` with the filter of this package (241 taps) around the line from the
first to the last sample, then each lead to mean 0 and deviation 1; results are compared. A second loop leaves it at
scipy's own filter of 101 taps, which is less work for a less steep filter.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.signal import resample_poly

from ecg_hf.processing import EcgFeatureExtractor
from ecg_hf.signal.leads import STANDARD_LEADS
from ecg_hf.signal.record import EcgRecord
from ecg_hf.signal.resampling import polyphase_taps
from ecg_hf.signal.synthetic import simulate
from rows import Row, alternate

BATCH = 64
DAY_S = 24 * 3600
DAY_RATE_HZ = 128.0
DAY_LEADS = ("I", "II", "V5")


def rows(quick: bool) -> Iterator[Row]:
    """A batch of 10 s at 500 Hz, and a day's recording of three leads."""
    signal = simulate(BATCH, seed=0, sampling_rate=500.0).signal.astype(np.float32)
    extractor = EcgFeatureExtractor(sampling_rate=100, normalization="zscore_lead")
    batch = [EcgRecord(one, 500.0, STANDARD_LEADS) for one in signal]

    taps = polyphase_taps(1, 5).astype(np.float32)

    def scaled(slow: np.ndarray) -> np.ndarray:
        centred = slow - slow.mean(axis=-1, keepdims=True)
        return centred / centred.std(axis=-1, keepdims=True)

    def same_filter() -> list[np.ndarray]:
        prepared = []
        for one in signal:
            first, slope = one[:, :1], (one[:, -1:] - one[:, :1]) / (one.shape[1] - 1)
            level = one - (first + slope * np.arange(one.shape[1], dtype=np.float32))
            slow = resample_poly(level, 1, 5, axis=-1, window=taps)
            prepared.append(scaled(slow + first + slope * np.arange(0, one.shape[1], 5, dtype=np.float32)))
        return prepared

    def own_filter() -> list[np.ndarray]:
        return [scaled(resample_poly(one, 1, 5, axis=-1)) for one in signal]

    difference = np.abs(np.stack(same_filter()) - extractor(batch)["input_values"]).max()
    if not difference < 1e-4:
        raise SystemExit(f"the two disagree by {difference:g}")
    work = f"extraction of {BATCH} x 12 x 5000 to 100 Hz, z-score"
    common = {"per": BATCH, "item": "record", "rounds": 9}
    yield alternate(
        work, lambda: extractor(batch), same_filter, "scipy's loop, same filter", least=5.0, **common
    )
    yield alternate(work, lambda: extractor(batch), own_filter, "scipy's loop, its own filter", **common)
    samples = round(DAY_S * DAY_RATE_HZ)
    beat = np.tile(signal[0, :3, :640], (1, samples // 640 + 1))[:, :samples]
    day = EcgRecord(beat, DAY_RATE_HZ, DAY_LEADS)
    alone = EcgRecord(beat[:, : round(12 * DAY_RATE_HZ)].copy(), DAY_RATE_HZ, DAY_LEADS)
    yield alternate(
        "extraction of 10 s of a day, 3 leads",
        lambda: [extractor(day) for _ in range(20)],
        lambda: [extractor(alone) for _ in range(20)],
        "12 s alone",
        per=20,
        item="record",
        least=0.9,
    )
