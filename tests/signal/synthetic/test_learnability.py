"""The corpus can be learned from: simple features tell some classes apart on patients never seen."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from ecg_hf.signal.synthetic import simulate


@pytest.fixture(scope="module")
def split() -> tuple[np.ndarray, list[tuple[str, ...]], np.ndarray]:
    batch = simulate(900, seed=13, sampling_rate=100.0)
    features = []
    for record in batch:
        peaks = record.r_peaks[(record.r_peaks >= 25) & (record.r_peaks < 950)]
        beat = np.mean([record.signal[:, p - 25 : p + 45] for p in peaks], axis=0)[:, ::2]
        rr = np.diff(record.r_peaks) / 100.0
        features.append(
            np.concatenate([beat.ravel(), [rr.mean(), rr.std() / rr.mean(), rr.min() / rr.max()]])
        )
    people = sorted(set(batch.patient_ids))
    training = np.asarray([patient in set(people[: len(people) * 2 // 3]) for patient in batch.patient_ids])
    return np.stack(features), batch.codes, training


@pytest.mark.parametrize("code", ["NORM", "CLBBB", "CRBBB", "LVH", "AFIB", "IMI", "STACH"])
def test_simple_features_separate(
    split: tuple[np.ndarray, list[tuple[str, ...]], np.ndarray], code: str
) -> None:
    features, codes, training = split
    target = np.asarray([code in record for record in codes])
    scaler = StandardScaler().fit(features[training])
    model = LogisticRegression(C=0.01, max_iter=300).fit(
        scaler.transform(features[training]), target[training]
    )
    score = model.decision_function(scaler.transform(features[~training]))
    assert roc_auc_score(target[~training], score) > 0.8
