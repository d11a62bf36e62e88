"""Opening a dataset with the columns its owner gave it: a build, an export, or what ``save_to_disk`` wrote."""

from __future__ import annotations

from pathlib import Path

from datasets import Dataset, concatenate_datasets, load_dataset

from ecg_hf.data.build_folder import STATE_FILE, is_part
from ecg_hf.data.building import load_built, load_saved
from ecg_hf.data.feature import is_ecg_column
from ecg_hf.data.from_hub import with_ecg_columns
from ecg_hf.data.parquet import open_parquet
from ecg_hf.data.schema import SPLITS
from ecg_hf.data.shards import WORK_FOLDER
from ecg_hf.errors import DatasetBuildError

__all__ = ["open_rows"]

ECG_COLUMN = "ecg"


def open_rows(path: str | Path) -> Dataset:
    """All rows of a dataset in a folder, with every column there is.

    Args:
        path: A folder made by :func:`ecg_hf.data.build_dataset` or :func:`ecg_hf.data.export_parquet`, or by
            ``Dataset.save_to_disk`` from one of these, with further columns for instance.

    Returns:
        Rows with an :class:`~ecg_hf.data.Ecg` column ``ecg``. Those of an export are prepared in the library's cache.

    Raises:
        DatasetBuildError: if the folder is missing, damaged, or holds no such dataset.
    """
    folder = Path(path)
    unfinished = is_part(folder) or (folder / WORK_FOLDER).is_dir()
    if (folder / STATE_FILE).is_file() and not unfinished:
        rows = load_saved(folder)
    elif (folder / "data").is_dir() and not unfinished:
        rows = _of_parquet(folder)
    else:
        rows = load_built(folder)
    if not is_ecg_column(rows.features, ECG_COLUMN):
        raise DatasetBuildError(
            f"no column {ECG_COLUMN!r} of ECGs (columns: {', '.join(rows.column_names)})", path=folder
        )
    return rows


def _of_parquet(folder: Path) -> Dataset:
    splits = [open_parquet(folder, split) for split in SPLITS]
    files = [[str(file) for file in split.files] for split in splits if split.files]
    if not files:
        raise DatasetBuildError("an export without files", path=folder)
    try:
        parts = [load_dataset("parquet", data_files={"train": part}, split="train") for part in files]
        rows: Dataset = with_ecg_columns(parts[0] if len(parts) == 1 else concatenate_datasets(parts))
    # For damaged files the library lets about every built-in exception escape.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        raise DatasetBuildError(
            f"the export can't be opened ({type(error).__name__}: {reason})", path=folder
        ) from None
    return rows
