"""FHIR resources against the models of ``fhir.resources``, each release in its own."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fhir.resources import diagnosticreport, observation
from fhir.resources.R4B import diagnosticreport as diagnosticreport_r4b
from fhir.resources.R4B import observation as observation_r4b

import ecg_hf
from ecg_hf.errors import ConfigurationError, SignalError
from ecg_hf.pipelines.interpretation import Finding, Interpretation
from ecg_hf.signal import EcgRecord, Note

OBSERVATION = {"R5": observation.Observation, "R4B": observation_r4b.Observation}
REPORT = {"R5": diagnosticreport.DiagnosticReport, "R4B": diagnosticreport_r4b.DiagnosticReport}
VERSIONS = ("R5", "R4B")
HIDDEN = "Zwiebelthaler"


@pytest.fixture
def record() -> EcgRecord:
    """Personal text in every place a record has for it."""
    signal = np.array([[0.0, 0.1234, -1.5, np.nan], [0.00005, 2.0, 3.0, 4.0]], np.float32)
    note = Note("samples_invalid", "one sample", "I")
    return EcgRecord(signal, 360.0, ("I", "MLII"), HIDDEN, HIDDEN, f"Dr {HIDDEN}", notes=(note,))


@pytest.fixture
def answer() -> Interpretation:
    return Interpretation(
        record=f"/data/{HIDDEN}.hea",
        measurements={"heart_rate_bpm": 61.5, "pr_ms": None, "qtc_ms": 424.0},
        findings=(
            Finding("SR", "sinus rhythm", 0.98, True, 0.93),
            Finding("MI", "myocardial infarction", 0.2, False, None),
        ),
        nearest=({"record_id": HIDDEN, "similarity": 0.7, "labels": ["SR"]},),
        model="a-classifier",
    )


def of_another(version: str) -> str:
    return VERSIONS[1 - VERSIONS.index(version)]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_recording_is_valid_in_its_own_release(record: EcgRecord, version: str):
    resource = ecg_hf.record_to_fhir(record, version=version)
    OBSERVATION[version].model_validate_json(json.dumps(resource, allow_nan=False))
    with pytest.raises(ValueError, match=r"period|interval"):
        OBSERVATION[of_another(version)].model_validate(resource)
    assert resource["code"]["coding"][0]["code"] == "11524-6"
    assert [part["code"]["text"] for part in resource["component"]] == ["I", "MLII"]
    assert "coding" not in resource["component"][1]["code"]
    assert resource["note"] == [{"text": "samples_invalid[I]: one sample"}]
    assert HIDDEN not in json.dumps(resource)


@pytest.mark.parametrize(("version", "name"), [("R5", "interval"), ("R4B", "period")])
def test_samples_come_back(record: EcgRecord, version: str, name: str):
    resource = ecg_hf.record_to_fhir(record, version=version)
    for row, part in zip(record.signal, resource["component"], strict=True):
        sampled = part["valueSampledData"]
        assert 1000 / sampled[name] == pytest.approx(360.0)
        steps = [np.nan if one == "E" else float(one) for one in sampled["data"].split(" ")]
        back = sampled["origin"]["value"] + sampled["factor"] * np.array(steps)
        np.testing.assert_allclose(back, row, atol=0.5001e-4)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_recording_of_a_file(version: str):
    record = ecg_hf.read_record(ecg_hf.sample_record())
    resource = ecg_hf.record_to_fhir(record, version)
    OBSERVATION[version].model_validate(resource)
    codes = [part["code"]["coding"][0]["code"] for part in resource["component"]]
    assert len(set(codes)) == 12
    assert "02940" not in json.dumps(resource)


def test_what_a_string_of_fhir_can_not_hold_is_refused():
    record = EcgRecord(np.full((1, 300_000), -1.0, np.float32), 500.0, ("II",))
    with pytest.raises(SignalError, match=r"window.*lead II"):
        ecg_hf.record_to_fhir(record)


@pytest.mark.parametrize("version", VERSIONS)
def test_scores_are_valid_in_their_own_release(answer: Interpretation, version: str):
    for scores in (answer, answer.as_dict(), json.loads(json.dumps(answer.as_dict()))):
        resource = ecg_hf.scores_to_fhir(scores, version=version)
        REPORT[version].model_validate_json(json.dumps(resource))
        assert HIDDEN not in json.dumps(resource)
        rate, corrected, rhythm, infarction = resource["contained"]
        assert rate["valueQuantity"] == {
            "value": 61.5,
            "unit": "/min",
            "system": "http://unitsofmeasure.org",
            "code": "/min",
        }
        assert corrected["method"] == {"text": "Fridericia"}
        assert rhythm["interpretation"][0]["coding"][0]["code"] == "POS"
        assert "interpretation" not in infarction
        assert [one["reference"] for one in resource["result"]] == [f"#value-{i}" for i in range(1, 5)]
        for one in resource["contained"]:
            OBSERVATION[version].model_validate(one)
        assert "research" in resource["conclusion"]


@pytest.mark.parametrize("version", VERSIONS)
def test_no_findings_are_a_report_too(version: str):
    resource = ecg_hf.scores_to_fhir(Interpretation("x", abstained="every lead is constant"), version)
    REPORT[version].model_validate(resource)
    assert "every lead is constant" in resource["conclusion"]
    assert "contained" not in resource


def test_similarities_are_not_called_probabilities():
    resource = ecg_hf.scores_to_fhir([{"label": "normal ECG", "score": -0.1}])
    REPORT["R5"].model_validate(resource)
    assert "not a probability" in resource["contained"][0]["method"]["text"]


@pytest.mark.parametrize(
    "scores", [{}, "text", [1], {"label": "x"}, Interpretation("x", error=f"/data/{HIDDEN}: broken")]
)
def test_what_is_no_answer_is_refused(scores: Any):
    with pytest.raises(ConfigurationError) as caught:
        ecg_hf.scores_to_fhir(scores)
    assert HIDDEN not in str(caught.value)


def test_other_releases_are_refused(record: EcgRecord, answer: Interpretation):
    with pytest.raises(ConfigurationError, match="R5, R4B"):
        ecg_hf.record_to_fhir(record, version="R4")
    with pytest.raises(ConfigurationError, match="R5, R4B"):
        ecg_hf.scores_to_fhir(answer, version="STU3")


def test_no_library_is_needed():
    source = Path(ecg_hf.fhir.__file__).read_text(encoding="utf-8")
    assert "fhir.resources" not in source
