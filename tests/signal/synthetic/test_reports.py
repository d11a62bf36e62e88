"""Reports name what the record shows, in many words, and nothing it does not show."""

from __future__ import annotations

import re

import pytest

from ecg_hf.signal.synthetic import SCP_CODES, SyntheticBatch, simulate
from ecg_hf.signal.synthetic.phrases import FINDING_PHRASES, RHYTHM_PHRASES

# What a reader who knows the abbreviations would look for.
NAMED = {
    "SR": r"sinus|\bN?SR\b",
    "SBRAD": r"brady|\bSB\b",
    "STACH": r"tachy|sinus tach",
    "SARRH": r"arrhythmia",
    "AFIB": r"fibrillation|\bAF\b|a-?fib|atrial fib",
    "AFLT": r"flutter|\bAFL\b",
    "PACE": r"pace|pacing",
    "PAC": r"\bPACs?\b|\bAPCs\b|atrial (premature|ectopic|extrasystoles)|premature atrial|atrial origin",
    "PVC": r"\bPVC|\bVPCs|\bVES\b|\bventricular (premature|ectop|extrasystoles)|premature ventricular",
    "1AVB": r"first[ -]degree|1st deg|1 AVB",
    "LAO/LAE": r"left atrial|\bLAE\b",
    "LAFB": r"left anterior (fascic|hemiblock)|LAFB|LAHB",
    "CLBBB": r"left bundle branch|LBBB",
    "CRBBB": r"right bundle branch|RBBB",
    "LVH": r"left ventricular hypertrophy|LVH",
    "RVH": r"right ventricular hypertrophy|RVH",
    "AMI": r"anterior (wall )?(infarct|myocardial|MI)|\bAMI\b|ant\. infarct",
    "IMI": r"inferior (wall )?(infarct|myocardial|MI)|\bIMI\b|inf\. infarct",
    "LMI": r"lateral (wall )?(infarct|myocardial|MI)|lat\. infarct",
    "STD_": r"ST (segment )?depr|ST segments|STD\b|ischemi",
    "INVT": r"inver|negative T|neg\. T|\bTWI\b",
    "ISC_": r"ischemi",
    "NDT": r"T wave|T abn|flat T",
    "LNGQT": r"QT",
    "LVOLT": r"low.*volt",
}


@pytest.fixture(scope="module")
def batch() -> SyntheticBatch:
    return simulate(900, seed=6, sampling_rate=50.0, duration_s=5.0)


def test_every_finding_is_named(batch: SyntheticBatch) -> None:
    assert set(NAMED) | {"NORM"} == set(SCP_CODES)
    for codes, report in zip(batch.codes, batch.reports, strict=True):
        for code in codes:
            if code != "NORM":
                assert re.search(NAMED[code], report, re.IGNORECASE), (code, report)


@pytest.mark.parametrize(
    "code", [code for code in NAMED if code not in {"SR", "STD_", "INVT", "NDT", "LNGQT", "SARRH"}]
)
def test_nothing_else_is_named(batch: SyntheticBatch, code: str) -> None:
    for codes, report in zip(batch.codes, batch.reports, strict=True):
        if code not in codes:
            assert not re.search(NAMED[code], report, re.IGNORECASE), (codes, report)


def test_only_normal_records_are_called_normal(batch: SyntheticBatch) -> None:
    verdict = re.compile(
        r"\bnormal (12-lead )?(ECG|electrocardiogram|tracing)|within normal limits", re.IGNORECASE
    )
    called = 0
    for codes, report in zip(batch.codes, batch.reports, strict=True):
        if verdict.search(report):
            assert codes[0] == "NORM", report
            called += 1
    assert called > 0.8 * sum(codes[0] == "NORM" for codes in batch.codes)


def test_negations_are_rare_and_true(batch: SyntheticBatch) -> None:
    denied = [
        (codes, report)
        for codes, report in zip(batch.codes, batch.reports, strict=True)
        if re.search(r"no (acute|significant) ST|no ST ", report, re.IGNORECASE)
    ]
    assert 0 < len(denied) < 0.15 * len(batch)
    for codes, report in denied:
        assert not set(codes) & {"STD_", "ISC_", "INVT", "NDT", "AMI", "IMI", "LMI", "CLBBB", "PACE"}, report


def test_texts_vary(batch: SyntheticBatch) -> None:
    assert len(set(batch.reports)) > 0.8 * len(batch)
    for bank in (RHYTHM_PHRASES, FINDING_PHRASES):
        for code, phrases in bank.items():
            assert len(set(phrases)) >= 5, code
    normal = [report for codes, report in zip(batch.codes, batch.reports, strict=True) if codes[0] == "NORM"]
    assert len(set(normal)) > 0.6 * len(normal)


def test_numbers_in_the_text_are_those_of_the_signal(batch: SyntheticBatch) -> None:
    seen = 0
    for record in batch:
        rate = re.search(r"ventricular rate (\d+) bpm", record.report, re.IGNORECASE)
        if rate:
            assert abs(int(rate.group(1)) - record.measurements.heart_rate_bpm) <= 0.51
            seen += 1
        axis = re.search(r"axis (-?\d+) degrees", record.report, re.IGNORECASE)
        if axis:
            assert int(axis.group(1)) == round(record.measurements.axis_deg)
        for label, value in (("PR", record.measurements.pr_ms), ("QRS", record.measurements.qrs_ms)):
            stated = re.search(rf"\b{label} (\d+) ms", record.report)
            if stated:
                assert value is not None
                assert int(stated.group(1)) == round(value)
    assert seen > 50


def test_text_is_clean_clinical_english(batch: SyntheticBatch) -> None:
    for report in batch.reports:
        assert "{" not in report
        assert "  " not in report
        assert ".." not in report
        assert "synthetic" not in report.lower()
        assert report[0].isupper() or report[0].isdigit()
        assert len(report) < 450
