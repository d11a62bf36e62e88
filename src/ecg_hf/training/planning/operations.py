"""Operations per record of a training step: the model's, and those really executed."""

from __future__ import annotations

from dataclasses import dataclass

from ecg_hf.training.planning.flops import OperationCounts
from ecg_hf.training.planning.samples import SampleInputs
from ecg_hf.training.planning.settings import PlannedRun
from ecg_hf.training.planning.tracing import trace_operations

__all__ = ["Operations", "operations_per_record"]

_DRAWS = 4  # of the noise: what some methods mask differs in size from step to step


@dataclass(frozen=True, slots=True)
class Operations:
    """Operations per record of a training step.

    Attributes:
        model: Forward and backward pass without any recomputation; mean over draws of the noise.
        forward: The forward pass' part of ``model``.
        executed: What is really run: recomputed activations and the first pass of exact accumulation included.
        lowest: Smallest total of ``model`` over the draws.
        highest: Largest.
        first_pass: Whether exact accumulation adds a forward pass.
    """

    model: OperationCounts
    forward: OperationCounts
    executed: OperationCounts
    lowest: float
    highest: float
    first_pass: bool


def operations_per_record(run: PlannedRun, inputs: SampleInputs) -> Operations:
    """Count whole micro-batches of a run, for several draws of its noise, and divide.

    Args:
        run: The run; its micro-batch is the one that is counted.
        inputs: What a record looks like.
    """
    share = 1.0 / run.batch_size
    traces = [trace_operations(run, inputs, seed=seed) for seed in range(_DRAWS)]
    forward = sum((trace.forward for trace in traces), OperationCounts()) * (share / _DRAWS)
    model = sum((trace.both for trace in traces), OperationCounts()) * (share / _DRAWS)
    totals = [trace.both.total * share for trace in traces]
    executed = model
    if run.checkpointing:
        again = [trace_operations(run, inputs, seed=seed, checkpointing=True) for seed in range(_DRAWS)]
        executed = sum((trace.both for trace in again), OperationCounts()) * (share / _DRAWS)
    first_pass = run.accumulation > 1 and run.exact_accumulation and traces[0].pooled
    if first_pass:
        executed = executed + forward
    return Operations(model, forward, executed, min(totals), max(totals), first_pass)
