"""Disk: of a built dataset, from its storage schema, and of checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from torch import nn

from ecg_hf.data.feature import STORAGE_DTYPES
from ecg_hf.data.schema import SourceRow, rows_to_batch
from ecg_hf.data.sources.synthetic import Synthetic
from ecg_hf.errors import ConfigurationError
from ecg_hf.training.planning.memory import static_memory

__all__ = ["CheckpointBytes", "StoredRecords", "checkpoint_bytes"]

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
