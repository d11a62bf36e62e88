"""Whether an export says what its model says, on real recordings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ecg_hf.errors import ConfigurationError, ConversionError, EcgError
from ecg_hf.export.graph import Exported
from ecg_hf.runtime import Checked, prepare
from ecg_hf.signal import EcgRecord
from ecg_hf.signal.leads import LIMB_LEADS

__all__ = ["BATCHES", "check_inputs", "compare"]

BATCHES = (1, 7)
"""Sizes of the batches that are compared."""

_ALONE = 7
"""Rows that are compared one by one too."""

_TOLERANCE = 1e-3
"""Largest difference, as a share of an output's largest value or of 1, whichever is more."""

Array = npt.NDArray[Any]
Run = Callable[[dict[str, Array]], Mapping[str, Array]]


def check_inputs(extractor: Any, records: Sequence[EcgRecord], names: Sequence[str]) -> dict[str, Array]:
    """Prepared inputs of recordings: each whole, cut short, and with fewer leads, as far as the model takes that.

    Raises:
        ConfigurationError: if the extractor keeps lengths, or the model takes none of the recordings.
    """
    if extractor.n_samples is None:
        raise ConfigurationError("the feature extractor has no duration_s: a graph needs one length")
    rows = []
    for record in records:
        for variant in _variants(record):
            try:
                rows.append(prepare(extractor, [variant], names))
            except EcgError:
                continue
    if not rows:
        raise ConfigurationError("the model takes none of the recordings it was to be checked on")
    count = max(len(rows), max(BATCHES))
    return {name: np.concatenate([rows[index % len(rows)][name] for index in range(count)]) for name in names}


def _variants(record: EcgRecord) -> list[EcgRecord]:
    """The whole recording, its beginning and its end, its limb and its chest leads."""
    length = record.signal.shape[1]
    short = max(1, (7 * length) // 10)
    limb = [name for name in record.lead_names if name in LIMB_LEADS]
    chest = [name for name in record.lead_names if name not in LIMB_LEADS]
    return [
        record,
        replace(record, signal=record.signal[:, :short]),
        replace(record, signal=record.signal[:, length - short :]),
        *(record.select_leads(names) for names in (limb, limb[:2], chest, chest[:1]) if names),
    ]


def compare(module: Exported, run: Run, inputs: Mapping[str, Array], recordings: int) -> Checked:
    """Outputs of the model and of its export, in batches of 1 and 7.

    Args:
        module: What was exported.
        run: Runs the export.
        inputs: From :func:`check_inputs`.
        recordings: How many recordings those are of.

    Returns:
        What ``export.json`` says of it.

    Raises:
        ConversionError: if an output differs by more than a thousandth of its size, or is not finite.
    """
    rows = len(inputs["input_values"])
    difference = dict.fromkeys(module.outputs, 0.0)
    largest = dict.fromkeys(module.outputs, 0.0)
    for size in BATCHES:
        for start in range(0, rows if size > 1 else min(rows, _ALONE), size):
            batch = {
                name: np.ascontiguousarray(array[start : start + size]) for name, array in inputs.items()
            }
            with torch.no_grad():
                expected = module(*(torch.from_numpy(batch[name]) for name in module.inputs))
            found = run(batch)
            for name, values in zip(module.outputs, expected, strict=True):
                wanted, got = values.numpy(), np.asarray(found[name])
                if got.shape != wanted.shape:
                    raise ConversionError(f"{name} of {size} records is {got.shape}, not {wanted.shape}")
                difference[name] = max(difference[name], _largest(got - wanted))
                largest[name] = max(largest[name], _largest(wanted))
    for name, value in difference.items():
        if not value <= _TOLERANCE * max(1.0, largest[name]):
            raise ConversionError(
                f"nothing written: {name} of the export differs by {value:.3g} from the model's, whose largest is "
                f"{largest[name]:.3g}",
                value=value,
            )
    return {
        "recordings": recordings,
        "inputs": rows,
        "batches": list(BATCHES),
        "largest_difference": difference,
        "largest_value": largest,
    }


def _largest(values: Array) -> float:
    """Largest magnitude; infinite where one is NaN."""
    magnitude = np.abs(values).max(initial=0.0)
    return float(magnitude) if np.isfinite(magnitude) else float("inf")
