"""Delineation of annotated recordings from a frozen encoder's tokens, out of fold, with its controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.benchmark_data import patient_folds
from ecg_hf.evaluation.cache import CellStore, array_digest, fingerprint_dataset, plain
from ecg_hf.evaluation.delineation.annotations import WAVES, AnnotatedRecord, Delineation, WaveTimes
from ecg_hf.evaluation.delineation.head import DelineationHead
from ecg_hf.evaluation.delineation.scoring import (
    ALL_LEADS,
    BOUNDARIES,
    BoundaryScore,
    match_times,
    score_delineations,
)
from ecg_hf.evaluation.delineation.tokens import WaveRules, classes_at, token_layout, waves_from_probabilities
from ecg_hf.evaluation.encoders import Encoder, ModelEntrant, untrained_copy
from ecg_hf.evaluation.features.tokens import embed_tokens
from ecg_hf.evaluation.plan import EvaluationPlan
from ecg_hf.signal.beats.xqrs import xqrs
from ecg_hf.signal.leads import normalize_lead_names
from ecg_hf.signal.record import EcgRecord

if TYPE_CHECKING:
    from torch import nn

    from ecg_hf.evaluation.delineation.annotations import AnnotatedRecord

__all__ = [
    "DelineationReport",
    "DelineationTask",
    "WaveTimetable",
    "annotated_depends",
    "detected_beats",
    "run_delineation",
]

ENCODER, UNTRAINED, TIMETABLE, DETECTOR = "encoder", "untrained", "timetable", "xqrs"


@dataclass(frozen=True, slots=True)
class DelineationReport:
    """Scores and waves of a model and its controls on the same records and leads.

    Attributes:
        leads: Leads that were judged: the model's.
        record_ids: Names of the records.
        folds: Fold of each record; it was delineated by a head that saw none of its fold.
        scores: Who -> scores, as :func:`~ecg_hf.evaluation.delineation.scoring.score_delineations` orders them.
        predicted: Who -> waves of every record.
    """

    leads: tuple[str, ...]
    record_ids: tuple[str, ...]
    folds: tuple[int, ...]
    scores: Mapping[str, list[BoundaryScore]]
    predicted: Mapping[str, list[Delineation]]

    def rows(self) -> list[dict[str, Any]]:
        """One plain row per who, lead, wave and boundary, for a results file."""
        return [{"who": who, **score.as_row()} for who, scores in self.scores.items() for score in scores]

    def markdown(self, lead: str = ALL_LEADS) -> str:
        """A table of one lead, or of all leads pooled, for a reader."""
        lines = [
            "| | boundary | annotated | sensitivity % | PPV % | mean ms | SD ms |",
            "|---|---|---:|---:|---:|---:|---:|",
        ]
        for who, scores in self.scores.items():
            for s in scores:
                if s.lead == lead:
                    numbers = (
                        f"{factor * part.estimate:{form}} ({factor * part.low:{form}}, {factor * part.high:{form}})"
                        for part, factor, form in (
                            (s.sensitivity, 100, ".1f"), (s.ppv, 100, ".1f"),
                            (s.mean_ms, 1, "+.1f"), (s.sd_ms, 1, ".1f"),
                        )
                    )  # fmt: skip
                    lines.append(f"| {who} | {s.wave} {s.boundary} | {s.annotated} | {' | '.join(numbers)} |")
        return "\n".join(lines)


def run_delineation(
    model: nn.Module,
    feature_extractor: Any,
    records: Sequence[AnnotatedRecord],
    *,
    head: DelineationHead | None = None,
    rules: WaveRules | None = None,
    n_folds: int = 5,
    controls: bool = True,
    batch_size: int = 8,
    n_resamples: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> DelineationReport:
    """Cross-validated delineation from frozen tokens, with an untrained encoder and two encoderless rows beside it.

    Tokens are computed once; for every fold a :class:`DelineationHead` is fitted on the other folds, by patients.
    Nothing is selected: the head's settings are fixed beforehand and the same for both encoders.

    Args:
        model: Encoder (a base model, not one for pretraining).
        feature_extractor: The model's own; it must pass recordings on in full length.
        records: Annotated recordings.
        head: Settings of the head.
        rules: How probabilities become waves.
        n_folds: Folds.
        controls: Also run an untrained encoder, :class:`WaveTimetable` (fitted on the same folds) and XQRS.
        batch_size: Records per forward pass.
        n_resamples: Bootstrap resamples of records.
        seed: Of folds, resamples and the untrained encoder.
        progress: Show progress bars.

    Raises:
        ConfigurationError: if the model's tokens can't be placed in time or cover the records in part only.
    """
    if not records:
        raise ConfigurationError("there are no records to delineate")
    settings = head or DelineationHead()
    names = normalize_lead_names(model.config.lead_names)  # type: ignore[union-attr, arg-type]
    patients = [one.record.patient_id for one in records]
    folds = patient_folds(len(records), n_folds, groups=patients, seed=seed)
    truth = [one.delineation for one in records]
    predicted: dict[str, list[Delineation]] = {}
    encoders = {ENCODER: model, **({UNTRAINED: untrained_copy(model, seed)} if controls else {})}
    for who, encoder in encoders.items():
        predicted[who] = _from_tokens(
            encoder, feature_extractor, records, names, folds, settings, rules, batch_size, progress
        )
    scores = {who: _score(truth, found, names, n_resamples, seed) for who, found in predicted.items()}
    if controls:
        predicted[DETECTOR] = beats = detected_beats([one.record for one in records], names)
        predicted[TIMETABLE] = _from_timetable(records, beats, names, folds)
        scores[TIMETABLE] = _score(truth, predicted[TIMETABLE], names, n_resamples, seed)
        scores[DETECTOR] = _score(
            truth, beats, names, n_resamples, seed, waves=("QRS",), boundaries=("peak",)
        )
    return DelineationReport(
        leads=names,
        record_ids=tuple(one.record.record_id or str(i) for i, one in enumerate(records)),
        folds=tuple(folds.tolist()),
        scores=scores,
        predicted=predicted,
    )


def _score(
    truth: Sequence[Delineation],
    found: Sequence[Delineation],
    leads: Sequence[str],
    n_resamples: int,
    seed: int,
    waves: Sequence[str] = WAVES,
    boundaries: Sequence[str] = BOUNDARIES,
) -> list[BoundaryScore]:
    return score_delineations(
        truth, found, leads=leads, waves=waves, boundaries=boundaries, n_resamples=n_resamples, seed=seed
    )


def _from_tokens(
    model: nn.Module,
    feature_extractor: Any,
    records: Sequence[AnnotatedRecord],
    leads: Sequence[str],
    folds: npt.NDArray[np.intp],
    settings: DelineationHead,
    rules: WaveRules | None,
    batch_size: int,
    progress: bool,
) -> list[Delineation]:
    rate = float(model.config.sampling_rate)  # type: ignore[union-attr, arg-type]
    samples = _input_samples(feature_extractor, records, rate)
    tokens = embed_tokens(
        model, feature_extractor, [one.record for one in records],
        batch_size=batch_size, dtype="float32", progress=progress,
    )  # fmt: skip
    # A file of tokens may be filled up to whole windows; what was filled up is behind the last real token.
    there = tokens.shape[1] if tokens.mask is None else int(np.flatnonzero(tokens.mask.any(axis=0))[-1]) + 1
    layout = token_layout(model, samples, there)
    moments = np.arange(samples, dtype=np.float64) * (1000.0 / rate)
    classes = np.array(
        [[classes_at(one.delineation.get(lead, {}), moments) for lead in leads] for one in records]
    )
    found: list[Delineation] = [{} for _ in records]
    for fold in np.unique(folds):
        train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        one = DelineationHead(settings.l2, settings.context, settings.max_iterations, settings.device)
        one.fit(tokens.take(train)[0], classes[train], layout)
        for row, probabilities in zip(test, one.probabilities(tokens.take(test)[0]), strict=True):
            found[row] = {
                lead: waves_from_probabilities(part[:samples], rate, rules)
                for lead, part in zip(leads, probabilities, strict=True)
            }
    return found


def _input_samples(feature_extractor: Any, records: Sequence[AnnotatedRecord], rate: float) -> int:
    """Samples of the model's input, the same for all records and as long as they are."""
    durations = {one.record.signal.shape[1] / one.record.sampling_rate for one in records}
    if len(durations) > 1:
        raise ConfigurationError(
            f"recordings last from {min(durations):g} to {max(durations):g} s; one duration is wanted",
            value=tuple(sorted(durations)),
        )
    seconds = durations.pop()
    samples = int(feature_extractor([records[0].record], return_tensors="np")["input_values"].shape[-1])
    if abs(samples - seconds * rate) > 1:
        raise ConfigurationError(
            f"the model sees {samples / rate:g} s of recordings of {seconds:g} s", value=samples / rate
        )
    return samples


def _from_timetable(
    records: Sequence[AnnotatedRecord],
    beats: Sequence[Delineation],
    leads: Sequence[str],
    folds: npt.NDArray[np.intp],
) -> list[Delineation]:
    found: list[Delineation] = [{} for _ in records]
    for fold in np.unique(folds):
        train, test = np.flatnonzero(folds != fold).tolist(), np.flatnonzero(folds == fold).tolist()
        table = WaveTimetable().fit([records[i] for i in train], [beats[i] for i in train], leads)
        for row, waves in zip(test, table.delineate([beats[i] for i in test]), strict=True):
            found[row] = waves
    return found


def annotated_depends(
    plan: EvaluationPlan, kind: str, encoder: ModelEntrant, records: Sequence[AnnotatedRecord], controls: bool
) -> dict[str, Any]:
    """Everything a result on annotated recordings depends on, as JSON values."""
    marks = [
        part
        for one in records
        for lead in sorted(one.delineation)
        for wave in sorted(one.delineation[lead])
        for part in (getattr(one.delineation[lead][wave], name) for name in ("onset", "peak", "offset"))
    ]
    return {
        "kind": kind,
        "entrant": encoder.digest(),
        "recordings": fingerprint_dataset([one.record for one in records]),
        "marks": array_digest(*marks),
        "options": dict(plan.head_options),
        "controls": controls,
        "seed": plan.seeds[0],
        "resamples": plan.n_resamples,
    }


@dataclass(frozen=True, slots=True, eq=False)
class DelineationTask:
    """Delineation of annotated recordings, cross-validated, controls within.

    Attributes:
        plan: What is asked for.
        benchmark: Its name.
        records: From :func:`ecg_hf.evaluation.delineation.annotations.read_ludb`.
        store: Where the result is kept.
        controls: Also run an untrained encoder and what else there is without one.
    """

    plan: EvaluationPlan
    benchmark: str
    records: Sequence[AnnotatedRecord]
    store: CellStore
    controls: bool

    part: ClassVar[str] = "reports"

    def run(self, encoder: Encoder) -> list[dict[str, Any]]:
        """One report of an encoder; none of a baseline.

        Raises:
            ConfigurationError: for an option that the head does not have.
        """
        if not isinstance(encoder, ModelEntrant):
            return []

        def compute() -> tuple[dict[str, Any], None]:
            try:
                head = DelineationHead(**self.plan.head_options)
            except TypeError as error:
                raise ConfigurationError(f"options of the delineation head: {error}") from None
            report = run_delineation(
                encoder.model, encoder.extractor, self.records, head=head, controls=self.controls,
                n_resamples=self.plan.n_resamples, seed=self.plan.seeds[0],
            )  # fmt: skip
            return plain({"rows": report.rows(), "leads": report.leads, "markdown": report.markdown()}), None

        depends = annotated_depends(self.plan, "delineation", encoder, self.records, self.controls)
        content = self.store.get(depends, compute).content
        shared = {"benchmark": self.benchmark, "kind": "delineation", "encoder": encoder.name}
        return [{**shared, "records": len(self.records), **content}]


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
