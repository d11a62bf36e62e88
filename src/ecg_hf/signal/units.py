"""Amplitude units: everything in this package is in millivolts."""

from __future__ import annotations

from functools import lru_cache

from ecg_hf.errors import UnknownUnit

__all__ = ["millivolts_per_unit"]

_MILLIVOLTS = {"v": 1e3, "mv": 1.0, "uv": 1e-3, "nv": 1e-6}
_SPELLED = {"volt": "v", "millivolt": "mv", "microvolt": "uv", "nanovolt": "nv"}
# MICRO SIGN and GREEK SMALL LETTER MU look alike; both are in use.
_MICRO = str.maketrans({"\u00b5": "u", "\u03bc": "u"})


@lru_cache(maxsize=256)
def millivolts_per_unit(unit: str) -> float:
    """How many millivolts one ``unit`` is.

    Accepts V, mV, uV, µV (both code points), nV and the spelled-out names, in any case, except that a
    capital M as in ``MV`` is not taken for milli.

    Raises:
        UnknownUnit: if it is none of these.
    """
    text = unit.strip().translate(_MICRO)
    key = text.lower()
    key = _SPELLED.get(key.removesuffix("s"), key)
    if key not in _MILLIVOLTS or text.startswith("MV"):
        raise UnknownUnit(f"unit {unit[:32]!r} is not a voltage (V, mV, uV, nV)", value=unit)
    return _MILLIVOLTS[key]
