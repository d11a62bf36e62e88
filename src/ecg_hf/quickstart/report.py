"""``report.html``: one self-contained page with results, figures, timings, and what is synthetic said plainly."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from ecg_hf import __version__
from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.results import Results, validate_results
from ecg_hf.evaluation.tables import Table, class_scores, evaluation_notes, evaluation_table
from ecg_hf.files import write_whole

__all__ = ["SYNTHETIC_STATEMENT", "ReportFigure", "render_report", "write_report"]

SYNTHETIC_STATEMENT = (
    "Every recording, report and label behind this page is simulated by a program. The numbers show that all "
    "parts work together; they say nothing about real ECGs or about patients."
)
REAL_STATEMENT = (
    "The recordings behind this page are real ones of the dataset named above; nothing is simulated."
)
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class ReportFigure:
    """A picture of the page.

    Attributes:
        title: Heading above it; also its alternative text.
        png: The picture, or the file that holds it.
        caption: One or two sentences below it.
    """

    title: str
    png: bytes | Path
    caption: str = ""

    @property
    def data_uri(self) -> str:
        """The picture as a ``data:`` address, so that the page needs no other file."""
        if isinstance(self.png, bytes):
            content = self.png
        else:
            try:
                content = self.png.read_bytes()
            except OSError as error:
                raise ConfigurationError("cannot read the figure", path=self.png) from error
        if not content.startswith(PNG_SIGNATURE):
            raise ConfigurationError(f"figure {self.title!r} is no PNG")
        return "data:image/png;base64," + base64.b64encode(content).decode("ascii")


def render_report(
    results: Results,
    figures: Sequence[ReportFigure] = (),
    *,
    title: str,
    synthetic: bool | str,
    facts: Mapping[str, object] | None = None,
) -> str:
    """The page as HTML. Everything shown is escaped; the page loads nothing from anywhere.

    Args:
        results: A results object (its ``timings`` are shown too).
        figures: Pictures in order.
        title: Heading of the page.
        synthetic: ``True`` says that all data is simulated, ``False`` that it is real; a text says it in other
            words, for data that is partly either.
        facts: Label -> value, for a short list at the top: model, parameters, records, reload check.

    Raises:
        ConfigurationError: if the results do not fit their schema or a figure cannot be read.
    """
    validate_results(results)
    statement = (
        synthetic if isinstance(synthetic, str) else SYNTHETIC_STATEMENT if synthetic else REAL_STATEMENT
    )
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(
        files("ecg_hf.quickstart").joinpath("report.html").read_text(encoding="utf-8")
    )
    return template.render(
        title=title,
        dataset=results["dataset"],
        statement=statement,
        is_synthetic=bool(synthetic),
        facts=[(name, str(value)) for name, value in (facts or {}).items()],
        benchmarks=[
            (name, evaluation_table(results, name), class_scores(results, name))
            for name in dict.fromkeys(row["benchmark"] for row in results.get("summary", []))
        ],
        notes=[*results.get("notes", []), *evaluation_notes(results, classes=True)],
        figures=figures,
        timings=_timing_table(results["timings"]),
        version=__version__,
    )


def write_report(
    path: str | os.PathLike[str],
    results: Results,
    figures: Sequence[ReportFigure] = (),
    *,
    title: str,
    synthetic: bool | str,
    facts: Mapping[str, object] | None = None,
) -> Path:
    """Write :func:`render_report`'s page to a file, atomically. Returns the path."""
    page = render_report(results, figures, title=title, synthetic=synthetic, facts=facts)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, page)
    return path


def _timing_table(timings: Mapping[str, float]) -> Table:
    rows = [(name.replace("_", " "), _seconds(value)) for name, value in timings.items()]
    if len(rows) > 1:
        rows.append(("all", _seconds(sum(timings.values()))))
    return Table(("Stage", "Time"), tuple(rows), (False, True))


def _seconds(value: float) -> str:
    if value < 100:
        return f"{value:.1f} s"
    return f"{int(value // 60)} min {int(value % 60):02d} s"
