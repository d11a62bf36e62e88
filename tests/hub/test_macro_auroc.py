"""The metric for ``evaluate``: loaded from its folder without a network, equal to what evaluation says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from ecg_hf.hub.macro_auroc.macro_auroc import MacroAuroc
from ecg_hf.metrics.bootstrap import bootstrap_auroc
from tests.metrics.test_ranking import scored_set

LOADED = """
import json, sys, evaluate, numpy as np
from ecg_hf.hub import MACRO_AUROC
given = np.load(sys.argv[1])
metric = evaluate.load(MACRO_AUROC)
print(json.dumps(metric.compute(predictions=given["scores"], references=given["labels"], n_resamples=50)))
"""


def test_loads_from_its_folder_offline(tmp_path: Path) -> None:
    labels, scores = scored_set(150)
    np.savez(tmp_path / "given.npz", labels=labels.astype(int), scores=scores)
    environment = {
        **os.environ,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "1",
        "HF_EVALUATE_OFFLINE": "1",
    }
    environment.pop("HF_MODULES_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-c", LOADED, str(tmp_path / "given.npz")],
        env=environment, capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    expected = bootstrap_auroc(labels, scores, n_resamples=50)
    assert found["macro_auroc"] == pytest.approx(roc_auc_score(labels, scores))
    assert (found["ci_low"], found["ci_high"]) == (expected.macro.low, expected.macro.high)
    assert found["interval"] == expected.method == "floored"


def test_undefined_class_and_patients() -> None:
    labels, scores = scored_set(150)
    labels[:, 3] = False
    patients = [f"p{row // 2}" for row in range(150)]
    result = MacroAuroc().compute(
        predictions=scores,
        references=labels.astype(int),
        class_names=list("abcdefghi"),
        groups=patients,
        n_resamples=100,
    )
    kept = [k for k in range(9) if k != 3]
    assert result["macro_auroc"] == pytest.approx(roc_auc_score(labels[:, kept], scores[:, kept]))
    expected = bootstrap_auroc(labels, scores, groups=patients, n_resamples=100)
    assert (result["ci_low"], result["ci_high"]) == (expected.macro.low, expected.macro.high)
    assert result["resampled"] == "patients"
    assert result["undefined"] == ["d"]
    assert result["auroc"]["d"] is None
    assert result["positives"]["e"] == labels[:, 4].sum()


def test_batches_add_up_without_an_interval() -> None:
    labels, scores = scored_set(60)
    metric = MacroAuroc()
    for part in (slice(0, 40), slice(40, 60)):
        metric.add_batch(predictions=scores[part], references=labels[part].astype(int))
    result = metric.compute(n_resamples=0)
    assert result["macro_auprc"] == pytest.approx(average_precision_score(labels, scores))
    assert result["ci_low"] is None
    assert result["interval"] is None
