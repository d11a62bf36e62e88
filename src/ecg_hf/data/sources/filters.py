"""Rules on samples by which a source may leave recordings out: asked for by name, counted by name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import ConfigurationError
from ecg_hf.signal.io.digital import DigitalRecord

__all__ = ["ECG_JEPA_FILTERS", "has_missing_samples", "parse_filters", "starts_with_zeros"]

ECG_JEPA_FILTERS = ("nan", "zero_start")
"""What the authors of ECG-JEPA leave out of their pretraining data."""


def parse_filters(value: object, known: Sequence[str]) -> tuple[str, ...]:
    """Names of the filters in an option such as ``"nan,zero_start"``, in the order of ``known``.

    ``""`` and ``"none"`` select none; ``"ecg-jepa"`` stands for those of :data:`ECG_JEPA_FILTERS` that are known.

    Raises:
        ConfigurationError: if a name is not known.
    """
    if not isinstance(value, str):
        raise ConfigurationError(f"drop must be names of filters, got {value!r}", value=value)
    names: set[str] = set()
    for name in value.replace(" ", "").split(","):
        if name == "ecg-jepa":
            names.update(ECG_JEPA_FILTERS)
        elif name not in ("", "none"):
            names.add(name)
    unknown = sorted(names - {*known, *ECG_JEPA_FILTERS})
    if unknown:
        raise ConfigurationError(
            f"no filter is named {unknown[0]!r} (known: {', '.join(known)}, ecg-jepa, none)", value=value
        )
    return tuple(name for name in known if name in names)


def has_missing_samples(ecg: DigitalRecord) -> bool:
    """Whether any sample of any lead is declared missing (NaN once it is in millivolts)."""
    if ecg.samples.dtype.kind == "f":
        return bool(np.isnan(ecg.samples).any())
    return ecg.invalid is not None and bool((ecg.samples == ecg.invalid).any())


def starts_with_zeros(
    samples: npt.NDArray[np.generic], count: int, baseline: npt.NDArray[np.int32] | None = None
) -> bool:
    """Whether the first ``count`` samples of all leads are 0 mV: zero padding, or an amplifier not yet on.

    Args:
        samples: ``(leads, samples)``.
        count: How many samples to look at.
        baseline: Digital value of 0 mV per lead; 0 if not given.
    """
    zero = 0 if baseline is None else baseline[:, None]
    return samples.shape[1] >= count and bool((samples[:, :count] == zero).all())
