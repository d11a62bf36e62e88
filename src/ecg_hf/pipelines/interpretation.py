"""What can be said of a recording: measurements, findings with calibrated probabilities, similar reference ECGs.

The same answer is printed by ``ecg-hf predict``, and whoever serves or shows answers starts from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ecg_hf.errors import EcgError
from ecg_hf.pipelines.references import ReferenceEcgs, load_references
from ecg_hf.signal import EcgRecord, check_quality, read_record
from ecg_hf.signal.beats.measure_table import feature_names
from ecg_hf.signal.beats.measures import measure_records

__all__ = ["Finding", "Interpretation", "Interpreter"]

MEASUREMENTS = {
    "heart_rate_bpm": "rate_bpm",
    "pr_ms": "pr_ms",
    "qrs_ms": "qrs_ms",
    "qt_ms": "qt_ms",
    "qtc_ms": "qtc_fridericia_ms",
}
"""Measurement of an answer -> hand-made feature."""

WHOLE = {
    "amplitude_implausible": "the amplitudes are not those of an ECG in millivolts",
    "heart_rate_implausible": "no heart beats as the signal would have it",
}
"""Quality notes of a whole recording that forbid an answer -> why."""

LEADS = {
    "flat_lead": "hold no signal",
    "lead_missing": "hold no signal",
    "amplitude_implausible": "have amplitudes that are not those of an ECG in millivolts",
}
"""Quality notes of a lead that forbid an answer where more than half of the leads have them -> what they have."""

_MIN_DURATION_S = 3.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One class of the classifier.

    Attributes:
        label: Its short name.
        name: For a reader.
        probability: Calibrated on validation records.
        positive: Whether the probability reaches the class's threshold; never without one.
        reference_auroc: AUROC of this class on the reference test records; None where it is not known.
    """

    label: str
    name: str
    probability: float
    positive: bool
    reference_auroc: float | None


@dataclass(frozen=True, slots=True)
class Interpretation:
    """What can be said of one recording.

    Attributes:
        record: Its name, as it was given.
        error: Why it could not be read; everything else is then empty.
        duration_s: Seconds.
        sampling_rate: Hertz.
        lead_names: As recorded.
        measurements: Name -> value, None where it could not be measured.
        findings: By falling probability.
        abstained: Why no findings are given; None if they are.
        notes: What was odd about the recording.
        nearest: Reference ECGs by falling similarity: ``record_id``, ``similarity``, ``labels``.
        model: Name or folder of the classifier.
    """

    record: str
    error: str | None = None
    duration_s: float | None = None
    sampling_rate: float | None = None
    lead_names: tuple[str, ...] = ()
    measurements: Mapping[str, float | None] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    abstained: str | None = None
    notes: tuple[str, ...] = ()
    nearest: tuple[Mapping[str, Any], ...] = ()
    model: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


class Interpreter:
    """Interprets recordings with a classifier.

    Args:
        model: Classifier with ``config.id2label`` and, for calibrated answers, ``config.label_details``.
        extractor: Its feature extractor.
        name: What answers call it.
        references: ECGs to compare with, embedded by the same encoder; those of the folder ``name`` if there are.
        num_nearest: Reference ECGs per answer.
        device: Where the model runs.
    """

    def __init__(
        self,
        model: Any,
        extractor: Any,
        *,
        name: str,
        references: ReferenceEcgs | None = None,
        num_nearest: int = 3,
        device: str = "cpu",
    ) -> None:
        self.model = model.eval().to(device)
        self.extractor = extractor
        self.name = Path(name).name if Path(name).is_dir() else name
        self.references = load_references(name) if references is None else references
        self.num_nearest = num_nearest
        self.device = device

    def __call__(
        self, records: Sequence[str | Path | EcgRecord], *, batch_size: int = 64, **told: Any
    ) -> Iterator[Interpretation]:
        """Interpret recordings one batch at a time, in their order; one that can't be read is an answer too.

        Args:
            records: Paths of anything :func:`ecg_hf.read_record` reads, or records.
            batch_size: Recordings per forward pass.
            told: Options of :func:`ecg_hf.read_record`, for files that do not describe themselves.
        """
        return (answer for _, answer in self.read(records, batch_size=batch_size, **told))

    def read(
        self, records: Sequence[str | Path | EcgRecord], *, batch_size: int = 64, **told: Any
    ) -> Iterator[tuple[EcgRecord | None, Interpretation]]:
        """As calling, but each answer comes with its recording, None where it could not be read."""
        for start in range(0, len(records), batch_size):
            yield from self._batch(records[start : start + batch_size], told)

    def _batch(
        self, records: Sequence[str | Path | EcgRecord], told: Mapping[str, Any]
    ) -> list[tuple[EcgRecord | None, Interpretation]]:
        answers: dict[int, Interpretation] = {}
        read: dict[int, EcgRecord] = {}
        for place, item in enumerate(records):
            try:
                record = item if isinstance(item, EcgRecord) else read_record(item, **told)
                read[place] = record.with_notes(
                    *check_quality(record.signal, record.sampling_rate, record.lead_names, thorough=True)
                )
            except EcgError as error:
                answers[place] = Interpretation(str(item), error=str(error), model=self.name)
        scored = self._score(read)
        for place, record in read.items():
            item = records[place]
            shown = (record.record_id or "record") if isinstance(item, EcgRecord) else str(item)
            probabilities, nearest, refused = scored[place]
            abstained = reason_to_abstain(record) or refused
            answers[place] = Interpretation(
                record=shown,
                duration_s=record.duration_s,
                sampling_rate=record.sampling_rate,
                lead_names=record.lead_names,
                measurements=measurements_of(record),
                findings=() if abstained or probabilities is None else self._findings(probabilities),
                abstained=abstained,
                notes=tuple(dict.fromkeys(str(note) for note in record.notes)),
                nearest=() if abstained else nearest,
                model=self.name,
            )
        return [(read.get(place), answers[place]) for place in range(len(records))]

    def _score(
        self, read: Mapping[int, EcgRecord]
    ) -> dict[int, tuple[npt.NDArray[np.float64] | None, tuple[Mapping[str, Any], ...], str | None]]:
        """Probabilities, nearest references and, where the model can't take a recording, why."""
        found: dict[int, Any] = {}
        prepared: dict[int, Any] = {}
        for place, record in read.items():
            try:
                prepared[place] = self.extractor(record, return_tensors="pt", return_sample_mask=True)
            except EcgError as error:
                found[place] = (None, (), str(error))
        if not prepared:
            return found
        inputs = {
            name: torch.cat([one[name] for one in prepared.values()]).to(self.device)
            for name in next(iter(prepared.values()))
        }
        if bool(inputs["sample_mask"].all()):
            del inputs["sample_mask"]
        with torch.inference_mode():
            pooled = self.model.base_model(**inputs).pooler_output
            logits = self.model.classify(pooled)
        probabilities = logits.double().sigmoid().cpu().numpy()
        embeddings = pooled.float().cpu().numpy()
        for row, place in enumerate(prepared):
            nearest: tuple[Mapping[str, Any], ...] = ()
            if self.references is not None:
                nearest = tuple(self.references.nearest(embeddings[row], self.num_nearest))
            found[place] = (probabilities[row], nearest, None)
        return found

    def _findings(self, probabilities: npt.NDArray[np.float64]) -> tuple[Finding, ...]:
        config = self.model.config
        details = getattr(config, "label_details", None) or {}
        found = []
        for index, probability in enumerate(probabilities.tolist()):
            label = config.id2label[index]
            known = details.get(label, {})
            # None: no validation record had the class, and nobody knows from which probability on it is present.
            threshold = known.get("threshold", 0.5)
            found.append(
                Finding(
                    label,
                    str(known.get("name", label)),
                    probability,
                    threshold is not None and probability >= float(threshold),
                    known.get("reference_auroc"),
                )
            )
        return tuple(sorted(found, key=lambda one: -one.probability))


def reason_to_abstain(record: EcgRecord) -> str | None:
    """Why the quality of a recording forbids an answer, or None."""
    if record.duration_s < _MIN_DURATION_S:
        return f"{record.duration_s:.1f} s are too short: at least {_MIN_DURATION_S:g} s are needed"
    for note in record.notes:
        if note.code == "all_flat":
            return "every lead is constant"
        if note.lead is None and note.code in WHOLE:
            return WHOLE[note.code]
    for reason in dict.fromkeys(LEADS.values()):
        bad = {note.lead for note in record.notes if LEADS.get(note.code) == reason} - {None}
        if 2 * len(bad) > len(record.lead_names):
            return f"{len(bad)} of {len(record.lead_names)} leads {reason}"
    return None


def measurements_of(record: EcgRecord) -> dict[str, float | None]:
    """Heart rate and intervals, None where they could not be measured."""
    values = measure_records(record.signal[None], record.sampling_rate, record.lead_names)[0]
    index = {name: place for place, name in enumerate(feature_names())}
    found = {name: float(values[index[feature]]) for name, feature in MEASUREMENTS.items()}
    return {name: value if np.isfinite(value) else None for name, value in found.items()}
