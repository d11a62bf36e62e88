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
    "class_table",
    "evaluation_markdown",
    "evaluation_table",
    "format_difference",
    "format_interval",
    "format_percent",
    "html_table",
    "interval_cell",
    "intervals_note",
    "markdown_table",
    "results_markdown",
    "results_table",
]

UNDEFINED = "n/a"
FLOORED = "†"


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


def results_table(results: Results) -> Table:
    """One line per encoder and label fraction, zero-shot last, with the paired difference to a control.

    The difference stands in the line of the encoder it credits.
    """
    # One column, one control: the first there is.
    control = next((row["second"] for row in results.get("paired", [])), "untrained")
    paired = {
        (row["first"], *_cell(row)): row for row in results.get("paired", []) if row["second"] == control
    }
    several_seeds = len({row.get("seed", 0) for row in results["probe"]}) > 1
    rows = []
    for row in results["probe"]:
        pair = paired.get((row["encoder"], *_cell(row)))
        seed = f", seed {row.get('seed', 0)}" if several_seeds else ""
        rows.append(
            (
                f"{row.get('head', 'linear')} probe{seed}",
                row["encoder"],
                format_percent(row["fraction"]),
                f"{row['n_train']:,}",
                f"{row['n_test']:,}",
                _count_classes(row),
                interval_cell(row),
                "" if pair is None else format_difference(pair),
            )
        )
    zero_shot = results.get("zero_shot")
    if zero_shot is not None:
        n_test = zero_shot.get("n_test")
        rows.append(
            (
                "zero-shot",
                "pretrained",
                "0 %",
                "0",
                "" if n_test is None else f"{n_test:,}",
                _count_classes(zero_shot),
                interval_cell(zero_shot),
                "",
            )
        )
    header = (
        "Protocol", "Encoder", "Labels", "n train", "n test", "Classes",
        "Macro AUROC [95 % interval]", f"Pretrained minus {control} [95 % interval]",
    )  # fmt: skip
    numeric = (False, False, True, True, True, True, True, True)
    return Table(header, tuple(rows), numeric, tuple(_notes(results)))


def _cell(row: ProbeRow | PairedRow) -> tuple[float, str, int]:
    """What two rows of one comparison share."""
    return row["fraction"], row.get("head", "linear"), row.get("seed", 0)


def _count_classes(row: object) -> str:
    counts = row.get("positives") if isinstance(row, dict) else None
    if not counts:
        return ""
    undefined = row.get("undefined", []) if isinstance(row, dict) else []
    return f"{len(counts) - len(undefined)} of {len(counts)}"


def format_difference(pair: PairedRow) -> str:
    """``+0.031 [+0.012, +0.050]``."""
    if pair["difference"] is None:
        return UNDEFINED
    low, high = pair["ci95"]
    limits = "" if low is None or high is None else f" [{low:+.3f}, {high:+.3f}]"
    return f"{pair['difference']:+.3f}{limits}{_mark(pair)}"


def _notes(results: Results) -> list[str]:
    units = {row.get("resampled", "records") for row in results["probe"]}
    rows: list[Mapping[str, Any]] = [*results["probe"], *results.get("paired", [])]
    rows += [one for one in (results.get("zero_shot"),) if one is not None]
    made = intervals_note(rows, f"test {' and '.join(sorted(units))}")
    notes = [f"{made}. They cover the choice of test set, not another pretraining run."]
    left_out: dict[str, list[str]] = {}
    for row in results["probe"]:
        if row.get("undefined"):
            left_out.setdefault(format_percent(row["fraction"]), []).extend(row["undefined"])
    for fraction, names in left_out.items():
        notes.append(f"Left out of the macro mean at {fraction}: {', '.join(dict.fromkeys(names))}.")
    return notes


def class_table(results: Results, *, largest_fraction_only: bool = False) -> Table:
    """One line per class with its positives, and the AUROC of every probe and of zero-shot.

    Args:
        results: A results object.
        largest_fraction_only: Keep the probes with the most labels, for a table that fits a page.
    """
    probes = results["probe"]
    if largest_fraction_only:
        largest = max((row["fraction"] for row in probes), default=1.0)
        probes = [row for row in probes if row["fraction"] == largest]
    columns: list[tuple[str, dict[str, str]]] = []
    positives: dict[str, int] = {}
    for row in probes:
        positives = {**positives, **row["positives"]}
        columns.append((_column_title(row, probes), _by_class(row)))
    zero_shot = results.get("zero_shot")
    if zero_shot is not None and zero_shot.get("classes"):
        positives = {**positives, **zero_shot.get("positives", {})}
        columns.append(("zero-shot", _by_class(zero_shot)))
    rows = tuple(
        (name, f"{positives[name]:,}", *(cells.get(name, "") for _, cells in columns)) for name in positives
    )
    header = ("Class", "Test positives", *(title for title, _ in columns))
    return Table(header, rows, (False, *(True for _ in header[1:])))


def _column_title(row: ProbeRow, among: Sequence[ProbeRow]) -> str:
    title = f"{row['encoder']}, {format_percent(row['fraction'])}"
    _, head, seed = _cell(row)
    if len({_cell(other)[1] for other in among}) > 1:
        title += f", {head}"
    if len({_cell(other)[2] for other in among}) > 1:
        title += f", seed {seed}"
    return title


def _by_class(row: object) -> dict[str, str]:
    classes = row.get("classes", []) if isinstance(row, dict) else []
    return {one["name"]: format_interval(one["auroc"], one["ci95"]) + _mark(one) for one in classes}


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


def results_markdown(results: Results) -> str:
    """Both tables of a results file, as Markdown."""
    summary, classes = results_table(results), class_table(results)
    parts = [f"### {markdown_text(results['dataset'])}\n", markdown_table(summary)]
    if classes.rows:
        parts += ["#### Per class: AUROC [95 % interval]\n", markdown_table(classes)]
    return "\n".join(parts)


def evaluation_table(results: Results, benchmark: str) -> Table:
    """One line per encoder and label fraction of a benchmark, seeds averaged, the model's difference beside controls.

    Args:
        results: Of an evaluation, with a ``summary``.
        benchmark: Name of the benchmark.
    """
    rows = [row for row in results.get("summary", []) if row["benchmark"] == benchmark]
    pairs = {
        (pair["second"], pair.get("second_head"), pair["fraction"]): pair
        for pair in results.get("paired", [])
        if pair.get("benchmark") == benchmark
    }
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
                    "",
                    "",
                    "",
                    format_interval(known["macro_auroc"], known.get("ci95") or [None, None]),
                    "",
                    "",
                    "",
                )
            )
    header = (
        "Encoder", "Head", "Labels", "n train", "n test", "Classes", "Macro AUROC [95 % interval]", "Seeds",
        "Pretrained minus this [95 % interval]", "p (DeLong)",
    )  # fmt: skip
    return Table(header, tuple(lines), (False, False, *(True for _ in header[2:])))


def _p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def evaluation_markdown(results: Results) -> str:
    """Every benchmark of an evaluation as a table, whatever else it found below, and notes on how to read it."""
    settings = results.get("settings", {})
    parts = [f"## Evaluation of {markdown_text(results.get('model', 'a model'))}\n"]
    if settings and results.get("summary"):
        protocol, head = (markdown_code(settings.get(name)) for name in ("protocol", "head"))
        parts.append(f"Protocol {protocol}, head {head}.\n")
    for benchmark in dict.fromkeys(row["benchmark"] for row in results.get("summary", [])):
        split = results.get("splits", {}).get(benchmark, {})
        counts = ", ".join(
            f"{name} {split[name]:,}" for name in ("train", "validation", "test") if name in split
        )
        parts += [
            f"### {markdown_text(benchmark)}\n",
            f"Records: {counts}.\n",
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
    notes = [*results.get("notes", []), *_evaluation_notes(results)]
    sources = dict.fromkeys(f"{row['model']}: {row['source']}" for row in results.get("published", []))
    notes += [f"Published: {text}." for text in sources]
    return "\n".join([*parts, *(f"- {markdown_text(note)}" for note in notes)]) + "\n"


CURVE_TITLES = {"leads": "fewer leads", "rate": "lower sampling rates"}


def _curve_markdown(curve: Mapping[str, Any]) -> str:
    """Score under every condition, and what it lost against the first."""
    lines = [f"| {curve['axis']} | Macro AUROC [95 %] | Lost [95 %] |", "|---|---|---|"]
    for point in curve["points"]:
        score = interval_cell(point)
        lost = format_interval(point["loss"], point["loss_ci95"]) + _mark(point)
        lines.append(f"| {markdown_text(point['condition'])} | {score} | {lost} |")
    return "\n".join(lines) + "\n"


def _evaluation_notes(results: Results) -> list[str]:
    """What limits the figures, said once."""
    if not results.get("summary"):
        return []
    units = " or ".join(sorted({row.get("resampled", "records") for row in results["probe"]}))
    points = [point for curve in results.get("curves", []) for point in curve["points"]]
    made = intervals_note(
        [*results["summary"], *results.get("paired", []), *points], f"test {units}, of the mean over seeds"
    )
    notes = [
        f"{made}. Differences are paired on the same test records. Intervals cover the choice of test records alone.",
        "A row with one seed under several asked for does not depend on the seed.",
    ]
    left_out: dict[tuple[str, str], dict[str, None]] = {}
    for row in results["probe"]:
        for name in row.get("undefined", []):
            left_out.setdefault((row.get("benchmark", ""), format_percent(row["fraction"])), {})[name] = None
    notes += [f"Undefined in {b} at {share}: {', '.join(names)}." for (b, share), names in left_out.items()]
    return notes
