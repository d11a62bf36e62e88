"""R peaks against XQRS, and hand-made features of batches, with the parts they consist of."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ecg_hf.signal.beats.beats import detect_beats, detect_beats_in_batch
from ecg_hf.signal.beats.measures import ANALYSIS_RATE_HZ, measure_records
from ecg_hf.signal.beats.median_beat import align_beats, median_beat
from ecg_hf.signal.beats.xqrs import xqrs_in_leads
from ecg_hf.signal.filtering import bandpass
from ecg_hf.signal.leads import STANDARD_LEADS
from ecg_hf.signal.resampling import resample
from ecg_hf.signal.synthetic import simulate
from rows import Row, alternate, headline, measured, seconds


def rows(quick: bool) -> Iterator[Row]:
    """Twelve leads of 10 s."""
    records = 64
    at_500 = simulate(records, seed=0, sampling_rate=500.0).signal
    few = at_500[:4] if quick else at_500[:16]
    yield alternate(
        "R peaks of 12 x 5000",
        lambda: detect_beats_in_batch(at_500, 500.0),
        lambda: [xqrs_in_leads(one, 500.0, STANDARD_LEADS) for one in few],
        "XQRS",
        per=records,
        reference_per=len(few),
        item="record",
        least=20.0,
        rounds=5,
    )
    for rate in (100.0, 500.0):
        signal = at_500 if rate == 500.0 else simulate(records, seed=0, sampling_rate=rate).signal

        def features(signal: np.ndarray = signal, rate: float = rate) -> object:
            return measure_records(signal, rate, STANDARD_LEADS)

        times = [1e3 * one / records for one in seconds(features, 5)]
        name = f"359 hand-made features, 12 leads at {rate:g} Hz, in a batch of {records}"
        yield measured(name, times, "ms/record", most=2.0, profile=headline(features))
    rate = ANALYSIS_RATE_HZ
    clean = bandpass(resample(at_500, 500.0, rate), rate, 0.5, 40.0, order=2)
    found = [detect_beats(one, rate) for one in clean]
    aligned = [align_beats(one, own, rate) for one, own in zip(clean, found, strict=True)]

    def align() -> None:
        for one, own in zip(clean, found, strict=True):
            align_beats(one, own, rate)

    def medians() -> None:
        for one, own in zip(clean, aligned, strict=True):
            median_beat(one, own, rate)

    for name, work in (("beats aligned", align), ("median beat", medians)):
        times = [1e3 * one / records for one in seconds(work, 5)]
        yield measured(f"of these: {name}, record by record", times, "ms/record", profile=headline(work))
