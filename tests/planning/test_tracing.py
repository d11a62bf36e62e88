"""Steps on fake tensors against the same steps really run, for every method."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.profiler import ProfilerActivity, profile

from ecg_hf.planning.counts import operations_per_record
from ecg_hf.planning.flops import count_operations
from ecg_hf.planning.measuring import TrainingStep
from ecg_hf.planning.memory import LiveBytes
from ecg_hf.planning.settings import PlannedRun
from ecg_hf.planning.tracing import autocast, meta_model, trace_memory, trace_operations

from .conftest import micro_inputs, micro_run


def real_step(run: PlannedRun, seed: int = 0) -> tuple[TrainingStep, dict[str, torch.Tensor]]:
    step = TrainingStep(run, micro_inputs(run), rows=run.batch_size, device="cpu", precision=run.precision)
    noise = step.model.draw_noise(step.batch, torch.Generator().manual_seed(seed), run.batch_size)
    return step, {**step.batch, **noise}


def test_operations_are_those_of_a_real_step(run: PlannedRun) -> None:
    step, batch = real_step(run)
    with count_operations() as forward:
        loss = step.model(**batch).loss
    with count_operations() as backward:
        loss.backward()
    traced = trace_operations(run, micro_inputs(run))
    assert forward.matrix > 0.0
    for name in ("products", "convolutions", "fourier"):
        assert getattr(traced.forward, name) == getattr(forward, name)
        assert getattr(traced.backward, name) == getattr(backward, name)


def allocated_at_most(step: TrainingStep, batch: dict[str, torch.Tensor]) -> int:
    """Largest sum of allocations alive at once in a forward and backward pass, as the profiler saw them."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        with autocast("cpu", step.precision):
            loss = step.model(**batch).loss
        loss.backward()
        step.optimizer.zero_grad(set_to_none=True)
    alive = peak = 0
    for event in recorded.profiler.kineto_results.events():
        if event.name() == "[memory]":
            alive += event.nbytes()
            peak = max(peak, alive)
    return peak


def test_peak_memory_is_that_of_a_real_step(run: PlannedRun) -> None:
    step, batch = real_step(run)
    allocated_at_most(step, batch)  # what is made once is made here
    traced = trace_memory(run, micro_inputs(run))
    # A little above: the engine adds gradients of fakes up out of place. A little below: convolutions have buffers of
    # their own. One activation is much in these models.
    assert 0.88 < traced.peak / allocated_at_most(step, batch) < 1.2
    assert 0 < traced.activations < traced.peak
    assert traced.inputs == sum(value.untyped_storage().nbytes() for value in batch.values())


def test_checkpointing_saves_memory_and_costs_operations() -> None:
    run = micro_run("core-ecg", model_options={"num_hidden_layers": 4})
    inputs = micro_inputs(run)
    plain, again = (trace_memory(run, inputs, checkpointing=on) for on in (False, True))
    assert again.activations < 0.5 * plain.activations
    assert again.peak < 0.7 * plain.peak
    counted = operations_per_record(replace(run, checkpointing=True), inputs)
    extra = counted.executed.total - counted.model.total
    assert 0.5 * counted.forward.total < extra <= counted.forward.total


def test_losses_over_all_devices_grow_with_them() -> None:
    """The similarities of a contrastive loss are quadratic in the pool, everything else is linear in the rows."""
    run = micro_run("cg-dmer")
    inputs = micro_inputs(run)
    one, many = trace_operations(run, inputs), trace_operations(replace(run, gpus=8), inputs)
    width = run.config.projection_dim
    rows = run.batch_size
    pairs = 2 * width * ((8 * rows) ** 2 - rows**2)
    assert one.pooled
    # InfoNCE and SigLIP each multiply all pairs once.
    assert many.forward.products - one.forward.products == 2 * pairs
    assert not trace_operations(micro_run("clear-hug"), micro_inputs(micro_run("clear-hug"))).pooled


def test_exact_accumulation_runs_forward_twice() -> None:
    options = {"training_options": {"gradient_accumulation_steps": 2}}
    run = micro_run("cg-dmer", **options)
    counted = operations_per_record(run, micro_inputs(run))
    assert counted.first_pass
    assert counted.executed.total == counted.model.total + counted.forward.total
    other = micro_run("clear-hug", **options)  # nothing contrastive in it
    assert not operations_per_record(other, micro_inputs(other)).first_pass


def test_half_precision_halves_most_of_the_activations() -> None:
    run = micro_run("core-ecg")
    inputs = micro_inputs(run)
    full, half = (trace_memory(replace(run, precision=kind), inputs) for kind in ("fp32", "bf16"))
    assert 0.45 < half.activations / full.activations < 0.75


def test_planned_as_on_a_gpu() -> None:
    """On the CPU large grids choose factorised attention, which saves its weights; on a GPU they do not."""
    run = micro_run("ecg-jepa")
    assert run.config.attention_layout == "auto"
    assert meta_model(run).config.attention_layout == "masked"
    assert run.config.attention_layout == "auto"


def test_live_bytes() -> None:
    weight = torch.ones(10, 10)
    with LiveBytes([weight]) as live:
        weight.add_(1.0)
        view = weight.view(100)
        assert live.now == 0
        made = view + 1.0
        assert live.now == 400
        again = made * 2.0
        del made
        assert (live.now, live.peak) == (400, 800)
        del again
    assert live.now == 0
