"""The ``Ecg`` column type of a Hugging Face dataset: exact ADC samples in storage, millivolts on access."""

from __future__ import annotations

import io
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from datasets import Features, List, Value
from datasets.features.features import _FEATURE_TYPES, register_feature
from datasets.table import array_cast

from ecg_hf.errors import ConfigurationError, EcgError, LeadError, SamplingRateError, SignalError
from ecg_hf.signal.io.digital import DigitalRecord, to_millivolts
from ecg_hf.signal.io.reading import read_digital
from ecg_hf.signal.leads import arrange_leads, normalize_lead_names
from ecg_hf.signal.record import EcgRecord, check_keys
from ecg_hf.signal.resampling import resample
from ecg_hf.signal.units import MAX_SAMPLING_RATE_HZ, millivolts_per_unit

__all__ = ["STORAGE_DTYPES", "STORAGE_TYPE", "Ecg", "encode_digital", "is_ecg_column", "storage_features"]

STORAGE_DTYPES: dict[str, np.dtype[Any]] = {
    "int16": np.dtype("<i2"),
    "int32": np.dtype("<i4"),
    "float32": np.dtype("<f4"),
}
"""Sample types a stored ECG may have, always little-endian."""

STORAGE_TYPE = pa.struct(
    {
        "samples": pa.binary(),
        "dtype": pa.string(),
        "shape": pa.list_(pa.int32(), 2),
        "gain": pa.list_(pa.float64()),
        "baseline": pa.list_(pa.int32()),
        "invalid": pa.int32(),
        "sampling_rate": pa.float64(),
        "lead_names": pa.list_(pa.string()),
    }
)
"""Arrow type of the column. ``samples`` are the bytes of a C-contiguous ``(leads, samples)`` array."""

MAX_STORED_LEADS = 1000
"""Most leads a stored ECG may have: tables of gains are as wide as the widest row of a dataset."""


@dataclass
class Ecg:
    """Dataset column holding one multi-lead ECG per row, in the manner of ``datasets.Audio``.

    Storage is exact: the analogue-to-digital converter's integers with gain and baseline per lead, so nothing
    is lost and a ten-second 12-lead record takes 24 kB at 100 Hz. Access decodes to millivolts::

        ds = datasets.load_from_disk("ptbxl")
        ds[0]["ecg"]        # {"signal": float32 (12, 1000) mV, "sampling_rate": 100.0, "lead_names": ("I", ...)}
        ds = ds.cast_column("ecg", Ecg(sampling_rate=250, lead_names=["I", "II", "V1"]))
        ds[0]["ecg"]["signal"].shape        # (3, 2500): resampled and reordered on access, storage untouched

    The feature is registered with ``datasets`` by importing ``ecg_hf.data``; a process that has not done so
    can't open a dataset folder whose features name ``Ecg``, but reads the Arrow shards written by
    :func:`ecg_hf.data.build_dataset` as plain columns (``Dataset.from_file``), because these carry no
    library metadata. :func:`storage_features` gives the plain type to cast to before publishing for others.

    Training reads whole batches through :class:`ecg_hf.data.BatchDecoder`, not through this class.

    Args:
        sampling_rate: Hertz to resample to on access; ``None`` keeps each record's own.
        lead_names: Leads to give, in this order (any accepted spelling); ``None`` keeps each record's own.
            Missing limb leads are derived from two others where that is exact; a lead that is neither present
            nor derivable is a row of NaN.
        decode: ``False`` returns the storage dictionary unchanged.

    Raises:
        LeadError: if ``lead_names`` has empty or repeated names.
        SamplingRateError: if ``sampling_rate`` is not positive and finite.
    """

    sampling_rate: float | None = None
    lead_names: Sequence[str] | None = None
    decode: bool = True
    id: str | None = field(default=None, repr=False)
    dtype: ClassVar[str] = "dict"
    pa_type: ClassVar[pa.DataType] = STORAGE_TYPE
    _type: str = field(default="Ecg", init=False, repr=False)

    def __post_init__(self) -> None:
        if self.sampling_rate is not None:
            rate = float(self.sampling_rate)
            if not 0.0 < rate <= MAX_SAMPLING_RATE_HZ:
                raise SamplingRateError(f"sampling rate must be in (0, 100000] Hz, got {rate}", value=rate)
            self.sampling_rate = rate
        if self.lead_names is not None:
            # A list, because this object is written to JSON and compared after reading it back.
            self.lead_names = list(normalize_lead_names(self.lead_names))

    def __call__(self) -> pa.DataType:
        """Arrow type of the column (what ``datasets`` calls a feature for)."""
        return self.pa_type

    def encode_example(
        self, value: str | os.PathLike[str] | bytes | EcgRecord | DigitalRecord | Mapping[str, Any]
    ) -> dict[str, Any]:
        """Storage of one ECG.

        Args:
            value: A path that :func:`ecg_hf.read_record` can read (stored exactly), a :class:`DigitalRecord` (stored
                as it is), an :class:`EcgRecord` or a dictionary with ``signal`` (mV, or in its ``unit``),
                ``sampling_rate`` and ``lead_names`` (stored as float32), a dictionary that is storage already, or a
                dictionary with ``path`` and what the file does not say (``sampling_rate``, ``lead_names``, ``units``,
                ``layout``). With ``bytes`` beside it, these are the content of the file and ``path`` only its name.
                Bare ``bytes`` are the content of a file too.

        Raises:
            EcgError: if ``value`` is none of these, or the file can't be read.
        """
        if isinstance(value, str | os.PathLike | bytes):
            return encode_digital(read_digital(value))
        if isinstance(value, EcgRecord):
            return _encode_signal(value)
        if isinstance(value, Mapping):
            if value.get("samples") is not None:
                return _check_storage(value)
            if "signal" in value:
                check_keys(value)
                missing = [key for key in ("sampling_rate", "lead_names") if value.get(key) is None]
                if missing:
                    raise ConfigurationError(
                        f"an ECG dictionary needs {' and '.join(missing)} beside 'signal'"
                    )
                scale = 1.0 if value.get("unit") is None else millivolts_per_unit(value["unit"])
                signal: npt.NDArray[Any] = _as_array(value["signal"])
                if scale != 1.0 and signal.dtype.kind in "fiu":
                    signal = signal * scale
                return _encode_signal(
                    EcgRecord(
                        signal=signal,
                        sampling_rate=value["sampling_rate"],
                        lead_names=tuple(value["lead_names"]),
                    )
                )
            if value.get("path") is not None or value.get("bytes") is not None:
                return _encode_file(value)
        elif isinstance(value, DigitalRecord):
            return encode_digital(value)
        raise ConfigurationError(
            "an ECG must be a path, an EcgRecord, a DigitalRecord or a dictionary with 'signal', 'sampling_rate' and "
            f"'lead_names' or with 'path', got {type(value).__name__}"
        )

    def decode_example(
        self, value: dict[str, Any], token_per_repo_id: dict[str, str | bool | None] | None = None
    ) -> dict[str, Any]:
        """Millivolts of one stored ECG.

        Returns:
            ``{"signal": float32 (leads, samples), "sampling_rate": float, "lead_names": tuple}``; NaN marks
            samples the recorder declared invalid, and whole leads that were asked for but are missing.

        Raises:
            EcgError: if the storage is not what :meth:`encode_example` makes; names the field.
        """
        if not self.decode:
            raise ConfigurationError("decoding is disabled for this column: use Ecg(decode=True)")
        if "signal" in value:
            return value
        stored = _check_storage(value)
        samples = np.frombuffer(stored["samples"], STORAGE_DTYPES[stored["dtype"]])
        gain, baseline = np.array(stored["gain"], np.float64), np.array(stored["baseline"], np.int32)
        signal = to_millivolts(samples.reshape(tuple(stored["shape"])), gain, baseline, stored["invalid"])
        rate, names = float(stored["sampling_rate"]), normalize_lead_names(stored["lead_names"])
        if self.lead_names is not None and tuple(self.lead_names) != names:
            wanted = tuple(self.lead_names)
            signal, present, _ = arrange_leads(signal, names, wanted)
            signal[~present] = np.nan
            names = wanted
        if self.sampling_rate is not None and self.sampling_rate != rate:
            signal = resample(signal, rate, self.sampling_rate)
            rate = self.sampling_rate
        return {"signal": signal, "sampling_rate": rate, "lead_names": names}

    def flatten(self) -> dict[str, Any] | Ecg:
        """The plain columns of the storage, when decoding is off (as ``datasets`` requires)."""
        if self.decode:
            raise ConfigurationError("an Ecg column that decodes can't be flattened: use Ecg(decode=False)")
        return storage_features()

    def cast_storage(self, storage: pa.Array) -> pa.StructArray:
        """Cast another Arrow array to the storage type.

        Accepts the storage struct with its fields in any order, a struct of ``signal``, ``sampling_rate``,
        ``lead_names`` as ``datasets`` infers it from plain Python values, and paths, which are read immediately.
        """
        if pa.types.is_string(storage.type) or pa.types.is_large_string(storage.type):
            rows = [None if path is None else self.encode_example(path) for path in storage.to_pylist()]
            return pa.array(rows, type=self.pa_type)
        if pa.types.is_struct(storage.type):
            names = {storage.type.field(i).name for i in range(storage.type.num_fields)}
            if "signal" in names and "samples" not in names:
                rows = [None if row is None else self.encode_example(row) for row in storage.to_pylist()]
                return pa.array(rows, type=self.pa_type)
            if storage.null_count and storage.type != self.pa_type:
                # Arrow's cast to a list of fixed length fails on missing rows.
                return pa.array(storage.to_pylist(), type=self.pa_type)
            if "samples" in names:
                columns = [
                    storage.field(f.name) if f.name in names else pa.nulls(len(storage), f.type)
                    for f in self.pa_type
                ]
                storage = pa.StructArray.from_arrays(
                    columns, [f.name for f in self.pa_type], mask=storage.is_null()
                )
        return array_cast(storage, self.pa_type)


def storage_features() -> dict[str, Any]:
    """The plain ``datasets`` type of the column, for processes and viewers without this package.

    ``dataset.cast_column("ecg", storage_features())`` makes a dataset that anyone can load;
    ``dataset.cast_column("ecg", Ecg())`` brings the decoding back.
    """
    return {
        "samples": Value("binary"),
        "dtype": Value("string"),
        "shape": List(Value("int32"), length=2),
        "gain": List(Value("float64")),
        "baseline": List(Value("int32")),
        "invalid": Value("int32"),
        "sampling_rate": Value("float64"),
        "lead_names": List(Value("string")),
    }


def encode_digital(record: DigitalRecord) -> dict[str, Any]:
    """Exact storage of a :class:`DigitalRecord`.

    The "no sample" value is stored only where a sample really has it, so that a reader knows without looking
    at the samples whether anything must be replaced by NaN.
    """
    samples = np.ascontiguousarray(record.samples)
    stored = STORAGE_DTYPES.get(samples.dtype.newbyteorder("=").name)
    if stored is None or samples.ndim != 2:
        raise SignalError(
            f"stored samples must be int16, int32 or float32 (leads, samples), got {samples.dtype} {samples.shape}",
            path=record.record_id,
        )
    invalid = record.invalid
    if invalid is not None and not (samples.dtype.kind == "i" and bool((samples == invalid).any())):
        invalid = None
    return {
        "samples": samples.astype(stored, copy=False).tobytes(),
        "dtype": stored.name,
        "shape": list(samples.shape),
        "gain": np.asarray(record.gain, np.float64).tolist(),
        "baseline": np.asarray(record.baseline, np.int32).tolist(),
        "invalid": invalid,
        "sampling_rate": float(record.sampling_rate),
        "lead_names": list(record.lead_names),
    }


def _encode_signal(record: EcgRecord) -> dict[str, Any]:
    """Storage of a physical signal: float32 as it is, NaN included."""
    leads = record.signal.shape[0]
    return {
        "samples": np.ascontiguousarray(record.signal, dtype=STORAGE_DTYPES["float32"]).tobytes(),
        "dtype": "float32",
        "shape": list(record.signal.shape),
        "gain": [1.0] * leads,
        "baseline": [0] * leads,
        "invalid": None,
        "sampling_rate": record.sampling_rate,
        "lead_names": list(record.lead_names),
    }


_FILE_OPTIONS = ("sampling_rate", "lead_names", "units", "unit", "layout")


def _encode_file(value: Mapping[str, Any]) -> dict[str, Any]:
    """Storage of a file given by its path, or by its content and its name."""
    unknown = sorted(set(value) - {"path", "bytes", *_FILE_OPTIONS})
    if unknown:
        raise ConfigurationError(f"an ECG given by its path has no {unknown[0]!r}", value=unknown[0])
    options = {name: value[name] for name in _FILE_OPTIONS if value.get(name) is not None}
    path, content = value.get("path"), value.get("bytes")
    if content is None:
        return encode_digital(read_digital(str(path), **options))
    if not isinstance(content, bytes | bytearray | memoryview):
        raise ConfigurationError(f"the bytes of an ECG file are bytes, not {type(content).__name__}")
    file = io.BytesIO(content)
    file.name = str(path or "")
    try:
        return encode_digital(read_digital(file, **options))
    except EcgError as error:
        error.path = error.path or (None if path is None else str(path))
        raise


def _as_array(signal: Any) -> npt.NDArray[Any]:
    """An array of a signal given as an array, a tensor or nested lists (None for NaN, as Arrow has it)."""
    if isinstance(signal, list):
        return np.array(signal, dtype=np.float32)
    return np.asarray(signal)


def _check_storage(value: Mapping[str, Any]) -> dict[str, Any]:
    """The storage dictionary, refused where a field is missing, impossible, or contradicts another.

    Raises:
        ConfigurationError: if a field is missing.
        SignalError: if one is null or impossible.
        LeadError: if the numbers of gains, baselines or names differ from that of leads.
        SamplingRateError: if the rate is not positive and finite.
    """
    missing = [f.name for f in STORAGE_TYPE if f.name not in value and f.name != "invalid"]
    if missing:
        raise ConfigurationError(f"a stored ECG lacks {', '.join(missing)}")
    for field_ in STORAGE_TYPE:
        if value.get(field_.name) is None and field_.name != "invalid":
            raise SignalError(f"a stored ECG has no {field_.name} (null)", value=field_.name)
    dtype, shape = value["dtype"], tuple(value["shape"])
    if dtype not in STORAGE_DTYPES:
        raise SignalError(f"a stored ECG can't have samples of type {dtype!r}", value=dtype)
    if len(shape) != 2 or not all(isinstance(side, int | np.integer) and side >= 0 for side in shape):
        raise SignalError(f"a stored ECG has the impossible shape {shape}", value=shape)
    leads, samples = map(int, shape)
    expected = leads * samples * STORAGE_DTYPES[dtype].itemsize
    if leads < 1 or leads > MAX_STORED_LEADS or len(value["samples"]) != expected:
        raise SignalError(
            f"a stored ECG of shape ({leads}, {samples}) has {len(value['samples'])} bytes, not {expected}"
        )
    for key in ("gain", "baseline", "lead_names"):
        if len(value[key]) != leads:
            raise LeadError(f"a stored ECG has {len(value[key])} values of {key} for {leads} leads")
        if any(one is None for one in value[key]):
            raise SignalError(f"a stored ECG has a null in {key}", value=key)
    if not all(0.0 < abs(gain) < math.inf for gain in value["gain"]):
        raise SignalError(
            f"a stored ECG has an impossible gain, {list(value['gain'])}", value=list(value["gain"])
        )
    if not 0.0 < value["sampling_rate"] <= MAX_SAMPLING_RATE_HZ:
        rate = value["sampling_rate"]
        raise SamplingRateError(f"a stored ECG has the impossible sampling rate {rate}", value=rate)
    return {f.name: value.get(f.name) for f in STORAGE_TYPE}


def is_ecg_column(features: Features, column: str) -> bool:
    """Whether ``column`` holds stored ECGs, decoded or plain."""
    if column not in features:
        return False
    feature = features[column]
    return isinstance(feature, Ecg) or (
        isinstance(feature, dict) and set(feature) >= {"samples", "shape", "dtype"}
    )


if _FEATURE_TYPES.get("Ecg") is not Ecg:
    with warnings.catch_warnings():
        # "register_feature is experimental" is not something a user could act on.
        warnings.filterwarnings("ignore", message=".*experimental", category=UserWarning)
        register_feature(Ecg, "Ecg")
