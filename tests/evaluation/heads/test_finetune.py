"""Fine-tuning as a head: a benchmark's own rows and labels, test scores in their order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from ecg_hf.data import build_dataset, load_built
from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.benchmark_data import BenchmarkData, get_benchmark
from ecg_hf.evaluation.heads.finetune import finetune_scores
from ecg_hf.training import pretrain

RUN = {
    "num_train_epochs": 1,
    "per_device_train_batch_size": 32,
    "disable_tqdm": True,
    "use_cpu": True,
    "layer_decay": 0.5,
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finetune")
    build_dataset("synthetic", None, folder / "data", records=90, seed=3, progress=False)
    return folder


@pytest.mark.slow
def test_scores_follow_the_benchmarks_rows(built: Path) -> None:
    torch.set_num_threads(1)
    pretrain(
        "cg-dmer",
        built / "data",
        built / "model",
        size="micro",
        max_steps=1,
        save_strategy="no",
        eval_strategy="no",
        use_cpu=True,
    )
    dataset = load_built(built / "data")
    data = BenchmarkData.from_dataset(get_benchmark("synthetic-findings"), dataset)
    blind = data.labels.copy()
    blind[data.rows("train"), 0] = False
    data = replace(data, labels=blind)
    result = finetune_scores(built / "model", dataset, data, built / "out", cache_inputs=True, **RUN)
    test = data.rows("test")
    assert result.scores.shape == (len(test), len(data.class_names))
    assert data.class_names[0] in result.unfitted
    assert (result.scores[:, 0] == 0).all()
    assert np.isnan(result.probabilities[:, 0]).all()
    assert 0 <= result.validation_auroc <= 1
    learnt = [k for k, name in enumerate(data.class_names) if name not in result.unfitted]
    defined = [k for k in learnt if 0 < data.labels[test, k].sum() < len(test)]
    assert np.isfinite(roc_auc_score(data.labels[test][:, defined], result.scores[:, defined]))
    with pytest.raises(ConfigurationError, match="training split"):
        finetune_scores(built / "model", dataset, data, built / "out2", train_rows=test, **RUN)
    with pytest.raises(ConfigurationError):
        finetune_scores(built / "model", dataset.select([0]), data, built / "out2", **RUN)
