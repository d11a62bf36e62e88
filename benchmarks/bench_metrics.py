"""Bootstrap intervals, DeLong, retrieval, metrics and heads, some against the obvious loop over scikit-learn.

Seconds are those of the processor, so that other work on the machine does not count. Ratios carry over to other
machines, seconds do not. Run: python benchmarks/bench_metrics.py
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score

from ecg_hf.evaluation.benchmark_data import nested_subsets
from ecg_hf.evaluation.heads import SgdLinearHead
from ecg_hf.evaluation.heads.linear import DEFAULT_C_GRID, LinearProbe, logistic_loss
from ecg_hf.evaluation.retrieval import retrieval_ranks
from ecg_hf.metrics.bootstrap import bootstrap_auroc, paired_bootstrap
from ecg_hf.metrics.delong import delong_auroc, paired_delong
from ecg_hf.metrics.ranking import auprc, auroc


def best_of(function: Callable[[], object], repeats: int = 3) -> float:
    """Shortest of several runs, in processor seconds."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def sklearn_bootstrap(labels: np.ndarray, scores: np.ndarray, resamples: int) -> np.ndarray:
    """Macro AUROC of resamples, one sort per class and resample."""
    rng = np.random.default_rng(0)
    values = []
    for _ in range(resamples):
        rows = rng.integers(0, len(labels), len(labels))
        defined = [k for k in range(labels.shape[1]) if 0 < labels[rows, k].sum() < len(rows)]
        values.append(np.mean([roc_auc_score(labels[rows, k], scores[rows, k]) for k in defined]))
    return np.array(values)


def sklearn_probe(
    x: np.ndarray, y: np.ndarray, x_val: np.ndarray, y_val: np.ndarray, grid: list[float]
) -> float:
    """Best validation macro AUROC over ``grid``, one fit per class and C."""
    quality = []
    for c in grid:
        models = [LogisticRegression(C=c, max_iter=2000).fit(x, y[:, k]) for k in range(y.shape[1])]
        quality.append(roc_auc_score(y_val, np.stack([m.decision_function(x_val) for m in models], axis=1)))
    return max(quality)


def probe_of_ptbxl() -> dict[str, float]:
    """Linear probe on 17,084 x 768 features, 5 labels, three fractions, and its distance from the optimum."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(17_084 + 2_146, 120)) * np.geomspace(3, 0.05, 120)
    x = hidden @ rng.normal(size=(120, 768)) + 0.3 * rng.normal(size=(len(hidden), 768))
    y = hidden @ rng.normal(size=(120, 5)) / 3 + 2 * rng.normal(size=(len(hidden), 5)) > np.linspace(0, 6, 5)
    x = ((x - x[:17_084].mean(axis=0)) / x[:17_084].std(axis=0)).clip(-10, 10)
    train, validation = (x[:17_084], y[:17_084]), (x[17_084:], y[17_084:])
    report: dict[str, float] = {}
    for subset in nested_subsets(train[1]):
        rows = subset.indices
        probe = LinearProbe()
        report[f"probe_17084x768_at_{subset.fraction:g}_s"] = best_of(
            lambda probe=probe, rows=rows: probe.fit(train[0][rows], train[1][rows], *validation), 1
        )
    ours = logistic_loss(*train, probe.coef, probe.intercept, probe.c)
    # Standardised once more by the probe, which changes nothing: the training features have mean 0 and spread 1.
    models = [
        LogisticRegression(C=probe.c, tol=1e-7, max_iter=5000).fit(train[0], column) for column in train[1].T
    ]
    coef, intercept = (np.concatenate([getattr(m, name) for m in models]) for name in ("coef_", "intercept_"))
    theirs = logistic_loss(*train, coef, intercept, probe.c)
    report["probe_loss_above_sklearn"] = float(np.max((ours - theirs) / theirs))
    head = SgdLinearHead("merl", standardise=True)
    report["merl_schedule_17084x768_s"] = best_of(lambda: head.fit(*train, *validation), 1)
    return report


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--probe", action="store_true", help="also heads at PTB-XL's size: a minute or two")
    parser.add_argument("--records", type=int, default=2198)
    parser.add_argument("--classes", type=int, default=71)
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    labels = rng.random((options.records, options.classes)) < np.geomspace(0.002, 0.5, options.classes)
    labels[0] = True
    scores = rng.normal(size=labels.shape) + labels
    report: dict[str, float] = {}

    report["bootstrap_1000_s"] = best_of(lambda: bootstrap_auroc(labels, scores))
    loop = best_of(lambda: sklearn_bootstrap(labels, scores, 10), 1) * 100
    report["bootstrap_1000_sklearn_loop_s"] = loop
    report["bootstrap_ratio"] = loop / report["bootstrap_1000_s"]
    report["paired_bootstrap_1000_s"] = best_of(lambda: paired_bootstrap(labels, scores, -scores))

    ours = best_of(lambda: (auroc(labels, scores), auprc(labels, scores)))
    theirs = best_of(
        lambda: [
            (roc_auc_score(labels[:, k], scores[:, k]), average_precision_score(labels[:, k], scores[:, k]))
            for k in range(options.classes)
        ]
    )
    report["auroc_and_auprc_ratio"] = theirs / ours

    hidden = rng.normal(size=(6000, 40))
    x = hidden @ rng.normal(size=(40, 256)) + 0.3 * rng.normal(size=(6000, 256))
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    y = hidden @ rng.normal(size=(40, 5)) + 3 * rng.normal(size=(6000, 5)) > 0
    grid = list(DEFAULT_C_GRID)
    report["probe_5000x256_s"] = best_of(lambda: LinearProbe().fit(x[:5000], y[:5000], x[5000:], y[5000:]), 2)
    theirs = best_of(lambda: sklearn_probe(x[:5000], y[:5000], x[5000:], y[5000:], grid), 1)
    report["probe_ratio"] = theirs / report["probe_5000x256_s"]

    report["delong_s"] = best_of(lambda: delong_auroc(labels, scores))
    report["paired_delong_s"] = best_of(lambda: paired_delong(labels, scores, -scores))
    ecg, text = rng.normal(size=(2, 10_000, 128)).astype(np.float32)
    report["retrieval_10000_s"] = best_of(lambda: retrieval_ranks(ecg, text, np.arange(10_000) // 3), 1)
    if options.probe:
        report.update(probe_of_ptbxl())

    if options.json:
        print(json.dumps(report))
        return
    for name, value in report.items():
        unit = "x" if name.endswith("ratio") else " s" if name.endswith("_s") else ""
        print(f"{name:32s} {value:10.3g}{unit}")


if __name__ == "__main__":
    main()
