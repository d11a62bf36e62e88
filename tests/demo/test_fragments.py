"""Fragments of the page: nothing of a stranger becomes markup, and a similarity is no percentage."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure

from ecg_hf.demo import fragments
from ecg_hf.models.pretrained import DEFAULT_CLASSIFIER
from ecg_hf.pipelines.interpretation import Finding, Interpretation
from ecg_hf.signal import EcgRecord

HOSTILE = "<img src=x onerror=alert(1)>\u202e\x1b[2J\"'&"
ANSWER = Interpretation(
    HOSTILE,
    lead_names=(HOSTILE,),
    measurements={"heart_rate_bpm": 64.4, "pr_ms": None},
    findings=(Finding("A", HOSTILE, 0.714, True, None),),
    notes=(HOSTILE,),
    nearest=({"record_id": HOSTILE, "similarity": 0.5, "labels": [HOSTILE]},),
    model=HOSTILE,
)
RECORD = EcgRecord(np.zeros((1, 500), np.float32), 100.0, (HOSTILE,))
FIGURE = Figure(figsize=(1, 1))


class Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.attributes: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)
        self.attributes |= {name for name, _ in attrs}


@pytest.mark.parametrize(
    "html",
    [
        fragments.problem(HOSTILE),
        fragments.summary(RECORD, ANSWER),
        fragments.findings_table(ANSWER),
        fragments.findings_table(Interpretation("x", abstained=HOSTILE)),
        fragments.nearest_table(ANSWER),
        fragments.similarity_table([{"label": HOSTILE, "similarity": 0.1}], HOSTILE),
        fragments.picture(FIGURE, HOSTILE),
    ],
)
def test_texts_of_strangers_are_escaped(html: str) -> None:
    tags = Tags(html)
    assert "onerror" not in tags.attributes
    assert tags.found.count("img") == html.count("data:image/png")
    assert "\u202e" not in html
    assert "\x1b" not in html
    assert "&lt;img src=x" in html


def test_scores_and_similarities_are_no_percentages() -> None:
    tables = fragments.findings_table(ANSWER) + fragments.nearest_table(ANSWER)
    tables += fragments.similarity_table([{"label": "a", "similarity": -0.057}], "m")
    assert "%" not in tables
    assert ">0.71<" in tables
    assert ">-0.057<" in tables
    assert "not a probability" in tables
    assert fragments.UNCALIBRATED in tables
    calibrated = fragments.findings_table(
        Interpretation("x", findings=ANSWER.findings, model=DEFAULT_CLASSIFIER)
    )
    assert fragments.CALIBRATED in calibrated


def test_what_could_not_be_measured_is_left_out() -> None:
    assert "heart rate 64 per minute." in fragments.summary(RECORD, ANSWER)
    assert "PR" not in fragments.summary(RECORD, ANSWER)
    assert "Nothing could be measured" in fragments.summary(RECORD, Interpretation("x"))


def test_tables_say_what_their_cells_are() -> None:
    table = fragments.findings_table(ANSWER)
    assert re.search(r"<table><caption>Findings by ", table)
    assert table.count('scope="col"') == 4
    assert table.count('scope="row"') == 1
    assert fragments.nearest_table(Interpretation("x")) == ""
