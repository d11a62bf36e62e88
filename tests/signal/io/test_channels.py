"""Which signals of a file are read as leads: names, units, ``lead_names`` and ``leads`` against each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ecg_hf.errors import (
    ConfigurationError,
    EcgError,
    LeadError,
    MetadataMissing,
    SamplingRateError,
    UnknownUnit,
)
from ecg_hf.signal import read_digital, read_record
from ecg_hf.signal.io.channels import choose_channels
from tests.signal.conftest import codes, ecg_like


def write(
    folder: Any, signals: list[tuple[str, str]], gain: str = "1000", samples: int = 500
) -> tuple[Any, Any]:
    """A format-16 record of named signals with units; ``-`` leaves the name away."""
    digital = ecg_like(max(len(signals), 2), samples)[: len(signals)]
    lines = [f"r {len(signals)} 500 {samples}"]
    for row, (name, unit) in zip(digital.astype(int), signals, strict=True):
        tail = "" if name == "-" else f" {name}"
        calibration = f"{gain}/{unit}" if unit else gain
        lines.append(f"r.dat 16 {calibration} 16 0 {row[0]} {row.sum() & 0xFFFF} 0{tail}")
    (folder / "r.hea").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "r.dat").write_bytes(digital.T.astype("<i2").tobytes())
    return folder / "r", digital / 1000


@pytest.mark.parametrize(
    ("signals", "leads"),
    [
        ([("II", "mV"), ("V", "mV"), ("ABP", "mmHg")], [0, 1]),
        ([("ABP", "mmHg"), ("II", "uV"), ("PLETH", "NU"), ("RESP", "pm")], [1]),
        ([("II", "mV"), ("V", "mV"), ("PLETH", "NV")], [0, 1]),  # Challenge 2015
        ([("ECG", "mV"), ("EMG", "mV"), ("foot GSR", "mV"), ("HR", "bpm"), ("RESP", "mV")], [0]),
        ([("ECG", "mV"), ("BP", "mmHg"), ("EEG (C4-A1)", "mV"), ("Resp (sum)", "l")], [0]),
        ([("MLII", "mV"), ("C4-A1", "uV"), ("O2-A1", "uV"), ("ROC-LOC", "uV"), ("EMG1-EMG2", "uV")], [0]),
        ([("C3", "uV"), ("O1", "uV"), ("ECG I", "uV")], [2]),
        ([("ECG1-ECG2", "uV"), ("SaO2", "%"), ("Nasal airflow", "mV")], [0]),
        ([("i", ""), ("vx", ""), ("ART", "")], [0, 1]),
        ([("ECG1", "mV"), ("Abdomen 1", "mV"), ("CO2", "V")], [0, 1]),
    ],
)
def test_voltages_are_kept_and_the_rest_is_noted(tmp_path, signals, leads):
    path, _ = write(tmp_path, signals)
    record = read_record(path)
    assert len(record.lead_names) == len(leads)
    everything = [line.split()[2] for line in (tmp_path / "r.hea").read_text().splitlines()[1:]]
    scale = [0.001 if text.endswith("uV") else 1.0 for text in everything]
    digital = np.fromfile(tmp_path / "r.dat", "<i2").reshape(-1, len(signals)).T
    for row, place in enumerate(leads):
        np.testing.assert_allclose(record.signal[row], digital[place] / 1000 * scale[place], atol=1e-6)
    noted = {note.lead for note in record.notes if note.code == "signal_left_out"}
    assert noted == {name for place, (name, _) in enumerate(signals) if place not in leads}


@pytest.mark.parametrize(
    "signals", [[("ABP", "mmHg")], [("EEG Fpz", "uV"), ("Trigger", "V")], [("RESP", "mV"), ("PLETH", "NU")]]
)
def test_nothing_but_other_signals(tmp_path, signals):
    path, _ = write(tmp_path, signals)
    with pytest.raises(LeadError, match=r"r\.hea: no voltage lead named as ECG .* choose with leads="):
        read_record(path)


def test_leads_chooses(tmp_path):
    path, _ = write(tmp_path, [("II", "mV"), ("V", "mV"), ("RESP", "mV"), ("ABP", "mmHg")])
    record = read_record(path, leads=["resp", "II"])
    assert record.lead_names == ("resp", "II")
    whole = read_digital(path)
    np.testing.assert_array_equal(read_digital(path, leads=["V"]).samples[0], whole.samples[1])
    with pytest.raises(UnknownUnit, match="mmHg"):
        read_record(path, leads=["II", "ABP"])
    with pytest.raises(LeadError, match="no signal V1: the file has II, V, RESP, ABP"):
        read_record(path, leads=["V1"])
    np.save(tmp_path / "a.npy", np.stack([np.arange(9.0), np.arange(9.0) + 1]))
    metadata = {"sampling_rate": 500, "lead_names": ["I", "II"], "unit": "mV"}
    assert read_record(tmp_path / "a.npy", leads=["II"], **metadata).signal[0, 0] == 1.0
    with pytest.raises(LeadError, match="V1"):
        read_record(tmp_path / "a.npy", leads=["V1"], **metadata)


def test_a_lead_in_a_wrong_unit_is_an_error(tmp_path):
    path, _ = write(tmp_path, [("II", "mV"), ("V1", "furlong")])
    with pytest.raises(UnknownUnit, match="furlong"):
        read_record(path)
    assert read_record(path, leads=["II"]).lead_names == ("II",)


@pytest.mark.parametrize("unit", ["NU", "adu", ""])
def test_the_caller_may_give_a_unit_where_none_is_known(tmp_path, unit):
    path, millivolts = write(tmp_path, [("I", unit), ("II", unit)])
    if unit:
        with pytest.raises(UnknownUnit):
            read_record(path)
    else:
        assert "unit_assumed" in codes(read_record(path))
    record = read_record(path, unit="uV")
    np.testing.assert_allclose(record.signal, millivolts / 1000, atol=1e-6)
    assert "unit_assumed" in codes(record)
    path, _ = write(tmp_path, [("I", "mV"), ("II", "mV")])
    with pytest.raises(MetadataMissing, match="contradicts"):
        read_record(path, unit="uV")


@pytest.mark.parametrize("names", [["ECG", "ECG"], ["ECG1", "ECG2"], ["-", "-"], ["I", "I"], ["ch 1", "II"]])
def test_lead_names_say_which_is_which(tmp_path, names):
    path, millivolts = write(tmp_path, [(name, "mV") for name in names])
    if len(set(names)) == 1:
        with pytest.raises(EcgError, match="pass lead_names"):
            read_record(path)
    record = read_record(path, lead_names=["I", "II"])
    assert record.lead_names == ("I", "II")
    np.testing.assert_allclose(record.signal, millivolts, atol=1e-6)
    assert ("lead_name_assumed" in codes(record)) == (names[0] != "-")


def test_lead_names_may_not_contradict_and_may_skip_what_is_left_out(tmp_path):
    path, _ = write(tmp_path, [("ECG", "mV"), ("ABP", "mmHg"), ("ECG", "mV")])
    assert read_record(path, lead_names=["I", "II"]).lead_names == ("I", "II")
    assert read_record(path, lead_names=["I", "ABP", "II"]).lead_names == ("I", "II")
    for names in (["I", "II", "III"], ["I"], ["I", "V1", "II", "III"]):
        with pytest.raises(LeadError):
            read_record(path, lead_names=names)
    path, _ = write(tmp_path, [("MLII", "mV"), ("V5", "mV")])
    with pytest.raises(LeadError, match="contradict"):
        read_record(path, lead_names=["II", "V5"])


def test_leads_that_resemble_others_are_noted(tmp_path):
    path, _ = write(
        tmp_path, [("MLII", "mV"), ("MCL1", "mV"), ("vx", "mV"), ("Y", "mV"), ("V", "mV"), ("II", "mV")]
    )
    record = read_record(path)
    assert record.lead_names == ("MLII", "MCL1", "vx", "Y", "V", "II")
    found = {(note.code, note.lead) for note in record.notes if note.code in ("lead_modified", "lead_frank")}
    assert found == {
        ("lead_modified", "MLII"),
        ("lead_modified", "MCL1"),
        ("lead_frank", "vx"),
        ("lead_frank", "Y"),
    }


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"sampling_rate": "fast"}, SamplingRateError),
        ({"sampling_rate": float("nan")}, SamplingRateError),
        ({"sampling_rate": [500]}, SamplingRateError),
        ({"sampling_rate": True}, SamplingRateError),
        ({"lead_names": "II"}, LeadError),
        ({"lead_names": 5}, LeadError),
        ({"lead_names": [["II"]]}, LeadError),
        ({"lead_names": []}, LeadError),
        ({"leads": "II"}, LeadError),
        ({"leads": []}, LeadError),
        ({"leads": ["II", "II"]}, LeadError),
        ({"unit": 5}, UnknownUnit),
        ({"unit": ["mV"]}, UnknownUnit),
        ({"max_samples": 0}, ConfigurationError),
        ({"max_samples": "many"}, ConfigurationError),
        ({"root": 5}, EcgError),
    ],
)
@pytest.mark.parametrize("suffix", ["hea", "npy", "csv"])
def test_every_wrong_argument_is_an_ecg_error(tmp_path, options, error, suffix):
    path, millivolts = write(tmp_path, [("I", "mV"), ("II", "mV")])
    np.save(tmp_path / "r.npy", millivolts)
    (tmp_path / "r.csv").write_text("I,II\n0.1,0.2\n")
    with pytest.raises(error):
        read_record(f"{path}.{suffix}", **{"sampling_rate": 500, "unit": "mV", **options})


@pytest.mark.parametrize("path", [None, 5, b"r.hea", "\ud800.hea", ["r"]])
def test_every_wrong_path_is_an_ecg_error(path):
    with pytest.raises(EcgError):
        read_record(path)


def test_signals_without_any_name_keep_their_place():
    assert choose_channels([None, None], ["mV", "mmHg"], lead_names=["II"]).rows == (0,)
    with pytest.raises(MetadataMissing, match="lead_names"):
        choose_channels([None, None], ["mV", "mmHg"])
