"""Text tables: what their headers, units and time columns say is used, or contradicted aloud."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ecg_hf.errors import (
    EcgError,
    LeadError,
    MetadataMissing,
    SamplingRateError,
    SignalError,
    UnknownUnit,
    UnsupportedFormat,
)
from ecg_hf.signal import STANDARD_LEADS, EcgRecord, read_record
from tests.signal.conftest import codes, ecg_like

N = 400
MILLIVOLTS = (ecg_like(samples=N) / 1000).astype(np.float64)
KNOWN: dict[str, Any] = {"sampling_rate": 500, "unit": "mV"}


def write(
    path: Path,
    names: list[str] | None,
    columns: list[Any],
    *,
    second: list[str] | None = None,
    mark: str = ",",
    comma: bool = False,
) -> Path:
    rows = [] if names is None else [mark.join(names)]
    rows += [] if second is None else [mark.join(second)]
    for row in zip(*columns, strict=True):
        cells = [cell if isinstance(cell, str) else f"{cell:.9g}" for cell in row]
        rows.append(mark.join(cell.replace(".", ",") if comma else cell for cell in cells))
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def times(rate: float, scale: float = 1.0, digits: int = 9) -> list[str]:
    return [f"{i / rate * scale:.{digits}f}" for i in range(N)]


def read(path: Path, **options: Any) -> EcgRecord:
    return read_record(path, **options)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("time", times(500)),
        ("Time (s)", times(500)),
        ("time [s]", times(500, digits=3)),
        ("time_ms", times(500, 1e3)),
        ("Time (ms)", times(500, 1e3, 0)),
        ("timestamp", times(500, 1e3, 0)),
        ("t_us", times(500, 1e6, 0)),
        ("sensor timestamp [ns]", times(500, 1e9, 0)),
        ("Elapsed time", [f"{i / 500 // 60:.0f}:{i / 500 % 60:06.3f}" for i in range(N)]),
        ("elapsed", [f"1:{(i / 500 + 59) // 60:02.0f}:{(i / 500 + 59) % 60:06.3f}" for i in range(N)]),
        (
            "datetime",
            [str(datetime(2024, 2, 29, 23, 59, 59) + timedelta(milliseconds=2 * i)) for i in range(N)],
        ),
        ("abscissa", times(500)),
    ],
)
def test_time_columns_are_compared_with_the_rate(tmp_path: Path, column: str, values: list[str]):
    path = write(tmp_path / "a.csv", [column, *STANDARD_LEADS], [values, *MILLIVOLTS])
    record = read(path, unit="mV")
    assert record.sampling_rate == 500.0
    assert {"leads_dropped", "sampling_rate_from_time"} <= codes(record)
    agreeing = read(path, **KNOWN)
    for found in (record, agreeing):
        assert found.lead_names == STANDARD_LEADS
        np.testing.assert_allclose(found.signal, MILLIVOLTS, atol=1e-6)
    for wrong in (100, 250, 501):
        with pytest.raises(SamplingRateError, match=r"a\.csv: column .* says 500 Hz, the caller says"):
            read(path, sampling_rate=wrong, unit="mV")


@pytest.mark.parametrize("rate", [512.844, 62.4725, 128.0])
def test_the_rate_of_a_time_column_is_that_of_its_ends(tmp_path: Path, rate: float):
    path = write(tmp_path / "a.csv", ["time (s)", "II"], [times(rate), MILLIVOLTS[1]])
    assert read(path, unit="mV").sampling_rate == pytest.approx(rate, rel=1e-3)


def test_times_that_can_not_be_believed(tmp_path: Path):
    even = np.arange(N) / 500
    gap, back, hole = even.copy(), even.copy(), even.copy()
    gap[200:] += 1.0
    back[200] = 0.0
    hole[7] = np.nan
    for values, reason in ((gap, "jump after row 200"), (back, "do not ascend"), (hole, "without a time")):
        path = write(tmp_path / "a.csv", ["time (s)", "II"], [values, MILLIVOLTS[1]])
        with pytest.raises(SamplingRateError, match=reason):
            read(path, unit="mV")
    coarse = [f"10:00:{i // 500:02d}" for i in range(N)]
    path = write(tmp_path / "a.csv", ["time", "II"], [coarse, MILLIVOLTS[1]])
    with pytest.raises(EcgError):
        read(path, unit="mV")
    path = write(tmp_path / "a.csv", ["time (s)", "t [ms]", "II"], [even, even * 2000, MILLIVOLTS[1]])
    with pytest.raises(SamplingRateError, match="says 250 Hz"):
        read(path, unit="mV")
    path = write(tmp_path / "a.csv", ["time", "II"], [np.arange(N), MILLIVOLTS[1]])
    with pytest.raises(MetadataMissing, match="sampling_rate"):
        read(path, unit="mV")  # counts rows, or milliseconds: says nothing
    assert read(path, **KNOWN).sampling_rate == 500


@pytest.mark.parametrize(
    ("names", "second"),
    [
        (["I (uV)", "II [uV]"], None),
        (["I_uV", "lead_ii_uv"], None),
        (["I [\u00b5V]", "II (\u03bcV)"], None),
        (["I", "II"], ["uV", "uV"]),
        (["'I'", "'II'"], ["'uV'", "'uV'"]),
        (["ECG I (microvolts)", "EKG II (uV)"], ["(uV)", "(uV)"]),
    ],
)
def test_units_of_columns(tmp_path: Path, names: list[str], second: list[str] | None):
    path = write(tmp_path / "a.csv", names, list(MILLIVOLTS[:2] * 1000), second=second)
    record = read(path, sampling_rate=500)
    assert record.lead_names == ("I", "II")
    np.testing.assert_allclose(record.signal, MILLIVOLTS[:2], atol=1e-6)
    assert np.array_equal(read(path, sampling_rate=500, unit="\u00b5V").signal, record.signal)
    with pytest.raises(MetadataMissing, match="contradicts"):
        read(path, **KNOWN)


def test_units_that_differ_or_are_none(tmp_path: Path):
    path = write(tmp_path / "a.csv", ["I (uV)", "II (mV)"], [MILLIVOLTS[0] * 1000, MILLIVOLTS[1]])
    np.testing.assert_allclose(read(path, sampling_rate=500).signal, MILLIVOLTS[:2], atol=1e-6)
    path = write(tmp_path / "a.csv", ["I (mmHg)", "II (mV)"], list(MILLIVOLTS[:2]))
    with pytest.raises(UnknownUnit, match="mmHg"):
        read(path, sampling_rate=500)
    path = write(tmp_path / "a.csv", ["II (mV)", "ABP (mmHg)", "label"], [*MILLIVOLTS[:2], ["N"] * N])
    record = read(path, sampling_rate=500)
    assert record.lead_names == ("II",)
    assert [note.lead for note in record.notes if note.code == "signal_left_out"] == ["ABP", "label"]
    path = write(tmp_path / "a.csv", ["I", "II"], list(MILLIVOLTS[:2]))
    with pytest.raises(MetadataMissing, match="unit"):
        read(path, sampling_rate=500)


def test_names_and_lead_names(tmp_path: Path):
    order = [*STANDARD_LEADS[:6], *STANDARD_LEADS[:5:-1]]
    columns = [MILLIVOLTS[STANDARD_LEADS.index(name)] for name in order]
    path = write(tmp_path / "a.csv", order, columns)
    with pytest.raises(LeadError, match="'V6' and not 'V1'"):
        read(path, lead_names=STANDARD_LEADS, **KNOWN)
    assert read(path, **KNOWN).lead_names == tuple(order)
    assert read(path, lead_names=order, **KNOWN).lead_names == tuple(order)
    chosen = read(path, leads=["V1", "I"], **KNOWN)
    assert chosen.lead_names == ("V1", "I")
    np.testing.assert_allclose(chosen.signal, MILLIVOLTS[[6, 0]], atol=1e-6)
    for names in (["ECG", "ECG"], ["0x", "I"], ["ch1", "ch2"], ["I", "I"]):
        path = write(tmp_path / "a.csv", names, list(MILLIVOLTS[:2]))
        if names[0] == "0x":
            with pytest.raises(LeadError, match="contradict"):
                read(path, lead_names=["I", "II"], **KNOWN)
            continue
        with pytest.raises(EcgError, match="pass lead_names"):
            read(path, **KNOWN)
        record = read(path, lead_names=["I", "II"], **KNOWN)
        assert record.lead_names == ("I", "II")
        assert "lead_name_assumed" in codes(record)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("has_index", [False, True])
@pytest.mark.parametrize("leads", [1, 2, 6, 12])
def test_column_numbers_are_no_sample(tmp_path: Path, first: int, has_index: bool, leads: int):
    names = [str(first + i) for i in range(leads)]
    columns: list[Any] = list(MILLIVOLTS[:leads] + 0.0001)
    if has_index:
        names, columns = ["", *names], [np.arange(N), *columns]
    path = write(tmp_path / "a.csv", names, columns)
    with pytest.raises(UnsupportedFormat, match="numbers the columns"):
        read(path, lead_names=STANDARD_LEADS[:leads], **KNOWN)


def test_a_first_sample_of_zero_stays(tmp_path: Path):
    path = write(tmp_path / "a.csv", None, [np.arange(N) % 7])
    assert read(path, lead_names=["I"], **KNOWN).signal.shape == (1, N)


def test_index_columns(tmp_path: Path):
    for name in ("", "index", "sample #", "Unnamed: 0", "n"):
        path = write(tmp_path / "a.csv", [name, "I", "II"], [np.arange(N), *MILLIVOLTS[:2]])
        record = read(path, **KNOWN)
        assert record.lead_names == ("I", "II")
        assert "leads_dropped" in codes(record)
    # A column of samples that is called so is no index.
    path = write(tmp_path / "a.csv", ["timestamp", "sample"], [times(500, 1e3, 0), MILLIVOLTS[1]])
    assert read(path, unit="mV", lead_names=["II"]).signal.shape == (1, N)


def test_a_first_column_of_time_without_names(tmp_path: Path):
    path = write(tmp_path / "a.csv", None, [times(500), *MILLIVOLTS[:2]])
    record = read(path, lead_names=["I", "II"], unit="mV")
    assert record.sampling_rate == 500.0
    np.testing.assert_allclose(record.signal, MILLIVOLTS[:2], atol=1e-6)
    with pytest.raises(SamplingRateError, match="500 Hz"):
        read(path, lead_names=["I", "II"], unit="mV", sampling_rate=100)
    path = write(tmp_path / "a.csv", None, [np.arange(N), *MILLIVOLTS[:2]])
    assert read(path, lead_names=["I", "II"], **KNOWN).signal.shape == (2, N)


def test_dialects(tmp_path: Path):
    for mark in (";", "\t"):
        path = write(
            tmp_path / "a.csv", ["time", "I", "II"], [times(500), *MILLIVOLTS[:2]], mark=mark, comma=True
        )
        record = read(path, unit="mV")
        assert record.sampling_rate == 500.0
        np.testing.assert_allclose(record.signal, MILLIVOLTS[:2], atol=1e-6)
    path = write(tmp_path / "a.csv", ["I"], [MILLIVOLTS[0]], comma=True)
    np.testing.assert_allclose(read(path, **KNOWN).signal, MILLIVOLTS[:1], atol=1e-6)
    path = write(tmp_path / "a.csv", ["I", "II"], list(MILLIVOLTS[:2]), mark=" ")
    assert read(path, **KNOWN).lead_names == ("I", "II")
    text = "I [\u00b5V];II [\u00b5V]\n" + "1,5;2\n" * 20
    for encoding in ("latin-1", "utf-16", "utf-8-sig"):
        path.write_bytes(text.encode(encoding))
        assert read(path, sampling_rate=500).signal[:, 0].tolist() == pytest.approx([0.0015, 0.002])
    for content in (b"\xff\xfe\x00", b"\x00\x01\x02,3", b"I,II\n1,2\n1\n", b"I,II\n1,2\n1,x\n"):
        path.write_bytes(content)
        with pytest.raises(EcgError):
            read(path, **KNOWN)
    path.write_text("# recorded by a device\n# I,II\n" + "0.1,0.2\n" * 3)
    assert read(path, **KNOWN).lead_names == ("I", "II")
    path.write_text("# recorded by a device\n" + "0.1,0.2\n" * 3)
    assert read(path, lead_names=["I", "II"], **KNOWN).signal.shape == (2, 3)
    path.write_text("# recorded by a device\n# I,II\n")
    with pytest.raises(EcgError):
        read(path, **KNOWN)


def test_missing_cells(tmp_path: Path):
    values = [f"{v:.3f}" for v in MILLIVOLTS[1]]
    values[5], values[6], values[7] = "", "nan", "NaN"
    record = read(write(tmp_path / "a.csv", ["I", "II"], [MILLIVOLTS[0], values]), **KNOWN)
    assert np.flatnonzero(np.isnan(record.signal[1])).tolist() == [5, 6, 7]
    assert ("samples_missing", "II") in {(note.code, note.lead) for note in record.notes}
    with pytest.raises(SignalError):
        read(write(tmp_path / "a.csv", ["I"], [["inf"] * N]), **KNOWN)


def test_quoted_cells(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text('"I","II"\n' + '"0,003","-1,5"\n' * 3)
    assert read(path, **KNOWN).signal[:, 0].tolist() == pytest.approx([0.003, -1.5])
    path.write_text(
        '"time (s)", "II, aVR, not sure", "V1"\n' + "".join(f'{i / 500}, "0.5", 1\n' for i in range(N))
    )
    assert read(path, unit="mV").lead_names == ("V1",)
    path.write_text("I,II\n" + '1,"' + "2" * 200_000 + "\n")
    with pytest.raises(EcgError):
        read(path, **KNOWN)


@dataclass(frozen=True)
class Device:
    """A table that a device wrote, and how pandas is told to read it: an independent decoder.

    Attributes:
        file: Its name.
        options: All that the file does not say.
        rate: Hertz that are found.
        names: Leads that are found.
        columns: Their places.
        scale: Millivolts per unit of the numbers.
        head: Lines above the numbers.
        dialect: Arguments of ``pandas.read_csv``.
    """

    file: str
    options: dict[str, Any]
    rate: float
    names: tuple[str, ...] = ("I", "II")
    columns: tuple[int, ...] = (0, 1)
    scale: float = 1.0
    head: int = 1
    dialect: dict[str, Any] = field(default_factory=dict)

    def expected(self, path: Path) -> np.ndarray:
        table = pd.read_csv(path, header=None, skiprows=self.head, encoding="utf-8-sig", float_precision="round_trip",
                            **self.dialect)  # fmt: skip
        return table.iloc[:, list(self.columns)].to_numpy(np.float64).T * self.scale


DEVICES = [
    Device("bom.csv", KNOWN, 500),
    Device("crlf.csv", KNOWN, 500),
    Device("kardia_json_like.csv", KNOWN, 500, ("I",), (0,)),
    Device("lightwave.txt", {}, 360, ("MLII", "V5"), (1, 2), head=2, dialect={"sep": "\t"}),
    Device("missing.csv", KNOWN, 500),
    Device("movesense.csv", {"unit": "uV", "lead_names": ["I"]}, 500, ("I",), (1,), 1e-3),
    Device("nanword.csv", KNOWN, 500),
    Device("physionet_mitdb.csv", {"unit": "uV", "sampling_rate": 360}, 360, ("MLII", "V5"), (1, 2), 1e-3),
    Device("polar_h10.txt", {"lead_names": ["I"]}, 130, ("I",), (3,), 1e-3, dialect={"sep": ";"}),
    Device("rdsamp.csv", {}, 360, ("MLII", "V5"), (1, 2), head=2),
    Device("semicolon.csv", KNOWN, 500, dialect={"sep": ";", "decimal": ","}),
    Device("time_s.csv", {"unit": "mV"}, 500, columns=(1, 2)),
    Device("unit_in_header.csv", {"sampling_rate": 500}, 500),
    Device("unit_paren.csv", {"sampling_rate": 500}, 500, scale=1e-3),
]
NEEDED = ("unit", "sampling_rate", "lead_names")


def test_tables_of_devices(clinical_files: Path, tmp_path: Path):
    """One test for all, as these tables may not travel with the code: without them one test is skipped."""
    assert {path.name for path in (clinical_files / "csv").iterdir()} == {device.file for device in DEVICES}
    for device in DEVICES:
        path = tmp_path / "a.csv"
        path.write_bytes((clinical_files / "csv" / device.file).read_bytes())
        record = read(path, **device.options)
        assert (record.sampling_rate, record.lead_names) == (device.rate, device.names), device.file
        expected = device.expected(path)
        assert record.signal.shape == expected.shape == (len(device.names), 2000)
        # Half a unit in the last place of float32; missing samples are NaN in both.
        np.testing.assert_allclose(record.signal, expected, rtol=6e-8, atol=0, err_msg=device.file)
        assert ("samples_missing" in codes(record)) == bool(np.isnan(expected).any())
        has_clock = "sampling_rate" not in device.options
        assert ("sampling_rate_from_time" in codes(record)) == has_clock, device.file
        for name in NEEDED:
            told = {option: value for option, value in device.options.items() if option != name}
            if name in device.options:
                with pytest.raises(MetadataMissing, match=name):
                    read(path, **told)
            else:
                wrong = {
                    "unit": "V",
                    "sampling_rate": 77.0,
                    "lead_names": ["aVF", "aVL"][: len(device.names)],
                }
                with pytest.raises(EcgError):
                    read(path, **told, **{name: wrong[name]})


def test_why_rows_are_not_split_by_pandas(tmp_path: Path):
    """It fills a row that breaks off with missing samples and says nothing; here that row is an error."""
    path = tmp_path / "a.csv"
    path.write_text("I,II\n1,2\n3,4\n5\n")
    assert np.isnan(pd.read_csv(path)["II"][2])
    with pytest.raises(UnsupportedFormat, match="row 4 has 1 cells"):
        read(path, **KNOWN)
