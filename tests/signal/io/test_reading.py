"""Formats other than plain 16, array files, and what arbitrary bytes may do."""

from __future__ import annotations

import contextlib
import copy
import pickle
import tracemalloc

import numpy as np
import pytest
import scipy.io
import wfdb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecg_hf.errors import (
    ChecksumMismatch,
    EcgError,
    HeaderError,
    LeadError,
    MetadataMissing,
    RecordNotFound,
    SamplingRateError,
    SignalError,
    TruncatedSignal,
    UnsupportedFormat,
)
from ecg_hf.signal import STANDARD_LEADS, read_digital, read_record
from ecg_hf.signal.io.wfdb_header import parse_header
from tests.signal.conftest import ecg_like

METADATA = {"sampling_rate": 500, "lead_names": STANDARD_LEADS, "unit": "mV"}


@pytest.mark.parametrize("suffix", ["", ".hea", ".dat"])
def test_any_suffix_names_the_record(make_record, suffix):
    record = read_record(make_record().write() + suffix)
    assert record.record_id == "r0"
    assert record.duration_s == 10.0


def test_relative_paths(make_record, tmp_path, monkeypatch):
    make_record().write()
    monkeypatch.chdir(tmp_path)
    assert read_record("r0").record_id == "r0"
    assert read_record("r0", root=".").record_id == "r0"


@pytest.mark.parametrize("form", ["80", "212", "24", "32", "61", "160", "310", "311"])
def test_other_formats_equal_wfdb(tmp_path, form):
    digital = (ecg_like(samples=999).astype(np.int64) // 25).T  # fits the narrowest of them
    digital[10:14, 2] = {
        "80": -128,
        "212": -2048,
        "310": -512,
        "311": -512,
        "24": -(2**23),
        "32": -(2**31),
    }.get(form, -32768)
    writable = form in ("80", "212", "24", "32")
    if not writable:
        data = _encode(digital, form)
        (tmp_path / "x.dat").write_bytes(data)
        lines = ["x 12 500 999"]
        for column, name in zip(digital.T, STANDARD_LEADS, strict=True):
            lines.append(f"x.dat {form} 100(0)/mV 16 0 {column[0]} {_checksum(column)} 0 {name}")
        (tmp_path / "x.hea").write_text("\n".join(lines) + "\n")
    else:
        wfdb.wrsamp(
            "x", 500, ["mV"] * 12, list(STANDARD_LEADS), d_signal=digital, fmt=[form] * 12, adc_gain=[100.0] * 12,
            baseline=[0] * 12, write_dir=str(tmp_path),
        )  # fmt: skip
    path = str(tmp_path / "x")
    record, stored = read_record(path), read_digital(path)
    expected = wfdb.rdsamp(path)[0].T.astype(np.float32)
    assert np.array_equal(record.signal, expected, equal_nan=True)
    assert np.isnan(record.signal).sum() == 4
    assert stored.samples.dtype == (np.int32 if form in ("24", "32") else np.int16)
    assert (stored.samples == stored.invalid).sum() == 4
    assert np.array_equal(stored.to_record().signal, record.signal, equal_nan=True)
    (tmp_path / "x.dat").write_bytes((tmp_path / "x.dat").read_bytes()[:-600])
    with pytest.raises(TruncatedSignal):
        read_record(path)


def _checksum(column: np.ndarray) -> int:
    return (int(column.sum()) + 32768) % 65536 - 32768


def _encode(digital: np.ndarray, form: str) -> bytes:
    flat = digital.reshape(-1)
    if form == "61":
        return flat.astype(">i2").tobytes()
    if form == "160":
        return (flat + 32768).astype("<u2").tobytes()
    groups = (flat & 0x3FF).astype(np.uint32).reshape(-1, 3)
    if form == "311":
        return (groups[:, 0] | groups[:, 1] << 10 | groups[:, 2] << 20).astype("<u4").tobytes()
    first = (groups[:, 0] << 1 & 0x7FE) | (groups[:, 2] & 0x1F) << 11
    second = (groups[:, 1] << 1 & 0x7FE) | (groups[:, 2] >> 5 & 0x1F) << 11
    return np.stack([first, second], axis=1).astype("<u2").tobytes()


def test_checksum_of_other_formats(tmp_path):
    digital = (ecg_like(samples=500) // 25).T.astype(np.int64)
    wfdb.wrsamp(
        "x", 500, ["mV"] * 12, list(STANDARD_LEADS), d_signal=digital, fmt=["212"] * 12, adc_gain=[100.0] * 12,
        baseline=[0] * 12, write_dir=str(tmp_path),
    )  # fmt: skip
    data = bytearray((tmp_path / "x.dat").read_bytes())
    data[600] ^= 1
    (tmp_path / "x.dat").write_bytes(bytes(data))
    with pytest.raises(ChecksumMismatch):
        read_record(tmp_path / "x")


def test_two_files_and_mixed_rates(tmp_path):
    slow, fast = np.arange(100, dtype=np.int16), np.arange(200, dtype=np.int16)
    frames = np.column_stack([slow, fast.reshape(100, 2)])
    (tmp_path / "m.dat").write_bytes(frames.astype("<i2").tobytes())
    (tmp_path / "m.hea").write_text(
        "m 2 250 100\nm.dat 16 100/mV 16 0 0 4950 0 II\nm.dat 16x2 100/mV 16 0 0 19900 0 V5\n"
    )
    record = read_record(tmp_path / "m")
    assert record.sampling_rate == 500.0
    assert [note.lead for note in record.notes if note.code == "lead_resampled"] == ["II"]
    assert np.array_equal(record.signal[1], fast.astype(np.float32) / 100)
    np.testing.assert_allclose(record.signal[0, ::2], slow / 100, atol=1e-5)
    np.testing.assert_allclose(record.signal[0, 1:-1:2], (slow[:-1] + 0.5) / 100, atol=1e-5)
    # One lead alone comes as it was sampled.
    alone = read_record(tmp_path / "m", leads=["II"])
    assert alone.sampling_rate == 250.0
    assert np.array_equal(alone.signal[0], slow.astype(np.float32) / 100)
    for stated, is_right in ((500, True), (250, True), (100, False)):
        with contextlib.nullcontext() if is_right else pytest.raises(SamplingRateError):
            assert read_record(tmp_path / "m", sampling_rate=stated).sampling_rate == 500.0
    (tmp_path / "a.dat").write_bytes(slow.tobytes())
    (tmp_path / "b.dat").write_bytes(fast[:100].tobytes())
    header = "t 2 250 100\na.dat 16 100/mV 16 0 0 4950 0 II\nb.dat 16 100/mV 16 0 0 4950 0 V5\n"
    (tmp_path / "t.hea").write_text(header)
    assert np.array_equal(read_digital(tmp_path / "t").samples, np.stack([slow, slow]))


def test_variable_layout(tmp_path):
    (tmp_path / "layout.hea").write_text(
        "layout 2 250 0\n".replace(" 0\n", "\n") + "~ 16 200/mV 16 0 0 0 0 II\n~ 16 200/mV 16 0 0 0 0 V\n"
    )
    values = np.arange(50, dtype=np.int16)
    (tmp_path / "s1.dat").write_bytes(values.tobytes())
    (tmp_path / "s1.hea").write_text("s1 1 250 50\ns1.dat 16 100/mV 16 0 0 1225 0 V\n")
    (tmp_path / "v.hea").write_text("v/3 2 250 80\nlayout 0\ns1 50\n~ 30\n")
    record = read_record(tmp_path / "v")
    assert record.lead_names == ("II", "V")
    assert np.isnan(record.signal[0]).all()
    np.testing.assert_allclose(record.signal[1, :50], values / 100, atol=1e-6)
    assert {(note.code, note.lead) for note in record.notes} >= {
        ("lead_missing", "II"),
        ("samples_missing", "V"),
    }


def write_challenge(folder, name="E07500", line_one=None):
    digital = ecg_like()
    scipy.io.savemat(folder / f"{name}.mat", {"val": digital}, format="4")
    lines = [line_one or f"{name} 12 500 5000 05-May-2020 14:50:55"]
    for row, lead in zip(digital, STANDARD_LEADS, strict=True):
        lines.append(f"{name}.mat 16+24 1000/mV 16 0 {row[0]} {_checksum(row.astype(int))} 0 {lead}")
    (folder / f"{name}.hea").write_text("\n".join([*lines, "# Age: 50", "#Dx: 426783006"]) + "\n")
    return digital


@pytest.mark.parametrize("line_one", [None, "E07500.mat 12 500 5000 05-May-2020 14:50:55"])
@pytest.mark.parametrize("suffix", ["", ".hea", ".mat"])
def test_challenge_mat(tmp_path, line_one, suffix):
    digital = write_challenge(tmp_path, line_one=line_one)
    record = read_record(tmp_path / f"E07500{suffix}")
    assert np.array_equal(record.signal, digital.astype(np.float32) / np.float32(1000))
    assert record.record_id == "E07500"


def test_mat_without_header(tmp_path):
    signal = ecg_like() / 1000
    scipy.io.savemat(tmp_path / "A1.mat", {"ECG": {"data": signal, "age": 50, "sex": "Male"}})
    record = read_record(tmp_path / "A1.mat", **METADATA)
    assert np.array_equal(record.signal, signal.astype(np.float32))
    with pytest.raises(MetadataMissing, match="sampling_rate, lead_names, unit"):
        read_record(tmp_path / "A1.mat")
    scipy.io.savemat(tmp_path / "A2.mat", {"val": ecg_like()}, format="4")
    record = read_record(tmp_path / "A2.mat", **METADATA | {"unit": "uV"})
    assert np.array_equal(record.signal, ecg_like().astype(np.float32) / np.float32(1000))
    scipy.io.savemat(tmp_path / "A3.mat", {"other": 1})
    for name, content in (("A3.mat", None), ("A4.mat", b"junk"), ("A5.mat", b"")):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(UnsupportedFormat, match=name):
            read_record(tmp_path / name, **METADATA)


def test_npy(tmp_path):
    signal = (ecg_like() / 1000).astype(np.float32)
    np.save(tmp_path / "a.npy", signal.T)
    assert np.array_equal(read_record(tmp_path / "a.npy", **METADATA).signal, signal)
    np.save(tmp_path / "f.npy", np.asfortranarray(signal))
    assert np.array_equal(read_record(tmp_path / "f.npy", **METADATA).signal, signal)
    np.save(tmp_path / "i.npy", ecg_like())
    stored = read_digital(tmp_path / "i.npy", **METADATA | {"unit": "uV"})
    assert stored.samples.dtype == np.int16
    assert np.allclose(stored.to_record().signal, signal, atol=1e-6)
    with pytest.raises(MetadataMissing):
        read_record(tmp_path / "a.npy")
    np.save(tmp_path / "o.npy", np.array([[{}]]), allow_pickle=True)
    with pytest.raises(SignalError, match="object"):
        read_record(tmp_path / "o.npy", **METADATA)
    np.save(tmp_path / "l.npy", signal[:, :9].astype(np.longdouble))
    np.testing.assert_allclose(
        read_record(tmp_path / "l.npy", max_samples=12 * 9, **METADATA).signal, signal[:, :9]
    )
    np.save(tmp_path / "c.npy", signal.astype(complex))
    with pytest.raises(SignalError, match="complex"):
        read_record(tmp_path / "c.npy", max_samples=12 * 5000, **METADATA)
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "t.npy").write_bytes(content[:-1])
    with pytest.raises(TruncatedSignal):
        read_record(tmp_path / "t.npy", **METADATA)
    (tmp_path / "h.npy").write_bytes(content.replace(b"(5000, 12)", b"(10**9,12)"))
    with pytest.raises(EcgError):
        read_record(tmp_path / "h.npy", **METADATA)
    nan = signal.copy()
    nan[3] = np.nan
    nan[4, :7] = np.nan
    np.save(tmp_path / "n.npy", nan)
    notes = {(note.code, note.lead) for note in read_record(tmp_path / "n.npy", **METADATA).notes}
    assert notes == {("lead_missing", "aVR"), ("samples_missing", "aVL")}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv(tmp_path, delimiter):
    signal = (ecg_like(samples=300) / 1000).astype(np.float32)
    rows = [delimiter.join(f"{value:.3f}" for value in column) for column in signal.T]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(rows) + "\n")
    np.testing.assert_allclose(read_record(path, **METADATA).signal, signal, atol=1e-6)
    names = delimiter.join(("time", *(f"lead_{name.lower()}" for name in STANDARD_LEADS)))
    path.write_text("\ufeff" + "\n".join([names, *(f"{i}{delimiter}{row}" for i, row in enumerate(rows))]))
    record = read_record(path, sampling_rate=500, unit="mV")
    assert record.lead_names == STANDARD_LEADS
    np.testing.assert_allclose(record.signal, signal, atol=1e-6)
    assert "leads_dropped" in {note.code for note in record.notes}
    for spoilt in ([*rows[:5], "1"], [*rows[:5], rows[5].replace("0", "zero")]):
        path.write_text("\n".join(spoilt))
        with pytest.raises(UnsupportedFormat, match="row 6"):
            read_record(path, **METADATA)
    for content in (b"", b"\n\n", names.encode(), b"\xff\xfe\x00"):
        path.write_bytes(content)
        with pytest.raises(EcgError):
            read_record(path, **METADATA)


def test_unknown_kinds(tmp_path):
    (tmp_path / "a.xml").write_text("<ecg/>")
    with pytest.raises(UnsupportedFormat, match="xml"):
        read_record(tmp_path / "a.xml")
    with pytest.raises(RecordNotFound):
        read_record(tmp_path / "b.xml")


def test_max_samples(make_record):
    path = make_record().write()
    with pytest.raises(SignalError, match="max_samples"):
        read_record(path, max_samples=59_999)
    assert read_record(path, max_samples=60_000).signal.size == 60_000


def test_lead_names_may_not_contradict(make_record):
    path = make_record().write()
    assert (
        read_record(path, lead_names=[name.upper() for name in STANDARD_LEADS]).lead_names == STANDARD_LEADS
    )
    with pytest.raises(LeadError, match="contradict"):
        read_record(path, lead_names=STANDARD_LEADS[::-1])


def test_errors_travel_between_processes(make_record):
    files = make_record()
    data = bytearray(files.digital.T.astype("<i2").tobytes())
    data[1] ^= 1
    with pytest.raises(ChecksumMismatch) as caught:
        read_record(files.write(data=bytes(data)))
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again), again.lead) == (ChecksumMismatch, str(caught.value), "I")
    assert "\n" not in str(copy.copy(caught.value))


GOOD = b"r0 2 500 50\nr0.dat 16 1000.0(0)/mV 16 0 0 0 0 I\nr0.dat 16 1000.0(0)/mV 16 0 0 0 0 II\n# Age: 5\n"
TOKENS = (
    b"r0 r0.dat 16 212 8 24 32 61 310 16x2 16:3 16+24 508 1000/mV 0 -1 2 1 999999999999999999999999999999 1e308 nan "
    b"I II ~ # /2 500 50 ../x uV"
).split()
TOKENS.extend([b"\n", b"\n"])
SIGNAL = b"\0" * 200


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    header=st.one_of(
        st.binary(max_size=300),
        st.lists(st.sampled_from(TOKENS), max_size=40).map(b" ".join),
        st.builds(
            lambda at, cut, new: GOOD[:at] + new + GOOD[at + cut :],
            st.integers(0, len(GOOD)),
            st.integers(0, 8),
            st.one_of(st.binary(max_size=4), st.sampled_from(TOKENS)),
        ),
    )
)
def test_no_header_makes_anything_but_an_ecg_error(tmp_path, header):
    (tmp_path / "r0.hea").write_bytes(header)
    (tmp_path / "r0.dat").write_bytes(SIGNAL)
    size, message = 0, ""
    try:
        size = read_record(tmp_path / "r0").signal.size
    except EcgError as error:
        message = str(error)
    assert "\n" not in message
    assert size <= len(SIGNAL)  # no format stores a sample in less than a byte


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    signals=st.integers(0, 10**12),
    length=st.integers(-5, 10**15),
    form=st.sampled_from([8, 16, 24, 32, 61, 80, 160, 212, 310, 311, 508, 516, 524]),
)
def test_announced_sizes_allocate_nothing(tmp_path, signals, length, form):
    line = f"r0.dat {form} 1000/mV 16 0 0 0 0 "
    (tmp_path / "r0.hea").write_text(
        f"r0 {signals} 500 {length}\n" + "".join(f"{line}{i}\n" for i in range(min(signals, 3)))
    )
    (tmp_path / "r0.dat").write_bytes(SIGNAL)
    read_error = None
    tracemalloc.start()
    try:
        read_record(tmp_path / "r0", verify_checksum=False)
    except EcgError as error:
        read_error = error
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000
    if length > 10_000 or signals > 3:
        assert read_error is not None


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200), suffix=st.sampled_from([".npy", ".csv", ".mat"]), magic=st.booleans())
def test_no_array_file_makes_anything_but_an_ecg_error(tmp_path, content, suffix, magic):
    prefix = {
        ".npy": b"\x93NUMPY\x01\x00\x76\x00",
        ".csv": b"1,2\n",
        ".mat": b"\x00\x00\x00\x00\x0c\x00\x00\x00",
    }[suffix]
    (tmp_path / f"a{suffix}").write_bytes(prefix + content if magic else content)
    with contextlib.suppress(EcgError):
        read_record(tmp_path / f"a{suffix}", sampling_rate=500, lead_names=("I", "II"), unit="mV")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400))
def test_parser_alone(content):
    try:
        header = parse_header(content)
    except HeaderError:
        return
    assert header.signal_count >= 1


@pytest.mark.parametrize("samples", [1, 63, 64, 65, 5000])
@pytest.mark.parametrize("leads", [1, 2, 12])
def test_checksums_of_any_shape(make_record, samples, leads):
    """Frames are summed many at a time; the smallest change of any sample shows."""
    digital = np.random.default_rng(0).integers(-32767, 32768, (leads, samples)).astype(np.int16)
    record = make_record(digital)
    path = record.write()
    assert np.array_equal(read_digital(path).samples, digital)
    for sample in {0, samples // 2, samples - 1}:
        damaged = digital.copy()
        damaged[-1, sample] ^= 1
        record.write(data=damaged.T.astype("<i2").tobytes())
        with pytest.raises(ChecksumMismatch):
            read_digital(path)


def test_samples_of_a_digital_record_are_its_own(make_record):
    samples = read_digital(make_record().write()).samples
    assert samples.flags.c_contiguous
    assert samples.flags.writeable
    assert read_record(make_record().write()).signal.flags.writeable


@pytest.mark.parametrize(
    ("field", "value"),
    [(1, "16x"), (2, "1000(x)/mV"), (3, "1_6"), (4, "٣"), (5, "zero"), (6, "1e3"), (0, "../r0.dat")],
)
def test_lines_with_all_fields_are_read_as_strictly_as_others(make_record, field, value):
    """They are parsed column by column; what is wrong in one still names its line."""
    lines = make_record().lines()
    tokens = lines[4].split(" ")
    tokens[field] = value
    lines[4] = " ".join(tokens)
    with pytest.raises(HeaderError, match="line 5"):
        parse_header("\n".join(lines).encode())


def test_columns_give_what_lines_give(make_record):
    lines = make_record().lines()
    together = parse_header("\n".join(lines).encode()).signals
    # With a line that lacks its last field, all are read one by one.
    lines[12] = " ".join(lines[12].split(" ")[:8])
    one_by_one = parse_header("\n".join(lines).encode()).signals
    assert together[:11] == one_by_one[:11]
    assert [type(value) for value in together[0]] == [type(value) for value in one_by_one[0]]
