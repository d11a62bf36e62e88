"""What exports to ONNX say and how fast they are, beside torch, for every encoder.

    python benchmarks/bench_export.py [--method NAME ...] [--size NAME] [--data-dir FOLDER] [--records 100] [--json]

Each method's smallest preset with random weights is exported as ``ecg-hf export --head none`` does. All recordings
then go through ``ecg_hf.runtime.OnnxModel`` and through the torch model from the same inputs, in batches of 1 and 7;
*difference* is the largest of all values of an output, *of* the output's own largest value. *torch* and *onnx* are
records a second of one thread each: both take turns, round by round, so that a busy machine slows both alike, and the
fastest round counts. Recordings are a folder's (``--data-dir``) or simulated.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ecg_hf.export import export_model
from ecg_hf.models.registry import METHODS, get_method
from ecg_hf.runtime import OnnxModel, prepare
from ecg_hf.signal import EcgRecord, read_record
from ecg_hf.signal.io.paths import recordings_below
from ecg_hf.signal.leads import STANDARD_LEADS
from ecg_hf.signal.synthetic import simulate

RATE_HZ = 500.0
BATCHES = (1, 7)
Arrays = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One method in batches of one size.

    Attributes:
        method: Its name in the registry.
        size: The preset.
        batch: Records of a pass; the last pass may have fewer.
        difference: Largest difference from torch, of each output.
        largest: Largest value of each output.
        torch: Records a second.
        onnx: Records a second.
    """

    method: str
    size: str
    batch: int
    difference: dict[str, float]
    largest: dict[str, float]
    torch: float
    onnx: float


def recordings(folder: Path | None, count: int) -> list[EcgRecord]:
    """Recordings of a folder, or simulated ones."""
    if folder is not None:
        return [read_record(path) for path in islice(recordings_below(folder), count)]
    signal = simulate(count, seed=0, sampling_rate=RATE_HZ).signal
    return [EcgRecord(one, RATE_HZ, STANDARD_LEADS) for one in signal]


def batches(inputs: Arrays, size: int) -> Iterator[dict[str, Any]]:
    """The inputs in parts of ``size`` records."""
    for start in range(0, len(inputs["input_values"]), size):
        yield {name: np.ascontiguousarray(values[start : start + size]) for name, values in inputs.items()}


def alternating(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of each, the fastest of several rounds in which they take turns."""
    seconds = dict.fromkeys(works, float("inf"))
    for _ in range(rounds):
        for name, work in works.items():
            start = time.process_time()
            work()
            seconds[name] = min(seconds[name], time.process_time() - start)
    return seconds


def measure(method: str, asked: str | None, records: list[EcgRecord], rounds: int) -> Iterator[Row]:
    """Export a method and compare it, a row for each size of batches."""
    spec = get_method(method)
    size = asked if asked in spec.sizes else spec.sizes[0]
    torch.manual_seed(0)
    config = spec.load("config").preset(size)
    model = spec.load("model")(config).eval()
    extractor = spec.feature_extractor_for(config)
    with tempfile.TemporaryDirectory() as folder:
        facts = export_model(model, extractor, Path(folder, "out"), head="none")
        onnx = OnnxModel(Path(folder, "out"), threads=1)
    inputs = prepare(onnx.extractor, records, tuple(facts["inputs"]))
    for count in BATCHES:
        parts = list(batches(inputs, count))
        tensors = [{name: torch.from_numpy(value) for name, value in part.items()} for part in parts]
        with torch.inference_mode():
            expected = [model(**one) for one in tensors]
            found = [onnx.run(part) for part in parts]
            seconds = alternating(
                {
                    "torch": lambda tensors=tensors: [model(**one) for one in tensors],
                    "onnx": lambda parts=parts: [onnx.run(part) for part in parts],
                },
                rounds,
            )
        difference, largest = {}, {}
        for name in facts["outputs"]:
            wanted = np.concatenate([one[name].numpy() for one in expected])
            difference[name] = float(np.abs(np.concatenate([one[name] for one in found]) - wanted).max())
            largest[name] = float(np.abs(wanted).max())
        speed = {name: len(records) / max(value, 1e-9) for name, value in seconds.items()}
        yield Row(method, size, count, difference, largest, **speed)


def main() -> None:
    """Measure and print, one line per method and size of batches."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--method", action="append", help="may be repeated; all of them by default")
    parser.add_argument("--size", help="a preset of all methods that have it; the smallest by default")
    parser.add_argument("--data-dir", type=Path, help="folder of recordings, such as PTB-XL's records100")
    parser.add_argument("--records", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of lines")
    options = parser.parse_args()
    torch.set_num_threads(1)
    records = recordings(options.data_dir, options.records)
    found = []
    if not options.json:
        print(f"{len(records)} recordings; records/s of one thread")
        print(f"{'method':<14}{'size':<8}{'batch':>6}{'output':>20}{'difference':>12}{'of':>9}", end="")
        print(f"{'torch':>9}{'onnx':>9}{'ratio':>7}")
    for name in options.method or METHODS:
        for row in measure(name, options.size, records, options.rounds):
            found.append(asdict(row))
            for output in () if options.json else row.difference:
                print(f"{row.method:<14}{row.size:<8}{row.batch:>6}{output:>20}", end="")
                print(f"{row.difference[output]:>12.1e}{row.largest[output]:>9.3g}", end="")
                print(f"{row.torch:>9.1f}{row.onnx:>9.1f}{row.onnx / row.torch:>7.2f}", flush=True)
    if options.json:
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
