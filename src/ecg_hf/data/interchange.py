"""ECGs where ``datasets`` does not support custom column types: inference, single rows, text formats.

``datasets`` recognises images and PDFs there by name and has no registration for others, so four of its functions are
wrapped. Only ECGs are treated differently; everything else passes through unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any

import numpy as np
from datasets import Dataset, Features, IterableDataset, concatenate_datasets, iterable_dataset
from datasets.arrow_writer import TypedSequence

from ecg_hf.data.feature import Ecg
from ecg_hf.errors import ConfigurationError
from ecg_hf.signal.io.digital import DigitalRecord
from ecg_hf.signal.record import EcgRecord

__all__ = ["install"]

_MARK = "_knows_ecgs"
_DECODED = {"signal", "sampling_rate", "lead_names"}
_TEXT_FORMATS = ("to_csv", "to_json", "to_sql")


def install() -> None:
    """Wrap the functions, only once even if this module is loaded again."""
    _wrap(TypedSequence, "_arrow_array", _arrow_array)
    _wrap(iterable_dataset, "_infer_features_from_batch", _infer_features)
    _wrap(Dataset, "add_item", _add_item)
    for name in _TEXT_FORMATS:
        for kind in (Dataset, IterableDataset):
            _wrap(kind, name, _refuse_text)


def _wrap(owner: Any, name: str, wrapper: Callable[..., Any]) -> None:
    original = getattr(owner, name)
    if hasattr(original, _MARK):
        return

    @wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return wrapper(original, *args, **kwargs)

    setattr(wrapped, _MARK, True)
    setattr(owner, name, wrapped)


def _is_ecg(value: object) -> bool:
    """Whether a value is certainly an ECG: a record, or a decoded one."""
    if isinstance(value, EcgRecord | DigitalRecord):
        return True
    if not isinstance(value, Mapping) or set(value) != _DECODED:
        return False
    return isinstance(value["signal"], np.ndarray) and value["signal"].ndim == 2


def _stored(values: Iterable[Any]) -> list[Any] | None:
    """Values with ECGs as storage; None if they are not a column of ECGs."""
    if not isinstance(values, list) or not any(map(_is_ecg, values)):
        return None
    return [Ecg().encode_example(value) if _is_ecg(value) else value for value in values]


def _arrow_array(original: Callable[..., Any], sequence: Any, type: Any = None) -> Any:
    """An Arrow array of values a user's function returned (``Dataset.map``)."""
    stored = _stored(sequence.data)
    if stored is not None:
        sequence.data = stored
        if sequence.type is None and not isinstance(sequence.try_type, Ecg):
            sequence.type, sequence.try_type = Ecg(), None
            sequence._inferred_type = sequence.type
    return original(sequence, type=type)


def _infer_features(
    original: Callable[..., Features], batch: dict[str, list[Any]], *args: Any, **kwargs: Any
) -> Features:
    """Features inferred from the first rows of a stream that has lost them (``IterableDataset.map``)."""
    columns = {name: stored for name, values in batch.items() if (stored := _stored(values)) is not None}
    features = original({**batch, **columns}, *args, **kwargs)
    return Features({**features, **{name: Ecg() for name in columns}})


def _add_item(
    original: Callable[..., Dataset], dataset: Dataset, item: dict[str, Any], *args: Any, **kwargs: Any
) -> Dataset:
    """A dataset with one more row."""
    if not any(isinstance(feature, Ecg) for feature in dataset.features.values()):
        return original(dataset, item, *args, **kwargs)
    known = {name: feature for name, feature in dataset.features.items() if name in item}
    row = Dataset.from_dict({name: [item[name]] for name in known}, features=Features(known))
    others = {name: [value] for name, value in item.items() if name not in known}
    if others:
        row = concatenate_datasets([row, Dataset.from_dict(others)], axis=1)
    return concatenate_datasets([dataset, row])


def _refuse_text(
    original: Callable[..., Any], dataset: Dataset | IterableDataset, *args: Any, **kwargs: Any
) -> Any:
    """A text format, which has no place for samples."""
    columns = [name for name, feature in (dataset.features or {}).items() if isinstance(feature, Ecg)]
    if columns:
        name = original.__name__
        raise ConfigurationError(
            f"{name} can't hold the samples of column {columns[0]!r}: write Parquet (to_parquet), "
            f"or leave the column out with remove_columns({columns!r}).{name}(...)",
            value=columns[0],
        )
    return original(dataset, *args, **kwargs)
