"""From recordings on a server to results on many machines: time, disk, network and memory of each stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ecg_hf.data.shards import BATCH_BYTES
from ecg_hf.engine import RECORDS_PER_PART
from ecg_hf.errors import ConfigurationError
from ecg_hf.planning.plan import Plan
from ecg_hf.planning.probe import MeasuredStages
from ecg_hf.training.machine import available_cores

__all__ = ["BENCHMARK_RECORDS", "Machines", "Stage", "plan_stages", "stage_lines", "stages_to_dict"]

BENCHMARK_RECORDS = 21_799
"""Of PTB-XL."""

_RECORDS_PER_SHARD = 1000
_FLOAT32, _FLOAT64 = 4, 8
_NAME_BYTES = 24
"""``record_id`` and ``split`` of an embedding."""


@dataclass(frozen=True, slots=True)
class Machines:
    """The machines planned for.

    Attributes:
        nodes: How many.
        cores: Of each, as many as here by default; one process of one thread runs on each of them.
        download_mbit: Of the way to where the recordings come from, in 10^6 bits per second, for all nodes together.
        storage_mbit: Of each node's way to the shared storage.
        benchmark_records: Records that are evaluated.

    Raises:
        ConfigurationError: if one is not positive.
    """

    nodes: int
    cores: int = field(default_factory=available_cores)
    download_mbit: float = 1_000.0
    storage_mbit: float = 10_000.0
    benchmark_records: int = BENCHMARK_RECORDS

    def __post_init__(self) -> None:
        """Refuse what can't be."""
        for name, value in asdict(self).items():
            if not 0 < value < float("inf"):
                raise ConfigurationError(f"{name} must be positive, got {value}", value=value)

    @property
    def processes(self) -> int:
        """Of all nodes."""
        return self.nodes * self.cores

    def storage_hours(self, size: float, nodes: int | None = None) -> float:
        """Time to move bytes between the nodes and the shared storage."""
        return _hours(size, self.storage_mbit * (self.nodes if nodes is None else nodes))


@dataclass(frozen=True, slots=True)
class Stage:
    """What one stage takes.

    Attributes:
        name: ``download``, ``build``, ``pretrain``, ``embed`` or ``evaluate``.
        hours: Its duration.
        disk_bytes: What it leaves on disk.
        network_bytes: What goes over networks, shared storage included.
        memory_bytes: Of one process at its peak; on a GPU, of one device.
        processes: How many run at a time.
        basis: What that rests on, in words.
    """

    name: str
    hours: float
    disk_bytes: float
    network_bytes: float
    memory_bytes: float
    processes: int
    basis: str


def plan_stages(plan: Plan, machines: Machines, measured: MeasuredStages) -> tuple[Stage, ...]:
    """All stages, each as if the one before had left its output on storage that every node sees.

    Args:
        plan: Of the pretraining run.
        machines: The machines.
        measured: Rates of this machine.
    """
    return (
        _download(plan, machines, measured),
        _build(plan, machines, measured),
        _pretrain(plan, machines),
        _embed(plan, machines, measured),
        _evaluate(plan, machines, measured),
    )


def _hours(size: float, mbit: float) -> float:
    return 8.0 * size / (1e6 * mbit) / 3600.0


def _slower(compute: float, transfer: float, how: str) -> tuple[float, str]:
    """The longer of two that go on side by side, and which it is."""
    return (
        (compute, how)
        if compute >= transfer
        else (transfer, "the storage, not the processors, sets the pace")
    )


def _download(plan: Plan, machines: Machines, measured: MeasuredStages) -> Stage:
    size = measured.raw_bytes * plan.dataset_size
    return Stage(
        "download",
        _hours(size, machines.download_mbit),
        disk_bytes=size,
        network_bytes=2 * size,  # in, and on to the shared storage
        memory_bytes=measured.base_bytes,
        processes=1,
        basis=f"{machines.download_mbit:,.0f} Mbit/s, assumed",
    )


def _build(plan: Plan, machines: Machines, measured: MeasuredStages) -> Stage:
    records, built = plan.dataset_size, plan.dataset_bytes
    processes = min(machines.processes, -(-records // _RECORDS_PER_SHARD))
    moved = measured.raw_bytes * records + built
    compute = records * (measured.listing_s + measured.build_s / processes) / 3600.0
    hours, basis = _slower(
        compute,
        machines.storage_hours(moved),
        f"{1e3 * measured.build_s:.2f} ms of a core a record, and {1e3 * measured.listing_s:.2f} ms of the command",
    )
    # Rows are held until a batch of Arrow is full, and then once more in it.
    held = 2 * min(_RECORDS_PER_SHARD * plan.assumptions.stored.record_bytes, BATCH_BYTES)
    return Stage("build", hours, built, moved, measured.base_bytes + held, processes, basis)


def _pretrain(plan: Plan, machines: Machines) -> Stage:
    run = plan.run
    nodes = min(machines.nodes, run.gpus)
    read = plan.schedule.records * plan.assumptions.stored.record_bytes
    # A ring: every node sends on nearly twice the gradients in each step.
    exchanged = 2 * (nodes - 1) * plan.static.gradients * plan.schedule.steps
    hours, basis = _slower(
        plan.schedule.hours(plan.rate.records_per_s), machines.storage_hours(read, nodes), plan.rate.basis
    )
    if not run.accelerator:
        basis += "; one process, --gpus plans for GPUs"
    return Stage("pretrain", hours, plan.output_bytes, read + exchanged, plan.peak_bytes, run.gpus, basis)


def _embed(plan: Plan, machines: Machines, measured: MeasuredStages) -> Stage:
    records = plan.dataset_size
    on_gpu = measured.embed_device != "cpu"
    processes = plan.run.gpus if on_gpu else machines.processes
    processes = min(processes, -(-records // RECORDS_PER_PART))
    written = records * (measured.dim * _FLOAT32 + _NAME_BYTES)
    moved = plan.dataset_bytes + written
    hours, basis = _slower(
        records * measured.embed_s / processes / 3600.0,
        machines.storage_hours(moved),
        f"{1e3 * measured.embed_s:.3g} ms of a {'GPU' if on_gpu else 'core'} a record",
    )
    return Stage("embed", hours, written, moved, measured.embed_bytes, processes, basis)


def _evaluate(plan: Plan, machines: Machines, measured: MeasuredStages) -> Stage:
    records = machines.benchmark_records
    features = records * measured.dim
    read = records * plan.assumptions.stored.record_bytes
    hours, basis = _slower(
        records * (measured.embed_s + measured.fit_s) / 3600.0,
        machines.storage_hours(read, 1),
        f"{records:,} records embedded in one process, one linear probe ({1e3 * measured.fit_s:.2f} ms a record), "
        "no controls",
    )
    # The features, and standardised copies of them in double precision.
    memory = measured.embed_bytes + features * (_FLOAT32 + 2 * _FLOAT64)
    return Stage("evaluate", hours, features * _FLOAT32, read, memory, 1, basis)


def stages_to_dict(stages: Sequence[Stage], machines: Machines, measured: MeasuredStages) -> dict[str, Any]:
    """Everything as JSON values."""
    return {
        "machines": asdict(machines),
        "stage_rates": asdict(measured),
        "stages": {stage.name: {k: v for k, v in asdict(stage).items() if k != "name"} for stage in stages},
    }


def stage_lines(stages: Sequence[Stage], machines: Machines, measured: MeasuredStages) -> Iterator[str]:
    """The stages for a reader, line by line."""
    yield ""
    yield f"stages on {machines.nodes} nodes of {machines.cores} cores, one after the other"
    yield f"  {'':<9} {'hours':>9} {'disk':>11} {'network':>11} {'memory':>9}  processes"
    for stage in stages:
        yield (
            f"  {stage.name:<9} {stage.hours:>9,.2f} {_gb(stage.disk_bytes):>11} {_gb(stage.network_bytes):>11} "
            f"{stage.memory_bytes / 2**30:>5.1f} GiB  {stage.processes:<9} {stage.basis}"
        )
    yield (
        f"  measured here on {measured.records} synthetic records: one process of one thread each; memory is of one "
        f"process, of 'embed' with batches of {measured.embed_batch}"
    )
    yield (
        f"  assumed: {machines.download_mbit:,.0f} Mbit/s to where recordings come from (--download-mbit), "
        f"{machines.storage_mbit:,.0f} Mbit/s from each node to shared storage (--storage-mbit), cores as fast as "
        "here and alike, work that divides evenly"
    )


def _gb(size: float) -> str:
    return f"{size / 1e9:,.1f} GB"
