"""The records of a pretraining run: built datasets held as they are, or Parquet streamed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from datasets import Dataset

from ecg_hf.data import MixedDataset, load_mixed, open_parquet
from ecg_hf.data.parquet import load_parquet
from ecg_hf.data.streaming import SHUFFLE_BUFFER, RowStream
from ecg_hf.errors import ConfigurationError, NoReports
from ecg_hf.models.registry import METHODS
from ecg_hf.processing import EcgFeatureExtractor
from ecg_hf.training.arguments import EcgPreTrainingArguments
from ecg_hf.training.collators import BatchedEcgDataset
from ecg_hf.training.streams import StreamedEcgDataset, batches_per_epoch

__all__ = ["BuiltData", "PretrainingData", "StreamedData", "split_rows"]

logger = logging.getLogger(__name__)

CACHE_BYTES = 2e9
"""Signals are kept in memory, preprocessed, if they take less."""


class PretrainingData(Protocol):
    """What a run needs to know about its records.

    Attributes:
        records: Records used, by split, and left out, by reason.
        account: The same for each dataset.
    """

    records: dict[str, int]
    account: list[dict[str, Any]]

    def settings(self, arguments: EcgPreTrainingArguments) -> dict[str, Any]:
        """What the result of a run depends on, as JSON values.

        Raises:
            ConfigurationError: if these records can't be read with these arguments.
        """
        ...

    def reports(self) -> tuple[list[str], list[str | None]]:
        """Reports of the training records, and the patient of each where known."""
        ...

    def datasets(
        self,
        arguments: EcgPreTrainingArguments,
        extractor: EcgFeatureExtractor,
        tokenizer: Any,
        max_text_length: int,
        with_patients: bool = False,
    ) -> tuple[Any, BatchedEcgDataset | None]:
        """Training set and validation set, None without validation records.

        Args:
            arguments: Of the run.
            extractor: Makes inputs of signals, where they are cached.
            tokenizer: Of the reports; None for methods that learn from signals alone.
            max_text_length: Longest report in tokens.
            with_patients: Deliver numbers of patients too.
        """
        ...


class BuiltData:
    """Records of built datasets, see :func:`ecg_hf.data.load_mixed`.

    Args:
        paths: Folders made by :func:`ecg_hf.data.build_dataset`.
        needs_report: Leave out records without a report.
        max_records: Use only so many training records: of each dataset the first ones, in proportion.
        cache_inputs: Keep all preprocessed signals in memory. None: if they take less than 2 GB.
        cache_dir: Keep them in this folder too, for the next run on the same records.

    Raises:
        ConfigurationError: if there are no training records.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        *,
        needs_report: bool,
        max_records: int | None = None,
        cache_inputs: bool | None = None,
        cache_dir: str | Path | None = None,
    ) -> None:
        self._cache_dir = cache_dir
        self._mixed = load_mixed(paths)
        self._cache_inputs = cache_inputs
        self._train, without = split_rows(self._mixed.dataset, "train", needs_report=needs_report)
        self._validation, _ = split_rows(self._mixed.dataset, "validation", needs_report=needs_report)
        if max_records is not None:
            self._train = _first_of_each(self._train, self._mixed, max_records)
        counts = {"train": len(self._train), "validation": len(self._validation)}
        self.records = {**counts, **without, **self._mixed.left_out}
        _require_records(len(self._train), without.get("without_report", 0), paths)
        self.account = _account(self._mixed, {"train": self._train, "validation": self._validation})

    def settings(self, arguments: EcgPreTrainingArguments) -> dict[str, Any]:
        """Fingerprints and numbers of records."""
        fingerprints = [part.fingerprint for part in self._mixed.parts]
        return {"fingerprint": fingerprints[0] if len(fingerprints) == 1 else fingerprints, **self.records}

    def reports(self) -> tuple[list[str], list[str | None]]:
        """Reports of the training records, and the patient of each where known."""
        rows = self._mixed.dataset.select(self._train)
        return rows["report"][:], rows["patient_id"][:]

    def datasets(
        self,
        arguments: EcgPreTrainingArguments,
        extractor: EcgFeatureExtractor,
        tokenizer: Any,
        max_text_length: int,
        with_patients: bool = False,
    ) -> tuple[BatchedEcgDataset, BatchedEcgDataset | None]:
        """Both sets, cached if that was asked for or takes little."""
        samples = round(float(extractor.sampling_rate) * float(extractor.duration_s or 0.0))
        needed = 4 * (len(self._train) + len(self._validation)) * len(extractor.lead_names or ()) * samples
        cached = needed < CACHE_BYTES if self._cache_inputs is None else self._cache_inputs
        if self._cache_dir is not None and not cached:
            logger.warning(
                "cache_dir is not used: prepared, the signals take %.1f GB of memory", needed / 1e9
            )

        def batched(rows: list[int]) -> BatchedEcgDataset:
            return BatchedEcgDataset(
                self._mixed.dataset.select(rows),
                tokenizer=tokenizer,
                max_text_length=max_text_length,
                with_patients=with_patients,
                cache_with=extractor if cached else None,
                cache_dir=self._cache_dir,
            )

        return batched(self._train), batched(self._validation) if self._validation else None


class StreamedData:
    """Records of Parquet datasets: training records are streamed, those for validation read as a whole.

    Datasets are not compared: a recording that two of them share is used twice, which a warning says.

    Args:
        paths: Folders made by :func:`ecg_hf.data.export_parquet`.
        needs_report: Leave out records without a report.
        weights: Share of each dataset in the training rows; by default those of their numbers of records.
        buffer_size: Rows to draw from while shuffling; None for the default.

    Raises:
        ConfigurationError: if a dataset has no training records, or weights or buffer are impossible.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        *,
        needs_report: bool,
        weights: Sequence[float] | None = None,
        buffer_size: int | None = None,
    ) -> None:
        self._options: dict[str, Any] = {
            "weights": tuple(weights or ()),
            "buffer_size": SHUFFLE_BUFFER if buffer_size is None else buffer_size,
            "needs_report": needs_report,
        }
        self._sources = tuple(open_parquet(path, "train") for path in paths)
        try:
            stream = RowStream(self._sources, **self._options)
        except NoReports as error:
            _require_records(0, int(str(error.value)), [error.path or ""])
            raise
        self._weights = stream.weights
        self._stream_reports = stream.reports
        self._validation = self._read_validation(paths, needs_report)
        self.records = {
            "train": len(stream),
            "validation": 0 if self._validation is None else len(self._validation),
        }
        if stream.without_report:
            self.records["without_report"] = stream.without_report
            logger.warning("%d train records have no report and are left out", stream.without_report)
        if len(paths) > 1:
            logger.warning(
                "streamed datasets are not compared: records that two of them share are used twice"
            )
        self.account = [
            {
                "path": str(source.folder),
                "source": source.source,
                "fingerprint": source.fingerprint,
                "train": len(source),
                "sampling_weight": weight,
            }
            for source, weight in zip(self._sources, stream.weights, strict=True)
        ]

    @staticmethod
    def _read_validation(paths: Sequence[str | Path], needs_report: bool) -> Dataset | None:
        files = [file for path in paths for file in open_parquet(path, "validation").files]
        if not files:
            return None
        rows = load_parquet(files)
        chosen, _ = split_rows(rows, "validation", needs_report=needs_report)
        return rows.select(chosen) if chosen else None

    def settings(self, arguments: EcgPreTrainingArguments) -> dict[str, Any]:
        """Fingerprints and numbers of records, and all that decides the order of a stream."""
        # Before the run's folder is claimed: what can't start must not be in the way of what can.
        batches_per_epoch(self.records["train"], arguments.per_device_train_batch_size, arguments.world_size)
        streaming = {
            "files": [len(source.files) for source in self._sources],
            "weights": list(self._weights),
            "shuffle_buffer": self._options["buffer_size"],
            "processes": arguments.world_size,
            "batch_size": arguments.per_device_train_batch_size,
        }
        return {
            "fingerprint": [source.fingerprint for source in self._sources],
            "streaming": streaming,
            **self.records,
        }

    def reports(self) -> tuple[list[str], list[str | None]]:
        """Reports of the training records, and the patient of each where known."""
        told = [(report, patient) for report, patient in self._stream_reports() if report.strip()]
        return [report for report, _ in told], [patient for _, patient in told]

    def datasets(
        self,
        arguments: EcgPreTrainingArguments,
        extractor: EcgFeatureExtractor,
        tokenizer: Any,
        max_text_length: int,
        with_patients: bool = False,
    ) -> tuple[StreamedEcgDataset, BatchedEcgDataset | None]:
        """The stream of this process, and the validation set."""
        stream = RowStream(
            self._sources,
            **self._options,
            seed=int(arguments.data_seed if arguments.data_seed is not None else arguments.seed),
            rank=arguments.process_index,
            world_size=arguments.world_size,
        )
        reading: dict[str, Any] = {
            "tokenizer": tokenizer,
            "max_text_length": max_text_length,
            "with_patients": with_patients,
        }
        train = StreamedEcgDataset(stream, arguments.per_device_train_batch_size, **reading)
        return train, None if self._validation is None else BatchedEcgDataset(self._validation, **reading)


def _require_records(used: int, without_report: int, paths: Sequence[str | Path]) -> None:
    """There is something to train on; if not, it is said why, and which methods could use what is there."""
    if used:
        return
    why = "no training records to use"
    if without_report:
        signals = ", ".join(spec.name for spec in METHODS.values() if not spec.multimodal)
        why = (
            f"none of the {without_report} training records has a report, which this method learns from; methods "
            f"for signals alone: {signals}"
        )
    raise ConfigurationError(why, path=", ".join(str(path) for path in paths))


def split_rows(
    dataset: Dataset, split: str, *, needs_report: bool = False
) -> tuple[list[int], dict[str, int]]:
    """Rows of a split that can be used, and how many were left out, by reason.

    Args:
        dataset: Canonical rows.
        split: ``train``, ``validation`` or ``test``.
        needs_report: Leave out rows without a report.
    """
    chosen = np.asarray(dataset["split"][:])
    rows = np.flatnonzero(chosen == split)
    left_out: dict[str, int] = {}
    if needs_report:
        reports = dataset["report"][:]
        with_report = np.array([bool((reports[row] or "").strip()) for row in rows], dtype=bool)
        if not with_report.all():
            left_out["without_report"] = int((~with_report).sum())
            logger.warning("%d %s records have no report and are left out", left_out["without_report"], split)
        rows = rows[with_report]
    return rows.tolist(), left_out


def _first_of_each(rows: list[int], mixed: MixedDataset, count: int) -> list[int]:
    """The first ``count`` rows, of several datasets in proportion to what each has of them."""
    if len(mixed.parts) == 1 or count >= len(rows):
        return rows[:count]
    chosen = np.asarray(rows)
    origins = mixed.origins[chosen]
    have = np.bincount(origins, minlength=len(mixed.parts))
    exact = have * count / len(rows)
    share = np.floor(exact).astype(int)
    # Largest remainders get what rounding down left over.
    order = np.argsort(share - exact, kind="stable")
    share[order[: count - share.sum()]] += 1
    kept = [chosen[origins == part][: share[part]] for part in range(len(mixed.parts))]
    return [int(row) for row in np.concatenate(kept)]


def _account(mixed: MixedDataset, rows: Mapping[str, list[int]]) -> list[dict[str, Any]]:
    """Records used and left out, dataset by dataset."""
    used = {
        split: np.bincount(mixed.origins[np.asarray(chosen, dtype=np.int64)], minlength=len(mixed.parts))
        for split, chosen in rows.items()
    }
    return [
        {
            "path": part.path,
            "source": part.source,
            "fingerprint": part.fingerprint,
            **{split: int(counts[i]) for split, counts in used.items()},
            "left_out": part.left_out,
        }
        for i, part in enumerate(mixed.parts)
    ]
