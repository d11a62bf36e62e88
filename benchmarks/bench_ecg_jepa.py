"""ECG-JEPA's attention and training step against the straightforward formulation, as ratios within one run.

    python benchmarks/bench_ecg_jepa.py [--quick] [--device cpu|cuda] [--threads 1] [--only step]

Two comparisons. (1) Attention over a grid of leads x times at the published width (768, 16 heads): factorised CroPA
against scaled-dot-product attention with the boolean mask, and against the softmax written out, at 8 leads x 10 s
(400 tokens) and 12 leads x 30 s (1,800 tokens), forward and forward plus backward. (2) One training step (forward,
backward, no optimiser) of the published model: this package as it is set up by itself, against the official
formulation (explicit masked softmax), and against the same with the student over all 400 tokens, hidden ones too.

Variants take turns in every round, and a ratio is the median over the rounds of the ratio within a round, so that
other load on the machine hits all alike. With one thread on the CPU, time is processor time, which other load changes
little; otherwise it is wall time. Peak memory is what the process (or the GPU) holds at most beyond what it held
before, in a round of its own. All variants are checked to give the same numbers first.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from ecg_hf.models.ecg_jepa.configuration_ecg_jepa import EcgJepaConfig
from ecg_hf.models.ecg_jepa.encoder_ecg_jepa import pick_times
from ecg_hf.models.ecg_jepa.modeling_ecg_jepa import EcgJepaForPreTraining
from ecg_hf.nn.attention import eager_attention
from ecg_hf.nn.cropa import cropa_mask, factorised_cropa, factorised_cropa_mask
from ecg_hf.nn.losses.latent import latent_prediction_loss
from ecg_hf.nn.masks.time import TimeMask

HEADS, HEAD_DIM = 16, 48
Work = Callable[[], Tensor]


def held_memory(device: torch.device, *, peak: bool) -> float:
    """Bytes held now, or at most since :func:`forget_peak`; NaN where the system does not tell."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated())
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    name = "VmHWM:" if peak else "VmRSS:"
    line = next(line for line in status.read_text().splitlines() if line.startswith(name))
    return 1024.0 * float(line.split()[1])


def forget_peak(device: torch.device) -> None:
    """Give freed memory back and start counting anew."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")


def seconds(work: Work, device: torch.device) -> float:
    """Duration of one call."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    start = clock()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def compare(name: str, variants: dict[str, Work], repeats: int, device: torch.device) -> dict[str, object]:
    """Time the variants in turns; the first is what the others are compared with."""
    results = {variant: float(work()) for variant, work in variants.items()}
    first, *others = variants
    for variant in others:
        if abs(results[variant] - results[first]) > 1e-4 * max(abs(results[first]), 1.0):
            print(f"note: {variant} is not the same computation as {first}", file=sys.stderr)
    memory = {}
    for variant, work in variants.items():
        forget_peak(device)
        before = held_memory(device, peak=False)
        work()
        memory[variant] = (held_memory(device, peak=True) - before) / 2**20
    rounds = [{variant: seconds(work, device) for variant, work in variants.items()} for _ in range(repeats)]
    return {
        "name": name,
        "milliseconds": {v: round(1e3 * statistics.median(r[v] for r in rounds), 1) for v in variants},
        "times_slower_than_" + first: {
            v: round(statistics.median(r[v] / r[first] for r in rounds), 2) for v in others
        },
        "peak_mib": {v: round(memory[v]) for v in variants},
    }


def attention_variants(
    leads: int, times: int, batch: int, device: torch.device, *, backward: bool
) -> dict[str, Work]:
    """The three ways, on the same queries, keys and values."""
    tokens = leads * times
    drawn = torch.randn(batch, tokens, 3, HEADS, HEAD_DIM, device=device)
    dense = cropa_mask(leads, times).to(device)
    factors = factorised_cropa_mask(leads, times, None, device)
    scaling, module = HEAD_DIM**-0.5, nn.Identity()

    def sdpa(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        attended = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=dense)
        return attended.transpose(1, 2).contiguous()

    def run(kernel: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
        leaf = drawn.detach().requires_grad_(backward)
        with torch.set_grad_enabled(backward):
            total = kernel(*leaf.permute(2, 0, 3, 1, 4)).square().mean()
        if backward:
            total.backward()
        return total.detach()

    return {
        "factorised": lambda: run(lambda q, k, v: factorised_cropa(q, k, v, factors, scaling)),
        "masked_sdpa": lambda: run(sdpa),
        "explicit_softmax": lambda: run(
            lambda q, k, v: eager_attention(module, q, k, v, dense[None, None], scaling=scaling)[0]
        ),
    }


def step_variants(size: str, batch: int, device: torch.device) -> dict[str, Work]:
    """One forward and backward of the training model, three ways, with the same weights and mask."""
    torch.manual_seed(0)
    model = EcgJepaForPreTraining(EcgJepaConfig.preset(size, drop_path_rate=0.0)).to(device).train()
    values = torch.randn(batch, model.config.num_leads, model.config.num_samples, device=device)
    drawn = model.draw_noise({"input_values": values}, torch.Generator().manual_seed(1))
    times = TimeMask(drawn["visible_times"], drawn["masked_times"])
    leads, patches = model.config.num_leads, model.config.num_patches
    everything = torch.arange(patches, device=device).expand(batch, -1)

    def finish(loss: Tensor) -> Tensor:
        model.zero_grad(set_to_none=True)
        loss.backward()
        return loss.detach()

    def own(kernel: str) -> Tensor:
        model.set_attn_implementation(kernel)
        return finish(model(values, visible_times=times.visible, masked_times=times.masked).loss)

    def all_tokens() -> Tensor:
        model.set_attn_implementation("eager")
        target, _ = model.targets(values, times)
        hidden = torch.zeros(batch, leads, patches, dtype=torch.bool, device=device)
        present = hidden.scatter(2, times.visible[:, None].expand(-1, leads, -1), True)
        tokens = model.ecg_jepa.encoder(values, present.flatten(1), everything).unflatten(1, (leads, -1))
        predicted = model.predictor(pick_times(tokens, times.visible).flatten(1, 2), times)
        predicted = predicted.unflatten(1, (leads, -1))[:, :, times.visible.shape[1] :].flatten(1, 2)
        return finish(latent_prediction_loss(predicted, target))

    return {
        "this_package": lambda: own("sdpa"),
        "official_formulation": lambda: own("eager"),
        "dense_over_all_tokens": all_tokens,
    }


def main() -> None:
    """Run everything and print one line per comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, help="of torch, by default as many as it chooses")
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    parser.add_argument("--quick", action="store_true", help="two rounds, smaller batches, the tiny model")
    parser.add_argument("--only", choices=("attention", "step"), help="run one of the two comparisons")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of lines")
    arguments = parser.parse_args()
    device, quick = torch.device(arguments.device), arguments.quick
    repeats = 2 if quick else arguments.repeats
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    results = []

    def report(result: dict[str, object]) -> None:
        results.append(result)
        if not arguments.json:
            print(", ".join(f"{key}: {value}" for key, value in result.items()), flush=True)

    grids = ((8, 50, 2 if quick else 8), (12, 150, 1 if quick else 2))
    for leads, times, batch in () if arguments.only == "step" else grids:
        for backward in (False, True):
            name = f"attention {leads} x {times}, batch {batch}, forward{' and backward' if backward else ''}"
            variants = attention_variants(leads, times, batch, device, backward=backward)
            report(compare(name, variants, repeats, device))
    size, batch = ("tiny", 2) if quick else ("base", 8)
    if arguments.only != "attention":
        name = f"training step, {size} model, batch {batch}"
        report(compare(name, step_variants(size, batch, device), min(repeats, 3), device))
    if arguments.json:
        print(json.dumps({"device": str(device), "threads": torch.get_num_threads(), "results": results}))


if __name__ == "__main__":
    main()
