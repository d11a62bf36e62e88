"""Gradient accumulation that is exact for contrastive losses.

Accumulating micro-batches gives the gradient of one big batch only when the loss is a mean over
rows. A contrastive loss isn't: with G micro-batches of B rows each row sees B - 1 negatives instead
of G * B - 1. Here it sees them all, at the price of one extra forward pass without gradient:

1. Before the first micro-batch of an optimiser step every micro-batch runs once without gradient and
   its contrastive embeddings are kept.
2. In each live micro-step the loss is computed over the embeddings of all micro-batches; those of the
   others are constants, those of this one carry gradient.

With ``L(h_1 .. h_G, t)`` the loss over the embeddings of all micro-batches and parameters ``t`` that
enter it directly (a temperature), live micro-step g gives ``dL/dh_g dh_g/dw + dL/dt``. The trainer
divides every loss by G, so the own embeddings' gradient is multiplied by G beforehand and the sum is
``sum_g dL/dh_g dh_g/dw + dL/dt``: the gradient of the big batch. The same idea, without the constants'
bookkeeping inside a model, is known as gradient caching (Gao et al. 2021, arXiv 2101.06983).

Dropout: both passes of a micro-batch replay one random state, so the constants are what the live pass
computes. Modules that update buffers in forward (batch norm) get them restored after the first pass;
note that batch norm itself is not a function of rows and stays inexact under any accumulation. With
``torch_compile`` the two passes are different graphs and may drop different units; the constants are
then a second sample of the same embeddings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ecg_hf.errors import ConfigurationError

__all__ = ["ContrastivePool", "ExactAccumulation", "scale_gradient"]

Embeddings = dict[str, Tensor]


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.factor, None


def scale_gradient(values: Tensor, factor: float) -> Tensor:
    """The values themselves; their gradient is multiplied by ``factor`` on the way back."""
    scaled: Tensor = _ScaleGradient.apply(values, factor)
    return scaled


class ContrastivePool:
    """Stands in for a model's ``pool_embeddings`` and adds the rows of the other micro-batches.

    A model may call it several times in one forward pass (one call per contrastive loss); calls are told
    apart by their order.

    Args:
        gather: The model's own ``pool_embeddings``: what joins the rows of all processes.
    """

    def __init__(self, gather: Callable[[Embeddings], Embeddings]) -> None:
        self.gather = gather
        self._calls = 0
        self._recording: list[Embeddings] | None = None
        self._constants: list[list[Embeddings]] = []
        self._live: int | None = None

    def __call__(self, embeddings: Embeddings) -> Embeddings:
        """The pool of contrastive embeddings, ``{name: (rows of all processes and micro-batches, dim)}``."""
        # Python state changes between calls: nothing a compiled graph may bake in.
        pool: Embeddings = torch.compiler.disable(self._pool)(embeddings)
        return pool

    def _pool(self, embeddings: Embeddings) -> Embeddings:
        call, self._calls = self._calls, self._calls + 1
        if self._recording is not None:
            self._recording.append({name: value.detach() for name, value in embeddings.items()})
            return embeddings
        if self._live is None:
            return self.gather(embeddings)
        micro_batches = len(self._constants)
        if call >= len(self._constants[self._live]):
            raise ConfigurationError(
                "exact_accumulation: the model asked for more contrastive pools in the second pass than in the first"
            )
        joined = {}
        for name, own in embeddings.items():
            parts = [constants[call][name] for constants in self._constants]
            parts[self._live] = scale_gradient(own, micro_batches) if own.requires_grad else own
            joined[name] = torch.cat(parts)
        return self.gather(joined)

    def record(self, forward: Callable[[], object]) -> list[Embeddings]:
        """Run ``forward`` and return what it passed to the pool, one entry per call."""
        self._calls, self._recording = 0, []
        try:
            forward()
            return self._recording
        finally:
            self._recording = None

    def go_live(self, constants: list[list[Embeddings]], micro: int) -> None:
        """Join the embeddings of micro-batch ``micro`` with the ``constants`` of the others."""
        self._constants, self._live, self._calls = constants, micro, 0

    def rest(self) -> None:
        """Behave as the model's own ``pool_embeddings`` again."""
        self._constants, self._live, self._calls = [], None, 0


class ExactAccumulation:
    """The two passes over the micro-batches of one optimiser step.

    Args:
        model: The bare model (not wrapped for distribution) whose ``pool_embeddings`` is replaced while
            this object is installed.
        device: Device of the model, whose random state is replayed beside the CPU's.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.model = model
        self.device = device
        self.pool = ContrastivePool(model.pool_embeddings)  # type: ignore[arg-type]
        self._constants: list[list[Embeddings]] = []
        self._random_states: list[tuple[Tensor, Tensor | None]] = []

    @staticmethod
    def supports(model: nn.Module) -> bool:
        """Whether the model has contrastive embeddings to pool."""
        return callable(getattr(model, "pool_embeddings", None))

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Put the pool in place of the model's ``pool_embeddings``, and the original back afterwards."""
        model: Any = self.model
        model.pool_embeddings = self.pool
        try:
            yield
        finally:
            model.pool_embeddings = self.pool.gather

    def first_pass(self, forwards: Sequence[Callable[[], object]]) -> None:
        """Collect the contrastive embeddings of all micro-batches, without gradient.

        Args:
            forwards: Runs micro-batch ``g`` through the (wrapped) model, in training mode.
        """
        self._constants, self._random_states = [], []
        buffers = [(buffer, buffer.clone()) for buffer in self.model.buffers()]
        with torch.no_grad():
            for forward in forwards:
                self._random_states.append(self._random_state())
                self._constants.append(self.pool.record(forward))
            for buffer, before in buffers:
                buffer.copy_(before)
        if not any(
            self._constants
        ):  # no contrastive loss in this configuration: nothing to add in the live pass
            self._constants = []

    @property
    def needed(self) -> bool:
        """Whether the last first pass found contrastive embeddings."""
        return bool(self._constants)

    @contextmanager
    def live(self, micro: int) -> Iterator[None]:
        """The live pass of micro-batch ``micro``, forward and backward."""
        self._set_random_state(self._random_states[micro])
        if self._constants:
            self.pool.go_live(self._constants, micro)
        try:
            yield
        finally:
            self.pool.rest()

    def _random_state(self) -> tuple[Tensor, Tensor | None]:
        if self.device.type == "cpu":
            return torch.get_rng_state(), None
        return torch.get_rng_state(), torch.get_device_module(self.device).get_rng_state()

    def _set_random_state(self, state: tuple[Tensor, Tensor | None]) -> None:
        torch.set_rng_state(state[0])
        if state[1] is not None:
            torch.get_device_module(self.device).set_rng_state(state[1])
