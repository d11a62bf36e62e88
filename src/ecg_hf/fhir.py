"""Recordings and scores as FHIR resources: plain dictionaries, ready for ``json.dumps``.

Nothing of a person is written: no identifier, no file name, no report, no date. Whoever sends a resource adds
``subject`` and ``effectiveDateTime``. Structure after https://hl7.org/fhir/R4B/observation-example-sample-data.html
and https://hl7.org/fhir/R5/datatypes.html#SampledData.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import ConfigurationError, SignalError
from ecg_hf.signal.record import EcgRecord

__all__ = ["record_to_fhir", "scores_to_fhir"]

_SAMPLING = {"R5": "interval", "R4B": "period"}
"""Release -> how its SampledData calls the milliseconds between samples."""

_LOINC = "http://loinc.org"
_UCUM = "http://unitsofmeasure.org"
_MDC = "urn:iso:std:iso:11073:10101"
_ECG_STUDY = {"coding": [{"system": _LOINC, "code": "11524-6", "display": "EKG study"}], "text": "ECG"}

_LEADS = {
    "I": 131329,
    "II": 131330,
    "III": 131389,
    "aVR": 131390,
    "aVL": 131391,
    "aVF": 131392,
    "V1": 131331,
    "V2": 131332,
    "V3": 131333,
    "V4": 131334,
    "V5": 131335,
    "V6": 131336,
}
"""Lead -> code of its electric potential in ISO/IEEE 11073-10101, ``MDC_ECG_ELEC_POTL_...``."""

_MEASUREMENTS = {
    "heart_rate_bpm": ("8867-4", "Heart rate", "/min"),
    "pr_ms": ("8625-6", "P-R Interval", "ms"),
    "qrs_ms": ("8633-0", "QRS duration", "ms"),
    "qt_ms": ("8634-8", "Q-T interval", "ms"),
    "qtc_ms": ("8636-3", "Q-T interval corrected", "ms"),
}
"""Measurement of an answer -> LOINC code, its display and its unit in UCUM."""

_MV_PER_STEP = 0.0001
_LONGEST_STRING = 1024 * 1024
_PURPOSE = "For research only, not for diagnosis."


class _Answer(Protocol):
    def as_dict(self) -> dict[str, Any]: ...


def record_to_fhir(record: EcgRecord, version: str = "R5") -> dict[str, Any]:
    """A recording as an ``Observation`` of LOINC 11524-6, one component of ``SampledData`` per lead.

    Samples are whole tenths of a microvolt (``factor`` 0.0001, ``origin`` 0 mV), so a value is rounded by 0.05 uV at
    most; a sample that the device declared invalid is ``E``. The record's notes come along, since they say what was
    repaired; its identifiers and report do not.

    Args:
        record: Millivolts at a rate in Hz.
        version: ``"R5"`` or ``"R4B"``, which differ in how they state the time between samples.

    Returns:
        The resource, without ``id`` and ``subject``.

    Raises:
        ConfigurationError: for another version.
        SignalError: if a lead is longer than the 1,048,576 characters that a string of FHIR may have, some minutes.

    Example:
        >>> record_to_fhir(read_record("record"), version="R4B")["component"][0]["valueSampledData"]["period"]
        2.0
    """
    _check(version)
    sampling: dict[str, Any] = {_SAMPLING[version]: 1000.0 / record.sampling_rate}
    if version == "R5":
        sampling["intervalUnit"] = "ms"
    resource: dict[str, Any] = {
        "resourceType": "Observation",
        "status": "final",
        "category": [_category("procedure", "Procedure")],
        "code": _ECG_STUDY,
        "component": [
            {
                "code": _lead_code(name),
                "valueSampledData": {
                    "origin": _quantity(0, "mV"),
                    **sampling,
                    "factor": _MV_PER_STEP,
                    "dimensions": 1,
                    "data": _data(row, name),
                },
            }
            for name, row in zip(record.lead_names, record.signal, strict=True)
        ],
    }
    notes = [str(note) for note in record.notes]
    if record.derived_leads:
        notes.append(f"computed from other leads, not measured: {', '.join(record.derived_leads)}")
    if notes:
        resource["note"] = [{"text": text} for text in dict.fromkeys(notes)]
    return resource


def scores_to_fhir(
    scores: Mapping[str, Any] | Sequence[Mapping[str, Any]] | _Answer, version: str = "R5"
) -> dict[str, Any]:
    """What a model says of a recording as a ``DiagnosticReport``, each value a contained ``Observation``.

    The report is ``preliminary``: nobody has looked at it. Labels that reach their threshold are ``POS``; no label is
    called negative, because not every one has a threshold.

    Args:
        scores: An object of ``ecg-hf predict --json``, an ``Interpretation``, or the list of ``label`` and ``score``
            that a pipeline returns. A file's name in it is left out, and so are reference ECGs.
        version: ``"R5"`` or ``"R4B"``.

    Returns:
        The resource, without ``id`` and ``subject``.

    Raises:
        ConfigurationError: for another version, something that is no answer, or the answer to a recording that could
            not be read.
    """
    _check(version)
    answer = _answer(scores)
    values = [*_measured(answer.get("measurements") or {}), *_found(answer)]
    contained = [
        {"resourceType": "Observation", "id": f"value-{i}", **one} for i, one in enumerate(values, 1)
    ]
    parts = [f"No findings: {answer['abstained']}." if answer.get("abstained") else "", _PURPOSE]
    resource: dict[str, Any] = {
        "resourceType": "DiagnosticReport",
        "status": "preliminary",
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "EC"}]}],
        "code": _ECG_STUDY,
        "conclusion": " ".join(filter(None, parts)),
    }
    if contained:
        resource["contained"] = contained
        resource["result"] = [{"reference": f"#{one['id']}"} for one in contained]
    return resource


def _check(version: str) -> None:
    if version not in _SAMPLING:
        raise ConfigurationError(
            f"no FHIR version {version!r:.40}; there are {', '.join(_SAMPLING)}", value=version
        )


def _answer(scores: Any) -> Mapping[str, Any]:
    """An answer of ``predict --json``, or scores of a pipeline as such."""
    found = (
        scores if isinstance(scores, Mapping | str) or not hasattr(scores, "as_dict") else scores.as_dict()
    )
    if isinstance(found, Mapping) and ("findings" in found or "scores" in found or "error" in found):
        if found.get("error"):
            raise ConfigurationError("a recording that can't be read has no report")
        return found
    pairs = isinstance(found, Sequence) and not isinstance(found, str)
    if pairs and all(isinstance(one, Mapping) and {"label", "score"} <= set(one) for one in found):
        return {"scores": found}
    raise ConfigurationError("scores are an answer of 'predict --json', or a list of label and score")


def _measured(measurements: Mapping[str, float | None]) -> list[dict[str, Any]]:
    found = []
    for name, value in measurements.items():
        if value is None or name not in _MEASUREMENTS:
            continue
        code, display, unit = _MEASUREMENTS[name]
        one = _observation({"coding": [{"system": _LOINC, "code": code, "display": display}]}, value, unit)
        if name == "qtc_ms":
            one["method"] = {"text": "Fridericia"}
        found.append(one)
    return found


def _found(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Findings with calibrated probabilities, or scores that say nothing of the kind."""
    found = []
    by = f", {answer['model']}" if answer.get("model") else ""
    for one in answer.get("findings") or ():
        observation = _observation({"text": str(one["name"])}, one["probability"], "1")
        observation["method"] = {"text": f"probability by a classifier{by}"}
        if one["positive"]:
            positive = {
                "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation",
                "code": "POS",
                "display": "Positive",
            }
            observation["interpretation"] = [{"coding": [positive]}]
        found.append(observation)
    for one in answer.get("scores") or ():
        observation = _observation({"text": str(one["label"])}, one["score"], "1")
        observation["method"] = {"text": f"score of a model{by}, not a probability"}
        found.append(observation)
    return found


def _observation(code: Mapping[str, Any], value: float, unit: str) -> dict[str, Any]:
    category = [_category("procedure", "Procedure")]
    return {
        "status": "preliminary",
        "category": category,
        "code": code,
        "valueQuantity": _quantity(value, unit),
    }


def _quantity(value: float, unit: str) -> dict[str, Any]:
    return {"value": value, "unit": unit, "system": _UCUM, "code": unit}


def _category(code: str, display: str) -> dict[str, Any]:
    system = "http://terminology.hl7.org/CodeSystem/observation-category"
    return {"coding": [{"system": system, "code": code, "display": display}]}


def _lead_code(name: str) -> dict[str, Any]:
    if name not in _LEADS:
        return {"text": name}
    display = f"MDC_ECG_ELEC_POTL_{name.upper()}"
    return {"coding": [{"system": _MDC, "code": str(_LEADS[name]), "display": display}], "text": name}


def _data(row: npt.NDArray[np.float32], lead: str) -> str:
    """Samples as whole numbers of steps; ``E`` where there is none."""
    valid = np.isfinite(row)
    steps = np.rint(np.where(valid, row, 0.0).astype(np.float64) / _MV_PER_STEP).astype(np.int64).tolist()
    text = " ".join(str(one) if ok else "E" for one, ok in zip(steps, valid.tolist(), strict=True))
    if len(text) > _LONGEST_STRING:
        raise SignalError(
            f"{len(steps)} samples need {len(text)} characters, and a string of FHIR has at most {_LONGEST_STRING}: "
            "take a window of the recording",
            lead=lead,
            value=len(steps),
        )
    return text
