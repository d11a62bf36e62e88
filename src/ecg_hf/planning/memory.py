"""Memory of a training step: what lies there throughout, and what a step adds."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ecg_hf.data.feature import STORAGE_DTYPES
from ecg_hf.data.schema import SourceRow, rows_to_batch
from ecg_hf.data.sources.synthetic import Synthetic
from ecg_hf.errors import ConfigurationError

__all__ = [
    "PROCESS_BYTES",
    "CheckpointBytes",
    "LiveBytes",
    "StaticMemory",
    "StoredRecords",
    "checkpoint_bytes",
    "static_memory",
]

PROCESS_BYTES = 700 * 2**20
"""What Python and the libraries take in a process that trains on the processor, before any model is made."""

_FLOAT32 = 4
_STEP_COUNT = 4  # AdamW keeps the number of steps of each tensor, a float32 scalar


@dataclass(frozen=True, slots=True)
class StaticMemory:
    """Bytes on each device that do not depend on the batch.

    Attributes:
        weights: Parameters and buffers.
        gradients: Of trainable parameters, float32.
        optimizer: AdamW's two moments of trainable parameters, float32, and its step counts.
        communication: Buckets of DistributedDataParallel: a second copy of the gradients, with several processes.
    """

    weights: int
    gradients: int
    optimizer: int
    communication: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.optimizer + self.communication


def static_memory(model: nn.Module, processes: int = 1) -> StaticMemory:
    """What a model and its training take on each device; every process holds all of it (no FSDP).

    Args:
        model: On any device, frozen as it will be trained.
        processes: How many train together.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    moving = sum(parameter.numel() for parameter in trainable) * _FLOAT32
    held = [*model.parameters(), *model.buffers()]
    return StaticMemory(
        weights=sum(tensor.numel() * tensor.element_size() for tensor in held),
        gradients=moving,
        optimizer=2 * moving + _STEP_COUNT * len(trainable),
        communication=moving if processes > 1 else 0,
    )


class LiveBytes(TorchDispatchMode):
    """Follows the memory of tensors made inside, real or fake: how much is alive now, and how much was at most.

    Bytes are those of the storages tensors ask for. An allocator rounds them up and keeps pieces in reserve, and
    kernels have workspaces of their own: neither is seen here.

    Args:
        existing: Tensors whose memory is not to be counted, such as weights and inputs.

    Attributes:
        now: Bytes alive.
        peak: Most bytes alive so far.
    """

    def __init__(self, existing: Sequence[Tensor] = ()) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()
        # Held, so that no new storage can take the place of a known one.
        self._existing = [tensor.untyped_storage() for tensor in existing]
        self._known.update(storage._cdata for storage in self._existing)

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata in self._known:
            return
        self._known.add(storage._cdata)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._remove, storage._cdata, storage.nbytes())

    def _remove(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._add(leaf)
        return out


_SAMPLED = 64  # simulated records whose other columns are measured


@dataclass(frozen=True, slots=True)
class StoredRecords:
    """Recordings as a dataset stores them: 16-bit samples at the recorder's own rate, all leads.

    Attributes:
        sampling_rate: Hertz.
        seconds: Length.
        leads: Stored leads.

    Raises:
        ConfigurationError: if one is not positive.
    """

    sampling_rate: float = 500.0
    seconds: float = 10.0
    leads: int = 12

    def __post_init__(self) -> None:
        """Refuse what can't be stored."""
        for name in ("sampling_rate", "seconds", "leads"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigurationError(
                    f"{name} of stored records must be positive, got {getattr(self, name)}"
                )

    @property
    def sample_bytes(self) -> int:
        """Bytes of the samples of one record."""
        samples = round(self.sampling_rate * self.seconds)
        return self.leads * samples * STORAGE_DTYPES["int16"].itemsize

    @property
    def record_bytes(self) -> float:
        """Bytes of one row: samples, and what all other columns of simulated records take."""
        return self.sample_bytes + _other_columns()


@cache
def _other_columns() -> float:
    """Bytes per row of everything but samples, from rows built as a source builds them."""
    source = Synthetic(records=_SAMPLED)
    rows = [row for row in source.read_many(source.plan().entries) if isinstance(row, SourceRow)]
    samples = sum(row.ecg.samples.nbytes for row in rows)
    return float(rows_to_batch(rows, source.info.name).nbytes - samples) / len(rows)


@dataclass(frozen=True, slots=True)
class CheckpointBytes:
    """Bytes of what training writes.

    Attributes:
        weights: A model folder: parameters and saved buffers.
        checkpoint: One checkpoint: a model folder and the optimiser's state.
    """

    weights: int
    checkpoint: int


def checkpoint_bytes(model: nn.Module) -> CheckpointBytes:
    """Sizes of the files, headers of some kilobytes aside.

    Args:
        model: On any device, frozen as it will be trained.
    """
    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    return CheckpointBytes(weights, weights + static_memory(model).optimizer)
