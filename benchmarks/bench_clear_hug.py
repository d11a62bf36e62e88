"""CLEAR-HUG's vectorised parts against straightforward loops.

* Beat slicing of 64 records (12 leads x 15 slots x 96 samples): one gather against a loop over records, leads and
  beats in numpy. R peaks are given; finding them is measured by itself.
* A training step of CLEAR (forward, backward, optimiser) with masks built at once against the same step with the
  decoder and encoder masks filled in row by row, as the official code does. The masks are equal (checked).
"""

from __future__ import annotations

from collections.abc import Iterator
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
from rows import Row, alternate

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


def slicing() -> Row:
    """Gather against loop."""
    ecgs = simulate(BATCH, seed=0, sampling_rate=100.0)
    signal = ecgs.signal.astype(np.float32)
    table = r_peak_table(signal, 100.0, STANDARD_LEADS, max_peaks=40, known=ecgs.r_peaks)
    values, peaks = torch.from_numpy(signal), torch.from_numpy(table)

    def gather() -> Tensor:
        return slice_beats(values, peaks, beats_per_lead=SLOTS, beat_length=WIDTH, sampling_rate=100.0).beats

    if not np.array_equal(gather().numpy(), slice_by_loop(signal, table).reshape(BATCH, -1, WIDTH)):
        raise SystemExit("the loop cuts other beats")
    return alternate(
        "beats cut out, R peaks known",
        gather,
        lambda: slice_by_loop(signal, table),
        "loop in numpy",
        per=BATCH,
        item="record",
        operators=True,
    )


def training_step(per_sample: bool, size: str, rounds: int) -> Row:
    """A training step with masks built at once and row by row."""
    torch.manual_seed(0)
    config = ClearHugConfig.preset(size, mask_per_sample=per_sample)
    model = ClearHugForPreTraining(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    ecgs = simulate(BATCH, seed=0, sampling_rate=100.0)
    values = torch.from_numpy(ecgs.signal.astype(np.float32))
    table = r_peak_table(ecgs.signal, 100.0, STANDARD_LEADS, max_peaks=40, known=ecgs.r_peaks)
    peaks = torch.from_numpy(table)

    hidden = torch.rand(2, config.num_tokens) < 0.8
    owners = torch.randint(0, config.num_leads, (2, 35))
    pairs = (
        (masks_beats.conduction_decoder_mask, decoder_mask_by_loop, hidden),
        (masks_beats.view_encoder_mask, encoder_mask_by_loop, owners),
    )
    if not all(torch.equal(ours(x, config.num_leads), loop(x, config.num_leads)) for ours, loop, x in pairs):
        raise SystemExit("the loops make other masks")

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

    return alternate(
        f"CLEAR-HUG training step, {size}, a mask per {'record' if per_sample else 'batch'}",
        step,
        step_by_loop,
        "masks filled in by loops",
        per=BATCH,
        item="record",
        rounds=rounds,
        least=1.5,
        operators=True,
    )


def rows(quick: bool) -> Iterator[Row]:
    """Slicing, and a step with either kind of mask."""
    yield slicing()
    size, rounds = ("micro", 3) if quick else ("tiny", 9)
    for per_sample in (False, True):
        yield training_step(per_sample, size, rounds)
