"""One training step on fake tensors: shapes, types and memory are those of the real step, nothing is computed.

The whole forward and backward pass of a batch of hundreds of records on a model of any size takes seconds and no
memory this way, so counts and peaks are those of the batch planned for, not extrapolated from a small one.

Fake tensors stand for tensors of the CPU. For runs on GPUs, what those do differently is followed where it changes
the work (see :func:`_as_on_accelerator`); a few types differ (layer norms under autocast are float32 on a GPU).
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ecg_hf.planning.flops import OperationCounts, count_operations
from ecg_hf.planning.memory import LiveBytes
from ecg_hf.planning.samples import SampleInputs
from ecg_hf.planning.settings import PlannedRun
from ecg_hf.training.settings import Precision

__all__ = [
    "StepMemory",
    "StepOperations",
    "autocast",
    "enable_checkpointing",
    "meta_model",
    "trace_memory",
    "trace_operations",
]


@dataclass(frozen=True, slots=True)
class StepOperations:
    """Operations of a micro-batch.

    Attributes:
        forward: Of the forward pass.
        backward: Of the backward pass, recomputation included.
        pooled: Whether the loss runs over the embeddings of all devices.
    """

    forward: OperationCounts
    backward: OperationCounts
    pooled: bool

    @property
    def both(self) -> OperationCounts:
        """Of both passes."""
        return self.forward + self.backward


@dataclass(frozen=True, slots=True)
class StepMemory:
    """Bytes a micro-batch takes beside weights and optimiser.

    Attributes:
        inputs: The batch and its noise.
        activations: Alive between the two passes: what was saved for the backward pass.
        peak: Most bytes alive at a time beside the inputs, gradients included.
    """

    inputs: int
    activations: int
    peak: int


def meta_model(run: PlannedRun) -> Any:
    """The pretraining model without weights, frozen as it will be trained."""
    with torch.device("meta"):
        return run.method.load("pretraining")(
            _as_on_accelerator(run.config) if run.accelerator else run.config
        )


def trace_operations(
    run: PlannedRun,
    inputs: SampleInputs,
    *,
    rows: int | None = None,
    checkpointing: bool = False,
    seed: int = 0,
) -> StepOperations:
    """Count the operations of a micro-batch of one device.

    Args:
        run: The run. Contrastive losses see the embeddings of all its devices and accumulated micro-batches.
        inputs: What a record looks like.
        rows: Records; the run's micro-batch if not given.
        checkpointing: Recompute activations in the backward pass.
        seed: Of the noise: masks of some methods differ in size from step to step.
    """
    step = _FakeStep(run, inputs, run.batch_size if rows is None else rows, checkpointing, seed)
    with step.fake:
        with count_operations() as forward:
            loss = step.loss()
        with count_operations() as backward:
            loss.backward()
    return StepOperations(forward, backward, step.pool.used)


def trace_memory(
    run: PlannedRun,
    inputs: SampleInputs,
    *,
    rows: int | None = None,
    checkpointing: bool = False,
    seed: int = 0,
) -> StepMemory:
    """Follow the memory of a micro-batch of one device; arguments as in :func:`trace_operations`."""
    # Not in the same pass: what counts operations hangs hooks on recomputed tensors, which keep them alive.
    step = _FakeStep(run, inputs, run.batch_size if rows is None else rows, checkpointing, seed)
    batch = list(step.batch.values())
    live = LiveBytes([*step.model.parameters(), *step.model.buffers(), *batch])
    with step.fake, live:
        loss = step.loss()
        activations = live.now
        loss.backward()
    return StepMemory(sum(tensor.untyped_storage().nbytes() for tensor in batch), activations, live.peak)


class _FakeStep:
    """A model, a batch and its noise, all of them fakes."""

    def __init__(
        self, run: PlannedRun, inputs: SampleInputs, rows: int, checkpointing: bool, seed: int
    ) -> None:
        self.model = meta_model(run)
        self.precision = run.precision
        noise = self.model.draw_noise(inputs.tensors, torch.Generator().manual_seed(seed), rows)
        self.fake = FakeTensorMode()
        with self.fake:
            _fill(self.model)
            self.batch = {
                name: torch.empty((rows, *value.shape[1:]), dtype=value.dtype)
                for name, value in inputs.tensors.items()
            }
        self.batch |= {name: self.fake.from_tensor(value) for name, value in noise.items()}
        self.pool = _WholePool(run.gpus * (run.accumulation if run.exact_accumulation else 1))
        self.model.pool_embeddings = self.pool
        self.model.train()
        if checkpointing:
            # Fakes have no random state that could be preserved.
            enable_checkpointing(self.model, preserve_rng_state=False)

    def loss(self) -> Tensor:
        """Forward pass in the run's precision; nothing else of its output is kept."""
        with autocast("cpu", self.precision):
            loss: Tensor = self.model(**self.batch).loss
        return loss


def autocast(device_type: str, precision: Precision) -> torch.autocast:
    """The context a forward pass of this precision runs in."""
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    return torch.autocast(device_type, dtype=kind, enabled=kind is not None)


def enable_checkpointing(model: Any, **options: Any) -> None:
    """Recompute activations in the backward pass, as the trainer sets it up."""
    with warnings.catch_warnings():
        # Renamed in transformers 5.23, absent under its new name in 5.17.
        warnings.simplefilter("ignore", FutureWarning)
        model.gradient_checkpointing_enable({"use_reentrant": False, **options})


class _WholePool:
    """Stands in for the gathering of embeddings: those of other devices and micro-batches have the same shapes."""

    def __init__(self, copies: int) -> None:
        self.copies = copies
        self.used = False

    def __call__(self, embeddings: Mapping[str, Tensor]) -> dict[str, Tensor]:
        self.used = True
        return {name: torch.cat([rows] * self.copies) for name, rows in embeddings.items()}


def _as_on_accelerator(config: Any) -> Any:
    """The configuration with choices that are made by device made as on a GPU.

    There is one: which form of cross-pattern attention is computed, see ``ecg_hf.nn.cropa.factorised_is_faster``.
    """
    config = copy.deepcopy(config)
    if getattr(config, "attention_layout", None) == "auto":
        config.attention_layout = "masked"
    return config


def _fill(model: nn.Module) -> None:
    """Give a model on the meta device fake weights on the CPU; called with the mode of the fakes on."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(
        True
    )  # fakes can't be put into existing parameters
    try:
        model._apply(lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu"))
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)
