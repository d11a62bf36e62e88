"""Steps and hours: arithmetic on what was counted, measured or assumed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ecg_hf.errors import ConfigurationError
from ecg_hf.training.planning.settings import PlannedRun

__all__ = ["Schedule", "records_per_second", "schedule"]

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
