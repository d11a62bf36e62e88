"""Figures other people published, as data, and which of them may stand beside ours."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml

from ecg_hf.data.splits import parse_folds
from ecg_hf.evaluation.results import PublishedEntry

__all__ = ["PublishedRow", "comparable_rows", "published_rows"]

FILE = "published_rows.yaml"


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """One published macro AUROC.

    Attributes:
        model: As the source calls it.
        benchmark: Benchmark here.
        head: Head here.
        fraction: Label fraction; 0 for zero-shot.
        macro_auroc: In [0, 1].
        ci95: Its interval, if published.
        source: Where it is from.
        note: What one must know to read it.
        protocols: Protocols here that are the same; empty if none is known to be.
        folds: Train, validation and test folds.
        n_test: Test records, where they are known.
    """

    model: str
    benchmark: str
    head: str
    fraction: float
    macro_auroc: float
    ci95: tuple[float, float] | None
    source: str
    note: str
    protocols: tuple[str, ...]
    folds: tuple[str, str, str]
    n_test: int | None

    def as_dict(self) -> PublishedEntry:
        """For a results file."""
        return {
            "model": self.model,
            "benchmark": self.benchmark,
            "head": self.head,
            "fraction": self.fraction,
            "macro_auroc": self.macro_auroc,
            "ci95": [None, None] if self.ci95 is None else list(self.ci95),
            "source": f"{self.source}; {self.note}" if self.note else self.source,
        }


@cache
def published_rows() -> tuple[PublishedRow, ...]:
    """Every row on file."""
    text = (resources.files("ecg_hf.evaluation") / FILE).read_text(encoding="utf-8")
    rows = []
    for table in yaml.safe_load(text):
        for model, benchmarks in table["models"].items():
            for benchmark, given in benchmarks.items():
                values = given if isinstance(given, list) else [given]
                limits = table.get("intervals", {}).get(model, {}).get(benchmark)
                rows += [
                    PublishedRow(
                        model=model,
                        benchmark=benchmark,
                        head=table["head"],
                        fraction=float(fraction),
                        macro_auroc=round(value / 100.0, 6),
                        ci95=None if limits is None else (limits[0] / 100.0, limits[1] / 100.0),
                        source=table["source"],
                        note=table.get("note", ""),
                        protocols=tuple(table["protocols"]),
                        folds=tuple(map(str, table["folds"])),  # type: ignore[arg-type]
                        n_test=table.get("n_test", {}).get(benchmark),
                    )
                    for fraction, value in zip(table["fractions"], values, strict=True)
                ]
    return tuple(rows)


def comparable_rows(
    benchmark: str,
    protocol: str,
    head: str,
    fraction: float,
    n_test: int,
    folds: tuple[str | None, str | None, str | None] = (None, None, None),
) -> list[PublishedRow]:
    """Published rows of the same benchmark, protocol, head, label fraction, folds and number of test records.

    Args:
        benchmark: Name of the benchmark.
        protocol: Name of the protocol.
        head: Name of the head.
        fraction: Label fraction.
        n_test: Records we scored.
        folds: Folds that replaced the protocol's, ``None`` where they did not.
    """
    return [
        row
        for row in published_rows()
        if (row.benchmark, row.head) == (benchmark, head)
        and protocol in row.protocols
        and abs(row.fraction - fraction) < 1e-9
        and row.n_test in (None, n_test)
        and all(
            asked is None or parse_folds(asked) == parse_folds(theirs)
            for asked, theirs in zip(folds, row.folds, strict=True)
        )
    ]
