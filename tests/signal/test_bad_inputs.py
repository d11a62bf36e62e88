"""Rows 1-52 of the project's table of bad inputs: files that are damaged, lie or lead astray.

The number in each test's name is the row; ``tests/test_bad_inputs_complete.py`` says where the others are.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import wfdb

from ecg_hf.errors import (
    ChecksumMismatch,
    HeaderError,
    NonFiniteSignal,
    RecordNotFound,
    SamplingRateError,
    SignalError,
    TruncatedSignal,
    UnknownUnit,
    UnsafePath,
)
from ecg_hf.signal import (
    STANDARD_LEADS,
    read_digital,
    read_record,
)
from ecg_hf.signal.io.paths import join_inside_root

from .conftest import codes, ecg_like


def test_row_01_good_record_is_exact(make_record):
    files = make_record()
    path = files.write()
    record = read_record(path)
    assert np.array_equal(record.signal, files.digital.astype(np.float32) / np.float32(1000))
    assert np.array_equal(record.signal, wfdb.rdsamp(path)[0].T.astype(np.float32))
    assert record.lead_names == STANDARD_LEADS
    assert record.sampling_rate == 500.0
    assert record.notes == ()
    assert np.array_equal(read_digital(path).samples, files.digital)


@pytest.mark.parametrize("form", ["16", "212"])
def test_initial_values_are_compared(make_record, form):
    """A header that describes another file shows in its first samples, where no checksum tells."""
    digital = ecg_like(leads=2, samples=100) // 2
    files = make_record(digital, form=form, checksums=False)
    packed = None
    if form == "212":
        low = (digital.T.reshape(-1, 2) & 0xFFF).astype(int)
        bytes_ = [low[:, 0] & 0xFF, low[:, 0] >> 8 | low[:, 1] >> 8 << 4, low[:, 1] & 0xFF]
        packed = np.stack(bytes_, axis=1).astype(np.uint8).tobytes()
    path = files.write(data=packed)
    given = {"lead_names": ["I", "II"]}
    assert "initial_value_differs" not in codes(read_record(path, **given))
    header = Path(path + ".hea").read_text().splitlines()
    changed = " ".join([*header[1].split()[:5], str(int(digital[0, 0]) + 3)])
    Path(path + ".hea").write_text("\n".join([header[0], changed, header[2]]) + "\n")
    with pytest.raises(HeaderError, match=r"the first sample is .* \(lead"):
        read_record(path, **given)
    assert "initial_value_differs" in codes(read_record(path, verify_checksum=False, **given))
    # A checksum that fits is worth more: excerpts keep the initial values of the whole.
    total = int(digital[0].astype(int).sum()) & 0xFFFF
    Path(path + ".hea").write_text("\n".join([header[0], f"{changed} {total} 0 I", f"{header[2]}"]) + "\n")
    assert [
        note.lead for note in read_record(path, **given).notes if note.code == "initial_value_differs"
    ] == ["I"]


@pytest.mark.parametrize("rate", [0.1, 1, 10, 19.9, 20, 31, 62.4725, 500, 100_000])
@pytest.mark.parametrize("samples", [1, 2, 3, 10, 100])
def test_thorough_checks_take_any_rate_and_length(make_record, rate, samples):
    digital = ecg_like(leads=2, samples=samples, rate=rate)
    path = make_record(digital, record_line=f"r0 2 {rate} {samples}").write()
    assert read_record(path, thorough=True).signal.shape == (2, samples)


@pytest.mark.parametrize(
    "keep",
    [
        pytest.param(32768 * 2, id="row-02-truncated-at-32768"),
        pytest.param(60000, id="row-03-cut-at-frame"),
        pytest.param(119999, id="row-04-one-byte-short"),
        pytest.param(0, id="row-05-empty"),
    ],
)
def test_truncated_signal_file(make_record, keep):
    files = make_record()
    path = files.write(data=files.digital.T.astype("<i2").tobytes()[:keep])
    with pytest.raises(TruncatedSignal, match=rf"r0\.dat: .*{keep} bytes.*120000"):
        read_record(path)


def test_row_06_signal_file_missing(make_record):
    path = make_record().write()
    os.remove(path + ".dat")
    with pytest.raises(RecordNotFound, match=r"r0\.dat"):
        read_record(path)


def test_row_06_header_missing(tmp_path):
    with pytest.raises(RecordNotFound, match=r"nothing\.hea"):
        read_record(tmp_path / "nothing")


def test_row_07_trailing_bytes_are_noted(make_record):
    files = make_record()
    path = files.write(data=files.digital.T.astype("<i2").tobytes() + b"abc")
    record = read_record(path)
    assert codes(record) == {"trailing_bytes"}
    assert "3 bytes" in record.notes[0].detail


def test_row_08_checksum(make_record):
    files = make_record()
    data = bytearray(files.digital.T.astype("<i2").tobytes())
    data[24 * 700 + 5] ^= 0x40  # third lead
    path = files.write(data=bytes(data))
    with pytest.raises(ChecksumMismatch, match=r"\(lead III\)") as caught:
        read_record(path)
    assert caught.value.lead == "III"
    assert read_record(path, verify_checksum=False).signal.shape == (12, 5000)


def test_row_09_no_valid_sample(make_record):
    with pytest.raises(SignalError, match="no valid sample"):
        read_record(make_record(np.full((12, 5000), -32768, np.int16)).write())


def test_row_10_some_invalid_samples(make_record):
    digital = ecg_like()
    digital[4, 100:150] = -32768
    record = read_record(make_record(digital).write())
    assert np.isnan(record.signal[4, 100:150]).all()
    assert np.isnan(record.signal).sum() == 50
    assert [(note.code, note.lead) for note in record.notes] == [("samples_missing", "aVL")]


def test_row_11_one_lead_invalid(make_record):
    digital = ecg_like()
    digital[7] = -32768
    record = read_record(make_record(digital).write())
    assert [(note.code, note.lead) for note in record.notes] == [("lead_missing", "V2")]
    assert np.isnan(record.signal[7]).all()
    assert np.isfinite(np.delete(record.signal, 7, axis=0)).all()


@pytest.mark.parametrize(
    ("gain", "expected"),
    [
        pytest.param("0", {"gain_assumed", "unit_assumed"}, id="row-12-gain-zero"),
        pytest.param("0/mV", {"gain_assumed"}, id="row-12-gain-zero-with-unit"),
        pytest.param("-1000/mV", {"gain_negative"}, id="row-13-gain-negative"),
        pytest.param("1e300/mV", {"all_flat"}, id="row-16-gain-1e300-underflows"),
        pytest.param("1e8/mV", {"amplitude_implausible"}, id="row-16-gain-1e8"),
        pytest.param("1000(32767)/mV", {"offset_implausible"}, id="row-17-baseline-32767"),
        pytest.param("1000", {"unit_assumed"}, id="row-19-unit-missing"),
        pytest.param("1000/uV", {"amplitude_implausible"}, id="row-21-mv-labelled-microvolt"),
        pytest.param("1/mV", {"amplitude_implausible", "offset_implausible"}, id="row-22-adc-as-mv"),
    ],
)
def test_calibration_is_flagged(make_record, gain, expected):
    record = read_record(make_record(gain=gain).write())
    # At a gain of 1 the noise-free baseline of the limb leads looks like a plateau of its own.
    assert codes(record) - {"clipping"} == expected
    assert np.isfinite(record.signal).all()


def test_row_12_and_13_values(make_record):
    files = make_record(gain="0/mV")
    assert np.array_equal(
        read_record(files.write()).signal, files.digital.astype(np.float32) / np.float32(200)
    )
    files = make_record(gain="-1000/mV")
    assert np.array_equal(
        read_record(files.write()).signal, files.digital.astype(np.float32) / np.float32(-1000)
    )


@pytest.mark.parametrize(
    ("gain", "error"),
    [
        pytest.param("nan/mV", HeaderError, id="row-14-gain-nan"),
        pytest.param("1e-320/mV", NonFiniteSignal, id="row-15-gain-denormal"),
        pytest.param("1e400/mV", HeaderError, id="row-15-gain-infinite"),
        pytest.param("1000/furlong", UnknownUnit, id="row-20-unit-furlong"),
        pytest.param("1000(9999999999)/mV", HeaderError, id="row-17-baseline-too-large"),
    ],
)
def test_calibration_is_refused(make_record, gain, error):
    with pytest.raises(error, match=r"r0"):
        read_record(make_record(gain=gain).write())


@pytest.mark.parametrize("unit", ["\u00b5V".encode(), "\u03bcV".encode(), b"\xb5V", b"uV"])
def test_row_18_microvolts_are_converted(make_record, unit):
    files = make_record(gain="1(0)/UNIT")
    header = "\n".join(files.lines()).encode().replace(b"UNIT", unit)
    record = read_record(files.write(header=header))
    assert np.allclose(record.signal, files.digital / 1000, rtol=1e-6)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("r0 12 0 5000", id="row-23-zero"),
        pytest.param("r0 12", id="row-24-absent"),
        pytest.param("r0 12 5e9 5000", id="row-25-absurd"),
    ],
)
def test_sampling_rate_is_refused(make_record, line):
    with pytest.raises(SamplingRateError, match=r"r0\.hea"):
        read_record(make_record(record_line=line).write())


def test_row_24_rate_given_by_the_caller(make_record):
    path = make_record(record_line="r0 12").write()
    record = read_record(path, sampling_rate=250)
    assert record.sampling_rate == 250.0
    assert codes(record) == {"sampling_rate_assumed"}
    with pytest.raises(SamplingRateError, match="caller"):
        read_record(make_record().write(), sampling_rate=250)


def test_row_26_wrong_sampling_rate_shows_in_heart_rate(make_record):
    digital = ecg_like(samples=5000, rate=100.0)
    record = read_record(make_record(digital).write(), thorough=True)
    assert "heart_rate_implausible" in codes(record)
    assert "heart_rate_implausible" not in codes(read_record(make_record().write(), thorough=True))


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("r0 13 500 5000", id="row-29-13-signals-12-lines"),
        pytest.param("r0 11 500 5000", id="row-30-11-signals-12-lines"),
        pytest.param("r0 99999999 500 5000", id="row-31-99999999-signals"),
        pytest.param("r0 0 500 5000", id="row-31-no-signals"),
        pytest.param("r0 12 500 0", id="row-33-length-zero"),
        pytest.param("r0 12 500 -5", id="row-33-length-negative"),
        pytest.param("r0 12 500 5_000", id="row-33-length-with-underscore"),
        pytest.param("r0", id="row-29-no-signal-count"),
        pytest.param("../r0 12 500 5000", id="row-47-record-name-climbs"),
    ],
)
def test_record_line_is_refused(make_record, line):
    with pytest.raises(HeaderError, match=r"r0\.hea: header line 1"):
        read_record(make_record(record_line=line).write())


def test_row_32_huge_length_allocates_nothing(make_record):
    import tracemalloc

    path = make_record(record_line="r0 12 500 500000000000").write()
    tracemalloc.start()
    with pytest.raises(TruncatedSignal):
        read_record(path)
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


def test_row_34_length_absent_is_inferred(make_record):
    assert read_record(make_record(record_line="r0 12 500").write()).signal.shape == (12, 5000)


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(b"", id="row-35-empty"),
        pytest.param(b"# name: X\n# age: 50\n", id="row-36-comments-only"),
        pytest.param(bytes(range(1, 256)) * 4, id="row-37-garbage"),
        pytest.param(os.urandom(64).replace(b"\n", b"x") + b"\n", id="row-37-random"),
    ],
)
def test_header_is_refused(make_record, header):
    with pytest.raises(HeaderError, match=r"r0\.hea"):
        read_record(make_record().write(header=header))


def test_row_38_nul_byte(make_record):
    files = make_record()
    header = "\n".join(files.lines()).encode().replace(b" II\n", b" \0II\n")
    with pytest.raises(HeaderError, match="NUL"):
        read_record(files.write(header=header))


@pytest.mark.parametrize("prefix", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("newline", [b"\r\n", b"\n", b"\n\n", b"\r"])
def test_row_39_line_ends_and_byte_order_mark(make_record, prefix, newline):
    files = make_record()
    header = prefix + newline.join(line.encode() for line in files.lines()) + newline
    record = read_record(files.write(header=header))
    assert record.lead_names == STANDARD_LEADS
    assert record.notes == ()


def test_row_40_patient_names_do_not_leak(make_record, caplog, capsys):
    secret = "M\xfcller Hans 1950"
    record = read_record(make_record(comments=(f"Name: {secret}",)).write())
    assert not any("ller" in str(note) for note in record.notes)
    spoilt = make_record(comments=(f"Name: {secret}",), record_line="r0 12 500 400000")
    with pytest.raises(TruncatedSignal) as caught:
        read_record(spoilt.write())
    # A comment that lost its mark is a malformed line; its text must not be repeated either.
    files = make_record(digital=ecg_like(), comments=())
    lines = [*files.lines()[:-1], f"{secret} V6"]
    with pytest.raises(HeaderError) as unmarked:
        read_record(files.write(header="\n".join(lines).encode("latin-1")))
    for text in (str(caught.value), str(unmarked.value), caplog.text, *capsys.readouterr()):
        assert "ller" not in text
        assert "Hans" not in text


def test_row_40_header_repr_hides_comments(make_record):
    from ecg_hf.signal.io.wfdb_header import parse_header

    header = parse_header("\n".join(make_record(comments=(" Age: 81",)).lines()).encode())
    assert header.comments == ("Age: 81",)
    assert "81" not in repr(header)


def test_row_41_header_size_is_capped(make_record):
    with pytest.raises(HeaderError, match=r"r0\.hea: header has \d+ bytes"):
        read_record(make_record(comments=("x" * 10_000_000,)).write())


@pytest.mark.parametrize(
    "date",
    [
        pytest.param("14:50:55 05-May-2020", id="row-42-dashes"),
        pytest.param("05-May-2020 14:50:55", id="row-42-date-first"),
        pytest.param("2006", id="row-43-year-only"),
        pytest.param("99:99:99 32/13/9999", id="row-43-nonsense"),
    ],
)
def test_dates_do_not_matter(make_record, date):
    assert read_record(make_record(record_line=f"r0 12 500 5000 {date}").write()).signal.shape == (12, 5000)


def test_row_44_unknown_format(make_record):
    with pytest.raises(HeaderError, match="format 17"):
        read_record(make_record(form="17").write())


@pytest.mark.parametrize("verify", [True, False])
def test_row_45_format_212_over_16_bit_data(make_record, verify):
    with pytest.raises(HeaderError, match="212"):
        read_record(make_record(form="212").write(), verify_checksum=verify)


def test_row_46_more_samples_per_frame_than_there_are(make_record):
    with pytest.raises(TruncatedSignal):
        read_record(make_record(form="16x2").write())


def test_row_46_samples_per_frame(make_record):
    digital = ecg_like(leads=2, samples=1000)
    files = make_record(digital, form="16x2", record_line="r0 2 250 500")
    frames = digital.reshape(2, 500, 2).transpose(1, 0, 2)
    record = read_record(files.write(data=frames.astype("<i2").tobytes()))
    assert record.sampling_rate == 500.0
    assert np.allclose(record.signal, digital / 1000, atol=1e-6)


def test_row_46_byte_offset_beyond_the_data(make_record):
    with pytest.raises(TruncatedSignal):
        read_record(make_record(form="16+24").write())


def test_row_46_byte_offset(make_record):
    files = make_record(form="16+24")
    path = files.write(data=b"\xff" * 24 + files.digital.T.astype("<i2").tobytes())
    assert np.allclose(read_record(path).signal, files.digital / 1000, atol=1e-6)


def test_row_46_skew(make_record):
    files = make_record(form="16:5")
    path = files.write()
    record = read_record(path)
    assert codes(record) == {"skew_applied", "samples_missing"}
    assert np.isnan(record.signal[:, -5:]).all()
    expected = wfdb.rdsamp(path)[0].T.astype(np.float32)
    assert np.array_equal(record.signal, expected, equal_nan=True)


@pytest.mark.parametrize(
    "name",
    ["../r0.dat", "/etc/passwd", "http://host/r0.dat", "..", "sub/r0.dat", "a\\b.dat", "~", "C:r0.dat"],
)
def test_row_47_signal_file_name(make_record, name):
    with pytest.raises(HeaderError):
        read_record(make_record(file_name=name).write())


@pytest.mark.parametrize(
    "name", ["../r0", "/etc/passwd", "a\\..\\r0", "sub/../../r0", "C:\\r0", "s3://bucket/r0", "", "a\0b"]
)
def test_row_48_manifest_names(tmp_path, name):
    with pytest.raises(UnsafePath):
        join_inside_root(tmp_path, name)


def test_row_48_root_confines_paths(make_record, tmp_path):
    path = make_record().write()
    inner = tmp_path / "inner"
    inner.mkdir()
    assert read_record(path, root=tmp_path).signal.shape == (12, 5000)
    for outside in (path, f"{inner}/../r0", f"{inner}/../r0.hea"):
        with pytest.raises(UnsafePath):
            read_record(outside, root=inner)
    with pytest.raises(UnsafePath):  # a neighbour whose name merely starts like the root's
        read_record(path, root=str(tmp_path)[:-1])


@pytest.mark.parametrize("suffix", [".hea", ".dat"])
@pytest.mark.parametrize("with_root", [True, False])
def test_row_49_links_that_leave(make_record, tmp_path, suffix, with_root):
    path = make_record().write()
    root = tmp_path / "data"
    root.mkdir()
    for part in (".hea", ".dat"):
        if part == suffix:
            (root / f"r0{part}").symlink_to(path + part)
        else:
            (root / f"r0{part}").write_bytes(Path(path + part).read_bytes())
    with pytest.raises(UnsafePath):
        read_record(root / "r0", root=root if with_root else None)
    assert read_record(root / "r0", root=tmp_path).signal.shape == (12, 5000)


def test_row_49_linked_folder_and_array(make_record, tmp_path):
    path = make_record().write()
    np.save(tmp_path / "a.npy", ecg_like())
    root = tmp_path / "data"
    root.mkdir()
    (root / "out").symlink_to(tmp_path, target_is_directory=True)
    (root / "a.npy").symlink_to(tmp_path / "a.npy")
    with pytest.raises(UnsafePath):
        read_record(root / "out" / "r0", root=root)
    metadata = {"sampling_rate": 500, "lead_names": STANDARD_LEADS, "unit": "uV"}
    with pytest.raises(UnsafePath):
        read_record(root / "a.npy", root=root, **metadata)
    with pytest.raises(UnsafePath):
        read_record(root / "a.npy", **metadata)
    assert Path(path + ".hea").exists()


@pytest.mark.parametrize("path", ["s3://b/r0", "gs://b/r0", "http://h/r0", "https://h/r0.npy", "file:///r0"])
def test_row_50_remote_paths(path):
    with pytest.raises(UnsafePath, match="remote"):
        read_record(path)


def test_special_files_do_not_hang(tmp_path):
    os.mkfifo(tmp_path / "p.hea")
    with pytest.raises(RecordNotFound, match="regular"):
        read_record(tmp_path / "p")
    (tmp_path / "d.hea").mkdir()
    with pytest.raises(RecordNotFound):
        read_record(tmp_path / "d")


def test_row_51_record_made_of_itself(tmp_path):
    (tmp_path / "m.hea").write_text("m/2 12 500 10000\nm 5000\nm 5000\n")
    with pytest.raises(HeaderError, match="segment"):
        read_record(tmp_path / "m")


def test_row_52_segments(make_record, tmp_path):
    path = make_record().write()
    (tmp_path / "m.hea").write_text("m/3 12 500 11000\nr0 5000\n~ 1000\nr0 5000\n")
    record = read_record(tmp_path / "m")
    part = read_record(path).signal
    expected = np.concatenate([part, np.full((12, 1000), np.nan, np.float32), part], axis=1)
    assert np.array_equal(record.signal, expected, equal_nan=True)
    assert codes(record) == {"samples_missing"}
    (tmp_path / "m.hea").write_text("m/2 12 500 10000\nr0 5000\nr0 5000\n")
    gapless = wfdb.rdrecord(str(tmp_path / "m")).p_signal.T.astype(np.float32)
    assert np.array_equal(read_record(tmp_path / "m").signal, gapless)
    (tmp_path / "m.hea").write_text("m/2 12 500 10000\nr0 5000\nr1 5000\n")
    with pytest.raises(RecordNotFound, match=r"r1\.hea"):
        read_record(tmp_path / "m")
    (tmp_path / "m.hea").write_text("m/2 12 500 10000\nr0 5000\n~ 4000\n")
    with pytest.raises(HeaderError, match="add up"):
        read_record(tmp_path / "m")


def test_row_52_absurd_gap(make_record, tmp_path):
    make_record().write()
    (tmp_path / "m.hea").write_text("m/2 12 500 500000005000\nr0 5000\n~ 500000000000\n")
    with pytest.raises(SignalError):
        read_record(tmp_path / "m")
