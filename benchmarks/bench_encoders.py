"""Throughput of every encoder on one core, its preprocessing apart: records a second of processor time.

    python benchmarks/bench_encoders.py [--method NAME ...] [--size NAME] [--records 8] [--quick] [--json]

Records are simulated, twelve leads of 10 s at 500 Hz. *Preprocessing* is the feature extractor's work on them,
*encoder* the forward pass of a batch in float32 with random weights, whose cost is that of any others; a model that
looks at 5 s of a record does less than one that looks at all of it (*seconds*). Of each method the published size
("base", else its largest) is taken if its weights fit into free memory, else the largest preset whose weights do. The
shortest of several rounds counts. Processor time of one thread, so that other load on the machine changes little.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch

from ecg_hf.models.registry import METHODS, MethodSpec, get_method
from ecg_hf.signal.leads import STANDARD_LEADS
from ecg_hf.signal.record import EcgRecord
from ecg_hf.signal.synthetic import simulate

RATE_HZ = 500.0
SHARE_OF_MEMORY = 0.4
"""Of what is free: activations need room too."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """One encoder.

    Attributes:
        method: Its name in the registry.
        size: The preset.
        published: Whether that is the size its authors trained.
        parameters: Of the model, a text side included.
        seconds: Of a record that it looks at.
        preprocessing: Records a second.
        encoder: Records a second.
    """

    method: str
    size: str
    published: bool
    parameters: int
    seconds: float
    preprocessing: float
    encoder: float

    @property
    def together(self) -> float:
        """Records a second of both, one after the other."""
        return 1.0 / (1.0 / self.preprocessing + 1.0 / self.encoder)


def per_second(work: Callable[[], object], count: int, rounds: int) -> float:
    """Records a second of the fastest round; one more goes before, for what is only done once."""
    work()
    times = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return count / max(min(times), 1e-9)


def parameters_of(spec: MethodSpec, size: str) -> int:
    """Parameters of an encoder, counted without storage."""
    with torch.device("meta"):
        model = spec.load("model")(spec.load("config").preset(size))
    return sum(one.numel() for one in model.parameters())


def chosen_size(spec: MethodSpec, asked: str | None) -> tuple[str, bool]:
    """The preset to measure, and whether it is the published size."""
    published = "base" if "base" in spec.sizes else spec.sizes[-1]
    if asked in spec.sizes:
        return asked, asked == published
    free = SHARE_OF_MEMORY * os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    smaller = spec.sizes[: spec.sizes.index(published) + 1]
    fitting = [size for size in smaller if 4 * parameters_of(spec, size) < free]
    size = fitting[-1] if fitting else spec.sizes[0]
    return size, size == published


def measure(spec: MethodSpec, asked: str | None, records: int, rounds: int) -> Throughput:
    """Build an encoder and time it."""
    size, published = chosen_size(spec, asked)
    config = spec.load("config").preset(size)
    extractor = spec.feature_extractor_for(config)
    signal = simulate(records, seed=0, sampling_rate=RATE_HZ).signal
    batch = [EcgRecord(one, RATE_HZ, STANDARD_LEADS) for one in signal]
    model = spec.load("model")(config).eval()
    inputs = dict(extractor(batch, return_tensors="pt"))
    with torch.inference_mode():
        encoder = per_second(lambda: model(**inputs), records, rounds)
    return Throughput(
        method=spec.name,
        size=size,
        published=published,
        parameters=model.num_parameters(),
        seconds=config.num_samples / config.sampling_rate,
        preprocessing=per_second(lambda: extractor(batch, return_tensors="pt"), records, rounds),
        encoder=encoder,
    )


def main() -> None:
    """Measure and print, one line per encoder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--method", action="append", help="may be repeated; all of them by default")
    parser.add_argument("--size", help="a preset of all methods that have it")
    parser.add_argument("--records", type=int, default=8, help="of a batch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="two records, one round, the size micro")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of lines")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.quick:
        options.records, options.rounds, options.size = 2, 1, "micro"
    found = []
    if not options.json:
        print(f"{'method':<14}{'size':<13}{'parameters':>12}{'seconds':>9}", end="")
        print(f"{'preprocessing':>15}{'encoder':>10}{'together':>10}   records/s of one core")
    for name in options.method or METHODS:
        one = measure(get_method(name), options.size, options.records, options.rounds)
        found.append({**asdict(one), "together": one.together})
        if not options.json:
            size = one.size if one.published else f"{one.size} *"
            print(f"{one.method:<14}{size:<13}{one.parameters:>12,}{one.seconds:>9g}", end="")
            print(f"{one.preprocessing:>15.1f}{one.encoder:>10.2f}{one.together:>10.2f}", flush=True)
    if options.json:
        print(json.dumps(found, indent=2))
    elif not all(one["published"] for one in found):
        print("* not the published size")


if __name__ == "__main__":
    main()
