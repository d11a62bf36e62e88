"""A plan as text: what was counted, traced, measured and assumed, each under its own name."""

from __future__ import annotations

from collections.abc import Iterator

from ecg_hf.planning.memory import PROCESS_BYTES
from ecg_hf.planning.plan import Plan

__all__ = ["plan_lines"]


def plan_lines(plan: Plan) -> list[str]:
    """The plan for a reader, line by line."""
    sections = (_head, _parameters, _operations, _memory, _time, _disk, _notes)
    return [line for section in sections for line in section(plan)]


def _head(plan: Plan) -> Iterator[str]:
    run = plan.run
    batch = f"{run.batch_size} records x {run.gpus} GPUs" if run.accelerator else f"{run.batch_size} records"
    if run.accumulation > 1:
        batch += f" x {run.accumulation} micro-batches"
    yield (
        f"{run.method.name} {run.size}, recipe {run.recipe}: {batch} = {run.records_per_step:,} a step, "
        f"{run.precision}"
    )
    yield (
        f"{plan.dataset_size:,} records: {plan.schedule.steps_per_epoch:,} steps an epoch, "
        f"{plan.schedule.steps:,} steps in all"
    )


def _parameters(plan: Plan) -> Iterator[str]:
    counts = plan.parameters
    yield ""
    yield f"parameters  {counts.total:,}, trained {counts.trainable:,}"
    width = max(map(len, counts.parts))
    for name, (total, trainable) in counts.parts.items():
        frozen = "" if trainable == total else f"   trained {trainable:,}"
        yield f"  {name:<{width}}  {total:>12,}{frozen}"


def _operations(plan: Plan) -> Iterator[str]:
    counts = plan.operations
    model = counts.model
    yield ""
    yield f"operations per record  {_giga(model.total)} GFLOP, counted over forward and backward of one micro-batch"
    yield (
        f"  matrix products {_giga(model.products)}, convolutions {_giga(model.convolutions)}, "
        f"Fourier transforms {_giga(model.fourier)}"
    )
    yield f"  forward {_giga(counts.forward.total)}, backward {_giga(model.total - counts.forward.total)}"
    if counts.lowest != counts.highest:
        yield f"  masks differ in size between steps: {_giga(counts.lowest)} to {_giga(counts.highest)}"
    if counts.executed != model:
        yield f"  executed {_giga(counts.executed.total)}: with what is computed twice"
    yield (
        f"  not counted: element-wise kernels, reductions and copies; they write {_giga(model.other_elements)} G "
        f"elements ({model.other_elements / model.total:.1%} if each is one operation)"
    )


def _memory(plan: Plan) -> Iterator[str]:
    static, step, run = plan.static, plan.step, plan.run
    yield ""
    how = ", activations recomputed" if run.checkpointing else ""
    device = "memory per GPU" if run.accelerator else "memory"
    yield (
        f"{device}  {_gib(plan.peak_bytes)} GiB at the peak, traced for {run.batch_size} records, "
        f"{run.precision}{how}"
    )
    yield (
        f"  weights {_gib(static.weights)}, gradients {_gib(static.gradients)}, optimiser {_gib(static.optimizer)}, "
        f"communication {_gib(static.communication)}, inputs {_gib(step.inputs)} GiB"
    )
    yield (
        f"  activations {_gib(step.activations)} GiB = {step.activations / run.batch_size / 2**20:.1f} MiB a record; "
        f"most in a step, gradients included, {_gib(step.peak)} GiB"
    )
    if run.accelerator:
        yield "  not seen: the allocator's rounding and reserve, kernels' workspaces, the CUDA context"
    else:
        yield f"  Python and libraries {_gib(PROCESS_BYTES)} GiB; not seen: the allocator's reserve, kept recordings"
    if plan.rate.memory_gb is not None:
        verdict = "fits" if plan.fits else "DOES NOT FIT with a tenth to spare"
        owner = "the card" if run.accelerator else "this machine"
        yield f"  {verdict}: {owner} has {plan.rate.memory_gb * 1e9 / 2**30:.0f} GiB"


def _time(plan: Plan) -> Iterator[str]:
    measured, rate = plan.measured, plan.rate
    here = measured.records_per_s
    tflops = here * plan.operations.model.total / 1e12
    epochs = plan.schedule.steps / plan.schedule.steps_per_epoch
    yield ""
    yield "time"
    on_cpu = "" if measured.threads is None else f", torch threads: {measured.threads}"
    yield (
        f"  measured  {measured.device}{on_cpu}, {measured.precision}: a step of {measured.records} records "
        f"{measured.step_s:.3f} s ({measured.clock} time, median of {measured.steps}), {here:.3g} records/s, "
        f"{tflops:.3g} TFLOP/s; one such device: {_duration(plan.schedule.hours(here))} for {epochs:.4g} epochs"
    )
    hours = plan.schedule.hours(rate.records_per_s)
    cost = f", {hours * plan.run.gpus:,.0f} GPU hours" if plan.run.accelerator else ""
    yield f"  {'assumed  ' if plan.run.accelerator else 'basis    '} {rate.basis}"
    yield (
        f"  estimate  {_rate(rate.records_per_s)} records/s: {_duration(hours / epochs)} an epoch, "
        f"{_duration(hours)} for {epochs:.4g} epochs{cost}; without evaluation, start and checkpoints"
    )
    bytes_per_s = rate.records_per_s * plan.assumptions.stored.record_bytes
    yield (
        f"  the host must deliver that rate: {bytes_per_s / 1e6:,.0f} MB/s read, and "
        f"{plan.extraction_s * rate.records_per_s:.1f} cores for feature extraction (measured: "
        f"{1e3 * plan.extraction_s:.2f} ms a record on this CPU, R peaks stored; decoding not included)"
    )


def _disk(plan: Plan) -> Iterator[str]:
    stored = plan.assumptions.stored
    kept = plan.run.checkpoints_kept
    yield ""
    yield "disk"
    yield (
        f"  dataset  {plan.dataset_bytes / 1e9:,.1f} GB built: {stored.record_bytes:,.0f} bytes a record of "
        f"{stored.leads} leads, {stored.seconds:g} s at {stored.sampling_rate:g} Hz; the recordings themselves, "
        f"before building, about {stored.sample_bytes * plan.dataset_size / 1e9:,.1f} GB in WFDB format 16"
    )
    many = "every one kept" if kept is None else f"{kept} kept"
    yield (
        f"  output   {plan.output_bytes / 1e9:.2f} GB: checkpoints of {plan.checkpoint.checkpoint / 1e9:.2f} GB, "
        f"{many}, and the final model of {plan.checkpoint.weights / 1e9:.2f} GB"
    )


def _notes(plan: Plan) -> Iterator[str]:
    notes = list(plan.notes)
    if plan.text_tokens and plan.assumptions.text_tokens is None:
        notes.append(
            f"reports padded to {plan.text_tokens} tokens, the most the model takes: --text-tokens for shorter ones"
        )
    if notes:
        yield ""
    for note in notes:
        yield f"note: {note}"


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 10.0 else f"{value:.2g}"


def _giga(value: float) -> str:
    return f"{value / 1e9:.4g}"


def _gib(value: float) -> str:
    return f"{value / 2**30:.2f}"


def _duration(hours: float) -> str:
    if hours < 1.0 / 60.0:
        return f"{hours * 3600:.0f} s"
    if hours < 1.0:
        return f"{hours * 60:.1f} min"
    return f"{hours:.1f} h" if hours < 96.0 else f"{hours / 24:,.1f} days"
