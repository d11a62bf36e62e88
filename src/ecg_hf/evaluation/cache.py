"""Cells of an evaluation: one result each, kept in files named by everything the result depends on.

A cell that is there is finished and right: its name is a digest of the model's weights, the preprocessing, the
recordings, labels and splits, the records trained on, the head's settings and the seed. A run that was killed
therefore continues by asking which cells are there, and a changed input never finds another input's result.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ecg_hf.documents import Range, parse_json, read_json
from ecg_hf.errors import ConfigurationError
from ecg_hf.files import temporary_name, write_whole
from ecg_hf.metrics.intervals import Interval
from ecg_hf.metrics.ranking import BoolArray, FloatArray

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import nn


__all__ = [
    "CELL_FORMAT",
    "CellResult",
    "CellScores",
    "CellStore",
    "array_digest",
    "cell_key",
    "fingerprint_dataset",
    "fingerprint_model",
    "fingerprint_preprocessing",
    "read_scores",
]

CELL_FORMAT = 2
"""Raised when the same inputs would give another result than before, or files have another layout."""

KEY_LENGTH = 32


@dataclass(frozen=True, slots=True, eq=False)
class CellScores:
    """What a head said about every test record, and what it should have said.

    Attributes:
        record_ids: Names of the test records.
        class_names: Names of the classes.
        patients: Patient of every record; ``None`` where resampling was over records.
        labels: bool ``(records, classes)``.
        scores: float64 ``(records, classes)``, higher = more likely.
        included: bool ``(classes,)``: the classes the macro mean is taken over.
        samples: float64 ``(resamples,)``: macro AUROC of every bootstrap resample.
    """

    record_ids: tuple[str, ...]
    class_names: tuple[str, ...]
    patients: tuple[str | None, ...] | None
    labels: BoolArray
    scores: FloatArray
    included: BoolArray
    samples: FloatArray

    def select(self, rows: npt.NDArray[np.intp]) -> CellScores:
        """The same of some records; ``samples`` are of all of them and therefore dropped."""
        patients = None if self.patients is None else tuple(self.patients[row] for row in rows)
        return CellScores(
            tuple(self.record_ids[row] for row in rows),
            self.class_names,
            patients,
            self.labels[rows],
            self.scores[rows],
            self.included,
            np.empty(0),
        )


@dataclass(frozen=True, slots=True, eq=False)
class CellResult:
    """A finished cell.

    Attributes:
        key: Its name.
        content: The row, or whatever the kind of cell holds.
        seconds: How long it took.
        scores: Scores of every test record, where it has any.
    """

    key: str
    content: dict[str, Any]
    seconds: float
    scores: CellScores | None = None


def cell_key(depends: Mapping[str, Any]) -> str:
    """Digest of everything a result depends on, as JSON values."""
    text = json.dumps({"format": CELL_FORMAT, **depends}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


def array_digest(*parts: npt.ArrayLike) -> str:
    """Digest of arrays: types, shapes and values."""
    digest = hashlib.sha256()
    for part in parts:
        array = np.ascontiguousarray(part)
        if array.dtype.kind in "UO":
            digest.update(json.dumps(array.tolist()).encode())
            continue
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


class _Account(TypedDict):
    """Content of a cell's file."""

    key: str
    seconds: Annotated[float, Range(0)]
    has_scores: bool
    content: dict[str, Any]


class CellStore:
    """Finished cells in ``folder/cells/<key>.json`` with their scores in ``folder/scores/<key>.safetensors``.

    Args:
        folder: The evaluation's folder.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.reused = 0
        self.computed = 0

    def __contains__(self, depends: Mapping[str, Any]) -> bool:
        """Whether the cell is finished."""
        return self._read(cell_key(depends)) is not None

    def get(
        self,
        depends: Mapping[str, Any],
        compute: Callable[[], tuple[dict[str, Any], CellScores | None]],
    ) -> CellResult:
        """The cell as it was stored, or computed and stored now.

        Args:
            depends: Everything the result depends on, as JSON values.
            compute: Gives the content and the scores.
        """
        key = cell_key(depends)
        found = self._read(key)
        if found is not None:
            self.reused += 1
            return found
        started = time.perf_counter()
        content, scores = compute()
        result = CellResult(key, content, round(time.perf_counter() - started, 3), scores)
        # The scores first: a cell without its scores is none.
        if scores is not None:
            _write_scores(self._scores_file(key), scores)
        account = {
            "key": key,
            "depends": dict(depends),
            "seconds": result.seconds,
            "has_scores": scores is not None,
            "content": content,
        }
        write_text(self._cell_file(key), json.dumps(account, indent=1, allow_nan=False) + "\n")
        self.computed += 1
        return result

    def _cell_file(self, key: str) -> Path:
        return self.folder / "cells" / f"{key}.json"

    def _scores_file(self, key: str) -> Path:
        return self.folder / "scores" / f"{key}.safetensors"

    def _read(self, key: str) -> CellResult | None:
        try:
            account = read_json(self._cell_file(key), _Account)
            scores = read_scores(self._scores_file(key)) if account["has_scores"] else None
            if account["key"] != key:
                return None
            return CellResult(key, account["content"], account["seconds"], scores)
        except ConfigurationError:
            # Absent, or damaged from outside: computed again.
            return None


class _Names(TypedDict):
    """What a file of scores says beside its arrays."""

    record_ids: list[str]
    class_names: list[str]
    patients: list[str | None] | None


def _write_scores(path: Path, scores: CellScores) -> None:
    names = {
        "record_ids": list(scores.record_ids),
        "class_names": list(scores.class_names),
        "patients": None if scores.patients is None else list(scores.patients),
    }
    tensors = {
        "labels": scores.labels.astype(np.uint8),
        "scores": np.ascontiguousarray(scores.scores, dtype=np.float64),
        "included": scores.included.astype(np.uint8),
        "samples": np.ascontiguousarray(scores.samples, dtype=np.float64),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = temporary_name(path)
    try:
        save_file(tensors, partial, metadata={"names": json.dumps(names), "format": "np"})
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_scores(path: str | os.PathLike[str]) -> CellScores:
    """Scores of a finished cell.

    Raises:
        ConfigurationError: if the file is absent or holds none.
    """
    try:
        with safe_open(path, framework="np") as file:
            names: _Names = parse_json(file.metadata()["names"], _Names, path=path)
            tensors = {name: file.get_tensor(name) for name in ("labels", "scores", "included", "samples")}
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ConfigurationError("no scores of an evaluation here", path=path) from error
    patients = names["patients"]
    shape = (len(names["record_ids"]), len(names["class_names"]))
    fits = (
        tensors["labels"].shape == tensors["scores"].shape == shape and tensors["included"].shape == shape[1:]
    )
    if not fits or (patients is not None and len(patients) != shape[0]):
        raise ConfigurationError("the scores do not fit their names", path=path)
    return CellScores(
        record_ids=tuple(names["record_ids"]),
        class_names=tuple(names["class_names"]),
        patients=None if patients is None else tuple(patients),
        labels=tensors["labels"].astype(bool),
        scores=tensors["scores"],
        included=tensors["included"].astype(bool),
        samples=tensors["samples"],
    )


def write_text(path: Path, text: str) -> Path:
    """Write a file that is never seen half-written, in a folder that is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)
    return path


def plain(value: Any) -> Any:
    """JSON values: intervals as numbers with limits, NaN as null."""
    if isinstance(value, Interval):
        return {"value": plain(value.estimate), "ci95": plain(value.limits)}
    if isinstance(value, Mapping):
        if set(value) == {"estimate", "low", "high"}:
            return plain(Interval(**value))
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


# What `transformers` writes into a configuration and no computation depends on.
VOLATILE = frozenset({"_name_or_path", "transformers_version", "_commit_hash", "auto_map", "architectures"})


ROWS_AT_ONCE = 512


def fingerprint_model(model: nn.Module) -> str:
    """Digest of a model's class, configuration and every parameter and buffer (names, types, shapes, bytes)."""
    import torch

    digest = hashlib.sha256(type(model).__name__.encode())
    config: Any = getattr(model, "config", None)
    digest.update(_canonical(config.to_dict() if hasattr(config, "to_dict") else {}))
    with torch.no_grad():
        for name, tensor in sorted(model.state_dict().items()):
            digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
            data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(data.numpy())
    return digest.hexdigest()


def fingerprint_preprocessing(feature_extractor: Any) -> str:
    """Digest of a feature extractor's class and every setting it would save."""
    digest = hashlib.sha256(type(feature_extractor).__name__.encode())
    settings = feature_extractor.to_dict() if hasattr(feature_extractor, "to_dict") else {}
    digest.update(_canonical(settings))
    return digest.hexdigest()


def fingerprint_dataset(
    dataset: Dataset | Sequence[Any], column: str = "ecg", *, r_peaks: bool = False
) -> str:
    """Digest of the recordings in order: stored samples and everything needed to decode them.

    Only the ECG column counts, and known R peaks if asked for: labels may be corrected without embedding again.

    Args:
        dataset: A dataset with an ``Ecg`` column, or a sequence of :class:`~ecg_hf.signal.EcgRecord` or of
            decoded dictionaries.
        column: Name of the column.
        r_peaks: Whether the column ``r_peaks`` counts too, if there is one.
    """
    # 1 GB/s on one core: seconds for PTB-XL, against minutes for an encoder.
    digest = hashlib.blake2b(digest_size=32)
    if hasattr(dataset, "with_format"):
        table: Any = dataset
        digest.update(repr(table.features[column]).encode())
        stored = table.select_columns([column]).with_format("arrow")
        for start in range(0, len(stored), ROWS_AT_ONCE):
            _add_storage(digest, stored[start : start + ROWS_AT_ONCE].column(column))
        if r_peaks and "r_peaks" in table.features:
            digest.update(json.dumps(table["r_peaks"][:]).encode())
    else:
        for record in dataset:
            _add_record(digest, record)
    digest.update(str(len(dataset)).encode())
    return digest.hexdigest()


def _add_storage(digest: Any, column: Any) -> None:
    for chunk in column.chunks:
        fields = {chunk.type.field(i).name: chunk.field(i) for i in range(chunk.type.num_fields)}
        # The null mask of the struct is not part of its fields.
        digest.update(np.ascontiguousarray(chunk.is_null().to_numpy(zero_copy_only=False)))
        for value in fields.pop("samples"):
            buffer = value.as_buffer()
            digest.update(b"null" if buffer is None else f"{buffer.size}:".encode())
            if buffer is not None:
                digest.update(buffer)
        for name in sorted(fields):
            digest.update(name.encode())
            for value in fields[name].to_pylist():
                digest.update(json.dumps(value).encode())


def _add_record(digest: Any, record: Any) -> None:
    part = (
        record
        if isinstance(record, Mapping)
        else {"signal": record.signal, "sampling_rate": record.sampling_rate, "lead_names": record.lead_names}
    )
    signal = np.ascontiguousarray(part["signal"], dtype=np.float32)
    header = [list(signal.shape), float(part["sampling_rate"]), list(part["lead_names"])]
    digest.update(json.dumps(header).encode())
    digest.update(signal)


def _canonical(settings: Mapping[str, Any]) -> bytes:
    kept = {name: value for name, value in settings.items() if name not in VOLATILE}
    return json.dumps(kept, sort_keys=True, default=str).encode()
