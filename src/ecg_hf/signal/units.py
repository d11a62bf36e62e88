"""Units: amplitudes are in millivolts, sampling rates in hertz."""

from __future__ import annotations

from functools import lru_cache

from ecg_hf.errors import SamplingRateError, UnknownUnit

__all__ = [
    "MAX_SAMPLING_RATE_HZ",
    "checked_sampling_rate",
    "is_dimensionless",
    "is_voltage",
    "millivolts_per_unit",
]

MAX_SAMPLING_RATE_HZ = 100_000.0

_MILLIVOLTS = {"v": 1e3, "mv": 1.0, "uv": 1e-3, "nv": 1e-6}
_SPELLED = {"volt": "v", "millivolt": "mv", "microvolt": "uv", "nanovolt": "nv"}
# MICRO SIGN and GREEK SMALL LETTER MU look alike; both are in use.
_MICRO = str.maketrans({"\u00b5": "u", "\u03bc": "u"})
# A capital M is mega; NV is how the Challenge 2015 headers write "no unit" for a plethysmogram.
_NOT_VOLTAGES = ("MV", "NV")
_DIMENSIONLESS = {
    "", "-", "?", "1", "nu", "nd", "n/a", "none", "unknown", "adu", "a.u.", "au", "count", "counts", "lsb", "adc",
}  # fmt: skip


def millivolts_per_unit(unit: str) -> float:
    """How many millivolts one ``unit`` is.

    Accepts V, mV, uV, µV (both code points), nV and the spelled-out names, in any case, except that the
    capitals of ``MV`` and ``NV`` are not read as milli and nano.

    Raises:
        UnknownUnit: for any other unit.
    """
    if not isinstance(unit, str):
        raise UnknownUnit(f"unit must be a name such as 'mV', got {type(unit).__name__}", value=unit)
    return _millivolts_per_unit(unit)


@lru_cache(maxsize=256)
def _millivolts_per_unit(unit: str) -> float:
    text = unit.strip().translate(_MICRO)
    key = text.lower()
    key = _SPELLED.get(key.removesuffix("s"), key)
    if key not in _MILLIVOLTS or text.startswith(_NOT_VOLTAGES):
        raise UnknownUnit(f"unit {unit[:32]!r} is not a voltage (V, mV, uV, nV)", value=unit)
    return _MILLIVOLTS[key]


def is_voltage(unit: str) -> bool:
    """Whether :func:`millivolts_per_unit` knows ``unit``."""
    try:
        millivolts_per_unit(unit)
    except UnknownUnit:
        return False
    return True


def is_dimensionless(unit: str) -> bool:
    """Whether ``unit`` says that none is known (``NU``, ``adu``): one given by the caller may stand in."""
    return unit.strip().lower() in _DIMENSIONLESS


def checked_sampling_rate(value: object) -> float:
    """``value`` as a rate in hertz.

    Raises:
        SamplingRateError: if it is not a number in (0, 100000].
    """
    try:
        rate = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise SamplingRateError(f"sampling rate must be a number, got {value!r:.40}", value=value) from None
    if isinstance(value, bool) or not 0.0 < rate <= MAX_SAMPLING_RATE_HZ:
        raise SamplingRateError(f"sampling rate must be in (0, 100000] Hz, got {rate:g}", value=rate)
    return rate
