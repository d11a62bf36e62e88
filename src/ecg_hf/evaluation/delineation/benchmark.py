"""Delineation of annotated recordings from a frozen encoder's tokens, out of fold, with its controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.bootstrap import unit_numbers
from ecg_hf.evaluation.delineation.annotations import WAVES, AnnotatedRecord, Delineation
from ecg_hf.evaluation.delineation.controls import WaveTimetable, detected_beats
from ecg_hf.evaluation.delineation.head import DelineationHead
from ecg_hf.evaluation.delineation.layout import token_layout
from ecg_hf.evaluation.delineation.scoring import ALL_LEADS, BOUNDARIES, BoundaryScore, score_delineations
from ecg_hf.evaluation.delineation.segments import WaveRules, classes_at, waves_from_probabilities
from ecg_hf.evaluation.token_features import embed_tokens
from ecg_hf.signal.leads import normalize_lead_names

if TYPE_CHECKING:
    from torch import nn

__all__ = ["DelineationReport", "patient_folds", "run_delineation", "untrained_copy"]

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


def patient_folds(
    n: int, n_folds: int, *, groups: Sequence[object] | None = None, seed: int = 0
) -> npt.NDArray[np.intp]:
    """Fold ``(n,)`` of every record: patients shuffled, then dealt out in turn, all records of one to the same fold.

    Args:
        n: Records.
        n_folds: Folds.
        groups: Patient of every record, see :func:`ecg_hf.evaluation.bootstrap.unit_numbers`.
        seed: Of the order of patients.

    Raises:
        ConfigurationError: if there are fewer patients than folds, or fewer than two folds.
    """
    units, count = unit_numbers(n, groups)
    if not 2 <= n_folds <= count:
        raise ConfigurationError(f"{count} patients cannot make {n_folds} folds (at least 2)", value=n_folds)
    fold_of_unit = np.empty(count, dtype=np.intp)
    fold_of_unit[np.random.default_rng(seed).permutation(count)] = np.arange(count) % n_folds
    return fold_of_unit[units]


def untrained_copy(model: nn.Module, seed: int = 0) -> nn.Module:
    """A model of the same configuration with its first random weights."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        copy: nn.Module = type(model)(model.config)  # type: ignore[call-arg]
    return copy.eval()


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
