"""Hand-made features as a baseline: measured in several processes, gaps filled with training medians."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.baselines.base import FrozenBaseline, Rows, row_numbers
from ecg_hf.progress import progress_bar
from ecg_hf.signal.beats.measure_table import feature_names
from ecg_hf.signal.beats.measures import measure_records

if TYPE_CHECKING:
    from datasets import Dataset

    from ecg_hf.data.decoding import BatchDecoder

__all__ = ["HandmadeFeatures"]

Features = npt.NDArray[np.float32]

_RECORDS_PER_JOB = 64


class HandmadeFeatures(FrozenBaseline):
    """The features listed by :func:`ecg_hf.evaluation.baselines.describe_features`.

    A measurement that is undefined (too few beats, no P wave, an absent lead) is NaN; :meth:`transform` puts the
    median of the training records in its place, or 0 where no training record has it. Nothing else is learnt.

    Measurements of the dataset used last are kept, so that fitting and transforming measure each record once.

    Args:
        num_proc: Processes that measure.
        demographics: Append age and sex of the dataset's columns. Off by default: they are no signal.
        column: Name of the ECG column.

    Raises:
        ConfigurationError: if ``num_proc`` is not positive.
    """

    name = "handmade"
    description = "359 hand-made features"
    version = 1

    def __init__(self, num_proc: int = 1, *, demographics: bool = False, column: str = "ecg") -> None:
        if num_proc < 1:
            raise ConfigurationError(f"num_proc must be at least 1, got {num_proc}", value=num_proc)
        self.num_proc = num_proc
        self.demographics = demographics
        self.column = column
        self.medians: Features | None = None
        self._kept_of = ""
        self._kept: Features = np.empty((0, 0), np.float32)
        self._known: npt.NDArray[np.bool_] = np.empty(0, np.bool_)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return feature_names(self.demographics)

    def settings(self) -> Mapping[str, Any]:
        """Whether age and sex are appended; the number of processes changes nothing."""
        return {"demographics": self.demographics}

    def fit(self, dataset: Dataset, train_rows: Rows, *, progress: bool = True) -> None:
        """Learn the medians of the training records."""
        measured = self.measure(dataset, train_rows, progress=progress)
        defined = np.isfinite(measured).any(axis=0)
        medians = np.zeros(measured.shape[1], np.float32)
        medians[defined] = np.nanmedian(measured[:, defined], axis=0)
        self.medians = medians

    def transform(self, dataset: Dataset, rows: Rows | None = None, *, progress: bool = True) -> Features:
        """Features float32 ``(rows, 359)`` without gaps.

        Raises:
            ConfigurationError: if the baseline was not fitted.
        """
        if self.medians is None:
            raise ConfigurationError("hand-made features need fit() first: it learns what fills their gaps")
        measured = self.measure(dataset, rows, progress=progress)
        return np.where(np.isfinite(measured), measured, self.medians)

    def measure(self, dataset: Dataset, rows: Rows | None = None, *, progress: bool = True) -> Features:
        """Measurements float32 ``(rows, 359)``, NaN where undefined.

        Raises:
            ConfigurationError: if a row is out of range, a worker process dies, or a demographic column is absent.
        """
        numbers = row_numbers(dataset, rows)
        self._keep(dataset)
        wanted = np.unique(numbers)
        missing = wanted[~self._known[wanted]]
        with progress_bar(len(missing), "hand-made features", "record", show=progress) as bar:
            for part, values in self._run(dataset, missing):
                self._kept[part], self._known[part] = values, True
                bar.update(len(part))
        measured = self._kept[numbers]
        if self.demographics:
            measured = np.concatenate([measured, _demographics(dataset, numbers)], axis=1)
        return measured

    def _keep(self, dataset: Dataset) -> None:
        identity = f"{dataset._fingerprint}/{len(dataset)}"
        if self._kept_of != identity:
            self._kept_of = identity
            self._kept = np.full((len(dataset), len(feature_names())), np.nan, np.float32)
            self._known = np.zeros(len(dataset), np.bool_)

    def _run(
        self, dataset: Dataset, rows: npt.NDArray[np.int64]
    ) -> Iterator[tuple[npt.NDArray[np.int64], Features]]:
        from ecg_hf.data.decoding import BatchDecoder

        if not rows.size:
            return
        decoder = BatchDecoder(dataset, self.column)
        jobs = [rows[start : start + _RECORDS_PER_JOB] for start in range(0, len(rows), _RECORDS_PER_JOB)]
        if self.num_proc == 1 or len(jobs) == 1:
            for job in jobs:
                yield job, measure_rows(decoder, job)
            return
        # fork where there is one: spawned workers would run the caller's script again up to its main guard.
        method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
        pool = ProcessPoolExecutor(
            min(self.num_proc, len(jobs)),
            mp_context=multiprocessing.get_context(method),
            initializer=_start_worker,
            initargs=(decoder,),
        )
        try:
            yield from zip(jobs, pool.map(_work, jobs), strict=True)
        except BrokenProcessPool:
            raise ConfigurationError("a process measuring features died (out of memory?)") from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def measure_rows(decoder: BatchDecoder, rows: npt.NDArray[np.int64]) -> Features:
    """Measurements float32 ``(rows, 359)`` of recordings of any rates, lengths and leads."""
    result = np.full((len(rows), len(feature_names())), np.nan, np.float32)
    for places, batch in decoder.by_layout(rows):
        result[places] = measure_records(batch.signal, batch.sampling_rate, batch.lead_names, batch.lead_mask)
    return result


_worker_decoder: BatchDecoder | None = None


def _start_worker(decoder: BatchDecoder) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to say
    global _worker_decoder
    _worker_decoder = decoder


def _work(rows: npt.NDArray[np.int64]) -> Features:
    assert _worker_decoder is not None
    return measure_rows(_worker_decoder, rows)


def _demographics(dataset: Dataset, rows: npt.NDArray[np.int64]) -> Features:
    for name in ("age", "sex"):
        if name not in dataset.column_names:
            raise ConfigurationError(f"the dataset has no column named {name!r}", value=name)
    columns = dataset.select_columns(["age", "sex"]).with_format("arrow")[:].to_pydict()
    age = np.array([np.nan if value is None else value for value in columns["age"]], np.float32)
    female = np.array(
        [{"female": 1.0, "male": 0.0}.get(value, np.nan) for value in columns["sex"]], np.float32
    )
    return np.stack([age, female], axis=1)[rows]
