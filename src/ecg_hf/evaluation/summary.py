"""Several seeds as one figure, and two rows against each other: means, spread, paired intervals, tests."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.cache import CellScores, read_scores
from ecg_hf.evaluation.results import PairedRow, Results, SummaryRow, finite, read_results
from ecg_hf.evaluation.tables import Table, format_interval, format_percent
from ecg_hf.metrics.bootstrap import bootstrap_auroc, two_sided_p
from ecg_hf.metrics.delong import (
    auroc_influence,
    delong_auroc,
    delong_interval,
    delong_p_value,
    paired_delong,
    rare_classes,
)
from ecg_hf.metrics.intervals import (
    DEFAULT_LEVEL,
    DEFAULT_RESAMPLES,
    RESAMPLING_SEED,
    Interval,
    IntervalMethod,
    percentiles,
)
from ecg_hf.metrics.ranking import BoolArray, FloatArray, auroc

if TYPE_CHECKING:
    from ecg_hf.evaluation.scoring import EvaluatedCell

__all__ = [
    "Comparison",
    "Difference",
    "aligned",
    "compare_results",
    "comparison_table",
    "paired_difference",
    "paired_rows",
    "summary_rows",
]

PRETRAINED = "pretrained"


@dataclass(frozen=True, slots=True)
class Difference:
    """Macro AUROC of one row minus another's, on the same records.

    Attributes:
        difference: Mean over seeds, with the bootstrap's limits: sampling of test records, seeds averaged.
        p_bootstrap: Two-sided, from the share of resamples on either side of zero; of a floored difference the same
            as ``p_delong``.
        p_delong: Two-sided, by DeLong, variances of rare classes floored; NaN where no class has a variance.
        classes: Classes both could learn; of several seeds, the smallest number.
        unit: ``"records"`` or ``"patients"``.
        method: How the limits were made, see :mod:`ecg_hf.metrics.bootstrap`.
    """

    difference: Interval
    p_bootstrap: float
    p_delong: float
    classes: int
    unit: str
    method: IntervalMethod


def paired_difference(
    first: Sequence[CellScores], second: Sequence[CellScores], *, level: float = DEFAULT_LEVEL
) -> Difference:
    """Compare two rows on the same test records, seed by seed; a row with one seed is compared with every other's.

    Macro means are taken over the classes that both could learn, seed by seed.

    Raises:
        ConfigurationError: if the test sets differ, or the numbers of seeds do.
    """
    if len(first) > 1 and len(second) > 1 and len(first) != len(second):
        raise ConfigurationError(f"{len(first)} seeds can't be paired with {len(second)}")
    _same_records([*first, *second])
    count = max(len(first), len(second))
    pairs = [(first[i % len(first)], second[i % len(second)]) for i in range(count)]
    commons = [one.included & other.included for one, other in pairs]
    n_resamples = max((len(one.samples) for one in (*first, *second)), default=0) or DEFAULT_RESAMPLES
    deltas, resampled = [], []
    for (one, other), common in zip(pairs, commons, strict=True):
        deltas.append(_mean_area(one, common) - _mean_area(other, common))
        mine, theirs = (_samples(side, common, n_resamples, level) for side in (one, other))
        resampled.append(mine - theirs)
    samples = np.mean(resampled, axis=0)
    interval, p_bootstrap = (
        Interval(float(np.mean(deltas)), *percentiles(samples, level)),
        two_sided_p(samples),
    )
    rare = any(_has_rare(one, common) for (one, _), common in zip(pairs, commons, strict=True))
    normal, p_delong = _delong(pairs, commons, level, rare)
    if rare:
        interval, p_bootstrap = Interval(interval.estimate, normal.low, normal.high), p_delong
    return Difference(
        interval,
        p_bootstrap,
        p_delong,
        int(min(common.sum() for common in commons)),
        "records" if first[0].patients is None else "patients",
        "floored" if rare else "percentile",
    )


def _has_rare(one: CellScores, included: BoolArray) -> bool:
    """Whether the macro mean is over a class too rare for bootstrap percentiles."""
    return bool((rare_classes(one.labels, one.scores, one.patients) & included).any())


def _same_records(scores: Sequence[CellScores]) -> None:
    reference = scores[0]
    for other in scores[1:]:
        same = (
            other.record_ids == reference.record_ids
            and other.class_names == reference.class_names
            and np.array_equal(other.labels, reference.labels)
        )
        if not same:
            raise ConfigurationError("the test sets differ: other records, classes or labels")


def _samples(one: CellScores, common: BoolArray, n_resamples: int, level: float) -> FloatArray:
    """Macro AUROC over the common classes of every resample; as stored where these are the cell's own."""
    if len(one.samples) == n_resamples and np.array_equal(one.included, common):
        return one.samples
    result = bootstrap_auroc(
        one.labels, one.scores, groups=one.patients, include=common, n_resamples=n_resamples, level=level,
        seed=RESAMPLING_SEED,
    )  # fmt: skip
    return result.samples


def _mean_area(one: CellScores, common: BoolArray) -> float:
    areas = auroc(one.labels, one.scores)[common]
    return float(np.nanmean(areas)) if np.isfinite(areas).any() else float("nan")


def _delong(
    pairs: Sequence[tuple[CellScores, CellScores]], commons: Sequence[BoolArray], level: float, floor: bool
) -> tuple[Interval, float]:
    """DeLong's interval and test of the macro difference over classes with a variance; of seeds, of their mean.

    With ``floor`` the error of a mean over seeds is taken to be the mean of their errors, which it can't exceed.
    """
    if floor or len(pairs) == 1:
        tests = [
            paired_delong(
                one.labels, one.scores, other.scores, groups=one.patients, include=common, floor=floor
            )
            for (one, other), common in zip(pairs, commons, strict=True)
        ]
        value = float(np.mean([test.macro.estimate for test in tests]))
        error = float(np.mean([test.macro_standard_error for test in tests]))
    else:
        deltas, influences = [], []
        for pair, common in zip(pairs, commons, strict=True):
            (areas, influence), (other_areas, other_influence) = (
                auroc_influence(side.labels, side.scores, groups=side.patients) for side in pair
            )
            chosen = common & np.isfinite(influence).all(axis=0)
            if not chosen.any():
                return Interval(float("nan"), float("nan"), float("nan")), float("nan")
            deltas.append((areas - other_areas)[chosen].mean())
            influences.append((influence - other_influence)[:, chosen].mean(axis=1))
        value, error = float(np.mean(deltas)), float(np.linalg.norm(np.mean(influences, axis=0)))
    return delong_interval(value, error, level=level, transform="none"), delong_p_value(value, error)


def _groups(cells: Sequence[EvaluatedCell]) -> dict[tuple[str, float, str, str], list[EvaluatedCell]]:
    """Cells that differ in their seed alone."""
    groups: dict[tuple[str, float, str, str], list[EvaluatedCell]] = {}
    for cell in cells:
        groups.setdefault((cell.benchmark, cell.fraction, cell.encoder, cell.head), []).append(cell)
    return groups


def summary_rows(cells: Sequence[EvaluatedCell]) -> list[SummaryRow]:
    """Mean over seeds of every encoder, benchmark, head and fraction, its spread, and its interval.

    The interval is of the mean over seeds on resampled test records: sampling error of the test set alone. The
    spread over seeds stands beside it as a standard deviation.
    """
    rows = []
    for (benchmark, fraction, encoder, head), members in _groups(cells).items():
        values = [cell.result.content["macro_auroc"] for cell in members]
        known = [value for value in values if value is not None]
        interval, method = _mean_interval(_scores(members), known)
        content = members[0].result.content
        rows.append(
            SummaryRow(
                encoder=encoder,
                benchmark=benchmark,
                protocol=content["protocol"],
                head=head,
                fraction=fraction,
                seeds=[cell.seed for cell in members],
                macro_auroc=_mean(values),
                macro_auroc_unlearnt_at_chance=_mean(
                    [cell.result.content.get("macro_auroc_unlearnt_at_chance") for cell in members]
                ),
                sd=float(np.std(known, ddof=1)) if len(known) > 1 else None,
                ci95=[finite(interval.low), finite(interval.high)],
                n_train=content["n_train"],
                n_test=content["n_test"],
                n_classes=len(content["positives"]) - len(content["undefined"]),
                positives=content["positives"],
                solver=content.get("solver", ""),
                interval=method,
            )
        )
    return rows


def _mean(values: Sequence[float | None]) -> float | None:
    """Mean of the values there are."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _mean_interval(scores: Sequence[CellScores], values: Sequence[float]) -> tuple[Interval, IntervalMethod]:
    """Interval of the mean over seeds and how it was made; NaN where a seed could learn nothing."""
    if not values or len(scores) != len(values):
        return Interval(float("nan"), float("nan"), float("nan")), "percentile"
    mean = float(np.mean(values))
    if not any(_has_rare(one, one.included) for one in scores):
        samples = np.mean([one.samples for one in scores], axis=0)
        return Interval(mean, *percentiles(samples, DEFAULT_LEVEL)), "percentile"
    found = [
        delong_auroc(one.labels, one.scores, groups=one.patients, include=one.included, floor=True)
        for one in scores
    ]
    # As of differences: the error of the mean can't exceed the mean of the errors.
    return delong_interval(mean, float(np.mean([one.macro_standard_error for one in found]))), "floored"


def paired_rows(cells: Sequence[EvaluatedCell], *, first: str = PRETRAINED) -> list[PairedRow]:
    """The model against every other encoder at every benchmark and fraction, by the same head where there is one.

    Args:
        cells: Of all encoders.
        first: The encoder whose score the others' are taken from.
    """
    groups = _groups(cells)
    rows = []
    for (benchmark, fraction, encoder, head), members in groups.items():
        if encoder != first:
            continue
        for (other_benchmark, other_fraction, other, other_head), theirs in groups.items():
            if other == first or (other_benchmark, other_fraction) != (benchmark, fraction):
                continue
            if other_head != head and (benchmark, fraction, other, head) in groups:
                continue  # it has a row by the same head
            ours, others = _scores(members), _scores(theirs)
            if not ours or not others:
                continue
            if len(ours) > 1 and len(others) > 1 and len(ours) != len(others):
                continue  # some seed of one could learn nothing
            found = paired_difference(ours, others)
            row = PairedRow(
                first=encoder,
                second=other,
                fraction=fraction,
                difference=finite(found.difference.estimate),
                ci95=[finite(found.difference.low), finite(found.difference.high)],
                p_value=finite(found.p_bootstrap),
                benchmark=benchmark,
                head=head,
                seed=members[0].seed,
            )
            row.update({"second_head": other_head, "p_delong": finite(found.p_delong), "n_seeds": len(ours)})
            row["interval"] = found.method
            rows.append(row)
    return rows


def _scores(members: Sequence[EvaluatedCell]) -> list[CellScores]:
    return [cell.result.scores for cell in members if cell.result.scores is not None]


def aligned(first: CellScores, second: CellScores, *, common: bool = False) -> tuple[CellScores, CellScores]:
    """Two test sets in the same order of records.

    Args:
        first: Scores of one evaluation.
        second: Of another.
        common: Keep the records both have, instead of refusing different sets.

    Raises:
        ConfigurationError: if records, classes or labels differ.
    """
    if first.class_names != second.class_names:
        raise ConfigurationError(
            f"the test sets differ: {len(first.class_names)} and {len(second.class_names)} classes, not the same ones"
        )
    place = {name: row for row, name in enumerate(second.record_ids)}
    both = [name for name in first.record_ids if name in place]
    if not common and (len(both) < len(first.record_ids) or len(both) < len(second.record_ids)):
        raise ConfigurationError(
            f"the test sets differ: {len(first.record_ids)} and {len(second.record_ids)} records, {len(both)} "
            "of them in both",
            value=len(both),
        )
    if not both:
        raise ConfigurationError("the test sets have no record in common")
    wanted = set(both)
    rows = np.array([row for row, name in enumerate(first.record_ids) if name in wanted], dtype=np.intp)
    others: npt.NDArray[np.intp] = np.array([place[name] for name in both], dtype=np.intp)
    if len(both) == len(first.record_ids) and first.record_ids == second.record_ids:
        one, two = first, second
    else:
        one, two = first.select(rows), second.select(others)
    if not np.array_equal(one.labels, two.labels):
        raise ConfigurationError("the test sets differ: the same records with other labels")
    return one, two


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
