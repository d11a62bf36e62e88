"""What is easily read wrong in each format, one format after the other."""

from __future__ import annotations

import base64
import binascii
import io
import re
import struct
import tracemalloc
import warnings
import zlib
from typing import Any

import numpy as np
import pytest

from ecg_hf import EcgRecord, read_record
from ecg_hf.errors import (
    ChecksumMismatch,
    EcgError,
    HeaderError,
    LeadError,
    MetadataMissing,
    SamplingRateError,
    SignalError,
    TruncatedSignal,
    UnknownUnit,
    UnsupportedFormat,
)
from ecg_hf.signal.io.philips_sierra import _halved
from tests.signal.io.clinical import RECORDINGS, SHARED, need_library, small


def codes(record: EcgRecord) -> set[str]:
    return {note.code for note in record.notes}


# HL7 aECG -----------------------------------------------------------------------------------------


def aecg(
    *,
    increment: str = '<increment value="0.002" unit="s"/>',
    scale: str = '<origin value="0" unit="uV"/><scale value="5" unit="uV"/>',
    leads: str = "I II",
    digits: str = "1 -2 3 200",
    before: str = "",
    after: str = "",
    code: str = "RHYTHM",
) -> str:
    sequences = "".join(
        f'<component><sequence><code code="MDC_ECG_LEAD_{lead}"/><value>{scale}<digits>{digits}</digits></value>'
        "</sequence></component>"
        for lead in leads.split()
    )
    time = (
        f'<component><sequence><code code="TIME_RELATIVE"/><value>{increment}</value></sequence></component>'
    )
    series = (
        f'<component><series><code code="{code}"/><component><sequenceSet>{time}{sequences}</sequenceSet></component>'
        f"{after}</series></component>"
    )
    return f'<?xml version="1.0"?><AnnotatedECG xmlns="urn:hl7-org:v3">{before}{series}</AnnotatedECG>'


DERIVED = (
    '<derivation><derivedSeries><code code="REPRESENTATIVE_BEAT"/><component><sequenceSet><component><sequence>'
    '<code code="MDC_ECG_LEAD_I"/><value><scale value="1" unit="uV"/><digits>9 9 9 9 9 9 9 9</digits></value>'
    "</sequence></component></sequenceSet></component></derivedSeries></derivation>"
)


@pytest.mark.parametrize(
    ("value", "unit", "rate"),
    [
        ("0.002", "s", 500.0), ("2", "ms", 500.0), ("2000", "us", 500.0), ("2000", "\u00b5s", 500.0),
        ("0.003333", "s", 300.0), ("0.00194991", "s", 1 / 0.00194991), ("4e-3", "s", 250.0),
        ("0.0039", "s", 1 / 0.0039),
    ],
)  # fmt: skip
def test_aecg_units_of_time(value: str, unit: str, rate: float):
    record = read_record(aecg(increment=f'<increment value="{value}" unit="{unit}"/>').encode())
    assert record.sampling_rate == pytest.approx(rate, rel=1e-12)
    assert ("sampling_rate_rounded" in codes(record)) == (value == "0.003333")


def test_aecg_derived_series_are_not_the_recording():
    for text in (
        aecg(after=DERIVED),
        aecg(
            before=aecg(code="REPRESENTATIVE_BEAT", digits="7 " * 9)
            .split('v3">')[1]
            .removesuffix("</AnnotatedECG>")
        ),
    ):
        assert read_record(text.encode()).signal[0].tolist() == pytest.approx([0.005, -0.01, 0.015, 1.0])
    with pytest.raises(SignalError, match="no rhythm series"):
        read_record(aecg(code="REPRESENTATIVE_BEAT").encode())


def test_aecg_origin_and_units():
    scale = '<origin value="1" unit="mV"/><scale value="500" unit="uV"/>'
    assert read_record(aecg(scale=scale).encode()).signal[0].tolist() == pytest.approx([1.5, 0.0, 2.5, 101.0])
    with pytest.raises(MetadataMissing, match="units"):
        read_record(aecg(scale='<scale value="5"/>').encode())
    assert read_record(aecg(scale='<scale value="5"/>').encode(), units="uV").signal[0, 0] == pytest.approx(
        0.005
    )
    for wrong in (aecg(digits="1 x 3"), aecg(digits="1 inf 3"), aecg(digits="")):
        with pytest.raises(SignalError):
            read_record(wrong.encode())
    for increment in (
        "",
        '<increment value="0" unit="s"/>',
        '<increment value="-1" unit="s"/>',
        '<increment value="z" unit="s"/>',
    ):
        with pytest.raises(SamplingRateError):
            read_record(aecg(increment=increment).encode())
    with pytest.raises(HeaderError, match="unit"):
        read_record(aecg(increment='<increment value="2" unit="fortnight"/>').encode())
    with pytest.raises(LeadError, match="more than once"):
        read_record(aecg(leads="I I").encode())


# XML ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "iso-8859-1", "windows-1252"]
)
@pytest.mark.parametrize("declared", ["", "utf-8", "utf-16", "ISO-8859-1"])
def test_xml_in_any_encoding(encoding: str, declared: str):
    text = aecg().replace(
        '<?xml version="1.0"?>', f'<?xml version="1.0" encoding="{declared}"?>' if declared else ""
    )
    text = text.replace("</AnnotatedECG>", "<note>\u00e9\u00b5</note></AnnotatedECG>")
    content = ("\r\n \n" + text if not declared else text).encode(encoding)
    assert read_record(content).sampling_rate == 500.0


def test_a_document_type_is_never_opened(tmp_path):
    (tmp_path / "restecg.dtd").write_text("not a dtd")
    doctype = f'<!DOCTYPE AnnotatedECG SYSTEM "{tmp_path}/restecg.dtd">'
    assert (
        read_record(aecg().replace("<AnnotatedECG", doctype + "<AnnotatedECG", 1).encode()).sampling_rate
        == 500.0
    )


BOMB = (
    '<!DOCTYPE a [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY a{n} "&a{n - 1 if n else ""};&a{n - 1 if n else ""};">' for n in range(1, 40))
    + "]>"
)


@pytest.mark.parametrize(
    "doctype",
    [
        BOMB,
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE a [<!ENTITY % p SYSTEM "http://localhost/x.dtd"> %p;]>',
        '<!DOCTYPE a [<!ENTITY x "y">]>',
    ],
)
def test_entities_are_refused(doctype: str):
    text = aecg(digits="&x; 1").replace("<AnnotatedECG", doctype + "<AnnotatedECG", 1)
    with pytest.raises(UnsupportedFormat):
        read_record(text.encode())


def test_xml_is_bounded():
    for text in (
        "<a>" * 100_000,
        "<AnnotatedECG>" + "<a/>" * 1_100_000 + "</AnnotatedECG>",
        "<a " + 'b="' + "c" * 10**6,
    ):
        with pytest.raises(UnsupportedFormat):
            read_record(text.encode())
    with pytest.raises(UnsupportedFormat, match="not well-formed"):
        read_record(aecg().encode()[:-5])


# GE MUSE ------------------------------------------------------------------------------------------


def muse(old: str, new: str) -> bytes:
    text = small("ge_muse").decode("latin-1")
    rhythm = text.index("<WaveformType>Rhythm")
    assert old in text[rhythm:]
    return (text[:rhythm] + text[rhythm:].replace(old, new, 1)).encode("latin-1")


def test_muse_checksums_rates_and_counts():
    data = re.search(
        r"<WaveFormData>\s*([A-Za-z0-9+/]{8})", small("ge_muse").decode("latin-1").split("Rhythm")[1]
    )
    assert data
    broken = muse(data[1], "AAAA" + data[1][4:])
    with pytest.raises(ChecksumMismatch, match="CRC"):
        read_record(broken)
    assert read_record(broken, verify_checksum=False).signal[0, 0] == 0.0
    assert read_record(muse("<SampleExponent>0", "<SampleExponent>1")).sampling_rate == 2500.0
    assert read_record(muse("<SampleBase>250", "<SampleBase>500")).sampling_rate == 500.0
    assert read_record(muse("PerBit>4.88", "PerBit>2.44")).signal[0, 0] == pytest.approx(-8 * 2.44e-3)
    assert read_record(muse("MICROVOLTS", "MILLIVOLTS"), leads=["I"]).signal[0, 0] == pytest.approx(-8 * 4.88)
    with pytest.raises(TruncatedSignal):
        read_record(muse("<LeadSampleCountTotal>2500", "<LeadSampleCountTotal>2501"))
    with pytest.raises(HeaderError, match="Exponent"):
        read_record(muse("<SampleExponent>0", "<SampleExponent>999"))
    with pytest.raises(UnsupportedFormat, match="different times"):
        read_record(muse("<LeadTimeOffset>0", "<LeadTimeOffset>2500"))
    assert "lead_off" in codes(read_record(muse("<LeadOff>FALSE", "<LeadOff>TRUE")))
    with pytest.raises(SignalError, match="rhythm"):
        read_record(muse("Rhythm", "Median"))


# Philips ------------------------------------------------------------------------------------------


def test_sierra_refuses_what_it_does_not_know():
    text = small("philips_sierra").decode("utf-8")
    for old, new, error in (
        ('"XLI"', '"ZIP"', UnsupportedFormat),
        ('durationperchannel="11000"', 'durationperchannel="110000000000"', SignalError),
        ('durationperchannel="11000"', 'durationperchannel="12000"', TruncatedSignal),
        ("<numberchannelsvalid>12", "<numberchannelsvalid>13", HeaderError),
        ("<signaloffset>0", "<signaloffset>5", UnsupportedFormat),
        ("<samplingrate>500", "<samplingrate>", HeaderError),
    ):
        assert old in text
        with pytest.raises(error):
            read_record(text.replace(old, new).encode())


def test_sierra_halves_are_rounded_toward_zero():
    """As C divides: with Python's floor, augmented leads are a count (5 uV) off the expected values."""
    assert _halved(np.array([-3, -2, -1, 0, 1, 2, 3])).tolist() == [-1, -1, 0, 0, 0, 1, 1]


# Schiller and Mortara -----------------------------------------------------------------------------


def test_schiller_averages_and_odd_exponents():
    text = small("schiller").decode("utf-8-sig")
    assert read_record(text.replace("<unitperbit>1.0", "<unitperbit>2.0").encode()).signal[
        0, 0
    ] == pytest.approx(-0.05)
    with pytest.raises(UnsupportedFormat, match="exponent"):
        read_record(text.replace("<exponent>1", "<exponent>3").encode())
    with pytest.raises(TruncatedSignal, match="samplecount"):
        read_record(text.replace("<samplecount>4998", "<samplecount>5000", 1).encode())
    with pytest.raises(SignalError, match="rhythm"):
        read_record(text.replace("ECG_RHYTHMS", "ECG_AVERAGES").encode())


def test_mortara_channels():
    text = small("mortara").decode()
    assert (
        read_record(re.sub(r'(<CHANNEL[^>]*UNITS_PER_MV=)"200"', r'\1"400"', text).encode()).signal[0, 0]
        == -0.0575
    )
    with pytest.raises(TruncatedSignal, match="DURATION"):
        read_record(text.replace('DURATION="5000"', 'DURATION="5001"', 1).encode())
    with pytest.raises(UnsupportedFormat, match="different times"):
        read_record(text.replace('OFFSET="0"', 'OFFSET="9"', 1).encode())
    with pytest.raises(SignalError, match="typical cycle"):
        read_record(re.sub(r"<CHANNEL[^>]*/>", "", text).encode())


# ISHNE --------------------------------------------------------------------------------------------


def ishne(
    counts: np.ndarray, codes: list[int], resolutions: list[int], rate: int = 200, gap: int = 0
) -> bytes:
    leads, samples = counts.shape
    head = bytearray(522)
    head[:8] = b"ISHNE1.0"
    struct.pack_into("<iiii", head, 10, gap, samples, 522, 522 + gap)
    head[28:38] = b"ZZTESTNAME"
    struct.pack_into("<h", head, 156, leads)
    struct.pack_into(f"<{leads}h", head, 158, *codes)
    struct.pack_into(f"<{leads}h", head, 206, *resolutions)
    struct.pack_into("<h", head, 272, rate)
    head += b"Z" * gap
    struct.pack_into("<H", head, 8, binascii.crc_hqx(bytes(head[10:]), 0xFFFF))
    return bytes(head) + counts.T.astype("<i2").tobytes()


def test_ishne_resolution_per_lead_and_no_sample():
    counts = np.array([[100, -32768, 300], [100, 200, 300]])
    record = read_record(ishne(counts, [5, 11], [1000, 2500], gap=7))
    np.testing.assert_allclose(record.signal, [[0.1, np.nan, 0.3], [0.25, 0.5, 0.75]], rtol=1e-6)
    assert (record.lead_names, record.sampling_rate) == (("I", "V1"), 200.0)
    assert "samples_missing" in codes(record)
    assert "ZZ" not in repr(record)
    content = bytearray(ishne(counts, [5, 11], [1000, 2500]))
    content[30] ^= 1
    assert "header_checksum_mismatch" in codes(read_record(content))
    for at, value in (
        (156, 0),
        (156, 13),
        (206, 0),
        (206, -5),
        (272, 0),
        (272, -1),
        (14, 9),
        (22, 9999),
        (22, -1),
    ):
        wrong = bytearray(ishne(counts, [5, 11], [1000, 2500]))
        struct.pack_into("<h" if at not in (14, 22) else "<i", wrong, at, value)
        with pytest.raises(EcgError):
            read_record(wrong)
    with pytest.raises(TruncatedSignal):
        read_record(ishne(counts, [5, 11], [1000, 2500])[:-1])
    with pytest.raises(MetadataMissing, match="lead_names"):
        read_record(ishne(counts, [0, 1], [1000, 1000]))
    assert read_record(ishne(counts, [0, 1], [1000, 1000]), lead_names=["V1", "V5"]).lead_names == (
        "V1",
        "V5",
    )


# Kardia -------------------------------------------------------------------------------------------


def atc(*blocks: tuple[bytes, bytes]) -> bytes:
    content = b"ALIVE\0\0\0" + struct.pack("<I", 2)
    for name, data in blocks:
        block = name + struct.pack("<I", len(data)) + data
        content += block + struct.pack("<I", sum(block))
    return content


FORMAT = (b"fmt ", struct.pack("<BHHBH", 1, 300, 500, 2, 0))


def test_atc_blocks():
    one, two = np.array([1, 2, 3], "<i2").tobytes(), np.array([-4, 5, 6], "<i2").tobytes()
    record = read_record(
        atc((b"info", b"ZZTESTNAME"), FORMAT, (b"avg ", two * 50), (b"ecg ", one), (b"ecg2", two))
    )
    assert record.lead_names == ("I", "II")
    np.testing.assert_allclose(record.signal, np.array([[1, 2, 3], [-4, 5, 6]]) * 5e-4, rtol=1e-6)
    broken = bytearray(atc(FORMAT, (b"ecg ", one)))
    broken[-6] ^= 1
    with pytest.raises(ChecksumMismatch):
        read_record(broken)
    assert read_record(broken, verify_checksum=False).lead_names == ("I",)
    for wrong in (
        atc(FORMAT), atc((b"ecg ", one)), atc(FORMAT, (b"ecg ", one[:5])), atc(FORMAT, (b"ecg ", b"")),
        atc(FORMAT, (b"ecg ", one))[:-1], atc(FORMAT, (b"ecg ", one), (b"ecg ", one)), atc(),
        atc((b"fmt ", b"\1"), (b"ecg ", one)), b"ALIVE\0\0\0\2\0\0\0ecg \xff\xff\xff\xff",
    ):  # fmt: skip
        with pytest.raises(EcgError):
            read_record(wrong)


# Apple Health -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "rate_text", "unit", "rate", "first"),
    [
        ("Sample Rate,{}|Lead,Lead I|Unit,{}", "512 hertz", "\u00b5V", 512.0, "-115.078"),
        ("Sample Rate,{}|Lead,Lead I|Unit,{}", "512.844 hertz", "\u00b5V", 512.844, "-115.078"),
        ("Sample Rate,{}|Lead,Lead I|Unit,{}", "510.227 hertz", "\u03bcV", 510.227, "-115.078"),
        ("Messrate,{}|Ableitung,Ableitung I|Einheit,{}", "512,844 Hertz", "\u00b5V", 512.844, "-115,078"),
        (
            "Taux d'\u00e9chantillonnage,{}|D\u00e9rivation,D\u00e9rivation I|Unit\u00e9,{}",
            "512 hertz",
            "mV",
            512.0,
            "-0,115078",
        ),
        (
            "\u30b5\u30f3\u30d7\u30eb\u30ec\u30fc\u30c8,{}|\u8a98\u5c0e,I|\u5358\u4f4d,{}",
            "512\u30d8\u30eb\u30c4",
            "\u00b5V",
            512.0,
            "-115.078",
        ),
    ],
)
def test_apple_health_in_any_language(keys: str, rate_text: str, unit: str, rate: float, first: str):
    rate_line, lead_line, unit_line = keys.format(rate_text, unit).split("|")
    head = ["Name,ZZTESTNAME ZZFIRST", '"Born","8 Jan 1960"', "Version,1.90", 'Device,"Watch6,7"', rate_line]
    text = "\n".join([*head, "", "", lead_line, unit_line, "", "", first, "0", "1", "2"])
    record = read_record(text.encode())
    assert record.sampling_rate == pytest.approx(rate, rel=1e-12)
    assert record.lead_names == ("I",)
    assert record.signal[0, 0] == pytest.approx(-0.115078)
    with pytest.raises(LeadError, match="contradict"):
        read_record(text.encode(), lead_names=["II"])
    with pytest.raises(SamplingRateError):
        read_record(text.encode(), sampling_rate=500)
    with pytest.raises(EcgError) as caught:
        read_record((text + "\nZZTESTNAME").encode())
    assert "ZZ" not in f"{caught.value}{caught.value.value}"


# EDF ----------------------------------------------------------------------------------------------


def edf(
    *,
    rates: tuple[int, ...] = (200, 200),
    seconds: float = 1.0,
    labels: str = "ECG I|ECG II",
    units: str = "uV|mV",
    bdf: bool = False,
    annotated: bool = True,
) -> bytes:
    need_library("edf")
    import edfio

    kind, file = (edfio.BdfSignal, edfio.Bdf) if bdf else (edfio.EdfSignal, edfio.Edf)
    time = [np.arange(round(rate * 10 * seconds)) / rate for rate in rates]
    signals = [
        kind(np.sin(2 * np.pi * t) * (1000 if unit == "uV" else 1), rate, label=label, physical_dimension=unit,
             physical_range=(-2000, 2000) if unit == "uV" else (-2, 2))
        for t, rate, label, unit in zip(time, rates, labels.split("|"), units.split("|"), strict=True)
    ]  # fmt: skip
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = file(signals, patient=edfio.Patient(name="ZZTESTNAME"), data_record_duration=seconds,
                    annotations=[edfio.EdfAnnotation(1.0, None, "ZZTESTNAME")] if annotated else None)  # fmt: skip
    made.write(stream)
    return stream.getvalue()


@pytest.mark.parametrize("bdf", [False, True])
def test_edf_units_and_rates_per_signal(bdf: bool):
    record = read_record(edf(rates=(200, 100), bdf=bdf))
    assert (record.lead_names, record.sampling_rate) == (("I", "II"), 200.0)
    wanted = np.sin(2 * np.pi * np.arange(2000) / 200)
    np.testing.assert_allclose(record.signal[0], wanted, atol=1e-4)
    np.testing.assert_allclose(record.signal[1, 100:-100], wanted[100:-100], atol=2e-3)
    assert "lead_resampled" in codes(record)
    assert "ZZ" not in repr(record)
    with pytest.raises(LeadError, match=r"no lead|no signal"):
        read_record(edf(bdf=bdf), leads=["V1"])
    with pytest.raises(UnknownUnit):
        read_record(edf(bdf=bdf, units="uV|mmHg"))


def test_edf_fractional_rates():
    content = bytearray(edf(annotated=False))
    content[244:252] = b"3.201409"
    record = read_record(content)
    assert record.sampling_rate == pytest.approx(200 / 3.201409, rel=1e-12)
    assert record.resample(100).signal.shape == (2, 3201)


def test_edf_gaps_and_truncation():
    content = edf()
    assert read_record(content).signal.shape == (2, 2000)
    size = 800 + len(content[1024:]) // 10 - 800
    fifth = 1024 + 5 * size
    onset = content.index(b"+5\x14", fifth)
    gap = bytearray(content)
    gap[192:197] = b"EDF+D"
    gap[onset : onset + 2] = b"+9"
    with pytest.raises(SignalError, match="gap"):
        read_record(gap)
    continuous = bytearray(content)
    continuous[192:197] = b"EDF+D"  # without a gap it is as good as continuous
    assert read_record(continuous).signal.shape == (2, 2000)
    for cut in (1, size, 5 * size + 3, len(content) - 500, len(content) - 100):
        with pytest.raises(TruncatedSignal):
            read_record(content[:-cut])
    unknown = bytearray(content)
    unknown[236:244] = b"-1      "
    assert "length_assumed" in codes(read_record(unknown))
    assert "trailing_bytes" in codes(read_record(content + b"xyz"))
    for at, value in ((184, b"9"), (236, b"x"), (244, b"0       "), (252, b"0   "), (252, b"9999")):
        wrong = bytearray(content)
        wrong[at : at + len(value)] = value
        with pytest.raises(EcgError):
            read_record(wrong)


# DICOM --------------------------------------------------------------------------------------------


def dicom(change: Any = None) -> bytes:
    need_library("dicom")
    import pydicom

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(RECORDINGS / "dicom" / "ecgtoolkit_12lead.dcm")
        if change:
            change(dataset)
        stream = io.BytesIO()
        dataset.save_as(stream)
    return stream.getvalue()


def test_dicom_takes_the_original_group_wherever_it_stands():
    plain = read_record(dicom())

    def swap(dataset: Any) -> None:
        dataset.WaveformSequence = [dataset.WaveformSequence[1], dataset.WaveformSequence[0]]

    def unsaid(dataset: Any) -> None:
        swap(dataset)
        for group in dataset.WaveformSequence:
            del group.WaveformOriginality

    for change in (swap, unsaid):
        assert np.array_equal(read_record(dicom(change)).signal, plain.signal)

    def derived(dataset: Any) -> None:
        del dataset.WaveformSequence[0]

    with pytest.raises(SignalError, match="derived"):
        read_record(dicom(derived))


def test_dicom_scales_and_codes_per_channel():
    plain = read_record(dicom())

    def change(dataset: Any) -> None:
        channels = dataset.WaveformSequence[0].ChannelDefinitionSequence
        channels[0].ChannelSensitivityUnitsSequence[0].CodeValue = "mV"
        channels[0].ChannelSensitivity = "0.0025"
        channels[1].ChannelSensitivityCorrectionFactor = "2"
        channels[2].ChannelBaseline = "100"
        channels[3].ChannelSourceSequence[0].CodeValue = "MDC_ECG_LEAD_AVR"
        channels[4].ChannelSourceSequence[0].CodeValue = "2:63"
        channels[5].ChannelSourceSequence[0].CodeValue = "unknown"
        channels[5].ChannelSourceSequence[0].CodeMeaning = "Lead aVF (Goldberger)"

    record = read_record(dicom(change))
    assert record.lead_names == plain.lead_names
    np.testing.assert_allclose(record.signal[0], plain.signal[0], atol=1e-6)
    np.testing.assert_allclose(record.signal[1], 2 * plain.signal[1], atol=1e-6)
    np.testing.assert_allclose(record.signal[2], plain.signal[2] + 0.1, atol=1e-6)
    np.testing.assert_allclose(record.signal[3:], plain.signal[3:], atol=1e-6)


def test_dicom_padding_is_a_run_over_all_channels_at_an_end():
    plain = read_record(dicom())
    assert not np.isnan(plain.signal).any()  # its padding value is 0, and zeros are samples

    def pad(dataset: Any) -> None:
        group = dataset.WaveformSequence[0]
        data = np.frombuffer(group.WaveformData, "<i2").reshape(-1, 12).copy()
        data[-100:] = 0
        data[2000] = 0
        group.WaveformData = data.tobytes()

    record = read_record(dicom(pad))
    assert np.isnan(record.signal[:, -100:]).all()
    assert not np.isnan(record.signal[:, :-100]).any()
    assert (record.signal[:, 2000] == 0).all()
    assert "padding_masked" in codes(record)


def test_dicom_that_is_damaged_or_something_else():
    content = dicom()
    assert read_record(content[132:]).signal.shape == (12, 5000)  # without its preamble

    def no_waveform(dataset: Any) -> None:
        del dataset.WaveformSequence

    def short(dataset: Any) -> None:
        dataset.WaveformSequence[0].NumberOfWaveformSamples = 4_000_000_000

    def mulaw(dataset: Any) -> None:
        dataset.WaveformSequence[0].WaveformSampleInterpretation = "MB"

    for change in (no_waveform, short, mulaw):
        with pytest.raises(EcgError):
            read_record(dicom(change))
    with pytest.raises(UnsupportedFormat, match="deflated"):
        read_record(
            content[:132] + content[132:].replace(b"1.2.840.10008.1.2\0", b"1.2.840.10008.1.2.1.99", 1)
        )


# SCP-ECG ------------------------------------------------------------------------------------------


def test_scp_leads_may_count_from_zero():
    content = bytearray(small("scp_ecg"))
    plain = read_record(content)
    pointers = {
        struct.unpack_from("<HII", content, at)[0]: struct.unpack_from("<HII", content, at)
        for at in range(22, 142, 10)
    }
    start = pointers[3][2] - 1 + 16 + 2
    for shift in (0, 1):
        changed = bytearray(content)
        for row in range(8):
            _, last = struct.unpack_from("<II", changed, start + 9 * row)
            struct.pack_into("<II", changed, start + 9 * row, 0, last - shift)
        record = read_record(changed)
        assert np.array_equal(record.signal, plain.signal)
        assert "lead_start_assumed" in codes(record)
    for row in range(8):
        struct.pack_into("<II", content, start + 9 * row, 1, 4_000_000_000)
    with pytest.raises(HeaderError, match="more samples"):
        read_record(content)


def test_scp_that_does_not_conform_is_refused():
    need_library("scp_ecg")
    path = SHARED / "data" / "clinical" / "scp_ecg" / "healforce_62_nonconforming.SCP"
    if not path.is_file():
        pytest.skip("not beside this checkout")
    with pytest.raises(EcgError):
        read_record(path)


# No more memory than the file bears out -----------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        ishne(np.zeros((12, 1000)), [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16], [1000] * 12),
        atc(FORMAT, (b"ecg ", b"\1\0" * 50_000)),
        aecg(digits="1 " * 50_000).encode(),
    ],
    ids=["ishne", "atc", "aecg"],
)
def test_memory_is_what_the_file_bears_out(content: bytes):
    read_record(content)
    tracemalloc.start()
    try:
        read_record(content)
        assert tracemalloc.get_traced_memory()[1] < 60 * len(content) + 2_000_000
    finally:
        tracemalloc.stop()


def test_a_decompression_bomb_stops_at_the_stated_length():
    """Ten bits may stand for hundreds of bytes; nothing beyond the stated duration is unpacked."""
    need_library("philips_sierra")
    codes = [0, *range(256, 1024), *([1023] * 20_000)]
    bits = "".join(f"{code:010b}" for code in codes)
    packed = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    chunk = struct.pack("<ihh", len(packed), 1, 0) + packed
    text = small("philips_sierra").decode()
    bomb = re.sub(
        r"(<parsedwaveforms[^>]*>)[^<]*", lambda m: m[1] + base64.b64encode(chunk * 12).decode(), text
    )
    tracemalloc.start()
    try:
        read_record(bomb.encode())
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()
    assert zlib.crc32(packed)
