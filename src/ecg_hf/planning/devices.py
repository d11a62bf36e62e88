"""Peak rates of known accelerators, from their data sheets: dense, without sparsity."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ecg_hf.errors import ConfigurationError
from ecg_hf.planning.settings import PlannedRun
from ecg_hf.training.settings import Precision

__all__ = ["CARDS", "Card", "Schedule", "card_of_device", "get_card", "records_per_second", "schedule"]


@dataclass(frozen=True, slots=True)
class Card:
    """An accelerator.

    Attributes:
        name: On the command line.
        device_names: Beginnings of what CUDA calls it.
        half_tflops: Dense bfloat16 and float16 matrix rate, TFLOP/s.
        fp32_tflops: float32 rate without TF32, which torch does not use unless told to.
        memory_gb: Memory, 10^9 bytes.
    """

    name: str
    device_names: tuple[str, ...]
    half_tflops: float
    fp32_tflops: float
    memory_gb: float

    def tflops(self, precision: Precision) -> float:
        """Peak rate in a precision."""
        return self.fp32_tflops if precision == "fp32" else self.half_tflops


CARDS: dict[str, Card] = {
    card.name: card
    for card in (
        Card("h200", ("NVIDIA H200",), 989.4, 66.9, 141.0),
        Card("h100-nvl", ("NVIDIA H100 NVL",), 835.0, 60.0, 94.0),
        Card("h100-pcie", ("NVIDIA H100 PCIe",), 756.0, 51.0, 80.0),
        Card("h100", ("NVIDIA H100",), 989.4, 66.9, 80.0),
        Card("a100-80gb", ("NVIDIA A100-SXM4-80GB", "NVIDIA A100 80GB"), 312.0, 19.5, 80.0),
        Card("a100-40gb", ("NVIDIA A100",), 312.0, 19.5, 40.0),
        Card("l40s", ("NVIDIA L40S",), 362.0, 91.6, 48.0),
        Card("l4", ("NVIDIA L4",), 121.0, 30.3, 24.0),
        Card("a10", ("NVIDIA A10",), 125.0, 31.2, 24.0),
    )
}
"""Known cards; of two whose names begin alike the more special one comes first."""


def get_card(name: str) -> Card:
    """Look a card up.

    Raises:
        ConfigurationError: if it is not known; the message lists those that are.
    """
    try:
        return CARDS[name.lower()]
    except KeyError:
        known = ", ".join(CARDS)
        raise ConfigurationError(
            f"unknown card {name!r}; known: {known}; for others give the peak rate in TFLOP/s", value=name
        ) from None


def card_of_device(device_name: str) -> Card | None:
    """The card CUDA calls ``device_name``, None if it is not known.

    A name must go on with a word of its own after the known beginning: ``NVIDIA A10G`` is no ``NVIDIA A10``.
    """
    for card in CARDS.values():
        for known in card.device_names:
            if device_name == known or device_name.startswith((known + " ", known + "-")):
                return card
    return None


_TERA = 1e12


@dataclass(frozen=True, slots=True)
class Schedule:
    """Steps of a run.

    Attributes:
        steps_per_epoch: Optimiser steps that pass over the data once.
        steps: Optimiser steps of the whole run.
        records: Records seen in the whole run, repetitions included.
    """

    steps_per_epoch: int
    steps: int
    records: int

    def hours(self, rate: float) -> float:
        """Duration of the run at ``rate`` records per second."""
        return self.records / rate / 3600.0


def schedule(run: PlannedRun, dataset_size: int) -> Schedule:
    """How often the run steps, as the trainer and its data loader count.

    Args:
        run: The run.
        dataset_size: Training records.

    Raises:
        ConfigurationError: if the records do not fill one batch on each device.
    """
    if dataset_size < 1:
        raise ConfigurationError(f"the dataset must hold records, got {dataset_size}", value=dataset_size)
    rounded = math.floor if run.drop_last else math.ceil
    batches = rounded(dataset_size / run.batch_size)
    per_device = rounded(batches / run.gpus)
    if per_device < 1:
        raise ConfigurationError(
            f"{dataset_size} records do not fill a batch of {run.batch_size} on each of {run.gpus} devices",
            value=dataset_size,
        )
    steps_per_epoch = math.ceil(per_device / run.accumulation)
    steps = run.max_steps if run.max_steps > 0 else math.ceil(run.epochs * steps_per_epoch)
    per_epoch = min(per_device * run.batch_size * run.gpus, dataset_size)
    return Schedule(steps_per_epoch, steps, round(steps / steps_per_epoch * per_epoch))


def records_per_second(operations_per_record: float, gpus: int, device_tflops: float, mfu: float) -> float:
    """Training rate of ``gpus`` devices at an assumed utilisation.

    Args:
        operations_per_record: Model operations, without recomputation.
        gpus: Devices; perfect scaling is assumed.
        device_tflops: Peak rate of one, TFLOP/s.
        mfu: Share of the peak the model's operations reach, in (0, 1].

    Raises:
        ConfigurationError: if a number is impossible.
    """
    if not 0.0 < device_tflops < math.inf:
        raise ConfigurationError(f"device_tflops must be positive, got {device_tflops}", value=device_tflops)
    if not 0.0 < mfu <= 1.0:
        raise ConfigurationError(f"mfu must be above 0 and at most 1, got {mfu}", value=mfu)
    return gpus * device_tflops * _TERA * mfu / operations_per_record
