"""Results files: checked, atomic, and shown as tables without surprises."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.results import read_results, validate_results, write_results
from ecg_hf.evaluation.tables import (
    Table,
    class_scores,
    evaluation_markdown,
    evaluation_notes,
    evaluation_table,
    format_interval,
    html_table,
    markdown_table,
)


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
    untrained = {
        **row,
        "encoder": "untrained",
        "macro_auroc": None,
        "ci95": [None, None],
        "undefined": ["NORM", "AFIB"],
    }
    names = {"benchmark": "synthetic-findings", "head": "linear"}
    zero_shot = {**row, **names, "head": "zero-shot", "fraction": 0.0, "macro_auroc": 0.6, "ci95": [0.5, 0.7]}
    rows = [{**row, **names}, {**untrained, **names}, {**zero_shot, "n_train": 0}]
    summary = [
        {
            **{name: one[name] for name in ("encoder", "fraction", "macro_auroc", "ci95", "n_train", "n_test")},
            **{name: one[name] for name in ("benchmark", "head")},
            "macro_auroc_unlearnt_at_chance": one["macro_auroc"], "protocol": "merl-exact", "seeds": [0], "sd": None,
            "n_classes": 2 - len(one["undefined"]), "solver": "lbfgs", "interval": "percentile",
        }
        for one in rows
    ]  # fmt: skip
    pair = {
        "first": "pretrained", "second": "untrained", "fraction": 0.01, "difference": 0.125, "ci95": [0.05, 0.2],
        "p_value": 0.01, "second_head": "linear", **names,
    }  # fmt: skip
    return {
        "dataset": "synthetic <6,000>",
        "probe": rows,
        "summary": summary,
        "timings": {"pretraining": 12.5},
        "paired": [pair],
    }


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "results.json"
    write_results(path, example())  # type: ignore[arg-type]
    assert read_results(path) == example()
    assert [p.name for p in path.parent.iterdir()] == ["results.json"]
    assert set(json.loads(path.read_text())) >= {"dataset", "probe", "summary", "timings"}


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
        (("summary", 2, "macro_auroc"), "high"),
        (("summary", 0, "macro_auroc_unlearnt_at_chance"), 1.5),
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


def test_tables_show_intervals_counts_and_what_is_left_out() -> None:
    results: Any = example()
    last, first, second = evaluation_table(results, "synthetic-findings").rows
    assert first[:8] == (
        "pretrained", "linear", "1 %", "1,200", "90", "1", "0.800 [0.700, 0.900]", "1",
    )  # fmt: skip
    assert second[6:9] == ("n/a", "1", "+0.125 [+0.050, +0.200]")
    assert last[1] == "zero-shot"
    assert last[6] == "0.600 [0.500, 0.700]"
    notes = evaluation_notes(results)
    assert any("patients" in note for note in notes)
    assert any("at 1 %: AFIB, NORM" in note for note in notes)
    classes = class_scores(results, "synthetic-findings")
    assert classes.header[2:] == (
        "pretrained, linear, 1 %",
        "untrained, linear, 1 %",
        "pretrained, zero-shot",
    )
    assert classes.rows[0][:3] == ("NORM", "40", "0.800 [0.700, 0.900]")
    assert classes.rows[1][:3] == ("AFIB", "0", "n/a")
    assert class_scores(results, "other").rows == ()


def test_a_control_stands_beside_the_same_head_of_the_model() -> None:
    results: Any = example()
    fallback = {**results["paired"][0], "head": "finetune", "difference": 0.5}
    for pairs in ([fallback, *results["paired"]], [*results["paired"], fallback]):
        table = evaluation_table({**results, "paired": pairs}, "synthetic-findings")
        assert table.rows[2][8] == "+0.125 [+0.050, +0.200]"


def test_markdown_and_html() -> None:
    results: Any = example()
    text = evaluation_markdown(results)
    assert "| pretrained | linear | 1 % |" in text
    table = Table(("a|b", "<c>"), (("1|2", "<script>"),), (False, True), ("R&D",))
    assert "a\\|b" in markdown_table(table)
    html = html_table(table)
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "R&amp;D" in html
    assert html.count('class="number"') == 2


def evaluated() -> Any:
    """An evaluation with every kind of row a table can hold."""

    def summary(
        encoder: str, head: str, fraction: float, value: float | None, low: float | None, **more: Any
    ) -> Any:
        return {
            "encoder": encoder, "benchmark": "ptbxl-super", "protocol": "strodthoff", "head": head,
            "fraction": fraction, "seeds": [0], "macro_auroc": value, "sd": None, "ci95": [low, low and low + 0.2],
            "n_train": 9, "n_test": 99, "n_classes": 5, "solver": "", "interval": "percentile", **more,
        }  # fmt: skip

    def pair(second: str, head: str, difference: float | None, low: float | None, **more: Any) -> Any:
        return {
            "first": "pretrained", "second": second, "fraction": 1.0, "difference": difference,
            "ci95": [low, low and low + 0.02], "p_value": 0.5, "benchmark": "ptbxl-super", "second_head": head,
            "p_delong": 0.5, "interval": "percentile", **more,
        }  # fmt: skip

    def published(model: str, head: str, fraction: float, value: float, limits: Any) -> Any:
        return {
            "model": model, "benchmark": "ptbxl-super", "head": head, "fraction": fraction, "macro_auroc": value,
            "ci95": limits, "source": "Table 1",
        }  # fmt: skip

    return {
        "dataset": "ptbxl", "model": "m", "timings": {}, "probe": [{"resampled": "patients", "fraction": 1.0}],
        "settings": {"protocol": "strodthoff", "heads": ["linear"]},
        "splits": {"ptbxl-super": {"train": 9, "validation": 9, "test": 99, "missing": {"test": 3}}},
        "summary": [
            summary("pretrained", "linear", 0.01, None, None),
            summary("pretrained", "linear", 1.0, 0.81, 0.71, seeds=[0, 1], sd=0.012),
            summary("pretrained", "zero-shot", 0.0, 0.61, 0.51),
            summary("untrained", "linear", 1.0, 0.62, 0.52, interval="floored"),
            summary("handmade", "linear", 1.0, 0.63, 0.53),
            summary("supervised", "supervised", 1.0, 0.64, None),
        ],
        "paired": [
            pair("untrained", "linear", 0.19, 0.18, interval="floored", p_delong=1e-5),
            pair("handmade", "linear", 0.18, None),
            pair("supervised", "supervised", None, None, p_delong=None),
        ],
        "published": [
            published("A", "linear", 1.0, 0.93, [None, None]),
            published("B", "linear", 0.01, 0.72, [0.7, 0.74]),
            published("C", "zero-shot", 0.0, 0.55, [None, None]),
        ],
        "curves": [
            {
                "benchmark": "ptbxl-super", "encoder": "pretrained", "axis": "leads",
                "points": [
                    {"condition": "12", "macro_auroc": 0.81, "ci95": [0.71, 0.9], "loss": 0.0,
                     "loss_ci95": [0.0, 0.0], "interval": "percentile"},
                    {"condition": "1", "macro_auroc": 0.6, "ci95": [0.5, 0.7], "loss": 0.21,
                     "loss_ci95": [0.2, 0.22], "interval": "floored"},
                ],
            }
        ],
        "reports": [{"benchmark": "ptbxl-super", "kind": "retrieval", "markdown": "| a |"}],
        "notes": ["A note."],
    }  # fmt: skip


def test_every_kind_of_row_shows_its_own_figures() -> None:
    lines = evaluation_markdown(evaluated()).splitlines()
    table = [[part.strip() for part in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    cells = {tuple(row[:3]): row[6:] for row in table if len(row) == 10}
    assert {
        ("pretrained", "linear", "1 %"): ["n/a", "1", "", ""],
        ("pretrained", "linear", "100 %"): ["0.810 [0.710, 0.910]", "2 (SD 0.012)", "", ""],
        ("pretrained", "zero-shot", "0 %"): ["0.610 [0.510, 0.710]", "1", "", ""],
        ("untrained", "linear", "100 %"): [
            "0.620 [0.520, 0.720]†",
            "1",
            "+0.190 [+0.180, +0.200]†",
            "< 0.001",
        ],
        ("handmade", "linear", "100 %"): ["0.630 [0.530, 0.730]", "1", "+0.180", "0.500"],
        ("supervised", "supervised", "100 %"): ["0.640", "1", "n/a", ""],
        ("A (published)", "linear", "100 %"): ["0.930", "", "", ""],
        ("B (published)", "linear", "1 %"): ["0.720 [0.700, 0.740]", "", "", ""],
        ("C (published)", "zero-shot", "0 %"): ["0.550", "", "", ""],
    }.items() <= cells.items()
    assert ["1", "0.600 [0.500, 0.700]†", "0.210 [0.200, 0.220]†"] in table
    text = "\n".join(lines)
    assert "† where fewer than ten positives" in text
    assert "over test patients, of the mean over seeds" in text
    assert "test 3: not the published test" in text


def test_the_mark_is_explained_where_it_is_used() -> None:
    results: Any = example()
    assert not any("†" in note for note in evaluation_notes(results, classes=True))
    results["probe"][0]["classes"][0]["interval"] = "floored"
    assert any("†" in note for note in evaluation_notes(results, classes=True))
    assert class_scores(results, "synthetic-findings").rows[0][2] == "0.800 [0.700, 0.900]†"


def test_format_interval() -> None:
    assert format_interval(None, [None, None]) == "n/a"
    assert format_interval(0.5, [None, None]) == "0.500"
