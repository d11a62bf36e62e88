"""What every baseline offers: features like a frozen encoder's, or scores of its own."""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.cache import fingerprint_dataset
from ecg_hf.evaluation.features.pooled import read_embeddings, write_embeddings

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = [
    "BASELINES",
    "Baseline",
    "FrozenBaseline",
    "Rows",
    "SupervisedBaseline",
    "baseline_features",
    "get_baseline",
    "list_baselines",
    "row_numbers",
]

Rows = Sequence[int] | npt.NDArray[np.integer[Any]]


class Baseline(ABC):
    """A reference method without a pretrained model.

    Attributes:
        name: Identifier, as the command line takes it.
        description: One line for tables.
        version: Raised when the same settings give other numbers than before.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    version: ClassVar[int] = 1

    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """Everything the result depends on besides recordings, labels and rows, as JSON values."""

    def fingerprint(self) -> str:
        """Digest of name, version and settings: with the recordings and the training rows, the key of a cache."""
        content = {"name": self.name, "version": self.version, "settings": dict(self.settings())}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class FrozenBaseline(Baseline):
    """Features of recordings, without labels, for the heads that read a frozen encoder's."""

    @abstractmethod
    def fit(self, dataset: Dataset, train_rows: Rows, *, progress: bool = True) -> None:
        """Learn what features need to know of the training recordings; labels are never seen.

        Args:
            dataset: Dataset with an ``Ecg`` column.
            train_rows: Row numbers to learn from, no others are read.
            progress: Show a progress bar.
        """

    @abstractmethod
    def transform(
        self, dataset: Dataset, rows: Rows | None = None, *, progress: bool = True
    ) -> npt.NDArray[np.float32]:
        """Finite features float32 ``(rows, dim)``, in the order of ``rows`` (all rows for None).

        Raises:
            ConfigurationError: if the baseline was not fitted.
        """


class SupervisedBaseline(Baseline):
    """A model trained from scratch on the labels."""

    @abstractmethod
    def fit_predict(
        self,
        dataset: Dataset,
        labels: npt.ArrayLike,
        train_rows: Rows,
        validation_rows: Rows,
        test_rows: Rows,
        class_names: Sequence[str],
        seed: int = 0,
    ) -> npt.NDArray[np.float64]:
        """Train, choose on the validation rows, and score the test rows.

        Args:
            dataset: Dataset with an ``Ecg`` column.
            labels: 0, 1 or NaN (unknown) ``(rows of the dataset, classes)``; those of test rows are not looked at.
            train_rows: Row numbers to train on.
            validation_rows: Row numbers to choose on.
            test_rows: Row numbers to score.
            class_names: Names of the classes.
            seed: Of everything random.

        Returns:
            float64 ``(test rows, classes)``, higher = more likely.
        """


@dataclass(frozen=True, slots=True)
class _Entry:
    module: str
    attribute: str
    frozen: bool
    description: str


BASELINES: dict[str, _Entry] = {
    "handmade": _Entry(
        "handmade",
        "HandmadeFeatures",
        True,
        "359 hand-made features: RR statistics, beat amplitudes, intervals, axes",
    ),
    "minirocket": _Entry(
        "minirocket",
        "MiniRocket",
        True,
        "MiniRocket: 9,996 random dilated convolutions, share of positive values",
    ),
    "xresnet1d": _Entry(
        "supervised", "SupervisedXresnet", False, "one-dimensional xresnet trained from scratch on the labels"
    ),
}


def list_baselines() -> dict[str, str]:
    """Name and description of every baseline."""
    return {name: entry.description for name, entry in BASELINES.items()}


def get_baseline(name: str, **options: Any) -> FrozenBaseline | SupervisedBaseline:
    """A new baseline, not fitted.

    Args:
        name: One of :func:`list_baselines`.
        **options: Arguments of its class.

    Raises:
        ConfigurationError: for an unknown name or option; naming those there are.

    Example:
        >>> baseline = get_baseline("handmade", num_proc=2)      # doctest: +SKIP
        >>> baseline.fit(dataset, train_rows)                    # doctest: +SKIP
        >>> baseline.transform(dataset).shape                    # doctest: +SKIP
        (19601, 359)
    """
    if name not in BASELINES:
        raise ConfigurationError(f"no baseline {name!r}; there are {', '.join(BASELINES)}", value=name)
    entry = BASELINES[name]
    module = import_module(f"ecg_hf.evaluation.baselines.{entry.module}")
    factory: Callable[..., FrozenBaseline | SupervisedBaseline] = getattr(module, entry.attribute)
    try:
        return factory(**options)
    except TypeError as error:
        raise ConfigurationError(f"baseline {name!r}: {error}", value=tuple(options)) from None


def row_numbers(dataset: Dataset, rows: Rows | None) -> npt.NDArray[np.int64]:
    """``rows`` as an array of row numbers (all of the dataset for None).

    Raises:
        ConfigurationError: if there are none, or one lies outside the dataset.
    """
    size = len(dataset)
    numbers = np.arange(size) if rows is None else np.asarray(rows)
    if numbers.ndim != 1 or numbers.size == 0 or numbers.dtype.kind not in "iu":
        raise ConfigurationError(f"rows must be at least one row number, got {numbers.dtype} {numbers.shape}")
    if numbers.min() < 0 or numbers.max() >= size:
        raise ConfigurationError(f"row numbers must lie in [0, {size}), got {numbers.min()}..{numbers.max()}")
    return numbers.astype(np.int64)


def baseline_features(
    baseline: FrozenBaseline,
    dataset: Dataset,
    train_rows: Rows,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    column: str = "ecg",
    progress: bool = True,
) -> npt.NDArray[np.float32]:
    """Fit on the training rows and transform the whole dataset, once.

    Args:
        baseline: What makes the features.
        dataset: Dataset with an ``Ecg`` column.
        train_rows: Row numbers it may learn from.
        cache_dir: Folder that keeps the features, in a file named by baseline, recordings and training rows; a file
            that is there is read instead of computing anything.
        column: Name of the ECG column.
        progress: Show progress bars.

    Returns:
        float32 ``(records, dim)`` in the order of ``dataset``.
    """
    path: Path | None = None
    metadata: dict[str, str] = {}
    if cache_dir is not None:
        rows = np.sort(row_numbers(dataset, train_rows))
        metadata = {
            "baseline": baseline.fingerprint(),
            "data": fingerprint_dataset(dataset, column),
            "train_rows": hashlib.sha256(rows.tobytes()).hexdigest(),
        }
        key = hashlib.sha256("\n".join(metadata.values()).encode()).hexdigest()[:40]
        path = Path(cache_dir) / f"{baseline.name}-{key}.safetensors"
        if path.is_file() and _belongs(path, metadata):
            return read_embeddings(path)
    baseline.fit(dataset, train_rows, progress=progress)
    features = baseline.transform(dataset, progress=progress)
    if path is not None:
        write_embeddings(path, features, metadata)
    return features


def _belongs(path: Path, metadata: Mapping[str, str]) -> bool:
    try:
        with safe_open(path, framework="np") as file:
            stored = dict(file.metadata() or {})
    except (OSError, SafetensorError):
        return False
    return all(stored.get(name) == value for name, value in metadata.items())
