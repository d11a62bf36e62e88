"""Results as a table of plain strings, and that table as Markdown or HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from ecg_hf.escaping import markdown_code, markdown_text
from ecg_hf.evaluation.results import PairedRow, ProbeRow, Results

__all__ = [
    "Table",
    "class_scores",
    "evaluation_markdown",
    "evaluation_notes",
    "evaluation_table",
    "format_difference",
    "format_interval",
    "format_percent",
    "html_table",
    "interval_cell",
    "intervals_note",
    "markdown_table",
    "positives_cell",
    "several_models",
]

UNDEFINED = "n/a"
FLOORED = "†"
FEW_CLASSES = 30


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text.

    Attributes:
        header: Column titles.
        rows: Cells, one tuple per row.
        numeric: Per column, whether it is right-aligned.
        notes: Sentences to stand below.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]
    notes: tuple[str, ...] = ()


def format_interval(value: float | None, limits: Sequence[float | None]) -> str:
    """``0.873 [0.861, 0.884]``."""
    if value is None:
        return UNDEFINED
    low, high = limits
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def interval_cell(row: Mapping[str, Any]) -> str:
    """A row's macro AUROC with its interval, marked where that is not of bootstrap percentiles."""
    return format_interval(row["macro_auroc"], row["ci95"]) + _mark(row)


def several_models(results: Results) -> tuple[str, ...]:
    """What rows call the models where several were evaluated, the first of which is compared with; else nothing."""
    names = tuple(one["name"] for one in results.get("models", []))
    return names if len(names) > 1 else ()


def positives_cell(row: Mapping[str, Any]) -> str:
    """Test records that have a class, from the rarest class there is to the most common; empty if not known."""
    counts = [count for count in row.get("positives", {}).values() if count]
    if not counts:
        return ""
    return " to ".join(f"{count:,}" for count in dict.fromkeys((min(counts), max(counts))))


def _mark(row: Mapping[str, Any]) -> str:
    return FLOORED if row.get("interval") == "floored" and None not in row["ci95"] else ""


def intervals_note(rows: Iterable[Mapping[str, Any]], over: str) -> str:
    """How intervals were made, in a sentence; with the mark's meaning where a row or one of its classes bears it.

    Args:
        rows: Rows with intervals.
        over: What was resampled.
    """
    note = f"Intervals: percentile bootstrap over {over}"
    if any(_mark(one) for row in rows for one in (row, *row.get("classes", []))):
        note += (
            f"; {FLOORED} where fewer than ten positives (or negatives) of a class make that too narrow: DeLong's, "
            "the variance of such a class not below Hanley and McNeil's"
        )
    return note


def format_percent(fraction: float) -> str:
    """``1 %``, ``0.5 %``."""
    return f"{100 * fraction:.3g} %"


def format_difference(pair: PairedRow) -> str:
    """``+0.031 [+0.012, +0.050]``."""
    if pair["difference"] is None:
        return UNDEFINED
    low, high = pair["ci95"]
    limits = "" if low is None or high is None else f" [{low:+.3f}, {high:+.3f}]"
    return f"{pair['difference']:+.3f}{limits}{_mark(pair)}"


def class_scores(results: Results, benchmark: str) -> Table:
    """One line per class of a benchmark with its positives, and its AUROC in every row.

    Trained heads are shown at their largest label fraction and first seed, beside rows without training.

    Args:
        results: Of an evaluation.
        benchmark: Name of the benchmark.
    """
    rows = [row for row in results["probe"] if row.get("benchmark", benchmark) == benchmark]
    largest = max((row["fraction"] for row in rows), default=0.0)
    columns: dict[tuple[str, str], ProbeRow] = {}
    for row in rows:
        if row["fraction"] in (largest, 0.0):
            columns.setdefault((row["encoder"], row.get("head", "linear")), row)
    positives: dict[str, int] = {}
    for row in columns.values():
        positives |= row["positives"]
    cells = [
        {
            one["name"]: format_interval(one["auroc"], one["ci95"]) + _mark(one)
            for one in row.get("classes", [])
        }
        for row in columns.values()
    ]
    lines = tuple(
        (name, f"{count:,}", *(column.get(name, "") for column in cells)) for name, count in positives.items()
    )
    header = (
        "Class",
        "Test positives",
        *(
            f"{encoder}, {head}" + (f", {format_percent(row['fraction'])}" if row["fraction"] else "")
            for (encoder, head), row in columns.items()
        ),
    )
    return Table(header, lines, (False, *(True for _ in header[1:])))


def markdown_table(table: Table) -> str:
    """The table in GitHub's Markdown, notes below."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(map(markdown_text, cells)) + " |"

    rule = "|" + "|".join("---:" if right else "---" for right in table.numeric) + "|"
    lines = [line(table.header), rule, *(line(row) for row in table.rows)]
    if table.notes:
        lines += ["", *map(markdown_text, table.notes)]
    return "\n".join(lines) + "\n"


def html_table(table: Table) -> str:
    """The table as an HTML ``<table>``, every cell escaped; notes as a paragraph."""

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f'<{tag} class="number">{escape(cell)}</{tag}>' if right else f"<{tag}>{escape(cell)}</{tag}>"
            for cell, right in zip(row, table.numeric, strict=True)
        )

    body = "\n".join(f"<tr>{cells('td', row)}</tr>" for row in table.rows)
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in table.notes)
    head = f"<thead><tr>{cells('th', table.header)}</tr></thead>"
    return f"<table>\n{head}\n<tbody>\n{body}\n</tbody>\n</table>\n{notes}"


def evaluation_table(results: Results, benchmark: str) -> Table:
    """One line per encoder and label fraction of a benchmark, seeds averaged, the model's difference beside controls.

    Args:
        results: Of an evaluation, with a ``summary``.
        benchmark: Name of the benchmark.
    """
    rows = [row for row in results.get("summary", []) if row["benchmark"] == benchmark]
    pairs: dict[tuple[str, str | None, float], PairedRow] = {}
    for found in results.get("paired", []):
        if found.get("benchmark") == benchmark:
            place = found["second"], found.get("second_head"), found["fraction"]
            # A control's row may stand beside several heads of the model: its own head comes first.
            if place not in pairs or found.get("head") == found.get("second_head"):
                pairs[place] = found
    # Files of earlier versions don't count them.
    counted = any("positives" in row for row in rows)
    lines = []
    for row in sorted(rows, key=lambda row: row["fraction"]):
        pair = pairs.get((row["encoder"], row["head"], row["fraction"]))
        lines.append(
            (
                row["encoder"],
                row["head"],
                format_percent(row["fraction"]),
                f"{row['n_train']:,}",
                f"{row['n_test']:,}",
                str(row["n_classes"]),
                *([positives_cell(row)] if counted else []),
                interval_cell(row),
                f"{len(row['seeds'])}" if row["sd"] is None else f"{len(row['seeds'])} (SD {row['sd']:.3f})",
                "" if pair is None else format_difference(pair),
                "" if pair is None or (p := pair.get("p_delong")) is None else _p_value(p),
            )
        )
    for known in results.get("published", []):
        if known["benchmark"] == benchmark:
            lines.append(
                (
                    f"{known['model']} (published)",
                    known["head"],
                    format_percent(known["fraction"]),
                    *["", "", "", *([""] if counted else [])],
                    format_interval(known["macro_auroc"], known.get("ci95") or [None, None]),
                    "",
                    "",
                    "",
                )
            )
    models = several_models(results)
    header = (
        "Encoder", "Head", "Labels", "n train", "n test", "Classes", *(["Positives"] if counted else []),
        "Macro AUROC [95 % interval]", "Seeds", f"{models[0] if models else 'Pretrained'} minus this [95 % interval]",
        "p (DeLong)",
    )  # fmt: skip
    return Table(header, tuple(lines), (False, False, *(True for _ in header[2:])))


def _p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def evaluation_markdown(results: Results) -> str:
    """Every benchmark of an evaluation as a table, whatever else it found below, and notes on how to read it."""
    settings = results.get("settings", {})
    if several_models(results):
        parts = [f"## Evaluation of {len(results['models'])} models\n"]
        parts += [
            f"- {markdown_text(one['name'])}: {markdown_text(one['source'])}" for one in results["models"]
        ]
        parts.append("")
    else:
        parts = [f"## Evaluation of {markdown_text(results.get('model', 'a model'))}\n"]
    if settings and results.get("summary"):
        asked = settings.get("heads")
        heads = ", ".join(markdown_code(head) for head in (asked if isinstance(asked, list) else [asked]))
        parts.append(f"Protocol {markdown_code(settings.get('protocol'))}, head {heads}.\n")
    for benchmark in dict.fromkeys(row["benchmark"] for row in results.get("summary", [])):
        split = results.get("splits", {}).get(benchmark, {})
        counts = ", ".join(
            f"{name} {split[name]:,}" for name in ("train", "validation", "test") if name in split
        )
        parts += [
            f"### {markdown_text(benchmark)}\n",
            f"Records: {counts}.\n",
            *_positives_by_class(results, benchmark),
            markdown_table(evaluation_table(results, benchmark)),
        ]
        missing = {name: n for name, n in split.get("missing", {}).items() if n}
        if missing:
            parts.append(
                "Published records that are not there: "
                + ", ".join(f"{markdown_text(name)} {n:,}" for name, n in missing.items())
                + ": not the published test.\n"
            )
    for report in results.get("reports", []):
        lines = (markdown_text(line, keep="\\`*|[#>") for line in report["markdown"].splitlines())
        title = markdown_text(f"{report['benchmark']}: {report['kind']}")
        parts += [f"### {title}\n", "\n".join(lines) + "\n"]
    for curve in results.get("curves", []):
        parts += [
            f"### {markdown_text(curve['benchmark'])}: {markdown_text(curve['encoder'])}, "
            f"{CURVE_TITLES[curve['axis']]}\n",
            _curve_markdown(curve),
        ]
    notes = [*results.get("notes", []), *evaluation_notes(results)]
    sources = dict.fromkeys(f"{row['model']}: {row['source']}" for row in results.get("published", []))
    notes += [f"Published: {text}." for text in sources]
    return "\n".join([*parts, *(f"- {markdown_text(note)}" for note in notes)]) + "\n"


def _positives_by_class(results: Results, benchmark: str) -> list[str]:
    """A line that counts the test records of every class, where they are few enough to be read."""
    counts = next(
        (row.get("positives", {}) for row in results.get("summary", []) if row["benchmark"] == benchmark), {}
    )
    if not 0 < len(counts) <= FEW_CLASSES:
        return []
    shown = ", ".join(f"{markdown_text(name)} {count:,}" for name, count in counts.items())
    return [f"Test records that are positive: {shown}.\n"]


CURVE_TITLES = {"leads": "fewer leads", "rate": "lower sampling rates"}


def _curve_markdown(curve: Mapping[str, Any]) -> str:
    """Score under every condition, and what it lost against the first."""
    lines = [f"| {curve['axis']} | Macro AUROC [95 %] | Lost [95 %] |", "|---|---|---|"]
    for point in curve["points"]:
        score = interval_cell(point)
        lost = format_interval(point["loss"], point["loss_ci95"]) + _mark(point)
        lines.append(f"| {markdown_text(point['condition'])} | {score} | {lost} |")
    return "\n".join(lines) + "\n"


def evaluation_notes(results: Results, *, classes: bool = False) -> list[str]:
    """What limits the figures.

    Args:
        results: Of an evaluation.
        classes: Whether scores by class are shown too, whose intervals may need explaining.
    """
    if not results.get("summary"):
        return []
    units = " or ".join(sorted({row.get("resampled", "records") for row in results["probe"]}))
    points = [point for curve in results.get("curves", []) for point in curve["points"]]
    by_class = results["probe"] if classes else []
    made = intervals_note(
        [*results["summary"], *results.get("paired", []), *points, *by_class],
        f"test {units}, of the mean over seeds",
    )
    notes = [
        f"{made}. Differences are paired on the same test records. Intervals cover the choice of test records alone.",
        "A row with one seed under several asked for does not depend on the seed.",
    ]
    models = several_models(results)
    if models:
        notes.append(
            f"Every row is compared with {models[0]}; p-values are not corrected for the number of rows."
        )
    left_out: dict[tuple[str, str], dict[str, None]] = {}
    for row in results["probe"]:
        for name in row.get("undefined", []):
            left_out.setdefault((row.get("benchmark", ""), format_percent(row["fraction"])), {})[name] = None
    notes += [f"Undefined in {b} at {share}: {', '.join(names)}." for (b, share), names in left_out.items()]
    return notes
