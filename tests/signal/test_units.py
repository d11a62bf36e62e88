from __future__ import annotations

import pytest

from ecg_hf.errors import UnknownUnit
from ecg_hf.signal import millivolts_per_unit


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        ("mV", 1.0), ("mv", 1.0), (" mV ", 1.0), ("uV", 1e-3), ("UV", 1e-3), ("\u00b5V", 1e-3), ("\u03bcV", 1e-3),
        ("V", 1e3), ("v", 1e3), ("nV", 1e-6), ("millivolts", 1.0), ("microvolt", 1e-3), ("Volts", 1e3),
    ],
)  # fmt: skip
def test_voltages(unit, factor):
    assert millivolts_per_unit(unit) == factor


@pytest.mark.parametrize("unit", ["furlong", "", "MV", "NV", 5, None, ["mV"], "mmHg", "NU", "adu", "m V"])
def test_everything_else_is_refused(unit):
    with pytest.raises(UnknownUnit):
        millivolts_per_unit(unit)
