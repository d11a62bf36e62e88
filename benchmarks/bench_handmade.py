"""Cost of the hand-made features per record, by part. CPU time, so that a busy machine does not matter.

Run: python benchmarks/bench_handmade.py [--json]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np

from ecg_hf.signal.beats.beats import detect_beats
from ecg_hf.signal.beats.measures import ANALYSIS_RATE_HZ, handmade_features
from ecg_hf.signal.beats.median_beat import align_beats, median_beat
from ecg_hf.signal.filtering import bandpass
from ecg_hf.signal.leads import STANDARD_LEADS
from ecg_hf.signal.resampling import resample
from ecg_hf.signal.synthetic import simulate


def milliseconds(function: Callable[[np.ndarray], object], records: np.ndarray, repeats: int = 3) -> float:
    """Shortest CPU time per record of several runs."""
    function(records[0])
    times = []
    for _ in range(repeats):
        start = time.process_time()
        for record in records:
            function(record)
        times.append(time.process_time() - start)
    return min(times) / len(records) * 1e3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--records", type=int, default=50)
    options = parser.parse_args()

    report: dict[str, float] = {}
    rate = ANALYSIS_RATE_HZ
    for stored in (100.0, 500.0):
        signal = simulate(options.records, seed=0, sampling_rate=stored).signal
        report[f"features_{stored:g}_hz_ms"] = milliseconds(
            lambda x, stored=stored: handmade_features(x, stored, STANDARD_LEADS), signal
        )
    clean = bandpass(resample(signal, 500.0, rate), rate, 0.5, 40.0, order=2)
    report["detect_ms"] = milliseconds(lambda x: detect_beats(x, rate), clean)
    report["detect_align_ms"] = milliseconds(lambda x: align_beats(x, detect_beats(x, rate), rate), clean)
    peaks = {x.tobytes(): align_beats(x, detect_beats(x, rate), rate) for x in clean}
    report["median_beat_ms"] = milliseconds(lambda x: median_beat(x, peaks[x.tobytes()], rate), clean)

    if options.json:
        print(json.dumps(report))
        return
    for name, value in report.items():
        print(f"{name:28s} {value:8.2f} ms per record")


if __name__ == "__main__":
    main()
