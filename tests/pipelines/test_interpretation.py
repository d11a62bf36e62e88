"""Answers about recordings: abstaining, accounts of what can't be read, labels with their thresholds."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ecg_hf import EcgDistilConfig, EcgDistilForEcgClassification
from ecg_hf.models.registry import METHODS
from ecg_hf.pipelines.interpretation import Interpreter, measurements_of, reason_to_abstain
from ecg_hf.signal import STANDARD_LEADS, EcgRecord, check_quality
from ecg_hf.signal.synthetic import simulate


@pytest.fixture
def interpreter() -> Interpreter:
    torch.manual_seed(0)
    config = EcgDistilConfig.preset(
        "micro",
        id2label={0: "NORM", 1: "AFIB"},
        label2id={"NORM": 0, "AFIB": 1},
        label_details={"AFIB": {"name": "atrial fibrillation", "threshold": 0.9, "reference_auroc": 0.99}},
    )
    model = EcgDistilForEcgClassification(config)
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor([0.0, 2.0]))
    return Interpreter(model, config.feature_extractor(), name="org/model")


def _ecg() -> EcgRecord:
    return simulate(1, noise=0.3)[0].to_record()


def test_findings_are_sorted_and_judged_by_their_own_threshold(interpreter: Interpreter):
    (answer,) = interpreter([_ecg()])
    assert [one.label for one in answer.findings] == ["AFIB", "NORM"]
    first, second = answer.findings
    assert (first.name, first.reference_auroc) == ("atrial fibrillation", 0.99)
    assert first.probability == pytest.approx(1 / (1 + np.exp(-2.0)))
    assert not first.positive, "0.88 is below its threshold of 0.9"
    assert second.positive, "0.5 reaches the threshold of a label without one"
    assert second.name == "NORM"


def test_an_answer_says_what_the_model_did_not_see_as_it_was_recorded(interpreter: Interpreter):
    whole = _ecg()
    holes = whole.signal.copy()
    holes[1, 100:110] = np.nan
    long = EcgRecord(np.tile(holes, (1, 3)), whole.sampling_rate, whole.lead_names)
    first, second = interpreter([whole, long])
    assert not first.notes
    assert "cropped: the first 10 s of 30 s are used" in second.notes
    assert any(note.startswith("nan_interpolated[II]") for note in second.notes)


def test_an_unreadable_recording_is_an_answer_in_its_place(interpreter: Interpreter, tmp_path: Path):
    (tmp_path / "text.csv").write_text("not an ecg")
    answers = list(interpreter([_ecg(), tmp_path / "missing", tmp_path / "text.csv", _ecg()], batch_size=2))
    assert [answer.error is None for answer in answers] == [True, False, False, True]
    assert answers[1].record == str(tmp_path / "missing")
    assert answers[1].findings == ()


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (EcgRecord(np.zeros((12, 5000), np.float32), 500.0, STANDARD_LEADS), "constant"),
        (EcgRecord(_ecg().signal[:, :1000], 500.0, STANDARD_LEADS), "too short"),
        (EcgRecord(_ecg().signal * 1000.0, 500.0, STANDARD_LEADS), "amplitudes"),
    ],
)
def test_signals_that_allow_no_answer_get_a_reason(interpreter: Interpreter, record: EcgRecord, reason: str):
    (answer,) = interpreter([record])
    assert reason in (answer.abstained or "")
    assert answer.findings == ()
    assert answer.nearest == ()
    assert answer.error is None


def test_leads_without_signal_are_counted():
    signal = _ecg().signal.copy()
    signal[:5] = 0.0

    def judged(signal: np.ndarray) -> str | None:
        record = EcgRecord(signal, 500.0, STANDARD_LEADS)
        notes = check_quality(signal, 500.0, STANDARD_LEADS, thorough=True)
        return reason_to_abstain(record.with_notes(*notes))

    assert judged(signal) is None
    signal[:7] = 0.0
    assert judged(signal) == "7 of 12 leads hold no signal"


def test_measurements_are_those_of_the_simulation():
    ecg = simulate(1, noise=0.3)[0]
    found = measurements_of(ecg.to_record())
    seconds = np.diff(ecg.r_peaks).mean() / ecg.sampling_rate
    assert found["heart_rate_bpm"] == pytest.approx(60.0 / seconds, abs=3.0)
    assert 40.0 < found["qrs_ms"] < 200.0
    flat = measurements_of(EcgRecord(np.zeros((12, 5000), np.float32), 500.0, STANDARD_LEADS))
    assert flat == dict.fromkeys(found)


def test_too_few_leads_get_measurements_and_no_findings(interpreter: Interpreter):
    interpreter.model.config.min_leads = 6
    whole = _ecg()
    lead = whole.select_leads(["I"])
    limb = EcgRecord(whole.signal[:2], whole.sampling_rate, STANDARD_LEADS[:2])
    one, six = interpreter([lead, limb])
    assert one.abstained == "findings need at least 6 of 12 leads, the recording has 1"
    assert one.findings == ()
    assert one.measurements["heart_rate_bpm"]
    assert six.abstained is None, "the other limb leads follow from two"
    assert six.findings
    assert any(note.startswith("fewer_leads: 6 of 12") for note in six.notes)
    assert not any(note.startswith("fewer_leads") for note in next(iter(interpreter([whole]))).notes)


@pytest.mark.parametrize("method", ["ecg-cpc", "clear-hug", "ecg-jepa"])
def test_findings_are_the_classifiers_own_scores_however_it_pools(method: str):
    """Not every head reads the pooled output: attention queries, heads of heart beats."""
    torch.manual_seed(0)
    spec = METHODS[method]
    labels = {0: "NORM", 1: "AFIB", 2: "MI"}
    config = spec.load("config").preset(
        spec.sizes[0],
        id2label=labels,
        label2id={v: k for k, v in labels.items()},
        classifier_pooling="attention",
    )
    model = spec.load("classification")(config).eval()
    extractor = config.feature_extractor()
    with torch.no_grad():
        model.classifier.weight.normal_(std=1.0)
    for problem in ("multi_label_classification", "single_label_classification"):
        config.problem_type = problem
        (answer,) = Interpreter(model, extractor, name="org/model")([_ecg()])
        inputs = extractor(_ecg(), return_tensors="pt")
        with torch.inference_mode():
            logits = model(**inputs).logits[0].double()
        expected = logits.softmax(-1) if problem.startswith("single") else logits.sigmoid()
        found = {finding.label: finding.probability for finding in answer.findings}
        assert found == pytest.approx(dict(zip(labels.values(), expected.tolist(), strict=True)), abs=1e-5)
