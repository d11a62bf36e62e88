"""What needs no encoder: a QRS detector, and waves at their usual distance from its beats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.delineation.annotations import WAVES, AnnotatedRecord, Delineation, WaveTimes
from ecg_hf.evaluation.delineation.scoring import match_times
from ecg_hf.signal.beats.xqrs import xqrs
from ecg_hf.signal.record import EcgRecord

__all__ = ["WaveTimetable", "detected_beats"]

FloatArray = npt.NDArray[np.float64]


def detected_beats(records: Sequence[EcgRecord], leads: Sequence[str]) -> list[Delineation]:
    """QRS complexes found by wfdb's XQRS in each lead on its own, peaks alone (onset and offset NaN).

    About 10 ms per lead of 10 s on one core.

    Args:
        records: Recordings; at a low rate XQRS finds less.
        leads: Leads to look at.
    """
    found: list[Delineation] = []
    for record in records:
        waves = {}
        for lead in leads:
            if lead in record.lead_names:
                row = record.signal[record.lead_names.index(lead)]
                peaks = xqrs(row, record.sampling_rate, refine=True)
                times = peaks.astype(np.float64) * (1000.0 / record.sampling_rate)
                nothing = np.full(len(times), np.nan)
                waves[lead] = {"QRS": WaveTimes(nothing, times, nothing)}
        found.append(waves)
    return found


class WaveTimetable:
    """Waves at their usual distance from the R peak: how far rhythm alone carries a delineator.

    For every lead, the median distance of each annotated boundary from the detected peak of its beat is learnt from
    annotated records. (From detected ones, because where a complex has several deflections a detector and a
    cardiologist choose differently: 12 ms apart on average in LUDB.) Distances behind the QRS complex are learnt and
    applied in units of the square root of the recording's median RR interval (Bazett). Every beat gets all three
    waves, also where there is no P wave.

    A method of ours, as a control; no published delineator.
    """

    def __init__(self) -> None:
        self._distances: dict[str, dict[str, tuple[float, float]]] = {}

    def fit(
        self, records: Sequence[AnnotatedRecord], beats: Sequence[Delineation], leads: Sequence[str]
    ) -> WaveTimetable:
        """Learn the distances.

        Args:
            records: Annotated recordings.
            beats: Their QRS peaks as :func:`detected_beats` gives them.
            leads: Leads to learn.

        Raises:
            ConfigurationError: if a lead has a wave that is nowhere fully marked.
        """
        self._distances = {}
        for lead in leads:
            distances: dict[str, list[FloatArray]] = {wave: [] for wave in WAVES}
            for one, found in zip(records, beats, strict=True):
                marks, peaks = one.delineation.get(lead, {}), found[lead]["QRS"].peak
                if "QRS" in marks:
                    _collect(distances, marks, peaks)
            self._distances[lead] = {wave: _medians(parts, lead, wave) for wave, parts in distances.items()}
        return self

    def delineate(self, beats: Sequence[Delineation]) -> list[Delineation]:
        """Put the waves around known beats.

        Args:
            beats: QRS peaks of every record and lead, as :func:`detected_beats` gives them.

        Raises:
            ConfigurationError: if a lead was not learnt.
        """
        return [{lead: self._around(waves["QRS"].peak, lead) for lead, waves in one.items()} for one in beats]

    def _around(self, peaks: FloatArray, lead: str) -> dict[str, WaveTimes]:
        if lead not in self._distances:
            raise ConfigurationError(f"no distances were learnt for lead {lead}", value=lead)
        roots = _root_intervals(peaks, len(peaks))
        waves = {}
        for wave, (start, stop) in self._distances[lead].items():
            scale = roots if wave == "T" else 1.0
            onset, offset = peaks + start * scale, peaks + stop * scale
            waves[wave] = WaveTimes(onset, peaks if wave == "QRS" else (onset + offset) / 2, offset)
        return waves


def _collect(
    distances: dict[str, list[FloatArray]], marks: Mapping[str, WaveTimes], peaks: FloatArray
) -> None:
    """Add one lead's distances: onset and offset in turn, for every wave."""
    annotated = marks["QRS"].peak
    which, detected = match_times(annotated, peaks)
    # Where the detector saw each annotated beat; NaN where it did not.
    beats = np.full(len(annotated), np.nan)
    beats[which] = peaks[detected]
    roots = _root_intervals(peaks, len(annotated))
    for wave in WAVES:
        if wave not in marks:
            continue
        found = marks[wave]
        # A P wave belongs to the beat behind it, a T wave to the one before.
        at = (
            np.arange(len(annotated))
            if wave == "QRS"
            else np.searchsorted(annotated, found.peak) - (wave == "T")
        )
        inside = (at >= 0) & (at < len(annotated))
        at = at[inside]
        scale = roots[at] if wave == "T" else 1.0
        for times in (found.onset, found.offset):
            distances[wave].append((times[inside] - beats[at]) / scale)


def _root_intervals(peaks: FloatArray, count: int) -> FloatArray:
    """Square root of the median RR interval in seconds ``(count,)``; 1 for a single beat."""
    interval = float(np.median(np.diff(peaks))) / 1000.0 if len(peaks) > 1 else 1.0
    return np.full(count, np.sqrt(interval))


def _medians(parts: list[FloatArray], lead: str, wave: str) -> tuple[float, float]:
    limits = []
    for side in (0, 1):
        values = np.concatenate([np.zeros(0), *parts[side::2]])
        values = values[np.isfinite(values)]
        if not values.size:
            raise ConfigurationError(f"no {wave} wave of lead {lead} is annotated", value=(lead, wave))
        limits.append(float(np.median(values)))
    return limits[0], limits[1]
