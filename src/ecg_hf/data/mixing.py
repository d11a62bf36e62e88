"""Several built datasets as one: same columns, no recording twice or in two splits."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import datasets
import numpy as np
import numpy.typing as npt
from datasets import Dataset

from ecg_hf.data.building import load_built
from ecg_hf.data.report import BuildReport
from ecg_hf.data.schema import canonical_features
from ecg_hf.data.storage import Layout, StoredColumn
from ecg_hf.errors import ConfigurationError
from ecg_hf.storage import local_folder

__all__ = ["MixedDataset", "MixedPart", "load_mixed", "signal_keys"]

logger = logging.getLogger(__name__)

LOCAL_NAMES = frozenset({"wfdb_folder", "synthetic"})
"""Sources whose record names are unique only within one dataset; elsewhere equal names mean the same recording."""

KEY_LEADS = ("II", "V1", "V5")
KEY_SAMPLES = 192

_HELD_OUT = {"train": 0, "validation": 1, "test": 2}


@dataclass(frozen=True, slots=True)
class MixedPart:
    """One of several datasets.

    Attributes:
        path: Its folder.
        source: Name of its source.
        fingerprint: That of its build.
        rows: Its recordings.
        left_out: Of these, how many are not in the mixture, by reason.
    """

    path: str
    source: str
    fingerprint: str
    rows: int
    left_out: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class MixedDataset:
    """Rows of several built datasets, one after the other.

    Attributes:
        dataset: The remaining rows, in the order of the parts and of their builds.
        origins: int32 ``(rows,)``, the part each row is from.
        parts: The datasets.
    """

    dataset: Dataset
    origins: npt.NDArray[np.int32]
    parts: tuple[MixedPart, ...]

    @property
    def left_out(self) -> dict[str, int]:
        """Recordings left out of all parts, by reason."""
        total: Counter[str] = Counter()
        for part in self.parts:
            total.update(part.left_out)
        return dict(sorted(total.items()))


def load_mixed(paths: Sequence[str | Path]) -> MixedDataset:
    """Open folders made by :func:`ecg_hf.data.build_dataset` as one dataset.

    A single dataset is opened as it is. Of several, these rows are left out, counted and reported in a warning:

    * ``duplicate_record``: a name of a published source that is also in another part (PTB-XL at 100 and at 500 Hz);
    * ``duplicate_signal``: a signal that is also in another part, sample by sample at the same rate
      (:func:`signal_keys`), under any name: PhysioNet's Challenge sets contain PTB-XL and CPSC 2018;
    * ``held_out_patient``: training rows of a patient of a published source who is held out in another part.

    Of several copies the one held out most strictly is kept (test, then validation, then train), and of equal ones
    that of the first part. Copies within one part are kept, as in a single dataset.

    Args:
        paths: Folders or addresses of object stores, in the order of the rows. The order is part of the result.

    Raises:
        DatasetBuildError: if a folder holds no finished build.
        ConfigurationError: if no path is given, two are the same build, or a dataset has other columns.
    """
    folders = [local_folder(path) for path in paths]
    if not folders:
        raise ConfigurationError("no dataset was given")
    loaded = [load_built(folder) for folder in folders]
    reports = [BuildReport.load(folder) for folder in folders]
    seen: dict[str, Path] = {}
    for folder, rows, report in zip(folders, loaded, reports, strict=True):
        if report.fingerprint in seen:
            raise ConfigurationError(
                f"the same build as {seen[report.fingerprint]}: give each dataset once", path=folder
            )
        seen[report.fingerprint] = folder
        if len(folders) > 1 and rows.features != canonical_features():
            raise ConfigurationError("other columns than a built dataset has: build it again", path=folder)
    origins = np.repeat(np.arange(len(loaded), dtype=np.int32), [len(rows) for rows in loaded])
    dataset = loaded[0] if len(loaded) == 1 else datasets.concatenate_datasets(loaded)
    reasons = np.full(len(dataset), "", dtype=object)
    if len(loaded) > 1:
        reasons = _reasons_to_leave_out(dataset, origins)
    parts = tuple(
        MixedPart(
            str(path),
            report.source,
            report.fingerprint,
            len(rows),
            dict(sorted(Counter(reason for reason in reasons[origins == i].tolist() if reason).items())),
        )
        for i, (path, rows, report) in enumerate(zip(paths, loaded, reports, strict=True))
    )
    keep = np.flatnonzero(reasons == "")
    if len(keep) < len(dataset):
        dataset, origins = dataset.select(keep), origins[keep]
        for part in parts:
            counts = ", ".join(f"{count} {reason}" for reason, count in part.left_out.items())
            if counts:
                logger.warning(
                    "%s: rows that are also in another dataset are left out: %s", part.path, counts
                )
    return MixedDataset(dataset, origins, parts)


def _reasons_to_leave_out(dataset: Dataset, origins: npt.NDArray[np.int32]) -> npt.NDArray[np.object_]:
    """Why each row is left out; ``""`` for those that stay."""
    columns = dataset.select_columns(["source", "record_id", "patient_id", "split"]).with_format("arrow")[:]
    sources, names, patients, splits = (columns[i].to_pylist() for i in range(4))
    published = np.array([source not in LOCAL_NAMES for source in sources], dtype=bool)
    held_out = np.array([_HELD_OUT.get(split, 0) for split in splits], dtype=np.int64)
    reasons = np.full(len(dataset), "", dtype=object)

    record_keys = np.array(
        [_key(f"{s}\0{n}".encode()) for s, n in zip(sources, names, strict=True)], np.uint64
    )
    _leave_copies_out(reasons, "duplicate_record", record_keys, published, origins, held_out)
    keys, known = signal_keys(dataset)
    _leave_copies_out(reasons, "duplicate_signal", keys, known, origins, held_out)

    # The parts in which a patient is held out, as bits; training rows of any other part must not have them.
    has_patient = published & np.array([patient is not None for patient in patients], dtype=bool)
    where: dict[tuple[str, str], set[int]] = {}
    for row in np.flatnonzero(has_patient & (held_out > 0)).tolist():
        where.setdefault((sources[row], patients[row]), set()).add(int(origins[row]))
    for row in np.flatnonzero(has_patient & (held_out == 0) & (reasons == "")).tolist():
        if where.get((sources[row], patients[row]), set()) - {int(origins[row])}:
            reasons[row] = "held_out_patient"
    return reasons


def _leave_copies_out(
    reasons: npt.NDArray[np.object_],
    reason: str,
    keys: npt.NDArray[np.uint64],
    known: npt.NDArray[np.bool_],
    origins: npt.NDArray[np.int32],
    held_out: npt.NDArray[np.int64],
) -> None:
    """Of rows with the same key in several parts, give all but the part that is kept a reason."""
    rows = np.flatnonzero(known & (reasons == ""))
    _, group_of = np.unique(keys[rows], return_inverse=True)
    groups = int(group_of.max(initial=-1)) + 1
    first, last = np.full(groups, len(origins)), np.full(groups, -1)
    np.minimum.at(first, group_of, origins[rows])
    np.maximum.at(last, group_of, origins[rows])
    # Sorted by group, most strictly held out first, then in the order of rows: the first of a group is kept.
    shared = np.flatnonzero((first < last)[group_of])
    order = shared[np.lexsort((rows[shared], -held_out[rows[shared]], group_of[shared]))]
    stays: dict[int, int] = {}
    for row, group in zip(rows[order].tolist(), group_of[order].tolist(), strict=True):
        if stays.setdefault(group, int(origins[row])) != origins[row]:
            reasons[row] = reason


def signal_keys(
    dataset: Dataset, column: str = "ecg"
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
    """A key per recording that equal signals share, without reading all of it.

    Looks at 192 evenly spaced samples of leads II, V1 and V5 (those present, else the first lead), in whole
    microvolts, so that how a file stores them does not matter; rate and length are part of the key. A recording at
    another rate, cut or filtered is another signal. 10,000 recordings take a fraction of a second.

    Args:
        dataset: Canonical rows; the order is that of its table, selections respected.
        column: Name of the ECG column.

    Returns:
        uint64 ``(rows,)``, and bool ``(rows,)`` that is False for rows without a key, whose samples looked at are
        constant, as in recordings with all electrodes off.
    """
    stored = StoredColumn(dataset.data.table.column(column))
    indices = dataset._indices
    physical = np.arange(len(stored)) if indices is None else indices.column(0).to_numpy().astype(np.int64)
    keys, known = np.zeros(len(physical), np.uint64), np.zeros(len(physical), np.bool_)
    layout_ids = stored.layout_ids[physical]
    for number in np.unique(layout_ids).tolist():
        layout, members = stored.layouts[number], np.flatnonzero(layout_ids == number)
        leads = [layout.lead_names.index(name) for name in KEY_LEADS if name in layout.lead_names] or [0]
        places = np.arange(KEY_SAMPLES) * layout.shape[1] // KEY_SAMPLES
        if not layout.shape[1]:
            continue
        head = _head(layout, leads)
        for start in range(0, len(members), _AT_ONCE):
            some = members[start : start + _AT_ONCE]
            with np.errstate(invalid="ignore", over="ignore"):
                micro = np.rint(stored.samples_at(physical[some], layout, leads, places) * 1000.0)
            micro = np.nan_to_num(micro.clip(-2e9, 2e9)).astype("<i4")
            keys[some] = [_key(head + row.tobytes()) for row in micro]
            known[some] = (micro != micro[..., :1]).any(axis=(1, 2))
    return keys, known


_AT_ONCE = 4096


def _head(layout: Layout, leads: Sequence[int]) -> bytes:
    names = ",".join(layout.lead_names[lead] for lead in leads)
    return f"{layout.sampling_rate:g}|{layout.shape[1]}|{names}|".encode()


def _key(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
