"""Known R peaks of a built dataset's rows."""

from __future__ import annotations

from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from datasets import Dataset

__all__ = ["StoredPeaks"]

_COLUMN = "r_peaks"


class StoredPeaks:
    """The ``r_peaks`` column as one flat array.

    Args:
        column: Chunked array of lists of integers; null and empty lists hold no peak.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        lists = column.combine_chunks()
        if isinstance(lists, pa.ChunkedArray):  # what older versions make of a column without chunks
            lists = pa.concat_arrays(lists.chunks) if lists.num_chunks else pa.array([], column.type)
        lengths = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        self._offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        self._values = lists.flatten().to_numpy(zero_copy_only=False).astype(np.int64)

    @classmethod
    def of(cls, dataset: Dataset) -> Self | None:
        """The peaks of a dataset, or None if it has no such column or not one peak in it."""
        features = dataset.features
        if _COLUMN not in features:
            return None
        column = dataset.data.table.column(_COLUMN)
        if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
            return None
        if not pa.types.is_integer(column.type.value_type):
            return None
        peaks = cls(column)
        return peaks if peaks._values.size else None

    def read(
        self, rows: npt.NDArray[np.int64], scale: npt.NDArray[np.float64]
    ) -> list[npt.NDArray[np.int64]]:
        """Peaks of ``rows`` of the table, each row's multiplied by its ``scale`` (new rate over stored rate)."""
        starts, stops = self._offsets[rows].tolist(), self._offsets[rows + 1].tolist()
        return [
            np.rint(self._values[start:stop] * factor).astype(np.int64)
            for start, stop, factor in zip(starts, stops, scale.tolist(), strict=True)
        ]
