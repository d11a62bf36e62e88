"""Opening HDF5 files of recordings safely: nothing outside the file, no sizes it does not hold."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ecg_hf.errors import DatasetBuildError, EcgError, UnsafePath
from ecg_hf.signal.io.paths import inside_root
from ecg_hf.signal.leads import STANDARD_LEADS

__all__ = ["READ_ERRORS", "open_part"]

MAX_EXAMS = 1 << 22
MAX_SAMPLES = 1_000_000
"""Longest row of a part: 40 minutes at 400 Hz. Published rows have 4,096 samples."""

MAX_CHUNK_BYTES = 1 << 28
"""A reader has to unpack a whole chunk, however little of it is asked for."""

MAX_EXPANSION = 1100
"""Deflate, the densest filter of HDF5's own, can't make a block smaller than by a factor of 1,032."""

READ_ERRORS = (OSError, RuntimeError, ValueError, KeyError, TypeError, MemoryError)
"""What h5py raises for damaged files, according to what is damaged."""


@contextmanager
def open_part(path: Path, root: Path, file: BinaryIO | None = None) -> Iterator[tuple[Any, Any]]:
    """Open a part of CODE-15%.

    Args:
        path: The file.
        root: The data folder, which a link at ``path`` may not leave.
        file: What to read instead of the file at ``path``.

    Yields:
        The dataset of tracings, floating ``(exams, samples, 12)``, and that of exam ids, integer ``(exams,)``.

    Raises:
        UnsafePath: if the file, or a dataset in it, leads to another place.
        DatasetBuildError: if the file is not HDF5, is truncated, is not laid out like CODE-15%, or announces more
            than it holds.
    """
    import h5py

    inside_root(os.fspath(path), root)
    try:
        opened = h5py.File(path if file is None else file, "r")
    except READ_ERRORS:
        raise DatasetBuildError("the part can't be read as HDF5, or is cut short", path=path) from None
    with opened:
        try:
            tracings, ids = (_own_dataset(opened, name, path) for name in ("tracings", "exam_id"))
            _check_layout(tracings, ids, path)
        except EcgError:
            raise
        except READ_ERRORS:
            raise DatasetBuildError("the part can't be read as HDF5, or is cut short", path=path) from None
        yield tracings, ids


def _own_dataset(file: Any, name: str, path: Path) -> Any:
    """A dataset whose values lie in this file, not behind a link, in another file or in a view of other datasets."""
    import h5py

    link = file.get(name, getlink=True)
    if link is not None and not isinstance(link, h5py.HardLink):
        raise UnsafePath(f"{name!r} is a link to another place ({type(link).__name__})", path=path)
    dataset = file.get(name)
    if not isinstance(dataset, h5py.Dataset):
        raise DatasetBuildError(f"the part has no dataset named {name!r}", path=path)
    if dataset.external or dataset.is_virtual:
        raise UnsafePath(f"the values of {name!r} lie outside the file", path=path)
    return dataset


def _check_layout(tracings: Any, ids: Any, path: Path) -> None:
    leads = len(STANDARD_LEADS)
    if tracings.ndim != 3 or tracings.shape[2] != leads or tracings.shape[1] < 1:
        raise DatasetBuildError(
            f"tracings must have the shape (exams, samples, {leads}), got {tracings.shape}", path=path
        )
    if tracings.dtype.kind != "f":
        raise DatasetBuildError(f"tracings must be floating, got {tracings.dtype}", path=path)
    if ids.shape != tracings.shape[:1] or ids.dtype.kind not in "iu":
        raise DatasetBuildError(
            f"exam_id must hold {tracings.shape[0]} integers, got {ids.dtype} {ids.shape}", path=path
        )
    exams, samples = tracings.shape[:2]
    if exams > MAX_EXAMS or samples > MAX_SAMPLES:
        raise DatasetBuildError(
            f"{exams} tracings of {samples} samples are more than is read ({MAX_EXAMS} of {MAX_SAMPLES})",
            path=path,
        )
    for name, dataset in (("tracings", tracings), ("exam_id", ids)):
        held = dataset.id.get_storage_size()
        # Values that were never written take no space in the file: they are zeros that were not recorded.
        filtered = dataset.id.get_create_plist().get_nfilters() > 0
        if dataset.nbytes > held * (MAX_EXPANSION if filtered else 1):
            raise DatasetBuildError(
                f"{name} announces {dataset.nbytes} bytes and the file holds {held} of them", path=path
            )
        chunk = dataset.dtype.itemsize
        for side in dataset.chunks or ():
            chunk *= side
        if chunk > MAX_CHUNK_BYTES:
            raise DatasetBuildError(
                f"{name} is stored in chunks of {chunk} bytes, too large to read", path=path
            )
