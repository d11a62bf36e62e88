"""Rows 53-65 of the project's table of bad inputs: leads, flat or clipped signals, shapes and types of arrays.

The number in each test's name is the row.
"""

from __future__ import annotations

import numpy as np
import pytest

from ecg_hf.errors import AmbiguousLayoutError, EcgError, LeadError, MetadataMissing, SignalError
from ecg_hf.signal import (
    STANDARD_LEADS,
    arrange_leads,
    check_quality,
    normalize_lead_names,
    read_record,
    record_from_array,
)

from .conftest import codes, ecg_like


@pytest.mark.parametrize("written", ["AVR", "aVR", "avr", "Lead aVR", "aVR (aug)", "MDC_ECG_LEAD_AVR"])
def test_row_53_spellings(make_record, written):
    """The whole table is in test_leads.py; here the row's own spellings go through a file."""
    names = [written if name == "aVR" else name for name in STANDARD_LEADS]
    assert read_record(make_record(names=tuple(names)).write()).lead_names == STANDARD_LEADS
    assert normalize_lead_names(names) == STANDARD_LEADS


def test_row_54_duplicate_lead(make_record):
    with pytest.raises(LeadError, match="I occurs more than once"):
        read_record(make_record(names=("I", "lead i", *STANDARD_LEADS[2:])).write())


def test_row_55_lead_names_absent(make_record):
    path = make_record(tail="").write()
    with pytest.raises(MetadataMissing, match="lead_names"):
        read_record(path)
    assert read_record(path, lead_names=STANDARD_LEADS).lead_names == STANDARD_LEADS
    with pytest.raises(LeadError, match="11 lead names"):
        read_record(path, lead_names=STANDARD_LEADS[:11])


def test_row_56_mimic_order(make_record):
    mimic = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")
    digital = ecg_like()
    stored = digital[[STANDARD_LEADS.index(name) for name in mimic]]
    record = read_record(make_record(stored, names=mimic).write())
    assert record.lead_names == mimic
    assert record.notes == ()
    assert np.array_equal(record.select_leads(STANDARD_LEADS).signal, digital.astype(np.float32) / 1000)
    # Labelled in the standard order instead, the exchange shows in the limb-lead equations.
    swapped = read_record(make_record(stored).write())
    assert codes(swapped) == {"limb_leads_inconsistent"}


def test_row_57_eight_leads(make_record):
    digital = ecg_like()
    names = ("I", "II", *STANDARD_LEADS[6:])
    record = read_record(make_record(digital[[0, 1, *range(6, 12)]], names=names).write())
    full = record.select_leads(STANDARD_LEADS)
    assert full.derived_leads == ("III", "aVR", "aVL", "aVF")
    assert np.allclose(full.signal, digital / 1000, atol=1e-6)
    two = read_record(make_record(digital[:2], names=("I", "II")).write())
    with pytest.raises(LeadError, match="V6"):
        two.select_leads(("I", "V6"))


def test_row_58_missing_chest_lead_is_masked():
    signal = ecg_like()[:11].astype(np.float32)
    arranged, present, derived = arrange_leads(signal, STANDARD_LEADS[:11], STANDARD_LEADS)
    assert present.tolist() == [True] * 11 + [False]
    assert derived == ()
    assert not arranged[11].any()


def test_row_59_fifteen_leads(make_record):
    names = (*(name.lower() for name in STANDARD_LEADS), "vx", "vy", "vz")
    digital = np.concatenate([ecg_like(), ecg_like(leads=3)])
    record = read_record(make_record(digital, names=names).write())
    assert record.lead_names == (*STANDARD_LEADS, "vx", "vy", "vz")
    assert np.array_equal(record.select_leads(STANDARD_LEADS).signal, record.signal[:12])


@pytest.mark.parametrize("swap", [(0, 1), (1, 2), (4, 5), (3, 4)])
def test_row_60_limb_leads_exchanged(swap):
    signal = ecg_like().astype(np.float32) / 1000
    names = list(STANDARD_LEADS)
    names[swap[0]], names[swap[1]] = names[swap[1]], names[swap[0]]
    assert {note.code for note in check_quality(signal, 500.0, names)} == {"limb_leads_inconsistent"}
    assert check_quality(signal, 500.0, STANDARD_LEADS) == ()


@pytest.mark.parametrize("level", [0, 1234, -32767])
def test_row_61_flat(make_record, level):
    digital = ecg_like()
    digital[8] = level
    record = read_record(make_record(digital).write(), thorough=True)
    assert ("flat_lead", "V3") in {(note.code, note.lead) for note in record.notes}
    assert np.isfinite(record.signal).all()
    with np.errstate(all="raise"):
        record = read_record(make_record(np.full((12, 5000), level, np.int16)).write(), thorough=True)
    assert "all_flat" in codes(record)
    assert np.isfinite(record.signal).all()


@pytest.mark.parametrize("rail", [32767, -32767, 4000])
def test_row_62_clipping(make_record, rail):
    digital = ecg_like().astype(np.int64) * (12 if abs(rail) > 32000 else 4)
    digital[9] *= 3
    limit = abs(rail)
    digital[9, 2000:2050] = rail
    digital = np.clip(digital, -limit, limit).astype(np.int16)
    record = read_record(make_record(digital, gain="10000/mV" if limit > 32000 else "1000/mV").write())
    assert ("clipping", "V4") in {(note.code, note.lead) for note in record.notes}
    assert "clipping" not in codes(read_record(make_record().write()))


METADATA = {"sampling_rate": 500, "lead_names": STANDARD_LEADS, "unit": "mV"}


def test_row_63_layout():
    signal = ecg_like().astype(np.float32) / 1000
    for array, layout in (
        (signal, None),
        (signal.T, None),
        (signal.T, "samples_first"),
        (signal, "leads_first"),
    ):
        assert np.array_equal(record_from_array(array, layout=layout, **METADATA).signal, signal)
    square = signal[:, :12]
    with pytest.raises(AmbiguousLayoutError, match="layout"):
        record_from_array(square, **METADATA)
    assert np.array_equal(record_from_array(square, layout="samples_first", **METADATA).signal, square.T)
    for shape in ((12,), (2, 12, 100), ()):
        with pytest.raises(SignalError):
            record_from_array(np.zeros(shape), **METADATA)
    for shape in ((11, 100), (100, 13)):
        with pytest.raises(LeadError):
            record_from_array(np.zeros(shape), **METADATA)
    with pytest.raises(LeadError):
        record_from_array(signal, layout="samples_first", **METADATA)
    with pytest.raises(EcgError, match="layout must be"):
        record_from_array(signal, layout="channels_last", **METADATA)


@pytest.mark.parametrize("samples", [1, 2, 3, 49, 2500, 4999, 30000])
def test_row_64_any_length(make_record, samples):
    record = read_record(make_record(ecg_like(samples=samples)).write(), thorough=True)
    assert record.signal.shape == (12, samples)
    assert np.isfinite(record.signal).all()


def test_row_64_no_samples():
    with pytest.raises(SignalError, match="no samples"):
        record_from_array(np.zeros((12, 0)), **METADATA)


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i2", ">i2", ">f8", "u1", "i8", "i4"])
def test_row_65_real_types(dtype):
    values = np.abs(ecg_like() // 12).astype(dtype)
    values.flags.writeable = False
    before = values.copy()
    record = record_from_array(values, **METADATA | {"unit": "uV"})
    assert np.allclose(record.signal, before.astype(np.float64) / 1000, rtol=1e-3)
    assert np.array_equal(values, before)
    strided = np.asfortranarray(values)[:, ::2]
    assert np.array_equal(
        record_from_array(strided, **METADATA | {"unit": "uV"}).signal, record.signal[:, ::2]
    )


@pytest.mark.parametrize("dtype", [object, complex, bool, "S3"])
def test_row_65_other_types(dtype):
    with pytest.raises(SignalError, match="can't be an ECG"):
        record_from_array(np.zeros((12, 100)).astype(dtype), **METADATA)
