"""Bootstrap intervals, DeLong, retrieval, metrics and heads, some against the obvious loop over scikit-learn."""

from __future__ import annotations

from collections.abc import Iterator

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
from rows import Row, alternate, headline, measured, seconds

RECORDS, CLASSES = 2198, 71


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


def probe_of_ptbxl() -> Iterator[Row]:
    """Linear probe on 17,084 x 768 features, 5 labels, three fractions; it has to reach scikit-learn's optimum."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(17_084 + 2_146, 120)) * np.geomspace(3, 0.05, 120)
    x = hidden @ rng.normal(size=(120, 768)) + 0.3 * rng.normal(size=(len(hidden), 768))
    y = hidden @ rng.normal(size=(120, 5)) / 3 + 2 * rng.normal(size=(len(hidden), 5)) > np.linspace(0, 6, 5)
    x = ((x - x[:17_084].mean(axis=0)) / x[:17_084].std(axis=0)).clip(-10, 10)
    train, validation = (x[:17_084], y[:17_084]), (x[17_084:], y[17_084:])
    probe = LinearProbe()
    for subset in nested_subsets(train[1]):
        chosen = subset.indices

        def fit(chosen: np.ndarray = chosen) -> object:
            return probe.fit(train[0][chosen], train[1][chosen], *validation)

        yield measured(f"linear probe, 17,084 x 768, {subset.fraction:g} of the labels", seconds(fit, 1), "s")
    ours = logistic_loss(*train, probe.coef, probe.intercept, probe.c)
    # Standardised once more by the probe, which changes nothing: the training features have mean 0 and spread 1.
    models = [
        LogisticRegression(C=probe.c, tol=1e-7, max_iter=5000).fit(train[0], column) for column in train[1].T
    ]
    coef, intercept = (np.concatenate([getattr(m, name) for m in models]) for name in ("coef_", "intercept_"))
    theirs = logistic_loss(*train, coef, intercept, probe.c)
    if float(np.max((ours - theirs) / theirs)) > 1e-4:
        raise SystemExit("the probe is not at scikit-learn's optimum")
    head = SgdLinearHead("merl", standardise=True)
    yield measured(
        "MERL's linear schedule, 17,084 x 768", seconds(lambda: head.fit(*train, *validation), 1), "s"
    )


def rows(quick: bool) -> Iterator[Row]:
    """PTB-XL's test fold with 71 classes, and heads."""
    rng = np.random.default_rng(0)
    labels = rng.random((RECORDS, CLASSES)) < np.geomspace(0.002, 0.5, CLASSES)
    labels[0] = True
    scores = rng.normal(size=labels.shape) + labels
    size = f"{RECORDS:,} x {CLASSES}"

    yield alternate(
        f"bootstrap of macro AUROC, {size}",
        lambda: bootstrap_auroc(labels, scores),
        lambda: sklearn_bootstrap(labels, scores, 10),
        "scikit-learn's roc_auc_score",
        per=1000,
        reference_per=10,
        item="resample",
        rounds=1 if quick else 3,
    )
    for name, work in (
        ("1,000 paired bootstrap resamples", lambda: paired_bootstrap(labels, scores, -scores)),
        ("DeLong", lambda: delong_auroc(labels, scores)),
        ("paired DeLong", lambda: paired_delong(labels, scores, -scores)),
    ):
        yield measured(f"{name}, {size}", seconds(work), "s", profile=headline(work))

    def by_sklearn() -> None:
        for k in range(CLASSES):
            roc_auc_score(labels[:, k], scores[:, k])
            average_precision_score(labels[:, k], scores[:, k])

    yield alternate(
        f"AUROC and average precision, {size}",
        lambda: (auroc(labels, scores), auprc(labels, scores)),
        by_sklearn,
        "scikit-learn",
    )

    hidden = rng.normal(size=(6000, 40))
    x = hidden @ rng.normal(size=(40, 256)) + 0.3 * rng.normal(size=(6000, 256))
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    y = hidden @ rng.normal(size=(40, 5)) + 3 * rng.normal(size=(6000, 5)) > 0
    yield alternate(
        "linear probe over the grid of C, 5,000 x 256, 5 labels",
        lambda: LinearProbe().fit(x[:5000], y[:5000], x[5000:], y[5000:]),
        lambda: sklearn_probe(x[:5000], y[:5000], x[5000:], y[5000:], list(DEFAULT_C_GRID)),
        "scikit-learn, a fit per label and C",
        unit="s",
        rounds=1 if quick else 3,
    )
    ecg, text = rng.normal(size=(2, 10_000, 128)).astype(np.float32)

    def retrieve() -> object:
        return retrieval_ranks(ecg, text, np.arange(10_000) // 3)

    yield measured("retrieval ranks of 10,000 pairs", seconds(retrieve), "s", profile=headline(retrieve))
    if not quick:
        yield from probe_of_ptbxl()
