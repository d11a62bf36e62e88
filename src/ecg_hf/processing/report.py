"""What preparing a batch assumed, converted, repaired or dropped, record by record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from ecg_hf.signal.record import Note

__all__ = ["ProcessingReport", "ReportBuilder"]


@dataclass(frozen=True, slots=True)
class ProcessingReport:
    """Report of one call of a feature extractor.

    Attributes:
        notes: One tuple of notes per record, in the order of the batch. Codes: ``sampling_rate_assumed``,
            ``lead_names_assumed``, ``lead_substituted``, ``layout_transposed``, ``unit_converted``,
            ``leads_dropped``, ``lead_missing``, ``lead_derived``, ``nan_interpolated``, ``nan_zeroed``,
            ``lead_beyond_repair``, ``flat_lead``, ``amplitude_implausible``, ``resampled``, ``cropped``, ``padded``.
    """

    notes: tuple[tuple[Note, ...], ...]

    @property
    def counts(self) -> dict[str, int]:
        """Number of records each code occurs in, most frequent first."""
        counter: Counter[str] = Counter()
        for notes in self.notes:
            counter.update({note.code for note in notes})
        return dict(sorted(counter.items(), key=lambda item: (-item[1], item[0])))


class ReportBuilder:
    """Collects notes while a batch is processed; one instance per call, so extractors stay stateless."""

    def __init__(self, n_records: int) -> None:
        self._notes: list[list[Note]] = [[] for _ in range(n_records)]

    def add(self, positions: Iterable[int], code: str, detail: str = "", lead: str | None = None) -> None:
        """Attach the same note to the records at ``positions``."""
        note = Note(code, detail, lead)
        for position in positions:
            self._notes[int(position)].append(note)

    def build(self) -> ProcessingReport:
        """The finished, immutable report."""
        return ProcessingReport(tuple(tuple(notes) for notes in self._notes))
