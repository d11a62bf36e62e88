"""Files of hospitals and watches: expected millivolts, the door, nothing of a person, libraries that are missing."""

from __future__ import annotations

import hashlib
import io
import logging
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import wfdb

from ecg_hf import iter_windows, read_record
from ecg_hf.cli.main import main
from ecg_hf.errors import (
    ConfigurationError,
    EcgError,
    LeadError,
    LibraryMissing,
    MetadataMissing,
    SamplingRateError,
    UnsupportedFormat,
)
from ecg_hf.processing import EcgFeatureExtractor
from tests.signal.io.clinical import (
    LIBRARIES,
    MARKERS,
    RECORDINGS,
    SMALL,
    clinical_files,
    expected_of,
    need_library,
    small,
    wanted_values,
)

FILES = clinical_files()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_gives_its_expected_millivolts(path: Path):
    need_library(path)
    expected = expected_of(path)
    record = read_record(path)
    assert record.sampling_rate == expected["sampling_rate"]
    assert list(record.lead_names) == expected["lead_names"]
    assert record.signal.shape == (len(expected["lead_names"]), expected["n_samples"])
    for lead, values in wanted_values(path).items():
        row = record.signal[record.lead_names.index(lead)]
        np.testing.assert_allclose(row[expected["positions"]], values, rtol=0, atol=1e-6, err_msg=lead)
        assert np.isnan(row).sum() == expected["nan_samples"].get(lead, 0)
        if path.suffix != ".atc":
            assert np.nanmin(row) == pytest.approx(expected["min_mV"][lead], abs=1e-6)
            assert np.nanmax(row) == pytest.approx(expected["max_mV"][lead], abs=1e-6)


@pytest.mark.parametrize("kind", SMALL)
def test_content_decides_and_not_the_name(kind: str, tmp_path: Path):
    content = small(kind)
    expected = read_record(RECORDINGS / kind / SMALL[kind])
    readings = []
    for name in ("a.bin", "a", "a.csv", "a.dat", "a.hea", "a.mat", "a.xml", "a.npy"):
        path = tmp_path / name / name
        path.parent.mkdir()
        path.write_bytes(content)
        readings.append(read_record(path))
    with path.open("rb") as file:
        readings.append(read_record(file))
    readings += [
        read_record(source)
        for source in (content, bytearray(content), memoryview(content), io.BytesIO(content))
    ]
    for record in readings:
        assert np.array_equal(record.signal, expected.signal, equal_nan=True)
        assert record.lead_names == expected.lead_names
    assert read_record(content).record_id is None
    assert readings[0].record_id == "a"


def test_what_is_no_source_is_refused(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="binary"):
        read_record(io.StringIO("I\n1\n"))
    closed = io.BytesIO(b"")
    closed.close()
    for wrong in (closed, 7, None, object()):
        with pytest.raises(EcgError):
            read_record(wrong)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedFormat, match="WFDB record"):
        read_record(b"r 2 100 500\nr.dat 16 1000/mV 16 0 0 0 0 I\nr.dat 16 1000/mV 16 0 0 0 0 II\n")
    with pytest.raises(UnsupportedFormat, match="not read here"):
        read_record(b"\x00\x01\x02" * 100)
    with pytest.raises(UnsupportedFormat, match="no format read here"):
        read_record(b"<html><body>ZZTESTNAME</body></html>")


def test_a_wfdb_record_in_memory_is_read(tmp_path: Path):
    signal = np.round(np.random.default_rng(0).standard_normal((500, 2)), 3)
    wfdb.wrsamp("r", 250, ["mV", "uV"], ["I", "V1"], signal, fmt=["16", "16"], write_dir=str(tmp_path))
    expected = read_record(tmp_path / "r")
    for physical in (True, False):
        record = read_record(wfdb.rdrecord(str(tmp_path / "r"), physical=physical))
        np.testing.assert_allclose(record.signal, expected.signal, rtol=1e-5, atol=1e-6)
        assert (record.lead_names, record.sampling_rate, record.record_id) == (("I", "V1"), 250.0, "r")
    with pytest.raises(EcgError, match="d_signal"):
        read_record(wfdb.Record(record_name="r", fs=250, sig_name=["I"], units=["mV"]))


def test_what_the_caller_says_may_not_contradict():
    content = small("ge_muse")
    with pytest.raises(SamplingRateError, match="250"):
        read_record(content, sampling_rate=500)
    with pytest.raises(LeadError, match="contradict"):
        read_record(content, lead_names=["II", "I", "V1", "V2", "V3", "V4", "V5", "V6"])
    with pytest.raises(MetadataMissing, match="contradicts"):
        read_record(content, units="mV")
    with pytest.raises(ConfigurationError, match="differ"):
        read_record(content, units="mV", unit="uV")
    assert read_record(content, leads=["V6", "I"], units="uV", sampling_rate=250).lead_names == ("V6", "I")
    assert read_record(content, unit="uV").lead_names[2:] == ("V1", "V2", "V3", "V4", "V5", "V6")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_of_a_person_comes_out(path: Path, caplog: pytest.LogCaptureFixture, capfd):
    need_library(path)
    caplog.set_level(logging.DEBUG)
    content = path.read_bytes()
    texts = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        texts.append(repr(read_record(path)))
        # Damage of many kinds, each of which has its own error.
        for spoilt in (
            content[: len(content) // 2],
            content[:3000],
            content.replace(b"1", b"x"),
            content.replace(b"5", b"\xff"),
        ):
            for told in (
                {},
                {"sampling_rate": 1.0},
                {"lead_names": ["V9"]},
                {"units": "V"},
                {"leads": ["V9"]},
            ):
                try:
                    texts.append(repr(read_record(spoilt, **told)))  # type: ignore[arg-type]
                except EcgError as error:
                    texts.append(f"{error} {error.value!r} {error.lead!r} {error.__cause__!r}")
    texts += [str(warning.message) for warning in caught]
    texts += [caplog.text, *capfd.readouterr()]
    for marker in MARKERS:
        assert not [text for text in texts if marker in text], marker


@pytest.mark.parametrize(("kind", "extra"), [("dicom", "clinical"), ("edf", "clinical"), ("scp_ecg", "scp")])
def test_a_missing_library_is_one_line_that_names_its_extra(
    kind: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    for name in [
        name for name in sys.modules if name.partition(".")[0] in ("pydicom", "edfio", "ecgdatakit")
    ]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("pydicom", "edfio", "ecgdatakit"):
        monkeypatch.setitem(sys.modules, name, None)
    path = RECORDINGS / kind / SMALL[kind]
    line = rf"{path.name}: .* need {LIBRARIES[kind]}: pip install 'ecg-hf\[{extra}\]'.*"
    for read in (read_record, iter_windows):
        with pytest.raises(LibraryMissing, match=line) as caught:
            read(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(SystemExit) as stop:
        main(["plot", str(path), "-o", str(tmp_path / "a.png")])
    assert stop.value.code == 2
    (said,) = capfd.readouterr().err.splitlines()
    assert re.search(line, said)
    assert "--sampling-rate" not in said
    assert list(tmp_path.iterdir()) == []


def test_reading_needs_no_optional_library():
    code = (
        "from ecg_hf import read_record; import sys;"
        f"read_record({str(RECORDINGS / 'ge_muse' / SMALL['ge_muse'])!r});"
        "print([name for name in ('pydicom', 'edfio', 'ecgdatakit', 'torch') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_padding_of_a_recorder_is_masked_for_models():
    record = read_record(RECORDINGS / "philips_sierra" / SMALL["philips_sierra"])
    assert (record.signal[:, -50:] == 0.0).all()
    assert "zero_padding" in {note.code for note in record.notes}
    features = EcgFeatureExtractor(duration_s=11.0, return_sample_mask=True)(record, return_tensors="np")
    assert features["sample_mask"].sum() == 5450
    assert (features["sample_mask"][0, -50:] == 0).all()


def test_a_committed_file_is_the_one_that_was_described():
    for path in RECORDINGS.glob("*/*.expected.json"):
        recording = path.with_name(path.name.removesuffix(".expected.json"))
        assert hashlib.sha256(recording.read_bytes()).hexdigest() == expected_of(recording)["sha256"]
