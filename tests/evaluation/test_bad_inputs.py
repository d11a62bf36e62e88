"""Rows of the project's table of bad inputs that concern pairs, labels and splits: 68-70."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset

from ecg_hf.data.labels import label_matrix, unknown_codes
from ecg_hf.data.leaks import check_leaks
from ecg_hf.data.sources.ptbxl import parse_scp_codes
from ecg_hf.errors import ConfigurationError
from ecg_hf.metrics.ranking import score_classes
from tests.evaluation.built import built_rows


@pytest.mark.parametrize("report", ["", "   ", None])
def test_row_68_pairs_without_a_report_are_dropped_and_counted(report: str | None) -> None:
    from ecg_hf.training.pretraining_data import split_rows

    rows = Dataset.from_dict({"split": ["train"] * 3, "report": ["sinus rhythm", report, "sinus rhythm"]})
    assert split_rows(rows, "train", needs_report=True) == ([0, 2], {"without_report": 1})
    assert split_rows(rows, "train") == ([0, 1, 2], {})


def test_row_69_labels_are_set_membership() -> None:
    matrix, _ = label_matrix([["AFIB"], ["AFLT"], ["AF"], ["SVARR", "NOPE"]], "rhythm")
    assert matrix.sum(axis=1).tolist() == [1, 1, 0, 1]  # "AF" is part of two names and is neither
    assert unknown_codes([["AF"], ["NOPE", "AFIB"]]) == {"AF": 1, "NOPE": 1}


@pytest.mark.parametrize(
    ("written", "codes"),
    [
        ("{'NORM': 0.0, 'SR': 0.0}", ("NORM", "SR")),  # PTB-XL: likelihood 0 means "not stated", not "absent"
        ("{'NORM': 100.0, 'XYZ': 15}", ("NORM", "XYZ")),
        ("{}", ()),
        ("__import__('os').system('touch canary')", None),
        ("{'NORM': __import__('os')}", None),
        ("", None),
        ("nan", None),
        ("[" * 5000, None),
    ],
)
def test_row_69_cells_of_codes_are_never_evaluated(written: str, codes: tuple[str, ...] | None) -> None:
    assert parse_scp_codes(written) == codes


def test_row_69_undefined_auroc_is_said_with_its_n() -> None:
    labels = np.array([[1, 0], [0, 0], [1, 0], [0, 0]], dtype=bool)
    result = score_classes(labels, np.arange(8.0).reshape(4, 2), ["some", "none"])
    assert result.undefined == ("none",)
    (none,) = [one for one in result.classes if one.name == "none"]
    assert (none.auroc, none.positives, none.n, none.excluded) == (None, 0, 4, "no positive record")


def test_row_70_patients_and_copies_in_two_splits() -> None:
    rng = np.random.default_rng(0)
    signals = [rng.normal(size=(12, 300)) for _ in range(4)]
    splits = ["train", "train", "validation", "test"]
    with pytest.raises(ConfigurationError, match="1 shared by train"):
        check_leaks(built_rows(signals, patients=["a", "b", "c", "a"], splits=splits))
    signals[3] = signals[1]
    report = check_leaks(built_rows(signals, patients=["a", "b", "c", "d"], splits=splits))
    assert not report.clean
    assert report.leaking_test_rows().tolist() == [3]
