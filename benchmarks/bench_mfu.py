"""Training steps of every method: records/s, TFLOP/s and the share of the card's peak they reach (MFU).

    python benchmarks/bench_mfu.py [--models cg-dmer ecg-jepa] [--size base] [--batch 256] [--json]

On a GPU each method's base preset is trained in bfloat16 with fused AdamW, the published batch halved until it fits,
through ``torch.compile`` and without. A step is all that happens on the device: inputs copied from pinned memory,
noise drawn and views made, forward, backward, optimiser. The data loader is not in it: ``bench_loading.py`` measures
that, and ``ecg-hf plan`` says which rate it has to reach.

MFU is the operations of the model's matrix products and convolutions, counted as ``ecg-hf plan`` counts them and
without anything computed twice, over the dense bfloat16 peak of the card's data sheet; for unknown cards give
``--device-tflops``. ``idle`` is the share of a step in which no kernel runs: the device waits for the host.

Without a GPU the smallest presets are trained for a few steps, to see that everything runs. No MFU is claimed then.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

import ecg_hf  # noqa: F401  (registers the methods before transformers is asked for them)
from ecg_hf.errors import EcgError
from ecg_hf.models.registry import METHODS, PRETRAINABLE
from ecg_hf.planning.counts import operations_per_record
from ecg_hf.planning.devices import card_of_device
from ecg_hf.planning.measuring import TrainingStep, first_step
from ecg_hf.planning.memory import StoredRecords, static_memory
from ecg_hf.planning.samples import sample_inputs
from ecg_hf.planning.settings import PlannedRun, planned_run
from ecg_hf.planning.tracing import trace_memory
from ecg_hf.training.recipe import Recipe

SMOKE_BATCH = 4
PROFILED = 3


def step_seconds(step: TrainingStep, warmup: int, steps: int) -> float:
    """Seconds per step of a loop that never waits for the device, as a trainer's."""
    for _ in range(warmup):
        step()
    step.synchronize()
    started = time.perf_counter()
    for _ in range(steps):
        step()
    step.synchronize()
    return (time.perf_counter() - started) / steps


def busy_seconds(step: TrainingStep) -> float:
    """Seconds per step in which at least one kernel or copy runs on the device."""
    with profile(activities=[ProfilerActivity.CUDA]) as recorded:
        for _ in range(PROFILED):
            step()
        step.synchronize()
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in recorded.events() or ()
        if event.device_type == DeviceType.CUDA and not getattr(event, "is_user_annotation", False)
    )
    return union_length(spans) / 1e6 / PROFILED


def union_length(spans: list[tuple[float, float]]) -> float:
    """Length of the union of intervals in ascending order of their beginnings."""
    total, reached = 0.0, float("-inf")
    for start, end in spans:
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def measure(
    run: PlannedRun, device: torch.device, *, compiled: bool, warmup: int, steps: int, tflops: float | None
) -> dict[str, object]:
    """One method, one way of running it.

    Args:
        run: What to train; its micro-batch is halved until it fits.
        device: Where.
        compiled: Through ``torch.compile``.
        warmup: Steps before the clock starts.
        steps: Steps on the clock.
        tflops: Peak of the device; without it no MFU is given.
    """
    inputs = sample_inputs(run, StoredRecords())
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    precision = run.precision if device.type == "cuda" else "fp32"
    step = first_step(run, inputs, rows=run.batch_size, device=device, precision=precision, compiled=compiled)
    seconds = step_seconds(step, warmup, steps)
    run = replace(run, batch_size=step.rows, precision=precision)
    operations = operations_per_record(run, inputs)
    static = static_memory(step.model)
    memory = trace_memory(run, inputs, checkpointing=run.checkpointing, seed=operations.heaviest_seed)
    rate = step.rows / seconds
    result: dict[str, object] = {
        "model": run.method.name,
        "size": run.size,
        "compiled": compiled,
        "checkpointing": run.checkpointing,
        "precision": precision,
        "batch": step.rows,
        "step_ms": round(1e3 * seconds, 2),
        "records_per_s": round(rate, 1),
        "gflop_per_record": round(operations.model.total / 1e9, 6),
        "tflops": round(rate * operations.model.total / 1e12, 6),
        "planned_peak_gib": round(
            (static.weights + static.optimizer + memory.inputs + memory.peak) / 2**30, 3
        ),
    }
    if device.type == "cuda":
        result["peak_gib"] = round(torch.cuda.max_memory_allocated(device) / 2**30, 3)
        result["idle"] = round(max(0.0, 1.0 - busy_seconds(step) / seconds), 4)
    if tflops is not None:
        result["mfu"] = round(rate * operations.model.matrix / 1e12 / tflops, 4)
    return result


def runs(options: argparse.Namespace, on_gpu: bool) -> list[PlannedRun]:
    """What to train: published recipes at their base size on a GPU, the smallest presets elsewhere."""
    chosen = []
    for name in options.models:
        spec = METHODS[name]
        if on_gpu:
            size = options.size or ("base" if "base" in spec.sizes else spec.sizes[-1])
            run = planned_run(name, size=size, recipe=spec.module, batch_size=options.batch, precision="bf16")
        else:
            recipe = Recipe("smoke", name, options.size or spec.sizes[0])
            run = planned_run(name, recipe=recipe, batch_size=options.batch or SMOKE_BATCH)
        if options.checkpointing != "recipe":
            run = replace(run, checkpointing=options.checkpointing == "on")
        chosen.append(run)
    return chosen


def peak_tflops(options: argparse.Namespace, device: torch.device) -> float | None:
    """Dense bfloat16 peak of the device; None on a CPU."""
    if device.type != "cuda":
        return None
    if options.device_tflops is not None:
        return float(options.device_tflops)
    name = torch.cuda.get_device_name(device)
    card = card_of_device(name)
    if card is None:
        raise SystemExit(f"the peak of {name!r} is not known: give --device-tflops")
    return card.half_tflops


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--models", nargs="+", choices=sorted(PRETRAINABLE), default=sorted(PRETRAINABLE))
    parser.add_argument("--size", help="preset, instead of base (smallest on a CPU)")
    parser.add_argument("--batch", type=int, help="records in a step, instead of the published batch")
    parser.add_argument("--checkpointing", choices=("recipe", "on", "off"), default="recipe")
    parser.add_argument("--device-tflops", type=float, help="dense bfloat16 peak of a card not in the table")
    parser.add_argument("--only", choices=("compiled", "eager"), help="one of the two; a CPU runs eager only")
    parser.add_argument("--warmup", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="one step of warm-up, two on the clock")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of lines")
    options = parser.parse_args()
    device = torch.device(options.device)
    on_gpu = device.type == "cuda"
    tflops = peak_tflops(options, device)
    warmup, steps = (1, 2) if options.quick or not on_gpu else (options.warmup, options.steps)
    modes = {"compiled": True, "eager": False} if on_gpu else {"eager": False}
    modes = {name: compiled for name, compiled in modes.items() if options.only in (None, name)}
    name = torch.cuda.get_device_name(device) if on_gpu else "cpu"
    claim = f"peak {tflops:g} TFLOP/s" if on_gpu else "no GPU: smallest presets, no MFU is claimed"
    if not options.json:
        print(f"{name}: {claim}", flush=True)

    results = []
    for run in runs(options, on_gpu):
        for mode, compiled in modes.items():
            try:
                result = measure(run, device, compiled=compiled, warmup=warmup, steps=steps, tflops=tflops)
            except (RuntimeError, EcgError) as error:
                # One method that fails must not hide the others' figures.
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                result = {"model": run.method.name, "compiled": compiled, "failed": reason}
            results.append(result)
            torch.compiler.reset()
            if not options.json:
                print(f"{mode}: " + ", ".join(f"{key} {value}" for key, value in result.items()), flush=True)
    if options.json:
        document = {"device": name, "claim": claim, "threads": torch.get_num_threads(), "results": results}
        print(json.dumps(document))
    if any("failed" in result for result in results):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
