"""A training step that is really run, and how long it takes."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any, Literal

import torch

from ecg_hf.errors import ConfigurationError
from ecg_hf.planning.samples import SampleInputs
from ecg_hf.planning.settings import PlannedRun
from ecg_hf.planning.tracing import autocast, enable_checkpointing
from ecg_hf.training.machine import device_name
from ecg_hf.training.settings import Precision
from ecg_hf.training.step_noise import seeded_generator

__all__ = ["MeasuredStep", "TrainingStep", "first_step", "measure_step"]

Clock = Literal["processor", "wall"]

_ENOUGH_S = 5.0
_LEARNING_RATE = 1e-6  # the optimiser does its work, and weights stay what they are


class TrainingStep:
    """Everything a training step does on its device: inputs copied, noise and views drawn, forward, backward, AdamW.

    What is left out is the data loader, logging and the exchange between processes.

    Args:
        run: The run; its batch and number of devices do not matter here.
        inputs: Records to train on, again and again.
        rows: Records in the step.
        device: Where to run.
        precision: Arithmetic of the forward pass.
        compiled: Run the model through ``torch.compile``.
    """

    def __init__(
        self,
        run: PlannedRun,
        inputs: SampleInputs,
        *,
        rows: int,
        device: torch.device | str,
        precision: Precision,
        compiled: bool = False,
    ) -> None:
        self.device = torch.device(device)
        self.rows = rows
        self.precision: Precision = precision
        torch.manual_seed(0)
        self.model: Any = run.method.load("pretraining")(run.config).to(self.device).train()
        if run.checkpointing:
            enable_checkpointing(self.model)
        trainable = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trainable, lr=_LEARNING_RATE, fused=True)
        self.forward = torch.compile(self.model) if compiled else self.model
        self.batch = inputs.resized(rows)
        if self.device.type == "cuda":
            self.batch = {name: value.pin_memory() for name, value in self.batch.items()}
        self.taken = 0

    def __call__(self) -> torch.Tensor:
        """Take one step; returns the loss without waiting for the device."""
        batch = {name: value.to(self.device, non_blocking=True) for name, value in self.batch.items()}
        generator = seeded_generator(self.device, 0, "measured", self.taken)
        noise = self.model.draw_noise(batch, generator, self.rows)
        with autocast(self.device.type, self.precision):
            loss: torch.Tensor = self.forward(**batch, **noise).loss
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.model.after_optimizer_step(self.taken, self.taken + 1)
        self.taken += 1
        return loss.detach()

    def synchronize(self) -> None:
        """Wait until the device has done all it was told."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    @property
    def clock(self) -> Clock:
        """What times a step: processor time for one thread, which other work on the machine changes little."""
        return "processor" if self.device.type == "cpu" and torch.get_num_threads() == 1 else "wall"

    def seconds(self) -> float:
        """Duration of one step from start to finish, by :attr:`clock`."""
        now = time.process_time if self.clock == "processor" else time.perf_counter
        self.synchronize()
        started = now()
        self()
        self.synchronize()
        return now() - started


@dataclass(frozen=True, slots=True)
class MeasuredStep:
    """How long steps took here.

    Attributes:
        device: Where.
        threads: Of torch on a CPU, None elsewhere.
        precision: Arithmetic.
        records: In a step.
        steps: Timed, after one that was not.
        step_s: Their median.
        clock: What timed them.
    """

    device: str
    threads: int | None
    precision: Precision
    records: int
    steps: int
    step_s: float
    clock: Clock

    @property
    def records_per_s(self) -> float:
        """Records trained on per second."""
        return self.records / self.step_s


def measure_step(
    run: PlannedRun, inputs: SampleInputs, *, device: str, records: int | None = None, steps: int = 3
) -> MeasuredStep:
    """Train for a few steps.

    Args:
        run: The run.
        inputs: Records to train on.
        device: Where; on a CPU arithmetic is float32, which it is made for, on others the run's.
        records: In a step; contrastive losses want two at least. If not given, the run's micro-batch on a GPU, halved
            until it fits, and 2 on a CPU.
        steps: Steps to time; fewer if they take long: none more once five seconds were timed.

    Raises:
        ConfigurationError: if not even two records fit, or fewer than two or no steps are asked for.
    """
    if steps < 1 or (records is not None and records < 2):
        raise ConfigurationError("a measurement takes 1 step of 2 records at least", value=(steps, records))
    on_cpu = torch.device(device).type == "cpu"
    precision: Precision = "fp32" if on_cpu else run.precision
    rows = (2 if on_cpu else max(run.batch_size, 2)) if records is None else records
    step = first_step(run, inputs, rows=rows, device=device, precision=precision)
    timed: list[float] = []
    while len(timed) < steps and sum(timed) < _ENOUGH_S:
        timed.append(step.seconds())
    threads = torch.get_num_threads() if on_cpu else None
    name = device_name(torch.device(device))
    return MeasuredStep(name, threads, precision, step.rows, len(timed), statistics.median(timed), step.clock)


def first_step(run: PlannedRun, inputs: SampleInputs, *, rows: int, **options: Any) -> TrainingStep:
    """A :class:`TrainingStep` that has been taken once, with as many of ``rows`` records as fit the device.

    Args:
        run: The run.
        inputs: Records to train on.
        rows: Records in the step; halved until they fit.
        options: See :class:`TrainingStep`.

    Raises:
        ConfigurationError: if two records do not fit.
    """
    while rows >= 2:
        step = None
        try:
            step = TrainingStep(run, inputs, rows=rows, **options)
            step()
            step.synchronize()
            return step
        except torch.OutOfMemoryError:
            # Out of this clause first: the error's traceback holds the tensors that did not fit.
            rows //= 2
        del step
        torch.cuda.empty_cache()
    raise ConfigurationError("two records of this model do not fit the device", value=run.size)
