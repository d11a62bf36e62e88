"""Feature extraction of a batch against scipy record by record, and of ten seconds out of a day."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.signal import resample_poly

from ecg_hf.processing import EcgFeatureExtractor
from ecg_hf.signal.leads import STANDARD_LEADS
from ecg_hf.signal.record import EcgRecord
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

    def by_scipy() -> list[np.ndarray]:
        prepared = []
        for one in signal:
            slow = resample_poly(one, 1, 5, axis=-1)
            centred = slow - slow.mean(axis=-1, keepdims=True)
            prepared.append(centred / (slow.std(axis=-1, keepdims=True) + 1e-8))
        return prepared

    for form, ecgs, options in (
        ("records", batch, {}),
        ("one array", signal, {"sampling_rate": 500.0, "lead_names": STANDARD_LEADS}),
    ):
        yield alternate(
            f"extraction of {BATCH} x 12 x 5000 to 100 Hz, z-score, {form}",
            lambda ecgs=ecgs, options=options: extractor(ecgs, **options),
            by_scipy,
            "resample_poly and numpy, record by record",
            per=BATCH,
            item="record",
            least=5.0,
            rounds=9,
        )
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
