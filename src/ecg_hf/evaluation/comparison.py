"""Two evaluations against each other, cell by cell, on the same test records."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.aggregation import PRETRAINED, Difference, aligned, paired_difference
from ecg_hf.evaluation.cells import CellScores, read_scores
from ecg_hf.evaluation.results import Results, finite, read_results
from ecg_hf.evaluation.tables import Table, format_interval, format_percent

__all__ = ["Comparison", "compare_results", "comparison_table"]

Place = tuple[str, str, float]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One row of two evaluations.

    Attributes:
        benchmark: Name of the benchmark.
        fraction: Label fraction.
        heads: Heads of either.
        first: Mean macro AUROC of the first over its seeds, as its results say.
        second: Of the second.
        n_test: Records compared on.
        found: The paired difference, first minus second.
    """

    benchmark: str
    fraction: float
    heads: tuple[str, str]
    first: float | None
    second: float | None
    n_test: int
    found: Difference

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        difference = self.found.difference
        return {
            "benchmark": self.benchmark,
            "fraction": self.fraction,
            "heads": list(self.heads),
            "first": self.first,
            "second": self.second,
            "difference": finite(difference.estimate),
            "ci95": [finite(difference.low), finite(difference.high)],
            "p_bootstrap": finite(self.found.p_bootstrap),
            "p_delong": finite(self.found.p_delong),
            "n_test": self.n_test,
            "classes": self.found.classes,
            "resampled": self.found.unit,
            "interval": self.found.method,
        }


def compare_results(
    first: str | os.PathLike[str],
    second: str | os.PathLike[str],
    *,
    encoder: str = PRETRAINED,
    common_records: bool = False,
) -> list[Comparison]:
    """Every benchmark, head and label fraction that both evaluations have.

    Rows with the same head are compared; where a benchmark was run with a single head in either evaluation, these two
    are, whatever they are called.

    Args:
        first: ``results.json`` of an evaluation, with its ``scores`` beside it.
        second: Of the other.
        encoder: Whose rows.
        common_records: Compare on the test records both have, instead of refusing different test sets.

    Raises:
        ConfigurationError: if a file or its scores are missing, nothing is in both, or test sets differ.
    """
    sides = [_Side(path, encoder) for path in (first, second)]
    pairs = _pairs(sides[0].scores, sides[1].scores)
    if not pairs:
        raise ConfigurationError(
            f"no benchmark and label fraction of {encoder!r} is in both evaluations", path=second
        )
    rows = []
    for one, two in pairs:
        mine, theirs = sides[0].scores[one], sides[1].scores[two]
        firsts, seconds = [], []
        for i in range(max(len(mine), len(theirs))):
            a, b = aligned(mine[i % len(mine)], theirs[i % len(theirs)], common=common_records)
            firsts.append(a)
            seconds.append(b)
        found = paired_difference(firsts[: len(mine)], seconds[: len(theirs)])
        rows.append(
            Comparison(
                one[0],
                one[2],
                (one[1], two[1]),
                sides[0].means.get(one),
                sides[1].means.get(two),
                len(firsts[0].record_ids),
                found,
            )
        )
    return rows


class _Side:
    """Scores and means of one evaluation."""

    def __init__(self, path: str | os.PathLike[str], encoder: str) -> None:
        results: Results = read_results(path)
        self.scores: dict[Place, list[CellScores]] = {}
        values: dict[Place, list[float]] = {}
        folder = Path(path).parent / "scores"
        for row in results["probe"]:
            value = row["macro_auroc"]
            if row["encoder"] != encoder or value is None:
                continue
            if "cell" not in row:
                raise ConfigurationError(
                    "these results have no scores: they are not of 'ecg-hf evaluate'", path=path
                )
            place = (row.get("benchmark", ""), row.get("head", "linear"), row["fraction"])
            self.scores.setdefault(place, []).append(read_scores(folder / f"{row['cell']}.safetensors"))
            values.setdefault(place, []).append(value)
        self.means = {place: sum(found) / len(found) for place, found in values.items()}


def _pairs(first: Mapping[Place, Any], second: Mapping[Place, Any]) -> list[tuple[Place, Place]]:
    pairs = []
    for one in first:
        if one in second:
            pairs.append((one, one))
            continue
        mine = {head for benchmark, head, _ in first if benchmark == one[0]}
        theirs = {head for benchmark, head, _ in second if benchmark == one[0]}
        if len(mine) == len(theirs) == 1:
            other = (one[0], next(iter(theirs)), one[2])
            if other in second:
                pairs.append((one, other))
    return pairs


def comparison_table(rows: list[Comparison], first: str, second: str) -> Table:
    """The comparison as a table of text."""
    lines = []
    for row in rows:
        head = row.heads[0] if row.heads[0] == row.heads[1] else " / ".join(row.heads)
        difference = row.found.difference
        lines.append(
            (
                row.benchmark,
                head,
                format_percent(row.fraction),
                f"{row.n_test:,}",
                format_interval(row.first, [None, None]),
                format_interval(row.second, [None, None]),
                f"{difference.estimate:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]",
                f"{row.found.p_bootstrap:.3f}",
                f"{row.found.p_delong:.3f}",
            )
        )
    header = ("Benchmark", "Head", "Labels", "n test", "First", "Second", "First minus second [95 % interval]",
              "p (bootstrap)", "p (DeLong)")  # fmt: skip
    units = " or ".join(sorted({row.found.unit for row in rows}))
    notes = (
        f"First: {first}. Second: {second}. Macro AUROC over the classes both could learn, on the same resamples of "
        f"test {units}; p-values are not corrected for the number of rows.",
    )
    return Table(header, tuple(lines), (False, False, *(True for _ in header[2:])), notes)
