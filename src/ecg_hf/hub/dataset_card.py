"""The card of a dataset: its source, splits and what was left out; never names of records or people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from huggingface_hub import DatasetCardData
from jinja2 import Environment, StrictUndefined

from ecg_hf.data.report import BuildReport
from ecg_hf.data.schema import SPLITS
from ecg_hf.data.sources import SOURCES
from ecg_hf.escaping import markdown_code, markdown_text
from ecg_hf.hub.licences import OTHER, licence_identifier

__all__ = ["dataset_card"]

TEMPLATE = "dataset_card.md.jinja"

_COLUMNS = {
    "record_id": "name of the recording within its source",
    "patient_id": "shared by recordings of one person; null if the source does not tell",
    "age": "years, NaN where unknown",
    "sex": "`female`, `male` or null",
    "report": "clinical text; empty if missing",
    "labels": "codes of the source's own vocabulary",
    "fold": "official or derived fold; -1 if none",
    "split": "`train`, `validation` or `test`",
    "source": "name of the source",
    "ecg": "the recording, exact",
    "r_peaks": "sample indices of known R peaks; empty if not annotated",
}
_ABOUT_PEOPLE = ("patient_id", "age", "sex", "report")


def dataset_card(
    report: BuildReport,
    *,
    repo_id: str,
    splits: Mapping[str, int],
    columns: Sequence[str],
    licence: str,
) -> str:
    """The card's text with its front matter.

    Args:
        report: Report of the build.
        repo_id: Where the dataset will be found.
        splits: Recordings by split.
        columns: Columns that are shared.
        licence: Licence of the recordings, for a reader.
    """
    info = SOURCES[report.source].info if report.source in SOURCES else None
    total = sum(splits.values())
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    template = environment.from_string((resources.files("ecg_hf.hub") / TEMPLATE).read_text(encoding="utf-8"))
    return template.render(
        card_data=_front_matter(repo_id, report.source, licence, total).to_yaml(),
        name=repo_id.rpartition("/")[2],
        title=markdown_text(report.source if info is None else info.title),
        total=f"{total:,}",
        version=markdown_text(report.versions.get("ecg-hf", "")),
        synthetic=report.source == "synthetic",
        repo=repo_id,
        first_split=next(split for split in SPLITS if split in splits),
        source_text=_source_text(report, info),
        splits={split: f"{splits[split]:,}" for split in SPLITS if split in splits},
        patients_text=_patients_text(report),
        seen=f"{report.seen:,}",
        kept=f"{report.kept:,}",
        rule_text="" if info is None else f"By rule: {info.drops}. ",
        dropped_text=_counts("Left out", report.dropped) or "Nothing was left out.",
        notes_text=_counts("Assumed, converted or repaired", report.notes) or "No recording has a note.",
        columns={markdown_code(name): _COLUMNS.get(name, "") for name in columns},
        privacy_text=_privacy_text(report, columns),
        licence=markdown_text(licence),
    )


def _front_matter(repo_id: str, source: str, licence: str, total: int) -> DatasetCardData:
    identifier = licence_identifier(licence)
    tags = ["ecg", "electrocardiogram", "biosignals", *(["synthetic-data"] if source == "synthetic" else [])]
    named: dict[str, Any] = {"license_name": licence} if identifier == OTHER else {}
    return DatasetCardData(
        license=identifier,
        pretty_name=repo_id.rpartition("/")[2],
        tags=tags,
        size_categories=[_size_category(total)],
        **named,
    )


def _size_category(total: int) -> str:
    limits = [(1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")]
    return next((name for limit, name in limits if total < limit), "1M<n<10M")


def _source_text(report: BuildReport, info: Any) -> str:
    lines = [f"- source: {markdown_code(report.source)}"]
    if info is not None:
        lines.append(f"- labels: {info.labels}")
        if info.physionet is not None:
            address = f"https://physionet.org/content/{info.physionet.slug}/{info.physionet.version}/"
            lines.append(f"- published at: {address}")
    # Options hold numbers and folds; anything that could be a path on a user's machine is left out.
    plain = {k: v for k, v in report.options.items() if not (isinstance(v, str) and ("/" in v or "\\" in v))}
    if plain:
        lines.append(
            f"- built with: {', '.join(markdown_text(f'{name} {value}') for name, value in plain.items())}"
        )
    return "\n".join(lines)


def _patients_text(report: BuildReport) -> str:
    if not report.patients:
        return "The source does not tell patients apart, so one may be in several splits."
    text = report.patients_summary()
    return f"{text[0].upper()}{text[1:]}."


def _counts(title: str, counts: Mapping[str, int]) -> str:
    """Counts by reason; the report's examples name recordings and are not shown."""
    listed = ", ".join(
        f"{count:,} {markdown_text(reason.replace('_', ' '))}" for reason, count in counts.items()
    )
    return f"{title}: {listed}." if listed else ""


def _privacy_text(report: BuildReport, columns: Sequence[str]) -> str:
    if report.source == "synthetic":
        return "The data are of no real people."
    about = [markdown_code(name) for name in columns if name in _ABOUT_PEOPLE]
    what = f"Columns about people, as the source publishes them: {', '.join(about)}. " if about else ""
    return f"{what}This card names no recording and no person. Do not try to find out who somebody is."
