"""Direct view of an Arrow column of stored ECGs: where each row's samples are and how to scale them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ecg_hf.data.feature import MAX_STORED_LEADS, STORAGE_DTYPES, STORAGE_TYPE, Ecg
from ecg_hf.errors import EcgError, LeadError, SamplingRateError, SignalError
from ecg_hf.signal.io.digital import SAFE_GAIN, to_millivolts
from ecg_hf.signal.leads import normalize_lead_names
from ecg_hf.signal.units import MAX_SAMPLING_RATE_HZ

__all__ = ["Layout", "StoredColumn"]


@dataclass(frozen=True, slots=True)
class Layout:
    """What rows must share to be decoded together."""

    dtype: str
    shape: tuple[int, int]
    sampling_rate: float
    lead_names: tuple[str, ...]


class StoredColumn:
    """Index over all rows of a stored ECG column; the samples themselves stay where they are.

    Args:
        column: Chunked array of the storage struct (see :data:`ecg_hf.data.feature.STORAGE_TYPE`).

    Attributes:
        layouts: Distinct layouts in the column.
        layout_ids: int32 ``(rows,)``, index into ``layouts``.

    Raises:
        EcgError: if a row, or a field of one, is null or impossible; names the first such row and the field.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        chunks = [chunk for chunk in column.chunks if len(chunk)]
        if any(chunk.null_count for chunk in chunks):
            raise SignalError("the ECG column has rows without an ECG: filter them out first")
        self.layouts: list[Layout] = []
        self._buffers: list[memoryview] = []
        known: dict[tuple[Any, ...], int] = {}
        chunks = [_typed(chunk) for chunk in chunks]
        for chunk, first in zip(chunks, np.cumsum([0, *map(len, chunks)]).tolist(), strict=False):
            _check_rows(chunk, first)
        ids, owners, starts = [], [], []
        calibrations, special = [], []
        for chunk in chunks:
            offsets, data = _binary_parts(chunk.field("samples"))
            owners.append(np.full(len(chunk), len(self._buffers), np.int32))
            self._buffers.append(data)
            starts.append(offsets[:-1].astype(np.int64))
            ids.append(self._layout_ids(chunk, known))
            calibrations.append(_calibrations_of(chunk))
            invalid = chunk.field("invalid")
            special.append(invalid.is_valid().to_numpy(zero_copy_only=False) | _odd_gains(chunk))
        self.layout_ids = _concatenate(ids, np.int32)
        self._owner = _concatenate(owners, np.int32)
        self._start = _concatenate(starts, np.int64)
        self._needs_care = _concatenate(special, np.bool_)
        self._chunks = chunks
        self._first_row = np.cumsum([0, *[len(chunk) for chunk in chunks]])
        self._gain, self._baseline = _merge_calibrations(calibrations)
        self._common_gain = _one_value(self._gain)
        self._has_baseline = bool(self._baseline.any())
        # 16-bit views of the files' bytes; a row can be cut out of them if it starts at an even byte.
        self._words = [np.frombuffer(data, np.dtype("<i2"), len(data) // 2) for data in self._buffers]
        self._odd = (self._start & 1).astype(np.bool_)

    def __len__(self) -> int:
        return len(self.layout_ids)

    def _layout_ids(self, chunk: pa.StructArray, known: dict[tuple[Any, ...], int]) -> npt.NDArray[np.int32]:
        """Number the layouts of a chunk; one number is checked without touching rows one by one."""
        names = _encode_names(chunk.field("lead_names"))
        shape = chunk.field("shape")
        table = np.column_stack(
            [
                np.asarray(chunk.field("dtype").dictionary_encode().indices),
                shape.flatten().to_numpy().reshape(len(chunk), 2),
                chunk.field("sampling_rate").to_numpy().view(np.int64),
                names,
            ]
        )
        unique: npt.NDArray[Any] = table[:1]
        inverse: npt.NDArray[Any] = np.zeros(len(chunk), np.int64)
        if not bool((table == table[0]).all()):
            unique, first, inverse = np.unique(table, axis=0, return_index=True, return_inverse=True)
        else:
            first = np.zeros(1, np.int64)
        numbers = np.empty(len(unique), np.int32)
        for position, row in enumerate(first.tolist()):
            numbers[position] = self._number(chunk[row], known)
        ids: npt.NDArray[np.int32] = numbers[inverse.reshape(-1)]
        return ids

    def _number(self, scalar: pa.StructScalar, known: dict[tuple[Any, ...], int]) -> int:
        names = tuple(scalar["lead_names"].as_py())
        leads, samples = scalar["shape"].as_py()
        key = (scalar["dtype"].as_py(), leads, samples, scalar["sampling_rate"].as_py(), names)
        if key not in known:
            known[key] = len(self.layouts)
            self.layouts.append(Layout(key[0], (leads, samples), float(key[3]), normalize_lead_names(names)))
        return known[key]

    def read(
        self, rows: npt.NDArray[np.int64], layout: Layout
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Millivolts of rows that share ``layout``.

        Returns:
            float32 ``(rows, leads, samples)`` with NaN for invalid samples, and bool ``(rows, leads)`` that is False
            for leads without one valid sample (their row is zero).
        """
        leads, samples = layout.shape
        signal = np.empty((len(rows), leads, samples), np.float32)
        lead_mask = np.ones((len(rows), leads), np.bool_)
        slow = np.arange(len(rows))
        if layout.dtype == "int16":
            self._read_int16(rows, signal)
            slow = np.flatnonzero(self._needs_care[rows] | self._odd[rows])
        for i in slow.tolist():
            signal[i] = self._read_one(int(rows[i]), layout)
            empty = np.isnan(signal[i]).all(axis=1)
            lead_mask[i] = ~empty
            signal[i, empty] = 0.0
        return signal, lead_mask

    def samples_at(
        self,
        rows: npt.NDArray[np.int64],
        layout: Layout,
        leads: Sequence[int],
        places: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.float64]:
        """Millivolts at some places of some leads, without reading the rest of a row.

        Args:
            rows: Rows that share ``layout``.
            layout: Theirs.
            leads: Positions of leads.
            places: int64 ``(places,)``, sample numbers.

        Returns:
            float64 ``(rows, leads, places)``; samples the recorder declared missing have their digital value.
        """
        dtype, width = STORAGE_DTYPES[layout.dtype], layout.shape[1]
        values = np.empty((len(rows), len(leads), len(places)), dtype)
        wanted = np.concatenate([lead * width + places for lead in leads])
        count = layout.shape[0] * width
        owners, starts = self._owner[rows].tolist(), self._start[rows].tolist()
        for target, owner, start in zip(values.reshape(len(rows), -1), owners, starts, strict=True):
            np.frombuffer(self._buffers[owner], dtype, count, start).take(wanted, out=target)
        chosen = list(leads)
        gain, baseline = (
            (table if len(table) == 1 else table[rows])[:, chosen, None].astype(np.float64)
            for table in (self._gain, self._baseline)
        )
        millivolts: npt.NDArray[np.float64] = (values.astype(np.float64) - baseline) / gain
        return millivolts

    def _read_int16(self, rows: npt.NDArray[np.int64], signal: npt.NDArray[np.float32]) -> None:
        """The hot path: one cast per row out of the mapped file, then one division for the batch.

        Divides, as :func:`ecg_hf.signal.to_millivolts` does, so that both give the same bits.
        """
        flat = signal.reshape(len(rows), -1)
        count = flat.shape[1]
        words = self._words
        places = zip(self._owner[rows].tolist(), (self._start[rows] // 2).tolist(), flat, strict=True)
        for owner, start, target in places:
            target[:] = words[owner][start : start + count]
        leads = signal.shape[1]
        if self._has_baseline:
            signal -= self._calibration(self._baseline, rows, leads)
        # Rows whose gain float32 does not hold come out wrong here, and are read once more with care.
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            if self._common_gain is not None:
                flat /= self._common_gain
            else:
                signal /= self._calibration(self._gain, rows, leads)

    @staticmethod
    def _calibration(
        values: npt.NDArray[np.float32], rows: npt.NDArray[np.int64], leads: int
    ) -> npt.NDArray[np.float32]:
        """Gains or baselines of rows, ``(rows or 1, leads, 1)``."""
        return (values if len(values) == 1 else values[rows])[:, :leads, None]

    def _read_one(self, row: int, layout: Layout) -> npt.NDArray[np.float32]:
        """One row of any kind: sentinel values, wide integers, float storage."""
        dtype = STORAGE_DTYPES[layout.dtype]
        chunk = int(np.searchsorted(self._first_row, row, side="right")) - 1
        scalar = self._chunks[chunk][row - int(self._first_row[chunk])]
        count = layout.shape[0] * layout.shape[1]
        samples = np.frombuffer(self._buffers[int(self._owner[row])], dtype, count, int(self._start[row]))
        return to_millivolts(
            samples.reshape(layout.shape),
            np.array(scalar["gain"].as_py(), np.float64),
            np.array(scalar["baseline"].as_py(), np.int32),
            scalar["invalid"].as_py(),
        )


def _typed(chunk: pa.StructArray) -> pa.StructArray:
    """A chunk in the storage type: other integers or text types are converted, samples are not copied."""
    wide = pa.types.is_struct(chunk.type) and any(pa.types.is_large_binary(f.type) for f in chunk.type)
    if chunk.type == STORAGE_TYPE or wide:
        return chunk
    try:
        return Ecg().cast_storage(chunk)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        raise SignalError("the ECG column is not of the type of stored ECGs") from None


def _check_rows(chunk: pa.StructArray, first: int) -> None:
    """Refuse rows that can't be decoded, all at once, so that the hot path may trust offsets and shapes.

    Args:
        chunk: Rows without nulls.
        first: Number of the first, for the error.
    """

    def refuse(wrong: npt.NDArray[np.bool_], what: str, error: type[EcgError] = SignalError) -> None:
        if bool(wrong.any()):
            row = first + int(np.flatnonzero(wrong)[0])
            raise error(f"row {row}: {what}; repair the row or filter it out", value=row)

    names = [f.name for f in STORAGE_TYPE if f.name != "invalid"]
    columns = {name: chunk.field(name) for name in names}
    for name, column in columns.items():
        refuse(column.is_null().to_numpy(zero_copy_only=False), f"a stored ECG has no {name} (null)")
    for name in ("shape", "gain", "baseline", "lead_names"):
        if columns[name].flatten().null_count:
            rows = pc.list_parent_indices(columns[name]).filter(columns[name].flatten().is_null()).to_numpy()
            wrong = np.zeros(len(chunk), np.bool_)
            wrong[rows] = True
            refuse(wrong, f"a stored ECG has a null in {name}")
    shape = columns["shape"].flatten().to_numpy().reshape(-1, 2).astype(np.int64)
    leads, samples = shape.T
    refuse((leads < 1) | (leads > MAX_STORED_LEADS) | (samples < 0), "a stored ECG has an impossible shape")
    kinds = columns["dtype"].dictionary_encode()
    known = kinds.dictionary.to_pylist()
    refuse(
        np.array([kind not in STORAGE_DTYPES for kind in known], np.bool_)[np.asarray(kinds.indices)],
        f"a stored ECG can't have samples of type {next((k for k in known if k not in STORAGE_DTYPES), '')!r}",
    )
    width = np.array([STORAGE_DTYPES[kind].itemsize for kind in known], np.int64)[np.asarray(kinds.indices)]
    held = pc.binary_length(columns["samples"]).to_numpy(zero_copy_only=False).astype(np.int64)
    # Below 2**31 samples of at most a thousand leads of four bytes: no product overflows.
    refuse(held != leads * samples * width, "a stored ECG has other bytes than its shape needs")
    for name in ("gain", "baseline", "lead_names"):
        count = columns[name].value_lengths().to_numpy(zero_copy_only=False)
        refuse(count != leads, f"a stored ECG has another number of {name} than of leads", LeadError)
    gain = columns["gain"].flatten().to_numpy()
    wrong = np.zeros(len(chunk), np.bool_)
    wrong[np.repeat(np.arange(len(chunk)), leads)[~np.isfinite(gain) | (gain == 0)]] = True
    refuse(wrong, "a stored ECG has an impossible gain")
    rate = columns["sampling_rate"].to_numpy()
    refuse(
        ~((rate > 0) & (rate <= MAX_SAMPLING_RATE_HZ)),
        "a stored ECG has an impossible sampling rate",
        SamplingRateError,
    )


def _odd_gains(chunk: pa.StructArray) -> npt.NDArray[np.bool_]:
    """Rows with a gain that float32 can't divide by."""
    gains = chunk.field("gain")
    smallest, largest = SAFE_GAIN
    size = np.abs(gains.flatten().to_numpy())
    odd = np.zeros(len(chunk), np.bool_)
    odd[pc.list_parent_indices(gains).to_numpy()[~((smallest < size) & (size < largest))]] = True
    return odd


def _one_value(gains: npt.NDArray[np.float32]) -> np.float32 | None:
    """The gain all leads of all rows share, if they do."""
    if gains.size and len(gains) == 1 and bool((gains == gains[0, 0]).all()):
        return np.float32(gains[0, 0])
    return None


def _concatenate(parts: Sequence[npt.NDArray[Any]], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    return np.concatenate(parts) if parts else np.zeros(0, dtype)


def _binary_parts(array: pa.Array) -> tuple[npt.NDArray[Any], memoryview]:
    """Offsets ``(rows + 1,)`` and bytes of a (large) binary array, slices respected."""
    wide = pa.types.is_large_binary(array.type)
    _, offsets, data = array.buffers()
    kind = np.dtype(np.int64 if wide else np.int32)
    view = np.frombuffer(offsets, kind, len(array) + 1, array.offset * kind.itemsize)
    return view, memoryview(data) if data is not None else memoryview(b"")


def _encode_names(array: pa.Array) -> npt.NDArray[np.int64]:
    """Lead names as integers ``(rows, most leads)``, -1 behind the last."""
    lengths = array.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
    codes = np.asarray(array.flatten().dictionary_encode().indices, dtype=np.int64)
    return _pad_lists(codes, lengths, -1)


def _pad_lists(values: npt.NDArray[Any], lengths: npt.NDArray[np.int64], fill: float) -> npt.NDArray[Any]:
    """Rectangular array of lists that may differ in length."""
    width = int(lengths.max(initial=0))
    if bool((lengths == width).all()):
        return values.reshape(len(lengths), width)
    padded = np.full((len(lengths), width), fill, values.dtype)
    padded[np.arange(width) < lengths[:, None]] = values
    return padded


def _calibrations_of(chunk: pa.StructArray) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Gain and baseline ``(rows, most leads)`` float32."""
    parts = []
    for name, fill in (("gain", 1.0), ("baseline", 0.0)):
        lists = chunk.field(name)
        lengths = lists.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
        values = _pad_lists(lists.flatten().to_numpy(zero_copy_only=False), lengths, fill).astype(np.float32)
        parts.append(values)
    return parts[0], parts[1]


def _merge_calibrations(
    chunks: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    merged = []
    for part, fill in ((0, 1.0), (1, 0.0)):
        width = max((chunk[part].shape[1] for chunk in chunks), default=0)
        rows = [
            np.pad(c[part], ((0, 0), (0, width - c[part].shape[1])), constant_values=fill) for c in chunks
        ]
        values = _concatenate(rows, np.float32).reshape(-1, width)
        # Most datasets have a single calibration, so keep one row instead of one per record.
        merged.append(values[:1] if len(values) and bool((values == values[0]).all()) else values)
    return merged[0], merged[1]
