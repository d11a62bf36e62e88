"""What can be said of a recording: measurements, findings with calibrated probabilities, similar reference ECGs.

The same answer is printed by ``ecg-hf predict``, and whoever serves or shows answers starts from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from ecg_hf.errors import ConfigurationError, EcgError
from ecg_hf.pipelines.references import ReferenceEcgs, load_references
from ecg_hf.signal import EcgRecord, check_quality, iter_windows, read_record
from ecg_hf.signal.beats.measure_table import feature_names
from ecg_hf.signal.beats.measures import measure_records
from ecg_hf.signal.io.windows import check_seconds
from ecg_hf.signal.record import Note

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

PREPARED = ("cropped", "lead_derived", "lead_beyond_repair", "nan_interpolated", "nan_zeroed")
"""Notes of the feature extractor that an answer has: where the model saw something else than was recorded."""

_FEWER = "reference AUROCs and calibration may be those of recordings with more"

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
    """What can be said of one recording, or of one window of it.

    Attributes:
        record: Its name, as it was given.
        start_s: Where the window begins, in seconds; None for a whole recording.
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
    start_s: float | None = None
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
        """As a JSON object; ``start_s`` is left out of the answer to a whole recording."""
        return {key: value for key, value in asdict(self).items() if key != "start_s" or value is not None}


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
        self,
        records: Iterable[str | Path | EcgRecord | EcgError],
        *,
        batch_size: int = 64,
        window_s: float | None = None,
        stride_s: float | None = None,
        **told: Any,
    ) -> Iterator[Interpretation]:
        """Interpret recordings one batch at a time, in their order; one that can't be read is an answer too.

        Args:
            records: Paths of anything :func:`ecg_hf.read_record` reads, or records; or what was wrong with one whose
                name is the error's ``path``.
            batch_size: Recordings or windows per forward pass.
            window_s: An answer for each window of so many seconds; long files are read block by block, see
                :func:`ecg_hf.iter_windows`. None for one answer per recording.
            stride_s: Seconds from window to window; ``window_s`` if not given.
            told: Options of :func:`ecg_hf.read_record`, for files that do not describe themselves.

        Raises:
            ConfigurationError: if a length is not positive, or there is a stride without a window.
        """
        told = {**told, "window_s": window_s, "stride_s": stride_s}
        return (answer for _, answer in self.read(records, batch_size=batch_size, **told))

    def read(
        self,
        records: Iterable[str | Path | EcgRecord | EcgError],
        *,
        batch_size: int = 64,
        window_s: float | None = None,
        stride_s: float | None = None,
        **told: Any,
    ) -> Iterator[tuple[EcgRecord | None, Interpretation]]:
        """As calling, but each answer comes with its recording or window, None where it could not be read."""
        if window_s is not None:
            check_seconds("window_s", window_s)
            check_seconds("stride_s", window_s if stride_s is None else stride_s)
        elif stride_s is not None:
            raise ConfigurationError("stride_s needs window_s", value=stride_s)
        return self._in_batches(_parts(records, window_s, stride_s, told), batch_size)

    def _in_batches(
        self, parts: Iterator[_Part], batch_size: int
    ) -> Iterator[tuple[EcgRecord | None, Interpretation]]:
        while batch := list(islice(parts, batch_size)):
            yield from self._batch(batch)

    def _batch(self, batch: Sequence[_Part]) -> list[tuple[EcgRecord | None, Interpretation]]:
        read: dict[int, EcgRecord] = {}
        for place, part in enumerate(batch):
            if isinstance(part.content, EcgRecord):
                signal, rate, names = part.content.signal, part.content.sampling_rate, part.content.lead_names
                read[place] = part.content.with_notes(*check_quality(signal, rate, names, thorough=True))
        scored = self._score(read)
        answers: list[tuple[EcgRecord | None, Interpretation]] = []
        for place, part in enumerate(batch):
            record = read.get(place)
            if record is None:
                answer = Interpretation(part.shown, part.start_s, error=str(part.content), model=self.name)
                answers.append((None, answer))
                continue
            seen = scored[place]
            abstained = reason_to_abstain(record) or seen.refused
            answer = Interpretation(
                record=part.shown,
                start_s=part.start_s,
                duration_s=record.duration_s,
                sampling_rate=record.sampling_rate,
                lead_names=record.lead_names,
                measurements=measurements_of(record),
                findings=()
                if abstained or seen.probabilities is None
                else self._findings(seen.probabilities),
                abstained=abstained,
                notes=tuple(dict.fromkeys(str(note) for note in (*record.notes, *seen.notes))),
                nearest=() if abstained else seen.nearest,
                model=self.name,
            )
            answers.append((record, answer))
        return answers

    def _score(self, read: Mapping[int, EcgRecord]) -> dict[int, _Seen]:
        """What the model says of each recording or, where it can't take one, why."""
        found: dict[int, _Seen] = {}
        prepared: dict[int, Any] = {}
        notes: dict[int, tuple[Note, ...]] = {}
        for place, record in read.items():
            try:
                inputs = self.extractor(
                    record, return_tensors="pt", return_sample_mask=True, return_report=True
                )
            except EcgError as error:
                found[place] = _Seen(refused=str(error))
                continue
            notes[place] = tuple(note for note in inputs.pop("report").notes[0] if note.code in PREPARED)
            leads = int(inputs["lead_mask"].sum())
            if leads < self.model.config.min_leads:
                wanted = f"at least {self.model.config.min_leads} of {inputs['lead_mask'].shape[1]} leads"
                found[place] = _Seen(refused=f"findings need {wanted}, the recording has {leads}")
                continue
            if leads < inputs["lead_mask"].shape[1]:
                notes[place] += (Note("fewer_leads", f"{leads} of {inputs['lead_mask'].shape[1]}; {_FEWER}"),)
            prepared[place] = inputs
        if not prepared:
            return found
        inputs = {
            name: torch.cat([one[name] for one in prepared.values()]).to(self.device)
            for name in next(iter(prepared.values()))
        }
        if bool(inputs["sample_mask"].all()):
            del inputs["sample_mask"]
        pooled: list[torch.Tensor] = []
        seen = self.model.base_model.register_forward_hook(
            lambda _module, _inputs, output: pooled.append(output.pooler_output)
        )
        try:
            with torch.inference_mode():
                # The model's own way from tokens to logits: not every classifier reads the pooled output.
                logits = self.model(**inputs).logits.double()
        finally:
            seen.remove()
        single = self.model.config.problem_type == "single_label_classification"
        probabilities = (logits.softmax(-1) if single else logits.sigmoid()).cpu().numpy()
        for row, place in enumerate(prepared):
            nearest: tuple[Mapping[str, Any], ...] = ()
            if self.references is not None:
                embedding = pooled[-1][row].float().cpu().numpy()
                nearest = tuple(self.references.nearest(embedding, self.num_nearest))
            found[place] = _Seen(probabilities[row], nearest, notes=notes[place])
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


class _Seen(NamedTuple):
    """What a model says of a recording, why it says nothing, and what it saw otherwise than recorded."""

    probabilities: npt.NDArray[np.float64] | None = None
    nearest: tuple[Mapping[str, Any], ...] = ()
    refused: str | None = None
    notes: tuple[Note, ...] = ()


class _Part(NamedTuple):
    """A recording or a window of one, or why it can't be read."""

    shown: str
    start_s: float | None
    content: EcgRecord | EcgError


def _parts(
    records: Iterable[str | Path | EcgRecord | EcgError],
    window_s: float | None,
    stride_s: float | None,
    told: Mapping[str, Any],
) -> Iterator[_Part]:
    for item in records:
        if isinstance(item, EcgError):
            yield _Part(item.path or "record", None, item)
            continue
        shown = (item.record_id or "record") if isinstance(item, EcgRecord) else str(item)
        try:
            if window_s is None:
                yield _Part(shown, None, item if isinstance(item, EcgRecord) else read_record(item, **told))
                continue
            for start_s, window in iter_windows(item, window_s, stride_s or window_s, **told):
                yield _Part(shown, start_s, window)
        except EcgError as error:
            yield _Part(shown, None, error)


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
