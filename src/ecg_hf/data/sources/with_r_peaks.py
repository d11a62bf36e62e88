"""Any source, with R peaks detected in recordings without known ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ecg_hf.data.schema import Entry, SourceRow
from ecg_hf.data.sources.base import Dropped, Plan, Source
from ecg_hf.signal.beats.heartbeats import detect_r_peaks

__all__ = ["WithRPeaks"]


class WithRPeaks(Source):
    """Wraps a source, to detect R peaks once when building instead of in every run over the dataset.

    Detected as :func:`ecg_hf.processing.r_peaks.r_peak_table` does, hence the same beats. Recordings whose peaks the
    source knows keep those. Notes ``r_peaks_detected`` and ``r_peaks_not_found`` count what was done.

    Args:
        source: The source to wrap.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._data_dir = source._data_dir
        self.info = source.info  # type: ignore[misc]

    def options(self) -> dict[str, Any]:
        """Options of the wrapped source, and the mark that peaks are detected."""
        return {**self._source.options(), "detect_r_peaks": True}

    def plan(self) -> Plan:
        """Plan of the wrapped source."""
        return self._source.plan()

    def file_of(self, entry: Entry) -> str:
        """As the wrapped source says."""
        return self._source.file_of(entry)

    def at(self, data_dir: Path) -> Source:
        """The wrapped source reading from another folder."""
        return WithRPeaks(self._source.at(data_dir))

    def piece(self, entries: Sequence[Entry]) -> Source:
        """The same around the wrapped source's piece."""
        return WithRPeaks(self._source.piece(entries))

    def read(self, entry: Entry) -> SourceRow | Dropped:
        """Read one recording and detect its beats."""
        return self._with_peaks(self._source.read(entry))

    def read_many(self, entries: Sequence[Entry]) -> Iterator[SourceRow | Dropped]:
        """Read recordings in the wrapped source's own batches, and detect their beats."""
        for item in self._source.read_many(entries):
            yield self._with_peaks(item)

    @staticmethod
    def _with_peaks(item: SourceRow | Dropped) -> SourceRow | Dropped:
        if isinstance(item, Dropped) or (item.r_peaks is not None and len(item.r_peaks)):
            return item
        peaks = detect_r_peaks(item.ecg.to_record())
        note = "r_peaks_detected" if peaks.size else "r_peaks_not_found"
        return replace(item, entry=replace(item.entry, notes=(*item.entry.notes, note)), r_peaks=peaks)
