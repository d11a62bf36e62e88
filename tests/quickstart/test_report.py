"""The report is one page that needs nothing else, escapes everything, and says what is synthetic."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ecg_hf.errors import ConfigurationError
from ecg_hf.quickstart.report import SYNTHETIC_STATEMENT, ReportFigure, render_report, write_report

PNG = b"\x89PNG\r\n\x1a\n" + b"picture"


def results(dataset: str = "synthetic") -> Any:
    classes = [
        {
            "name": "LAO/LAE",
            "auroc": 0.8,
            "ci95": [0.7, 0.9],
            "auprc": 0.7,
            "n": 90,
            "positives": 40,
            "excluded": "",
        }
    ]
    row = {
        "encoder": "pretrained", "fraction": 0.1, "macro_auroc": 0.8, "ci95": [0.7, 0.9], "n_train": 1200,
        "n_test": 90, "positives": {"LAO/LAE": 40}, "undefined": [], "classes": classes,
    }  # fmt: skip
    row |= {"benchmark": "synthetic-findings", "head": "linear"}
    rows = [
        row,
        {**row, "fraction": 1.0, "n_train": 12_000, "macro_auroc": 0.85},
        {**row, "head": "zero-shot", "fraction": 0.0, "n_train": 0, "macro_auroc": 0.6, "ci95": [0.5, 0.7]},
    ]
    kept = ("encoder", "fraction", "macro_auroc", "ci95", "n_train", "n_test", "benchmark", "head")
    summary = [
        {**{name: one[name] for name in kept}, "protocol": "merl-exact", "seeds": [0], "sd": None,
         "n_classes": 1, "solver": ""}
        for one in rows
    ]  # fmt: skip
    return {
        "dataset": dataset,
        "probe": rows,
        "summary": summary,
        "timings": {"data": 4.24, "pretrain": 301.0},
    }


class Page(HTMLParser):
    """Tags, attributes and visible text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_holds_results_classes_and_timings(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(PNG)
    path = write_report(
        tmp_path / "out" / "report.html",
        results(),
        [ReportFigure("Loss curves", PNG, "All terms."), ReportFigure("Map", picture)],
        title="Quickstart",
        synthetic=True,
        facts={"Parameters": 1234},
    )
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    for wanted in (
        "0.800 [0.700, 0.900]",
        "0.600 [0.500, 0.700]",
        "LAO/LAE",
        "1234",
        "4.2 s",
        "5 min 01 s",
        "All terms.",
    ):
        assert wanted in page.text, wanted
    assert page.tags.count("img") == 2
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_what_is_synthetic_is_said() -> None:
    assert SYNTHETIC_STATEMENT in Page(render_report(results(), title="T", synthetic=True)).text
    real = Page(render_report(results("ptbxl"), title="T", synthetic=False)).text
    assert "Synthetic data" not in real
    assert "real ones" in real
    assert "Reports are simulated." in render_report(results(), title="T", synthetic="Reports are simulated.")


def test_page_loads_nothing() -> None:
    html = render_report(results(), [ReportFigure("Map", PNG)], title="T", synthetic=True)
    page = Page(html)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    addresses = [value for name, value in page.attributes if name in ("src", "href")]
    assert addresses
    assert all(value is not None and value.startswith("data:image/png;base64,") for value in addresses)
    assert not re.search(r"https?://|url\(|@import", html)
    assert "default-src 'none'" in html


def test_everything_is_escaped() -> None:
    attack = "<script>alert('x')</script>"
    content = results(attack)
    content["probe"][1]["encoder"] = content["summary"][0]["encoder"] = attack
    html = render_report(
        content,
        [ReportFigure(f'"{attack}', PNG, attack)],
        title=attack,
        synthetic=attack,
        facts={attack: attack},
    )
    page = Page(html)
    assert "script" not in page.tags
    assert page.text.count("alert") >= 7


def test_bad_figures_and_results(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no PNG"):
        render_report(results(), [ReportFigure("x", b"GIF89a")], title="T", synthetic=True)
    with pytest.raises(ConfigurationError, match="cannot read"):
        render_report(results(), [ReportFigure("x", tmp_path / "none.png")], title="T", synthetic=True)
    broken = results()
    broken["probe"][0]["ci95"] = None
    with pytest.raises(ConfigurationError, match="ci95"):
        write_report(tmp_path / "report.html", broken, title="T", synthetic=True)
    assert list(tmp_path.iterdir()) == []
