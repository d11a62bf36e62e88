"""Operations per record of a training step: the model's, and those really executed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from ecg_hf.planning.flops import OperationCounts
from ecg_hf.planning.samples import SampleInputs
from ecg_hf.planning.settings import PlannedRun
from ecg_hf.planning.tracing import StepOperations, meta_model, trace_operations

__all__ = ["Operations", "ParameterCounts", "count_parameters", "operations_per_record"]

_DRAWS = 8  # of the noise: what some methods mask differs in size from step to step


@dataclass(frozen=True, slots=True)
class Operations:
    """Operations per record of a training step.

    Attributes:
        model: Forward and backward pass without any recomputation; mean over draws of the noise.
        forward: The forward pass' part of ``model``.
        executed: What is really run: recomputed activations and the first pass of exact accumulation included.
        lowest: Smallest total of ``model`` over the draws.
        highest: Largest.
        heaviest_seed: Of the draw with ``highest``, whose memory is the largest too.
        first_pass: Whether exact accumulation adds a forward pass.
    """

    model: OperationCounts
    forward: OperationCounts
    executed: OperationCounts
    lowest: float
    highest: float
    heaviest_seed: int
    first_pass: bool


def operations_per_record(run: PlannedRun, inputs: SampleInputs) -> Operations:
    """Count whole micro-batches of a run, for several draws of its noise, and divide by their records.

    Args:
        run: The run; its micro-batch is the one that is counted.
        inputs: What a record looks like.
    """
    seeds = _distinct_draws(run, inputs)
    traces = {seed: trace_operations(run, inputs, seed=seed) for seed in seeds}

    def mean(
        part: Callable[[StepOperations], OperationCounts], of: dict[int, StepOperations]
    ) -> OperationCounts:
        total = sum((part(of[seed]) * count for seed, count in seeds.items()), OperationCounts())
        return total * (1.0 / (_DRAWS * run.batch_size))

    forward, model = mean(lambda trace: trace.forward, traces), mean(lambda trace: trace.both, traces)
    executed = model
    if run.checkpointing:
        again = {seed: trace_operations(run, inputs, seed=seed, checkpointing=True) for seed in seeds}
        executed = mean(lambda trace: trace.both, again)
    pooled = any(trace.pooled for trace in traces.values())
    first_pass = run.accumulation > 1 and run.exact_accumulation and pooled
    if first_pass:
        executed = executed + forward
    totals = {seed: trace.both.total / run.batch_size for seed, trace in traces.items()}
    heaviest = max(totals, key=lambda seed: totals[seed])
    return Operations(model, forward, executed, min(totals.values()), totals[heaviest], heaviest, first_pass)


def _distinct_draws(run: PlannedRun, inputs: SampleInputs) -> Counter[int]:
    """Seeds whose noise differs in shape, and how many draws each stands for: work follows from shapes alone."""
    model = meta_model(run)
    first: dict[tuple[object, ...], int] = {}
    counts: Counter[int] = Counter()
    for seed in range(_DRAWS):
        noise = model.draw_noise(inputs.tensors, torch.Generator().manual_seed(seed), 1)
        shapes = tuple((name, tuple(value.shape)) for name, value in sorted(noise.items()))
        counts[first.setdefault(shapes, seed)] += 1
    return counts


@dataclass(frozen=True, slots=True)
class ParameterCounts:
    """Parameters of a model; shared ones are counted once.

    Attributes:
        total: All.
        trainable: Those the optimiser moves.
        parts: The same two numbers for each part; parts add up to the whole.
    """

    total: int
    trainable: int
    parts: dict[str, tuple[int, int]]


def count_parameters(model: nn.Module) -> ParameterCounts:
    """Count a model's parameters, on any device.

    Parts are the model's children; of a child that is itself the base model (``base_model_prefix``), its children.
    """
    base = getattr(model, "base_model_prefix", "")
    parts: dict[str, tuple[int, int]] = {}
    for name, parameter in model.named_parameters():
        path = name.split(".")
        # What lies directly in the model or its base, such as a scale, is a part of its own.
        part = ".".join(path[: 2 if path[0] == base else 1])
        total, trainable = parts.get(part, (0, 0))
        parts[part] = (total + parameter.numel(), trainable + parameter.numel() * parameter.requires_grad)
    return ParameterCounts(
        total=sum(total for total, _ in parts.values()),
        trainable=sum(trainable for _, trainable in parts.values()),
        parts=parts,
    )
