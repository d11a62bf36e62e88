"""Amplitude scales of a whole data set: mean and standard deviation of each lead, measured once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import ConfigurationError, SignalError
from ecg_hf.processing.backend import Array, ArrayBackend
from ecg_hf.processing.feature_extraction import EcgFeatureExtractor
from ecg_hf.processing.options import Numbers, Rule
from ecg_hf.processing.plausibility import MAX_HALF

__all__ = ["LeadStatisticsFeatureExtractor", "lead_statistics"]

# Millivolts: a data set varies more than the rounding of its recordings.
_MIN_DEVIATION = 1e-4


class LeadStatisticsFeatureExtractor(EcgFeatureExtractor):
    """Leads on the scale of a data set, if that is given; otherwise each lead of each record on its own.

    Args:
        mean: Millivolts to subtract from each lead, in the order of ``lead_names``, such as those of
            :func:`lead_statistics`.
        std: Millivolts to divide each lead by, likewise; both or none.
        kwargs: Of :class:`~ecg_hf.processing.EcgFeatureExtractor`. ``normalization`` is ``"zscore_lead"`` by default,
            with ``mean`` and ``std`` ``"none"``, which is all that they go with.

    Raises:
        ConfigurationError: Also if ``mean`` and ``std`` are not one number for each lead.
    """

    option_rules: ClassVar[Mapping[str, Rule]] = {
        **EcgFeatureExtractor.option_rules,
        "mean": Numbers(-MAX_HALF, MAX_HALF),
        "std": Numbers(_MIN_DEVIATION, MAX_HALF),
    }

    def __init__(
        self, mean: Sequence[float] | None = None, std: Sequence[float] | None = None, **kwargs: Any
    ) -> None:
        self.mean = mean
        self.std = std
        normalization = "zscore_lead" if mean is None and std is None else "none"
        super().__init__(**{"normalization": normalization, **kwargs})

    @property
    def normalization_step(self) -> str:
        """The normalisation in words."""
        if self.mean is None:
            return super().normalization_step
        return "of each lead by its mean and deviation in the data set"

    def check_configuration(self) -> None:
        """Check all options, see the base class."""
        super().check_configuration()
        if self.mean is None and self.std is None:
            return
        leads = len(self.lead_names)
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is None or len(values) != leads:
                found = "none" if values is None else len(values)
                raise ConfigurationError(
                    f"mean and std must have a number for each of {leads} leads, {name} has {found}",
                    value=values,
                )
        if self.normalization != "none":
            raise ConfigurationError(
                f"mean and std are a normalisation of their own: normalization must be none, got "
                f"{self.normalization}",
                value=self.normalization,
            )

    def _normalized(
        self,
        signal: Array,
        lead_mask: npt.NDArray[np.bool_],
        backend: ArrayBackend,
        extremes: tuple[Array, Array] | None,
    ) -> Array:
        if self.mean is not None:
            signal = signal - backend.constant(np.asarray(self.mean, np.float32)[:, None])
            signal = signal / backend.constant(np.asarray(self.std, np.float32)[:, None])
            extremes = None
        return super()._normalized(signal, lead_mask, backend, extremes)


def lead_statistics(
    records: Iterable[Any], extractor: LeadStatisticsFeatureExtractor
) -> dict[str, list[float]]:
    """Mean and population standard deviation of each lead over all samples of some records, in millivolts.

    Args:
        records: What the extractor takes, one record at a time, such as the training records of a data set.
        extractor: Its rate, leads, filters and length are those in which the signals are measured.

    Returns:
        ``mean`` and ``std``, to be given to an extractor of the same kind.

    Raises:
        SignalError: A lead is missing in all records, or does not vary.
    """
    options = {**extractor.to_dict(), "normalization": "none", "clip": None, "mean": None, "std": None}
    plain = type(extractor)(**{**options, "return_sample_mask": True})
    count, total, squares = (np.zeros(len(plain.lead_names)) for _ in range(3))
    for record in records:
        made = plain(record, return_tensors="np")
        held = made["lead_mask"][..., None] * made["sample_mask"][:, None, :].astype(np.float64)
        values = made["input_values"] * held
        count += held.sum((0, 2))
        total += values.sum((0, 2))
        squares += np.square(values).sum((0, 2))
    # Of signals in millivolts around zero: the difference of squares keeps its digits in float64.
    mean = total / np.maximum(count, 1.0)
    std = np.sqrt(np.maximum(squares / np.maximum(count, 1.0) - np.square(mean), 0.0))
    for name, deviation in zip(plain.lead_names, std, strict=True):
        if deviation < _MIN_DEVIATION:
            raise SignalError(f"lead {name} is missing or does not vary in any of the records", value=name)
    return {"mean": mean.tolist(), "std": std.tolist()}
