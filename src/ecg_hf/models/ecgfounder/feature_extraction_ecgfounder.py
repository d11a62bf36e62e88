"""Feature extraction of ECGFounder: the published filters and one z-score for the whole record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from scipy.ndimage import median_filter

from ecg_hf.errors import ConfigurationError
from ecg_hf.processing.backend import Array, ArrayBackend
from ecg_hf.processing.feature_extraction import EcgFeatureExtractor
from ecg_hf.processing.options import Choice, Rule
from ecg_hf.signal.filtering import bandpass, notch

__all__ = ["EcgFounderFeatureExtractor"]

_NOTCH_HZ = 50.0
_BAND_HZ = (0.67, 40.0)
_BASELINE_S = 0.4


class EcgFounderFeatureExtractor(EcgFeatureExtractor):
    """12 leads (or lead I), 10 s at 500 Hz, filtered, each record with mean 0 and standard deviation 1.

    Args:
        filter: ``"published"``, the chain the authors' README insists on: a notch at 50 Hz, a Butterworth band-pass
            of order 4 from 0.67 to 40 Hz, both without phase shift, then minus the running median of 0.4 s. None, no
            filter, as the authors' own script for PTB-XL has it, which contradicts the README.
        kwargs: Of :class:`~ecg_hf.processing.EcgFeatureExtractor`, whose filters come before this one.

    Raises:
        ConfigurationError: if the rate is too low for the filter.

    Differs from official code (``dataset.py``, ``util.py`` of PKUDigitalHealth/ECGFounder): other rates are resampled
    with a polyphase filter, not by linear interpolation; other lengths are cut or padded, not stretched to 10 s;
    missing leads take no part in the mean and standard deviation.
    """

    option_rules: ClassVar[Mapping[str, Rule]] = {
        **EcgFeatureExtractor.option_rules,
        "filter": Choice(("published",), optional=True),
    }

    def __init__(self, filter: Literal["published"] | None = "published", **kwargs: Any) -> None:
        self.filter = filter
        super().__init__(**{"normalization": "zscore_record", "nan_policy": "zero", **kwargs})

    @property
    def filter_steps(self) -> list[str]:
        """What filters do, in their order, in words."""
        steps = super().filter_steps
        if self.filter is None:
            return steps
        low, high = _BAND_HZ
        return [
            *steps,
            f"notch {_NOTCH_HZ:g} Hz",
            f"band-pass {low:g}-{high:g} Hz",
            f"minus the running median of {_BASELINE_S:g} s",
        ]

    def check_configuration(self) -> None:
        """Check all options, see the base class; the filter needs more than twice the notch's frequency."""
        super().check_configuration()
        if self.filter is not None and self.sampling_rate <= 2 * _NOTCH_HZ:
            raise ConfigurationError(
                f"filter {self.filter!r} has a notch at {_NOTCH_HZ:g} Hz, for which {self.sampling_rate:g} Hz are "
                "too few; filter=None leaves it out",
                value=self.sampling_rate,
            )

    @property
    def slowest_hz(self) -> float | None:
        """Cut-off of the slowest filter."""
        own = [_BAND_HZ[0]] if self.filter is not None else []
        return min([*own, *([] if self.highpass_hz is None else [self.highpass_hz])], default=None)

    def _filtered(self, signal: Array, rate: float, backend: ArrayBackend) -> Array:
        signal = super()._filtered(signal, rate, backend)
        if self.filter is None:
            return signal
        clean = bandpass(notch(backend.to_numpy(signal), rate, _NOTCH_HZ), rate, *_BAND_HZ)
        # As scipy.signal.medfilt, which takes no batch and sorts every window anew: beyond the ends are zeros.
        width = int(_BASELINE_S * rate) + 1
        baseline = median_filter(clean, size=width, axes=(-1,), mode="constant")
        return backend.constant(clean - baseline)
