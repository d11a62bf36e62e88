"""What a pipeline accepts as an ECG: everything the feature extractor does, and paths of recordings."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ecg_hf.errors import SignalError, UnsafePath
from ecg_hf.processing.backend import is_torch_tensor
from ecg_hf.signal.reading import read_record

__all__ = ["as_pipeline_input", "load_ecg"]

_ROW_COLUMN = "ecg"


def load_ecg(
    item: Any,
    *,
    data_root: str | PathLike[str] | None = None,
    sampling_rate: float | None = None,
    lead_names: Sequence[str] | None = None,
    unit: str | None = None,
    layout: str | None = None,
) -> tuple[Any, dict[str, Any]]:
    """Read a recording if a path was given, and say what the feature extractor has to be told about it.

    Args:
        item: Path of a recording, ``EcgRecord``, mapping, array; or a dataset row with an ``"ecg"`` column.
        data_root: Folder paths are relative to and must not leave.
        sampling_rate: Rate of what carries none, in Hz.
        lead_names: Leads of what carries none.
        unit: Amplitude unit of what carries none; arrays are in mV by default.
        layout: Axis order of arrays.

    Returns:
        The ECG, and keyword arguments for :class:`~ecg_hf.processing.EcgFeatureExtractor`.

    Raises:
        EcgError: if the recording can't be read.
    """
    if isinstance(item, Mapping) and _ROW_COLUMN in item:
        item = item[_ROW_COLUMN]
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


def as_pipeline_input(inputs: Any) -> Any:
    """Batches in any form as something ``transformers.Pipeline`` iterates over record by record.

    A three-dimensional array becomes a list of records, nested lists of numbers become an array, a tuple a
    list, and a ``datasets.Dataset`` with an ``"ecg"`` column a lazily read torch data set.
    """
    if isinstance(inputs, list | tuple) and inputs:
        if isinstance(inputs[0], list | tuple | int | float):
            try:
                inputs = np.asarray(inputs)
            except ValueError:
                raise SignalError("nested lists of unequal lengths are no array of leads") from None
        else:
            return list(inputs)
    if (isinstance(inputs, np.ndarray) or is_torch_tensor(inputs)) and inputs.ndim == 3:
        return list(inputs)
    if _ROW_COLUMN in (getattr(inputs, "column_names", None) or ()) and hasattr(inputs, "__getitem__"):
        from transformers.pipelines.pt_utils import KeyDataset

        return KeyDataset(inputs, _ROW_COLUMN)
    return inputs


def _under(data_root: str | PathLike[str] | None, path: str | PathLike[str]) -> str | Path:
    text = os.fspath(path)
    if data_root is None:
        return text
    if "://" in text:
        # Joined to the root it would no longer look like the address it is.
        raise UnsafePath("a remote location is no recording under the data root", path=text)
    return Path(data_root) / text
