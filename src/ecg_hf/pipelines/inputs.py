"""What a pipeline accepts as an ECG: everything the feature extractor does, and paths of recordings."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from os import PathLike
from pathlib import Path
from types import GeneratorType
from typing import Any

import numpy as np
from torch.utils.data import Dataset, IterableDataset

from ecg_hf.errors import ConfigurationError, SignalError, UnsafePath
from ecg_hf.processing.backend import is_torch_tensor
from ecg_hf.processing.inputs import parse_inputs
from ecg_hf.signal.io.reading import read_record
from ecg_hf.signal.io.windows import iter_windows
from ecg_hf.signal.record import EcgRecord, check_keys

__all__ = ["EcgRows", "EcgStream", "as_pipeline_input", "load_ecg", "load_windows"]

_ROW_COLUMN = "ecg"
_CARRIED = frozenset(("sampling_rate", "lead_names", "unit"))


def load_ecg(
    item: Any,
    *,
    data_root: str | PathLike[str] | None = None,
    sampling_rate: float | None = None,
    lead_names: Sequence[str] | None = None,
    unit: str | None = None,
    layout: str | None = None,
) -> tuple[Any, dict[str, Any]]:
    """Read a recording if a path was given, and collect what the feature extractor needs to know about it.

    Args:
        item: Path of a recording, ``EcgRecord``, mapping, array; or a dataset row with an ``"ecg"`` column, whose
            columns ``sampling_rate``, ``lead_names`` and ``unit`` are those of its ECG.
        data_root: Folder paths are relative to and must not leave.
        sampling_rate: Rate of what carries none, in Hz.
        lead_names: Leads of what carries none.
        unit: Amplitude unit of what carries none; arrays are in mV by default.
        layout: Axis order of arrays.

    Returns:
        The ECG, and keyword arguments for :class:`~ecg_hf.processing.EcgFeatureExtractor`.

    Raises:
        EcgError: if the recording can't be read, or the row contradicts the call.
    """
    if isinstance(item, Mapping) and _ROW_COLUMN in item:
        row, item = item, item[_ROW_COLUMN]
        check_keys(row)
        sampling_rate = _told("sampling_rate", row, sampling_rate)
        lead_names = _told("lead_names", row, lead_names)
        unit = _told("unit", row, unit)
    if isinstance(item, str | PathLike):
        path = _under(data_root, item)
        record = read_record(
            path,
            root=data_root,
            sampling_rate=sampling_rate,
            lead_names=lead_names,
            unit=unit,
            layout=layout,
        )
        return record, {}
    options: dict[str, Any] = {"sampling_rate": sampling_rate, "lead_names": lead_names, "layout": layout}
    if unit is not None:
        options["unit"] = unit
    return item, options


def load_windows(
    item: Any,
    window_s: float,
    stride_s: float | None = None,
    *,
    expected_rate: float,
    expected_leads: tuple[str, ...],
    data_root: str | PathLike[str] | None = None,
    layout: str | None = None,
    **told: Any,
) -> Iterator[tuple[float, EcgRecord]]:
    """Windows of one ECG. Of a path no more than a block is in memory, see :func:`ecg_hf.iter_windows`.

    Args:
        item: See :func:`load_ecg`.
        window_s: Seconds of a window.
        stride_s: Seconds from window to window; ``window_s`` if not given.
        expected_rate: Assumed for arrays without a rate, in Hz.
        expected_leads: Assumed for arrays without names.
        data_root: See :func:`load_ecg`.
        layout: Axis order of arrays.
        told: ``sampling_rate``, ``lead_names`` and ``unit`` of what carries none.

    Raises:
        EcgError: if the recording can't be read, or a length is not positive.
    """
    stride_s = window_s if stride_s is None else stride_s
    if isinstance(item, str | PathLike) and layout is None:
        unit = told.pop("unit", None)
        return iter_windows(_under(data_root, item), window_s, stride_s, units=unit, root=data_root, **told)
    ecg, options = load_ecg(item, data_root=data_root, layout=layout, **told)
    if not isinstance(ecg, EcgRecord):
        options.setdefault("unit", "mV")
        defaults: dict[str, Any] = {"expected_rate": expected_rate, "expected_leads": expected_leads}
        array, *others = parse_inputs(ecg, **options, **defaults)
        if others or array.signal.ndim != 2:
            raise SignalError("pass several ECGs as a list of them: here they would be taken for one")
        signal = np.asarray(array.signal, dtype=np.float32) * np.float32(array.scale)
        ecg = EcgRecord(signal, array.sampling_rate, array.lead_names)
    return iter_windows(ecg, window_s, stride_s)


def _told(name: str, row: Mapping[str, Any], option: Any) -> Any:
    """What the row says, or the call; both if they agree."""
    value = row.get(name)
    if value is None or option is None:
        return option if value is None else value
    same = value == option if name != "lead_names" else list(value) == list(option)
    if not same:
        raise ConfigurationError(f"the row says {name} {value!r}, the call says {option!r}", value=value)
    return option


class EcgRows(Dataset[Any]):
    """ECGs that can be indexed (a ``datasets.Dataset``, its column, any sequence), read one by one when needed."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Any:
        return self._rows[index]


class EcgStream(IterableDataset[Any]):
    """ECGs that arrive one after the other (a streamed dataset, its column, any iterator)."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._items = items

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)


def as_pipeline_input(inputs: Any) -> Any:
    """Batches in any form as something ``transformers.Pipeline`` iterates over record by record.

    A three-dimensional array becomes a list of records, nested lists of numbers become an array, a tuple a list.
    What should not be held in memory as a whole becomes :class:`EcgRows` or :class:`EcgStream`: datasets, streamed
    ones too, a column of either, sequences, iterators.

    Raises:
        SignalError: for ragged lists of numbers, and datasets in which no column is known to hold ECGs.
    """
    if isinstance(inputs, list | tuple):
        if not inputs or not isinstance(inputs[0], list | tuple | int | float):
            return list(inputs)
        try:
            inputs = np.asarray(inputs)
        except ValueError:
            raise SignalError("nested lists of unequal lengths don't make an array of leads") from None
    if isinstance(inputs, np.ndarray) or is_torch_tensor(inputs):
        return list(inputs) if inputs.ndim == 3 else inputs
    if isinstance(inputs, Mapping | GeneratorType | str | bytes | PathLike) or hasattr(inputs, "__array__"):
        return inputs
    if hasattr(inputs, "column_names"):
        inputs = _ecg_column(inputs)
    # Torch gives streams a ``__getitem__`` too, which only raises.
    if (
        isinstance(inputs, Sized)
        and hasattr(inputs, "__getitem__")
        and not isinstance(inputs, IterableDataset)
    ):
        return EcgRows(inputs)
    # What can't be iterated over is one ECG, or not an ECG at all: the feature extractor decides.
    return EcgStream(inputs) if isinstance(inputs, Iterable) else inputs


def _ecg_column(dataset: Any) -> Any:
    """The column of a ``datasets`` dataset that holds the ECGs, or the dataset if its rows are to be taken whole."""
    from ecg_hf.data.feature import Ecg

    columns = dataset.column_names
    if columns is None:
        # A stream whose columns are known only row by row.
        return dataset
    features = dataset.features or {}
    named = [_ROW_COLUMN] if _ROW_COLUMN in columns else []
    typed = [name for name in columns if isinstance(features.get(name), Ecg)]
    if named and named[0] not in typed and not _CARRIED.isdisjoint(columns):
        return dataset
    if len(named or typed) == 1:
        return dataset[(named or typed)[0]]
    if not typed and not {"signal", "array"}.isdisjoint(columns):
        return dataset
    found = f"several hold ECGs: {', '.join(typed)}" if typed else f"its columns are {', '.join(columns)}"
    raise SignalError(f'no column "ecg" in the dataset, {found}; pass dataset["NAME"]', value=tuple(columns))


def _under(data_root: str | PathLike[str] | None, path: str | PathLike[str]) -> str | Path:
    text = os.fspath(path)
    if data_root is None:
        return text
    if "://" in text:
        # Once joined to the root it would no longer look like an address.
        raise UnsafePath("a remote location is not a recording under the data root", path=text)
    return Path(data_root) / text
