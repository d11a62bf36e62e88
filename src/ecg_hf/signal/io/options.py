"""What the caller of a reader states about a recording, checked once before any file is opened."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from ecg_hf.errors import ConfigurationError, LeadError
from ecg_hf.signal.io.paths import local_path
from ecg_hf.signal.leads import normalize_lead_names
from ecg_hf.signal.units import checked_sampling_rate, millivolts_per_unit

__all__ = ["ReadOptions"]


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """Arguments of :func:`ecg_hf.signal.io.reading.read_record` that every reader takes.

    Raises:
        EcgError: for values of the wrong type or range, which would surface as other exceptions further on.
    """

    sampling_rate: float | None
    lead_names: Sequence[str] | None
    leads: Sequence[str] | None
    unit: str | None
    verify_checksum: bool
    root: str | os.PathLike[str] | None
    max_samples: int

    def __post_init__(self) -> None:
        limit = self.max_samples
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
            raise ConfigurationError(
                f"max_samples must be a positive integer, got {limit!r:.40}", value=limit
            )
        if self.root is not None:
            local_path(self.root)
        if self.sampling_rate is not None:
            object.__setattr__(self, "sampling_rate", checked_sampling_rate(self.sampling_rate))
        if self.unit is not None:
            millivolts_per_unit(self.unit)
        for field in ("lead_names", "leads"):
            names = getattr(self, field)
            if names is None:
                continue
            object.__setattr__(self, field, normalize_lead_names(names))
            if not getattr(self, field):
                raise LeadError(f"{field} is an empty list")
