"""The plan of a run: everything counted, traced, measured and assumed, in one place."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from ecg_hf.planning.counts import Operations, ParameterCounts, count_parameters, operations_per_record
from ecg_hf.planning.devices import (
    CARDS,
    Card,
    Schedule,
    card_of_device,
    get_card,
    records_per_second,
    schedule,
)
from ecg_hf.planning.headroom import peak_bytes
from ecg_hf.planning.measuring import MeasuredStep, measure_step
from ecg_hf.planning.memory import (
    CheckpointBytes,
    StaticMemory,
    StoredRecords,
    checkpoint_bytes,
    static_memory,
)
from ecg_hf.planning.samples import sample_inputs
from ecg_hf.planning.settings import PlannedRun
from ecg_hf.planning.tracing import StepMemory, meta_model, trace_memory
from ecg_hf.training.machine import memory_bytes

__all__ = ["Assumptions", "Plan", "Rate", "make_plan"]

_DEFAULT_CARD, _DEFAULT_MFU = "h100", 0.4
_MEASURED_OPERATIONS = 5e10  # a second or two of a processor core


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What a plan takes for granted about machines and data.

    Attributes:
        card: Name of the cards to be rented, see :data:`~ecg_hf.planning.devices.CARDS`.
        device_tflops: Peak rate of one in the run's precision, TFLOP/s, instead of ``card``'s.
        mfu: Share of the peak the model's operations reach.
        stored: Recordings as they will be stored.
        text_tokens: Tokens of the longest report in a batch; the most the model takes if not given.

    Raises:
        ConfigurationError: if a number is impossible or the card unknown.
    """

    card: str | None = None
    device_tflops: float | None = None
    mfu: float | None = None
    stored: StoredRecords = field(default_factory=StoredRecords)
    text_tokens: int | None = None

    def __post_init__(self) -> None:
        """Refuse the impossible before any work is done on it."""
        if self.card is not None:
            get_card(self.card)
        tflops = 1.0 if self.device_tflops is None else self.device_tflops
        records_per_second(1.0, 1, tflops, _DEFAULT_MFU if self.mfu is None else self.mfu)


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast the planned devices are taken to be.

    Attributes:
        records_per_s: Over all devices.
        basis: What that rests on, in words.
        memory_gb: Memory of one device where it is known, 10^9 bytes.
    """

    records_per_s: float
    basis: str
    memory_gb: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will take; sizes in bytes, per device where nothing else is said.

    Attributes:
        run: The run.
        dataset_size: Training records.
        assumptions: What was taken for granted.
        text_tokens: Tokens each report is padded to, 0 without text.
        parameters: Of the model.
        operations: Per record.
        static: Memory that does not depend on the batch.
        step: Memory of a micro-batch.
        measured: A step that was run here.
        schedule: Steps of the run.
        rate: Of the planned devices.
        extraction_s: Processor seconds of feature extraction per record, measured here.
        checkpoint: Sizes of files written.
        notes: What else to know.
    """

    run: PlannedRun
    dataset_size: int
    assumptions: Assumptions
    text_tokens: int
    parameters: ParameterCounts
    operations: Operations
    static: StaticMemory
    step: StepMemory
    measured: MeasuredStep
    schedule: Schedule
    rate: Rate
    extraction_s: float
    checkpoint: CheckpointBytes
    notes: tuple[str, ...]

    @property
    def peak_bytes(self) -> int:
        """Most memory of one device at a time: its tensors, on a processor the whole process."""
        return peak_bytes(self.run, self.step)

    @property
    def fits(self) -> bool | None:
        """Whether that leaves a tenth of the memory free; None where the memory is not known."""
        room = self.rate.memory_gb
        return None if room is None else self.peak_bytes < 0.9 * room * 1e9

    @property
    def dataset_bytes(self) -> float:
        """Disk for the built dataset."""
        return self.assumptions.stored.record_bytes * self.dataset_size

    @property
    def output_bytes(self) -> int:
        """Disk for the checkpoints kept and the final model; with all kept, for one checkpoint."""
        kept = self.run.checkpoints_kept or 1
        return kept * self.checkpoint.checkpoint + self.checkpoint.weights

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values."""
        run, operations = self.run, self.operations
        settings = {
            **{name: getattr(run, name) for name in ("size", "recipe", "batch_size", "accumulation", "gpus")},
            **{name: getattr(run, name) for name in ("precision", "checkpointing", "records_per_step")},
            **{
                name: getattr(run, name)
                for name in ("epochs", "max_steps", "checkpoints_kept", "accelerator")
            },
        }
        counts = {name: asdict(getattr(operations, name)) for name in ("model", "forward", "executed")}
        return {
            "model": run.method.name,
            "run": settings,
            "dataset_size": self.dataset_size,
            "parameters": asdict(self.parameters),
            "operations_per_record": {
                "total": operations.model.total,
                "lowest": operations.lowest,
                "highest": operations.highest,
                **counts,
            },
            "memory_bytes": {
                **asdict(self.static),
                **asdict(self.step),
                "activations_per_record": self.step.activations / run.batch_size,
                "peak_total": self.peak_bytes,
                "fits": self.fits,
            },
            "measured": {
                **asdict(self.measured),
                "records_per_s": self.measured.records_per_s,
                "tflops": self.measured.records_per_s * operations.model.total / 1e12,
                "run_hours_here": self.schedule.hours(self.measured.records_per_s),
                "extraction_s_per_record": self.extraction_s,
            },
            "schedule": asdict(self.schedule),
            "estimated": {
                **asdict(self.rate),
                "epoch_hours": self.schedule.hours(self.rate.records_per_s)
                / (self.schedule.steps / self.schedule.steps_per_epoch),
                "run_hours": self.schedule.hours(self.rate.records_per_s),
                "extraction_cores": self.extraction_s * self.rate.records_per_s,
                "read_bytes_per_s": self.rate.records_per_s * self.assumptions.stored.record_bytes,
            },
            "disk_bytes": {
                "record": self.assumptions.stored.record_bytes,
                "dataset": self.dataset_bytes,
                **asdict(self.checkpoint),
                "kept": self.output_bytes,
            },
            "assumptions": {**asdict(self.assumptions), "text_tokens": self.text_tokens},
            "notes": list(self.notes),
        }


def make_plan(
    run: PlannedRun,
    dataset_size: int,
    *,
    assumptions: Assumptions | None = None,
    device: str = "cpu",
    measured_records: int | None = None,
    measured_steps: int = 3,
) -> Plan:
    """Count, trace and measure what a run will take.

    Args:
        run: The run.
        dataset_size: Training records.
        assumptions: About machines and data.
        device: Where a step is measured.
        measured_records: Records in it; if not given, the run's batch on a GPU (halved until it fits). On a CPU 2, or
            for a run planned for it as much of the batch as takes a second or two.
        measured_steps: How often.

    Raises:
        ConfigurationError: if something can't be as given.
    """
    assumptions = Assumptions() if assumptions is None else assumptions
    steps = schedule(run, dataset_size)
    inputs = sample_inputs(run, assumptions.stored, text_tokens=assumptions.text_tokens)
    model = meta_model(run)
    operations = operations_per_record(run, inputs)
    if measured_records is None and not run.accelerator:
        affordable = int(_MEASURED_OPERATIONS / operations.model.total)
        measured_records = max(2, min(run.batch_size, affordable))
    measured = measure_step(run, inputs, device=device, records=measured_records, steps=measured_steps)
    notes = list(run.notes)
    if operations.first_pass:
        notes.append("exact accumulation runs each forward pass twice: counted among executed operations")
    return Plan(
        run=run,
        dataset_size=dataset_size,
        assumptions=assumptions,
        text_tokens=inputs.text_tokens,
        parameters=count_parameters(model),
        operations=operations,
        static=static_memory(model, run.gpus),
        step=trace_memory(run, inputs, checkpointing=run.checkpointing, seed=operations.heaviest_seed),
        measured=measured,
        schedule=steps,
        rate=_rate(run, assumptions, operations, measured, device),
        extraction_s=inputs.extraction_s,
        checkpoint=checkpoint_bytes(model),
        notes=tuple(notes),
    )


def _peak_rate(
    run: PlannedRun, assumptions: Assumptions, present: Card | None
) -> tuple[float, str, Card | None]:
    """TFLOP/s of one planned device, what it is, and its card where that is known."""
    card = present if assumptions.card is None else get_card(assumptions.card)
    if assumptions.device_tflops is not None:
        return assumptions.device_tflops, "as given", card if assumptions.card else None
    if card is None:
        card = CARDS[_DEFAULT_CARD]
    return card.tflops(run.precision), f"{card.name}, {run.precision}, data sheet", card


def _rate(
    run: PlannedRun,
    assumptions: Assumptions,
    operations: Operations,
    measured: MeasuredStep,
    device: str,
) -> Rate:
    """As measured where the run is to be; else from peak and utilisation."""
    if not run.accelerator:
        memory = memory_bytes(torch.device(device)) / 1e9
        return Rate(measured.records_per_s, "the rate measured on this machine", memory)
    on_gpu = torch.device(device).type == "cuda"
    present = card_of_device(measured.device) if on_gpu else None
    asked = (assumptions.card, assumptions.device_tflops, assumptions.mfu)
    if on_gpu and all(value is None for value in asked):
        return Rate(
            measured.records_per_s * run.gpus,
            f"{run.gpus} x the measured rate, perfect scaling assumed",
            None if present is None else present.memory_gb,
        )
    tflops, name, card = _peak_rate(run, assumptions, present)
    mfu = _DEFAULT_MFU if assumptions.mfu is None else assumptions.mfu
    rate = records_per_second(operations.model.matrix, run.gpus, tflops, mfu)
    basis = f"{run.gpus} x {tflops:g} TFLOP/s ({name}) x {mfu:.0%} utilisation, perfect scaling: all assumed"
    return Rate(rate, basis, None if card is None else card.memory_gb)
