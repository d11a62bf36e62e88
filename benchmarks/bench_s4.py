"""S4 as ECG-CPC uses it: against a transformer block, its kernel, and the loss' similarities.

    python benchmarks/bench_s4.py [--quick] [--json] [--device cuda]

Three comparisons, each a ratio of medians measured in turns in one run, with peak memory beside:

* an S4 block (post-norm, GLU) against a transformer block of the same width (8 heads, MLP of four times the width,
  ``scaled_dot_product_attention``), over 300, 1,200 and 4,800 tokens, forward and forward + backward. The S4 block
  has a sixth of the transformer block's weights, as its only linear layer is the GLU's: with few tokens that is
  where the ratio comes from, with many it is attention's quadratic cost;
* the convolution kernel from the precomputed basis against one whose basis is rebuilt in each step;
* the CPC similarities of one batch: all pairs multiplied out and the drawn ones gathered, against gathering the
  negatives' vectors first. Both give the same numbers, which is checked.

Memory is that of the tensors allocated during a pass: on a GPU as its allocator counts, on a CPU from the profiler's
record of allocations. Ratios carry over to similar machines, milliseconds do not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from ecg_hf.nn.backbones.s4 import S4Block, S4Layer
from ecg_hf.nn.backbones.transformer import TransformerBlock
from ecg_hf.nn.losses import cpc_logits, draw_negatives

Work = Callable[[], object]


def sdpa(
    module: object, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **_: object
) -> tuple:
    """``scaled_dot_product_attention`` as an attention kernel of this package."""
    attended = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return attended.transpose(1, 2).contiguous(), None


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def median_ms(works: dict[str, Work], device: torch.device, seconds: float) -> dict[str, float]:
    """Median milliseconds of each, taking turns until each has had at least ``seconds`` and five turns."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        work()
    while any(len(spent) < 5 or sum(spent) < 1000 * seconds for spent in times.values()):
        for name, work in works.items():
            synchronize(device)
            start = time.perf_counter()
            work()
            synchronize(device)
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(spent) for name, spent in times.items()}


def peak_megabytes(work: Work, device: torch.device) -> float:
    """Largest sum of tensors alive at once that ``work`` allocated."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work()
    alive = peak = 0
    for event in recorded.profiler.kineto_results.events():
        if event.name() == "[memory]":
            alive += event.nbytes()
            peak = max(peak, alive)
    return peak / 1e6


def compare(
    title: str, ours: str, works: dict[str, Work], device: torch.device, seconds: float
) -> dict[str, object]:
    """Medians, peaks and the ratios of everything else to ``ours``."""
    times = median_ms(works, device, seconds)
    peaks = {name: peak_megabytes(work, device) for name, work in works.items()}
    other = next(name for name in works if name != ours)
    return {
        "title": title,
        "ms": {name: round(value, 2) for name, value in times.items()},
        "peak_mb": {name: round(value, 1) for name, value in peaks.items()},
        "time_ratio": round(times[other] / times[ours], 2),
        "memory_ratio": round(peaks[other] / peaks[ours], 2),
    }


def against_transformer(
    tokens: int, batch: int, width: int, device: torch.device, seconds: float
) -> list[dict[str, object]]:
    """One block each, forward and forward + backward."""
    blocks = {
        "s4": S4Block(width, max_length=tokens).to(device),
        "transformer": TransformerBlock(width, 8, 4 * width, kernel=sdpa).to(device),
    }
    values = torch.randn(batch, tokens, width, device=device)

    def forward(name: str) -> None:
        with torch.no_grad():
            blocks[name](values)

    def training(name: str) -> None:
        blocks[name].zero_grad(set_to_none=True)
        blocks[name](values.requires_grad_()).sum().backward()
        values.grad = None

    results = []
    for label, step in (("forward", forward), ("forward + backward", training)):
        works: dict[str, Work] = {name: lambda name=name, step=step: step(name) for name in blocks}
        title = f"transformer / S4 block, {tokens} tokens x {batch}, width {width}, {label}"
        results.append(compare(title, "s4", works, device, seconds))
    return results


def kernels(tokens: int, width: int, device: torch.device, seconds: float) -> dict[str, object]:
    """The kernel as it is computed in each step, and with its basis rebuilt each time."""
    layer = S4Layer(width, max_length=tokens).to(device)

    @torch.no_grad()
    def precomputed() -> Tensor:
        return layer.kernel(tokens)

    @torch.no_grad()
    def rebuilt() -> Tensor:
        return torch.einsum("chn,hnl->chl", layer.C, layer.make_basis(tokens))

    torch.testing.assert_close(precomputed(), rebuilt())
    works: dict[str, Work] = {"precomputed": precomputed, "rebuilt": rebuilt}
    title = f"kernel with rebuilt / precomputed basis, {tokens} tokens, width {width}"
    return compare(title, "precomputed", works, device, seconds)


def similarities(
    tokens: int, batch: int, width: int, device: torch.device, seconds: float
) -> dict[str, object]:
    """Logits of the CPC loss and their gradient, both ways."""
    generator = torch.Generator(device).manual_seed(0)
    index = draw_negatives(batch, tokens, 14, 128, generator=generator, device=device)
    predictions = torch.randn(batch, tokens, width, device=device, requires_grad=True)
    targets = torch.randn(batch, tokens, width, device=device, requires_grad=True)

    def gathered() -> Tensor:
        rows = torch.arange(batch, device=device)[:, None, None]
        candidates = torch.cat([targets[:, 14:].unsqueeze(2), targets[rows, index]], 2)
        return (candidates * predictions[:, : tokens - 14].unsqueeze(2)).sum(-1)

    def all_pairs() -> Tensor:
        return cpc_logits(predictions, targets, index, 14)

    def with_gradient(logits: Callable[[], Tensor]) -> None:
        torch.autograd.grad(logits().logsumexp(-1).sum(), (predictions, targets))

    with torch.no_grad():
        torch.testing.assert_close(all_pairs(), gathered(), rtol=1e-3, atol=1e-3)
    works: dict[str, Work] = {
        "all pairs": lambda: with_gradient(all_pairs),
        "gathered": lambda: with_gradient(gathered),
    }
    title = f"CPC similarities, gathered vectors / all pairs, {tokens} tokens x {batch}, width {width}"
    return compare(title, "all pairs", works, device, seconds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a narrow network, few repetitions")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of lines")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--batch", type=int, default=4, help="records of 300 tokens per batch; longer ones fewer"
    )
    options = parser.parse_args()
    device = torch.device(options.device)
    width, seconds = (128, 0.2) if options.quick else (512, 2.0)

    torch.manual_seed(0)
    results = []

    def report(result: dict[str, object]) -> None:
        results.append(result)
        if not options.json:
            print(
                f"{result['title']}: {result['time_ratio']}x time, {result['memory_ratio']}x memory "
                f"(ms {result['ms']}, peak MB {result['peak_mb']})",
                flush=True,
            )

    for tokens in (300, 1200, 4800):
        batch = max(1, options.batch * 300 // tokens)
        for result in against_transformer(tokens, batch, width, device, seconds):
            report(result)
    for tokens in (300, 1200):
        report(kernels(tokens, width, device, seconds))
    report(similarities(300, options.batch, width, device, seconds))
    if options.json:
        print(json.dumps({"device": str(device), "threads": torch.get_num_threads(), "results": results}))


if __name__ == "__main__":
    main()
