"""Targets of a classifier from a column of a dataset: numbers or text for one label, lists for several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import ClassLabel, Dataset, LargeList, List, Value

from ecg_hf.data.label_groups import OTHER_TASKS
from ecg_hf.data.labels import LABEL_TASKS, SUPERCLASSES, label_matrix, label_names, scp_statements
from ecg_hf.errors import ConfigurationError

__all__ = ["ColumnLabels", "is_label_group", "read_labels"]

MAX_CLASSES = 1000
"""More different values than these are no classes."""

MAX_NAME_LENGTH = 200
"""Longest name of a class; longer texts are reports."""

CODES_COLUMN = "labels"


@dataclass(frozen=True, slots=True, eq=False)
class ColumnLabels:
    """What the records of a dataset are labelled with.

    Attributes:
        names: Classes, in the order of the logits.
        targets: int64 ``(records,)`` class numbers where a record has one label, -1 where it has none; float32
            ``(records, classes)`` of zeros and ones where it may have several.
        labelled: bool ``(records,)``: whether the record has a label at all.
        left_out: Reason -> how many records it left without a label.
    """

    names: tuple[str, ...]
    targets: npt.NDArray[Any]
    labelled: npt.NDArray[np.bool_]
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def several(self) -> bool:
        """Whether a record may have several labels."""
        return self.targets.ndim == 2

    def matrix(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
        """Labels of labelled rows as bool ``(rows, classes)``, also where each has one."""
        chosen = self.targets[rows]
        if self.several:
            return np.asarray(chosen > 0)
        return np.asarray(chosen[:, None] == np.arange(len(self.names)))

    def descriptions(self) -> dict[str, str]:
        """Classes in words where PTB-XL has words for them; else the class itself."""
        known = {**{s.code: s.description for s in scp_statements().values()}, **SUPERCLASSES}
        return {name: known.get(name, name) for name in self.names}


def is_label_group(name: str) -> bool:
    """Whether ``name`` is a label group of :func:`ecg_hf.data.label_names`."""
    return name in LABEL_TASKS or name in OTHER_TASKS


def read_labels(dataset: Dataset, labels: str) -> ColumnLabels:
    """Labels of every record.

    A column of numbers, text, truth values or ``ClassLabel`` gives one label to a record, a column of lists of these
    several. Names of classes are those of the ``ClassLabel``, else the values themselves, sorted. A null means that
    nothing is known (and so do an empty text and the -1 of a ``ClassLabel``): such records have no label. An empty
    list means that none of the labels applies.

    Args:
        dataset: Rows.
        labels: Name of a column; or a label group of :func:`ecg_hf.data.label_names`, made from the codes in the
            column ``labels``, where records without any label of the group are unlabelled, as in the published
            benchmarks. A column of that name comes first.

    Raises:
        ConfigurationError: if there is no such column, or it holds no labels; names the column.
    """
    if labels in dataset.column_names:
        return _of_column(dataset, labels)
    if not is_label_group(labels):
        raise ConfigurationError(
            f"no column {labels!r} in the dataset (columns: {', '.join(dataset.column_names)})", value=labels
        )
    if CODES_COLUMN not in dataset.column_names:
        raise ConfigurationError(
            f"{labels!r} is made from the codes in a column named {CODES_COLUMN!r}, which the dataset lacks",
            value=labels,
        )
    codes = [codes or () for codes in _values(dataset, CODES_COLUMN)]
    matrix, labelled = label_matrix(codes, labels)
    return ColumnLabels(
        label_names(labels),
        matrix.astype(np.float32),
        labelled,
        _counted({f"without a label of {labels}": int((~labelled).sum())}),
    )


def _of_column(dataset: Dataset, name: str) -> ColumnLabels:
    feature = dataset.features[name]
    several = isinstance(feature, (List, LargeList))
    inner = feature.feature if several else feature
    names = tuple(inner.names) if isinstance(inner, ClassLabel) else None
    if names is None and not _holds_classes(inner):
        raise ConfigurationError(
            f"column {name!r} holds {_kind(feature)}, no labels: give whole numbers or text for one label per "
            "record, lists of these for several",
            value=name,
        )
    values = _values(dataset, name)
    return _several(name, values, names) if several else _single(name, values, names)


def _holds_classes(feature: Any) -> bool:
    if not isinstance(feature, Value):
        return False
    return feature.dtype in ("bool", "string", "large_string") or feature.dtype.lstrip("u").startswith("int")


def _kind(feature: Any) -> str:
    if isinstance(feature, Value):
        return str(feature.dtype)
    return type(feature).__name__


def _values(dataset: Dataset, name: str) -> list[Any]:
    """The column as Python values, without touching the others."""
    values: list[Any] = dataset.select_columns([name]).with_format("arrow")[:][name].to_pylist()
    return values


def _single(name: str, values: Sequence[Any], names: tuple[str, ...] | None) -> ColumnLabels:
    empty = np.array([value == "" for value in values], bool)
    unknown = np.array([value is None or (names is not None and value == -1) for value in values], bool)
    labelled = ~(empty | unknown)
    known = [value for value, there in zip(values, labelled, strict=True) if there]
    if names is None:
        classes = _classes(name, known)
        names, number = tuple(map(str, classes)), {value: i for i, value in enumerate(classes)}
        if 2 * len(names) > len(known) and len(names) > 2:
            raise ConfigurationError(
                f"column {name!r} has {len(names)} different values in {len(known)} records, which are no classes",
                value=name,
            )
    else:
        number = _numbers(name, known, names)
    _check_names(name, names)
    targets = np.full(len(values), -1, np.int64)
    targets[labelled] = [number[value] for value in known]
    left_out = {"without a label (null)": int(unknown.sum()), "without a label (empty)": int(empty.sum())}
    return ColumnLabels(names, targets, labelled, _counted(left_out))


def _several(name: str, values: Sequence[Any], names: tuple[str, ...] | None) -> ColumnLabels:
    labelled = np.array([value is not None for value in values], bool)
    for row, value in enumerate(values):
        if value is None:
            continue
        if any(one is None or one == "" for one in value):
            raise ConfigurationError(
                f"column {name!r}, row {row}: a list of labels may not hold nulls or empty texts", value=row
            )
        if len(set(value)) < len(value):
            raise ConfigurationError(
                f"column {name!r}, row {row}: a label stands twice in a list; lists name the labels a record has, "
                "they are not zeros and ones",
                value=row,
            )
    every = [one for value in values if value is not None for one in value]
    if names is None:
        classes = _classes(name, every)
        names, number = tuple(map(str, classes)), {value: i for i, value in enumerate(classes)}
    else:
        number = _numbers(name, every, names)
    _check_names(name, names, least=1)
    targets = np.zeros((len(values), len(names)), np.float32)
    for row, value in enumerate(values):
        if value:
            targets[row, [number[one] for one in value]] = 1.0
    return ColumnLabels(
        names, targets, labelled, _counted({"without a label (null)": int((~labelled).sum())})
    )


def _classes(name: str, values: Sequence[Any]) -> list[Any]:
    counts = Counter(values)
    if len(counts) > MAX_CLASSES:
        raise ConfigurationError(
            f"column {name!r} has {len(counts)} different values; {MAX_CLASSES} classes is the most",
            value=name,
        )
    return sorted(counts)


def _numbers(name: str, values: Sequence[Any], names: Sequence[str]) -> dict[Any, int]:
    wrong = sorted({value for value in values if not 0 <= value < len(names)})
    if wrong:
        raise ConfigurationError(
            f"column {name!r} holds class {wrong[0]}, but its ClassLabel names {len(names)}", value=wrong[0]
        )
    return {number: number for number in range(len(names))}


def _check_names(name: str, names: Sequence[str], least: int = 2) -> None:
    if len(names) < least:
        found = f"one value alone, {names[0]!r}" if names else "no label at all"
        raise ConfigurationError(f"column {name!r} has {found}: there is nothing to tell apart", value=name)
    if len(names) > MAX_CLASSES:
        raise ConfigurationError(
            f"column {name!r} names {len(names)} classes; {MAX_CLASSES} is the most", value=name
        )
    long = next((one for one in names if len(one) > MAX_NAME_LENGTH), None)
    if long is not None:
        raise ConfigurationError(
            f"column {name!r} holds texts of {len(long)} characters, which are no labels: the longest may have "
            f"{MAX_NAME_LENGTH}",
            value=name,
        )


def _counted(reasons: dict[str, int]) -> dict[str, int]:
    return {reason: count for reason, count in reasons.items() if count}
