"""Loading a shared dataset with its ECGs as :class:`~ecg_hf.data.Ecg` again."""

from __future__ import annotations

from typing import Any

from datasets import load_dataset

from ecg_hf.data.feature import Ecg, is_ecg_column

__all__ = ["load_hub_dataset", "with_ecg_columns"]


def load_hub_dataset(path: str, *args: Any, **kwargs: Any) -> Any:
    """``datasets.load_dataset`` for a dataset shared by ``ecg-hf push``: its stored ECGs decode on access.

    On the Hub an ECG is a struct of plain values, so that it can be read without this package. Here the column
    becomes :class:`~ecg_hf.data.Ecg` again; no sample is copied.

    Args:
        path: ``owner/name``, or whatever ``load_dataset`` takes.
        args: See ``load_dataset``.
        kwargs: ``split``, ``revision``, ``streaming``, ``token`` ...

    Returns:
        What ``load_dataset`` returns: a ``Dataset`` or a ``DatasetDict``, or their iterable kinds.
    """
    return with_ecg_columns(load_dataset(path, *args, **kwargs))


def with_ecg_columns(dataset: Any) -> Any:
    """A dataset, or a dictionary of splits, with every column of stored ECGs as :class:`~ecg_hf.data.Ecg`."""
    if isinstance(dataset, dict):
        return type(dataset)({name: with_ecg_columns(part) for name, part in dataset.items()})
    for column in list(dataset.features or ()):
        if is_ecg_column(dataset.features, column) and not isinstance(dataset.features[column], Ecg):
            dataset = dataset.cast_column(column, Ecg())
    return dataset
