"""Clinical and watch files that tests read: those in the repository, and further ones beside a checkout."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import ROOT, SHARED

RECORDINGS = ROOT / "tests" / "recordings" / "clinical"
MARKERS = ("ZZTESTNAME", "ZZFIRST", "ZZ000001", "ZZDOCTOR", "ZZHOSPITAL", "Clark")
LIBRARIES = {"dicom": "pydicom", "edf": "edfio", "scp_ecg": "ecgdatakit"}
SMALL = {
    "alivecor_atc": "one_lead.atc",
    "apple_health": "ecg_de_decimal_comma.csv",
    "dicom": "ecgtoolkit_12lead.dcm",
    "edf": "ptbxl_1_edfplus.edf",
    "ge_muse": "muse7_250hz.xml",
    "hl7_aecg": "amps_3lead.xml",
    "ishne": "holter_12lead_gap.ecg",
    "mortara": "eli_12lead.xml",
    "philips_sierra": "sierra_1_03.xml",
    "schiller": "sema_rest.xml",
    "scp_ecg": "raw_8lead.scp",
}
"""One file of each format that is in the repository."""


def clinical_files() -> list[Path]:
    """Every file with expected values; those beside the checkout only where they are not in the repository."""
    kept = sorted(RECORDINGS.glob("*/*.expected.json"))
    names = {path.name for path in kept}
    further = [
        path
        for path in sorted((SHARED / "data" / "clinical").glob("*/*.expected.json"))
        if path.name not in names
    ]
    return [path.with_name(path.name.removesuffix(".expected.json")) for path in (*kept, *further)]


def expected_of(path: Path) -> dict[str, Any]:
    return json.loads(path.with_name(path.name + ".expected.json").read_text(encoding="utf-8"))


def need_library(path: Path | str) -> None:
    """Skip where the optional library of the file's format is not installed."""
    library = LIBRARIES.get(path.parent.name if isinstance(path, Path) else path)
    if library and importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")


def small(kind: str) -> bytes:
    need_library(kind)
    return (RECORDINGS / kind / SMALL[kind]).read_bytes()


def wanted_values(path: Path) -> dict[str, np.ndarray]:
    """Expected millivolts at ``positions``; NaN where there is no sample.

    The values beside the ATC file were multiplied in 16 bits and wrapped around: -184 counts of 500 nV are written
    down as -0.026464 mV and are -0.092 mV. What was lost is added back, so that all that is compared is right.
    """
    values = {
        lead: np.array([np.nan if value is None else value for value in row])
        for lead, row in expected_of(path)["values_mV"].items()
    }
    if path.suffix == ".atc":
        counts = np.frombuffer(path.read_bytes(), "<i2", 3000, 12 + 8 + 264 + 4 + 8 + 8 + 4 + 8)
        right = counts.astype(np.int64) * 500
        assert np.allclose(
            (right.astype(np.int16) / 1e6)[expected_of(path)["positions"]], values["I"], atol=1e-9
        )
        return {"I": right[expected_of(path)["positions"]] / 1e6}
    return values
