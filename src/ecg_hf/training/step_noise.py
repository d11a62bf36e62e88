"""Random numbers of a training step that depend on where training stands and on nothing else.

Masks, views and other noise are a function of ``(seed, optimiser step)``. A run that is killed and
resumed draws the same numbers as one that was never interrupted, and so does the same run spread
over another number of processes or micro-batches: the draw covers every row that enters the
optimiser step, and each process takes the rows it owns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ecg_hf.errors import ConfigurationError

__all__ = ["DrawsNoise", "StepRows", "draw_noise_rows", "seeded_generator"]


class DrawsNoise(Protocol):
    """What the trainer needs of a model that uses random numbers in its forward pass."""

    def draw_noise(
        self, batch: Mapping[str, Tensor], generator: torch.Generator, rows: int | None = None
    ) -> dict[str, Tensor]:
        """Every random number a step needs, as forward arguments with ``rows`` first."""
        ...


def seeded_generator(device: torch.device | str, *position: int | str) -> torch.Generator:
    """A generator on ``device`` whose state is a hash of ``position``.

    Args:
        device: Where the numbers are drawn. Numbers of different kinds of device differ.
        *position: For example ``(seed, "train", step)``. Neighbouring positions give unrelated streams,
            which adding them up to one seed would not.
    """
    digest = hashlib.blake2b(repr(position).encode(), digest_size=8).digest()
    generator = torch.Generator(device=device)
    generator.manual_seed(int.from_bytes(digest, "big") >> 1)  # 63 bits: what every backend accepts
    return generator


@dataclass(frozen=True, slots=True)
class StepRows:
    """How the rows of one optimiser step are spread over micro-batches and processes.

    The step's rows are numbered micro-batch by micro-batch and, inside one, process by process: the
    order in which accelerate's ``BatchSamplerShard`` deals batches out, hence the order the same rows
    would have in one big batch.

    Args:
        micro_rows: Rows of each micro-batch on one process (the same on every process).
        world_size: Number of processes.
        rank: This process.
    """

    micro_rows: tuple[int, ...]
    world_size: int = 1
    rank: int = 0

    @property
    def total(self) -> int:
        """Rows of the whole step, over all micro-batches and processes."""
        return self.world_size * sum(self.micro_rows)

    def own(self, micro: int) -> slice:
        """Rows of micro-batch ``micro`` of this process."""
        start = self.world_size * sum(self.micro_rows[:micro]) + self.rank * self.micro_rows[micro]
        return slice(start, start + self.micro_rows[micro])


def draw_noise_rows(
    model: DrawsNoise,
    batch: Mapping[str, Tensor],
    rows: StepRows,
    micro: int,
    device: torch.device,
    position: Sequence[int | str],
) -> dict[str, Tensor]:
    """Draw the noise of a whole step and keep the rows of one micro-batch of this process.

    Args:
        model: Owner of ``draw_noise``.
        batch: The micro-batch, on ``device``.
        rows: Layout of the step.
        micro: Index of the micro-batch in the step.
        device: Where to draw.
        position: Seeds the generator, see :func:`seeded_generator`.

    Returns:
        Extra forward arguments, first dimension ``rows.micro_rows[micro]``.

    Raises:
        ConfigurationError: The model drew something else than one row per record.
    """
    noise = model.draw_noise(batch, seeded_generator(device, *position), rows.total)
    own = rows.own(micro)
    for name, value in noise.items():
        if value.shape[0] != rows.total:
            raise ConfigurationError(
                f"{type(model).__name__}.draw_noise gave {value.shape[0]} rows of {name!r} instead of {rows.total}",
                value=name,
            )
    return {name: value[own] for name, value in noise.items()}
