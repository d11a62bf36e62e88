"""DICOM waveforms (12-lead, general and ambulatory ECG), decoded by pydicom (extra ``clinical``)."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import EcgError, HeaderError, SignalError, TruncatedSignal, UnsupportedFormat
from ecg_hf.signal.io.decoded import StoredLead, digital_from_leads
from ecg_hf.signal.io.digital import DigitalRecord
from ecg_hf.signal.io.extras import needed
from ecg_hf.signal.io.options import ReadOptions
from ecg_hf.signal.leads import is_known_lead
from ecg_hf.signal.record import Note

__all__ = ["is_dicom", "read_dicom"]

_WAVEFORM_SEQUENCE = 0x54000100
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_SAMPLE_TYPES = {
    (8, "SB"): "i1", (8, "UB"): "u1", (16, "SS"): "<i2", (16, "US"): "<u2", (32, "SL"): "<i4", (32, "UL"): "<u4",
}  # fmt: skip


def is_dicom(head: bytes) -> bool:
    """Whether a file begins as a DICOM file does, or, without a preamble, with its groups 2 or 8."""
    if head[128:132] == b"DICM":
        return True
    return head[:2] in (b"\x02\0", b"\x08\0") and head[2:4] in (b"\0\0", b"\x05\0", b"\x16\0", b"\x18\0")


def read_dicom(content: bytes, options: ReadOptions, record_id: str | None) -> DigitalRecord:
    """Read the longest original multiplex group; median beats are derived and shorter.

    Raises:
        MetadataMissing: if pydicom is not installed.
        EcgError: if the file holds no waveform, or it is cut short or of a kind that is not read.
    """
    pydicom = needed("pydicom", "clinical", "DICOM files")
    if _DEFLATED in content[:4096]:
        raise UnsupportedFormat("deflated DICOM files are not read")
    try:
        # Elements of the person are neither decoded nor kept; warnings and logs would repeat them.
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            pydicom.config.logger.addFilter(_silent)
            try:
                dataset = pydicom.dcmread(io.BytesIO(content), force=True, specific_tags=[_WAVEFORM_SEQUENCE])
                group, others = _chosen(dataset)
                rate = float(group.SamplingFrequency)
                leads, notes = _leads(group, len(content))
            finally:
                pydicom.config.logger.removeFilter(_silent)
    except EcgError:
        raise
    # pydicom lets struct, attribute, decoding, recursion and many other errors through.
    except Exception as error:
        raise UnsupportedFormat(f"the DICOM file is damaged ({type(error).__name__})") from None
    if others:
        notes.append(Note("series_left_out", f"{others} further groups of channels, derived or shorter"))
    return digital_from_leads(leads, rate, options, record_id=record_id, notes=notes)


def _silent(_: object) -> bool:
    return False


def _chosen(dataset: Any) -> tuple[Any, int]:
    groups = list(dataset.get("WaveformSequence") or [])
    if not groups:
        raise UnsupportedFormat("the DICOM file holds no waveforms")
    original = [
        group for group in groups if str(group.get("WaveformOriginality", "ORIGINAL")).upper() != "DERIVED"
    ]
    if not original:
        raise SignalError("the DICOM file holds derived waveforms only")
    longest = max(
        original, key=lambda group: int(group.NumberOfWaveformSamples) / float(group.SamplingFrequency)
    )
    return longest, len(groups) - 1


def _leads(group: Any, size: int) -> tuple[list[StoredLead], list[Note]]:
    channels, samples = int(group.NumberOfWaveformChannels), int(group.NumberOfWaveformSamples)
    bits, kind = int(group.WaveformBitsAllocated), str(group.WaveformSampleInterpretation).upper()
    if (bits, kind) not in _SAMPLE_TYPES:
        raise UnsupportedFormat(f"samples of {bits} bits stored as {kind[:2]!r} are not read")
    dtype = np.dtype(_SAMPLE_TYPES[bits, kind])
    definitions = list(group.ChannelDefinitionSequence)
    if channels < 1 or samples < 1 or channels != len(definitions):
        raise HeaderError("the channels are not as many as their definitions", value=channels)
    data = bytes(group.WaveformData)
    if channels * samples * dtype.itemsize > min(len(data), size):
        raise TruncatedSignal(f"{len(data)} bytes for {channels} x {samples} samples", value=len(data))
    counts = np.frombuffer(data, dtype, channels * samples).reshape(samples, channels)
    rows: npt.NDArray[Any] = np.ascontiguousarray(counts.T)
    padded = _padding(rows, group.get("WaveformPaddingValue"), dtype)
    notes = []
    if padded.any():
        rows = rows.astype(np.float64)
        rows[:, padded] = np.nan
        notes.append(
            Note("padding_masked", f"{int(padded.sum())} samples at the ends are padding in every lead")
        )
    return [_lead(definition, row) for definition, row in zip(definitions, rows, strict=True)], notes


def _padding(rows: npt.NDArray[Any], value: Any, dtype: np.dtype[Any]) -> npt.NDArray[np.bool_]:
    """Where all channels hold the padding value up to an end: inside it is a sample like any other."""
    nothing = np.zeros(rows.shape[1], dtype=bool)
    if value is None:
        return nothing
    raw = bytes(value) if isinstance(value, bytes) else b""
    padding = np.frombuffer(raw, dtype, 1)[0] if len(raw) >= dtype.itemsize else value
    is_padding: npt.NDArray[np.bool_] = (rows == padding).all(axis=0)
    real = np.flatnonzero(~is_padding)
    if not len(real):
        return is_padding
    nothing[: real[0]] = nothing[real[-1] + 1 :] = True
    return nothing


def _lead(definition: Any, counts: npt.NDArray[Any]) -> StoredLead:
    source = definition.ChannelSourceSequence[0]
    names = [str(source.get(keyword) or "").strip() for keyword in ("CodeValue", "CodeMeaning")]
    label = str(definition.get("ChannelLabel") or "").strip()
    name = next((found for found in (*names, label) if found and is_known_lead(found)), None)
    sensitivity = definition.get("ChannelSensitivity")
    units = definition.get("ChannelSensitivityUnitsSequence")
    unit = str(units[0].get("CodeValue") or "").strip() if units else ""
    step = 1.0 if sensitivity is None else float(sensitivity)
    correction = definition.get("ChannelSensitivityCorrectionFactor")
    baseline = definition.get("ChannelBaseline")
    return StoredLead(
        name or names[1] or names[0] or label or None,
        counts,
        step * (1.0 if correction is None else float(correction)),
        unit or None,
        0.0 if baseline is None else float(baseline),
    )
