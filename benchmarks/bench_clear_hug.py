"""CLEAR-HUG's vectorised parts against straightforward loops.

    python benchmarks/bench_clear_hug.py [--quick] [--device cpu] [--json]

* Beat slicing of 64 records (12 leads x 15 slots x 96 samples): one gather against a loop over records, leads and
beats
  in numpy, and records per second of both. R peaks are given; finding them is measured by itself.
* A training step of CLEAR (forward, backward, optimiser) with masks built at once against the same step with the
decoder
  and encoder masks filled in row by row, as the official code does. The masks are equal (checked).

Both contestants of a pair take turns within one run; medians and their ratio count.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from ecg_hf import ClearHugConfig, ClearHugForPreTraining
from ecg_hf.nn.beats import slice_beats
from ecg_hf.nn.masks import beats as masks_beats
from ecg_hf.processing.r_peaks import r_peak_table
from ecg_hf.signal.leads import STANDARD_LEADS
from ecg_hf.signal.synthetic import simulate

BATCH, SLOTS, WIDTH = 64, 15, 96
ENCODER = "ecg_hf.models.clear_hug.encoder_clear_hug"


def slice_by_loop(signal: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Beats of ``(records, leads, samples)`` one by one."""
    records, leads, samples = signal.shape
    beats = np.zeros((records, leads, SLOTS, WIDTH), np.float32)
    half = WIDTH // 2
    for record in range(records):
        peaks = [int(peak) for peak in table[record] if peak >= 0]
        for lead in range(leads):
            for i, peak in enumerate(peaks[:SLOTS]):
                start = max(peak - half, 0) if i == 0 else (peaks[i - 1] + peak) // 2
                if i == len(peaks) - 1:
                    stop = min(peak + half, samples) if i else min(start + WIDTH, samples)
                else:
                    stop = (peak + peaks[i + 1]) // 2
                if stop - start > WIDTH:
                    start = max(peak - half, 0)
                    stop = min(start + WIDTH, samples)
                offset = max(half - (peak - start), 0)
                piece = signal[record, lead, start:stop][: WIDTH - offset]
                beats[record, lead, i, offset : offset + len(piece)] = piece
    return beats


def decoder_mask_by_loop(masked: Tensor, num_leads: int) -> Tensor:
    """The decoder's mask, row by row."""
    rows, tokens = masked.shape
    slots = tokens // num_leads
    allowed = torch.zeros(rows, num_leads + tokens, num_leads + tokens, dtype=torch.bool)
    hidden = masked.cpu()
    for record in range(rows):
        visible = (~hidden[record]).nonzero().flatten() + num_leads
        for lead in range(num_leads):
            own = slice(num_leads + lead * slots, num_leads + (lead + 1) * slots)
            allowed[record, lead, lead] = True
            allowed[record, lead, own] = True
            allowed[record, own, lead] = True
        for token in range(tokens):
            if hidden[record, token]:
                allowed[record, num_leads + token, num_leads + token % slots :: slots] = True
            else:
                allowed[record, num_leads + token, visible] = True
    return allowed.unsqueeze(1).to(masked.device)


def encoder_mask_by_loop(token_leads: Tensor, num_leads: int) -> Tensor:
    """The encoder's mask, row by row."""
    rows, tokens = token_leads.shape
    allowed = torch.zeros(rows, num_leads + tokens, num_leads + tokens, dtype=torch.bool)
    owners = token_leads.cpu()
    for record in range(rows):
        for lead in range(num_leads):
            own = (owners[record] == lead).nonzero().flatten() + num_leads
            allowed[record, lead, lead] = True
            allowed[record, lead, own] = True
            allowed[record, own, lead] = True
        for token in range(tokens):
            allowed[record, num_leads + token, num_leads:] = True
    return allowed.unsqueeze(1).to(token_leads.device)


def median_times(contestants: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each, taking turns; the first round warms up and does not count."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, work in contestants.items():
            start = time.perf_counter()
            work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def bench_slicing(rounds: int, device: torch.device) -> dict[str, float]:
    """Gather against loop."""
    ecgs = simulate(BATCH, seed=0, sampling_rate=100.0)
    signal = ecgs.signal.astype(np.float32)
    r_peak_table(signal[:1], 100.0, STANDARD_LEADS, max_peaks=40)  # imports the detector
    start = time.perf_counter()
    r_peak_table(signal[:8], 100.0, STANDARD_LEADS, max_peaks=40)
    detection = (time.perf_counter() - start) / 8
    table = r_peak_table(signal, 100.0, STANDARD_LEADS, max_peaks=40, known=ecgs.r_peaks)
    values, peaks = torch.from_numpy(signal).to(device), torch.from_numpy(table).to(device)

    def gather() -> Tensor:
        return slice_beats(values, peaks, beats_per_lead=SLOTS, beat_length=WIDTH, sampling_rate=100.0).beats

    same = np.array_equal(gather().cpu().numpy(), slice_by_loop(signal, table).reshape(BATCH, -1, WIDTH))
    assert same, "the loop cuts other beats"
    times = median_times({"gather": gather, "loop": lambda: slice_by_loop(signal, table)}, rounds)
    return {
        "slicing_ratio": times["loop"] / times["gather"],
        "slicing_records_per_s": BATCH / times["gather"],
        "loop_records_per_s": BATCH / times["loop"],
        "detection_ms_per_record": 1e3 * detection,
    }


def bench_step(rounds: int, device: torch.device, per_sample: bool, size: str) -> dict[str, float]:
    """A training step with masks built at once and row by row."""
    torch.manual_seed(0)
    config = ClearHugConfig.preset(size, mask_per_sample=per_sample)
    model = ClearHugForPreTraining(config).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    ecgs = simulate(BATCH, seed=0, sampling_rate=100.0)
    values = torch.from_numpy(ecgs.signal.astype(np.float32)).to(device)
    table = r_peak_table(ecgs.signal, 100.0, STANDARD_LEADS, max_peaks=40, known=ecgs.r_peaks)
    peaks = torch.from_numpy(table).to(device)

    hidden = torch.rand(2, config.num_tokens, device=device) < 0.8
    owners = torch.randint(0, config.num_leads, (2, 35), device=device)
    assert torch.equal(
        masks_beats.conduction_decoder_mask(hidden, config.num_leads),
        decoder_mask_by_loop(hidden, config.num_leads),
    )
    assert torch.equal(
        masks_beats.view_encoder_mask(owners, config.num_leads),
        encoder_mask_by_loop(owners, config.num_leads),
    )

    def step() -> None:
        model(values, r_peaks=peaks).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def step_by_loop() -> None:
        with (
            patch(f"{ENCODER}.conduction_decoder_mask", decoder_mask_by_loop),
            patch(f"{ENCODER}.view_encoder_mask", encoder_mask_by_loop),
        ):
            step()

    times = median_times({"vectorised": step, "loop": step_by_loop}, rounds)
    kind = "per_sample" if per_sample else "per_batch"
    return {
        f"step_ratio_{kind}": times["loop"] / times["vectorised"],
        f"step_records_per_s_{kind}": BATCH / times["vectorised"],
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds and the smallest model")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rounds, size = (3, "micro") if arguments.quick else (9, "tiny")
    device = torch.device(arguments.device)
    results: dict[str, float | int | str] = {
        "device": str(device),
        "threads": torch.get_num_threads(),
        "size": size,
        "rounds": rounds,
        **bench_slicing(rounds, device),
        **bench_step(rounds, device, False, size),
        **bench_step(rounds, device, True, size),
    }
    if arguments.json:
        print(json.dumps(results, indent=2))
        return
    for name, value in results.items():
        print(f"{name:28s} {value:.2f}" if isinstance(value, float) else f"{name:28s} {value}")


if __name__ == "__main__":
    main()
