"""Answers as fragments of HTML, in which every text of a file, a model or a person is escaped."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from ecg_hf.escaping import printable
from ecg_hf.models.pretrained import DEFAULT_CLASSIFIER
from ecg_hf.pipelines.explanation import Explanation
from ecg_hf.pipelines.interpretation import Interpretation
from ecg_hf.signal import EcgRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "explanation_text", "findings_table", "nearest_table", "picture", "problem", "similarity_table", "summary"
]  # fmt: skip

_SHOWN_FINDINGS = 8
_SHOWN_LEADS = 3
_SHOWN_NOTES = 20
_DPI = 110

_MEASURED = {
    "heart_rate_bpm": ("heart rate", "per minute"),
    "pr_ms": ("PR", "ms"),
    "qrs_ms": ("QRS", "ms"),
    "qt_ms": ("QT", "ms"),
    "qtc_ms": ("QTc", "ms"),
}

CALIBRATED = (
    "Scores were calibrated on PTB-XL: of its recordings with a score of 0.70, about 70 in 100 had the finding. "
    "Elsewhere that may differ. AUROC says how well the finding is told apart on PTB-XL records kept aside; 0.5 is "
    "chance."
)
UNCALIBRATED = (
    "Scores order recordings. How many recordings with a score have the finding was not measured for this "
    "model."
)


def text(value: object) -> str:
    """Any text as HTML, of which nothing steers a page or hides."""
    return escape(printable(" ".join(str(value).split())))


def problem(reason: object) -> str:
    """Why there is no answer, read out at once by screen readers."""
    return f'<p role="alert"><strong>Not possible:</strong> {text(reason)}</p>'


def summary(record: EcgRecord, answer: Interpretation) -> str:
    """What was read and measured, and everything odd about it."""
    leads = ", ".join(record.lead_names)
    measured = [
        f"{label} {value:.0f} {unit}"
        for name, (label, unit) in _MEASURED.items()
        if (value := answer.measurements.get(name)) is not None
    ]
    parts = [
        f"<p>Leads: {text(leads)}, {record.duration_s:.1f} s, {record.sampling_rate:g} Hz.</p>",
        f"<p>{text(', '.join(measured) or 'Nothing could be measured')}.</p>",
    ]
    if answer.notes:
        notes = "".join(f"<li>{text(note)}</li>" for note in answer.notes[:_SHOWN_NOTES])
        parts.append(f"<details><summary>Notes on the recording</summary><ul>{notes}</ul></details>")
    return f'<div role="status">{"".join(parts)}</div>'


def findings_table(answer: Interpretation) -> str:
    """The classifier's findings, or why there are none."""
    if answer.abstained:
        return f'<p role="status">No findings: {text(answer.abstained)}.</p>'
    rows = [
        (
            one.name,
            f"{one.probability:.2f}",
            "yes" if one.positive else "no",
            "unknown" if one.reference_auroc is None else f"{one.reference_auroc:.3f}",
        )
        for one in answer.findings[:_SHOWN_FINDINGS]
    ]
    meaning = CALIBRATED if answer.model == DEFAULT_CLASSIFIER else UNCALIBRATED
    return _table(
        f"Findings by {answer.model}, highest scores first",
        ("finding", "score", "reaches its threshold", "AUROC"),
        rows,
        meaning,
    )


def nearest_table(answer: Interpretation) -> str:
    """The most similar reference ECGs; nothing for a model that has none."""
    if not answer.nearest:
        return ""
    rows = [
        (near["record_id"], f"{near['similarity']:.2f}", ", ".join(near["labels"])) for near in answer.nearest
    ]
    return _table(
        "Most similar reference ECGs",
        ("record", "similarity", "its labels"),
        rows,
        "Similarity: cosine of the two embeddings, at most 1.",
    )


def similarity_table(answers: Sequence[Mapping[str, Any]], model: str) -> str:
    """Labels of the reader's own, by falling similarity."""
    rows = [(one["label"], f"{one['similarity']:+.3f}") for one in answers]
    return _table(
        f"Similarity of the recording to each text, by {model}",
        ("text", "similarity"),
        rows,
        "A cosine between -1 and 1, not a probability: a strong match may be 0.2. Compare recordings for one text "
        "rather than texts for one recording.",
    )


def explanation_text(found: Explanation) -> str:
    """An explanation in words, for those who do not see the picture."""
    order = sorted(
        zip(found.record.lead_names, found.maps.by_lead.tolist(), strict=True), key=lambda one: -one[1]
    )
    leads = ", ".join(f"{lead} ({lost:+.2f})" for lead, lost in order[:_SHOWN_LEADS])
    return (
        f"<p>{text(found.name)}, score {found.score:.2f}. The {text(found.scale)} loses most without the leads "
        f"{text(leads)}. Orange speaks for the finding, blue against it; this is about the model, right or wrong.</p>"
    )


def picture(figure: Figure, described: str) -> str:
    """A figure inside the page itself, so that no file of it is left anywhere."""
    from ecg_hf.plotting.style import png_bytes

    content = base64.b64encode(png_bytes(figure, _DPI)).decode()
    return (
        f'<img alt="{text(described)}" src="data:image/png;base64,{content}" style="width:100%;height:auto">'
    )


def _table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[object]], meaning: str) -> str:
    head = "".join(f'<th scope="col">{text(column)}</th>' for column in columns)
    body = "".join(
        f'<tr><th scope="row">{text(first)}</th>'
        + "".join(f"<td>{text(cell)}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in rows
    )
    return (
        f"<table><caption>{text(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        f"<p>{text(meaning)}</p>"
    )
