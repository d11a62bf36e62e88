"""Results files: checked, atomic, and shown as tables without surprises."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.results import read_results, validate_results, write_results, zero_shot_row
from ecg_hf.evaluation.tables import (
    Table,
    class_table,
    format_interval,
    html_table,
    markdown_table,
    results_markdown,
    results_table,
)
from ecg_hf.evaluation.zero_shot import evaluate_zero_shot


def example() -> dict[str, Any]:
    positives = {"NORM": 40, "AFIB": 0}
    classes = [
        {"name": "NORM", "auroc": 0.8, "ci95": [0.7, 0.9], "auprc": 0.7, "n": 90, "positives": 40, "excluded": ""},
        {"name": "AFIB", "auroc": None, "ci95": [None, None], "auprc": None, "n": 90, "positives": 0,
         "excluded": "no positive record"},
    ]  # fmt: skip
    row = {
        "encoder": "pretrained", "fraction": 0.01, "macro_auroc": 0.8, "ci95": [0.7, 0.9], "n_train": 1200,
        "n_test": 90, "positives": positives, "undefined": ["AFIB"], "classes": classes, "resampled": "patients",
    }  # fmt: skip
    random = {
        **row,
        "encoder": "random",
        "macro_auroc": None,
        "ci95": [None, None],
        "undefined": ["NORM", "AFIB"],
    }
    pair = {
        "first": "pretrained", "second": "random", "fraction": 0.01, "difference": 0.125, "ci95": [0.05, 0.2],
        "p_value": 0.01,
    }  # fmt: skip
    return {
        "dataset": "synthetic <6,000>",
        "probe": [row, random],
        "zero_shot": {"macro_auroc": 0.6, "ci95": [0.5, 0.7]},
        "timings": {"pretraining": 12.5},
        "paired": [pair],
    }


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "results.json"
    write_results(path, example())  # type: ignore[arg-type]
    assert read_results(path) == example()
    assert [p.name for p in path.parent.iterdir()] == ["results.json"]
    assert set(json.loads(path.read_text())) >= {"dataset", "probe", "zero_shot", "timings"}


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("dataset",), 3),
        (("probe",), {}),
        (("timings", "pretraining"), -1.0),
        (("probe", 0, "encoder"), None),
        (("probe", 0, "fraction"), 0.0),
        (("probe", 0, "fraction"), 1.5),
        (("probe", 0, "macro_auroc"), 1.2),
        (("probe", 0, "ci95"), [0.9, 0.7]),
        (("probe", 0, "ci95"), [0.9]),
        (("probe", 0, "n_test"), True),
        (("probe", 0, "positives", "NORM"), 91),
        (("zero_shot", "macro_auroc"), "high"),
        (("paired", 0, "first"), 1),
    ],
)
def test_wrong_entries_are_named(tmp_path: Path, where: tuple[Any, ...], value: Any) -> None:
    content: Any = copy.deepcopy(example())
    target = content
    for key in where[:-1]:
        target = target[key]
    target[where[-1]] = value
    with pytest.raises(ConfigurationError, match=where[0]):
        validate_results(content)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigurationError, match=r"results\.json"):
        read_results(path)


def test_missing_entry_and_nan_are_refused(tmp_path: Path) -> None:
    content = example()
    del content["probe"][0]["macro_auroc"]
    with pytest.raises(ConfigurationError, match="macro_auroc"):
        validate_results(content)
    content = example()
    content["probe"][0]["classes"][0]["auprc"] = float("nan")
    with pytest.raises(ConfigurationError, match="auprc"):
        write_results(tmp_path / "results.json", content)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", [None, "{", "[1]"])
def test_unreadable_file(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "results.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigurationError):
        read_results(path)


def test_zero_shot_row() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random((50, 3)) < 0.4
    labels[:, 2] = False
    result = evaluate_zero_shot(
        labels, rng.normal(size=(50, 4)), rng.normal(size=(3, 4)), ["a", "b", "c"], n_resamples=30
    )
    row = zero_shot_row(result, benchmark="x")
    validate_results({**example(), "zero_shot": row})
    assert row["undefined"] == ["c"]
    assert row["n_test"] == 50
    assert row["classes"][2]["ci95"] == [None, None]


def test_tables_show_intervals_counts_and_what_is_left_out() -> None:
    results: Any = example()
    summary = results_table(results)
    first, second, last = summary.rows
    assert first == (
        "linear probe", "pretrained", "1 %", "1,200", "90", "1 of 2", "0.800 [0.700, 0.900]",
        "+0.125 [+0.050, +0.200]",
    )  # fmt: skip
    assert second[6:] == ("n/a", "")
    assert last[0] == "zero-shot"
    assert last[6] == "0.600 [0.500, 0.700]"
    assert any("patients" in note for note in summary.notes)
    assert any("1 %: AFIB, NORM" in note for note in summary.notes)
    classes = class_table(results)
    assert classes.rows[0][:3] == ("NORM", "40", "0.800 [0.700, 0.900]")
    assert classes.rows[1][:3] == ("AFIB", "0", "n/a")


def test_markdown_and_html() -> None:
    results: Any = example()
    text = results_markdown(results)
    assert "| linear probe | pretrained | 1 % |" in text
    assert text.count("|---|---|---:|") == 1
    table = Table(("a|b", "<c>"), (("1|2", "<script>"),), (False, True), ("R&D",))
    assert "a\\|b" in markdown_table(table)
    html = html_table(table)
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "R&amp;D" in html
    assert html.count('class="number"') == 2


def test_format_interval() -> None:
    assert format_interval(None, [None, None]) == "n/a"
    assert format_interval(0.5, [None, None]) == "0.500"
