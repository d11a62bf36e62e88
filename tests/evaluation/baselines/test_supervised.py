"""Training from scratch: it learns, it is repeatable, and a kill costs at most an epoch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.baselines.supervised import SupervisedXresnet
from ecg_hf.metrics.ranking import auroc
from tests.evaluation.built import built_rows

TRAIN, VALIDATION, TEST = np.arange(32), np.arange(32, 48), np.arange(48, 64)
SETTINGS = {"width": 2, "epochs": 4, "batch_size": 8, "crop_s": 1.0, "learning_rate": 0.02, "progress": False}


@pytest.fixture(scope="module")
def task():
    """Slow or fast oscillation in lead II; recordings of two lengths, some too short for a crop."""
    rng = np.random.default_rng(0)
    labels = np.stack([np.arange(64) % 2 == 0, np.zeros(64, bool)], axis=1).astype(float)
    signals = []
    for i, slow in enumerate(labels[:, 0]):
        samples = 80 if i % 16 == 5 else 150
        signal = 0.1 * rng.normal(size=(12, samples))
        signal[1] += np.sin(2 * np.pi * (2 if slow else 9) * np.arange(samples) / 100 + rng.uniform(0, 6))
        signals.append(signal)
    return built_rows(signals), labels


def run(task, baseline: SupervisedXresnet, seed: int = 0) -> np.ndarray:
    return baseline.fit_predict(*task, TRAIN, VALIDATION, TEST, ("slow", "never"), seed)


def test_learns_and_names_what_it_cannot(task) -> None:
    # Two channels learn it on some processors only.
    baseline = SupervisedXresnet(**{**SETTINGS, "width": 4})
    scores = run(task, baseline)
    assert scores.shape == (16, 2)
    assert scores.dtype == np.float64
    assert auroc(task[1][TEST, 0], scores[:, 0])[0] > 0.9
    assert (scores[:, 1] == 0).all()
    assert set(baseline.unfitted) == {"never"}
    assert baseline.epoch == int(np.argmax(baseline.validation_auroc)) + 1


def test_seed_decides_and_labels_of_test_rows_do_not(task) -> None:
    dataset, labels = task
    first = run(task, SupervisedXresnet(**SETTINGS))
    hidden = labels.copy()
    hidden[TEST] = np.nan
    np.testing.assert_array_equal(run((dataset, hidden), SupervisedXresnet(**SETTINGS)), first)
    assert not np.array_equal(run(task, SupervisedXresnet(**SETTINGS), seed=1), first)


def test_a_killed_run_ends_like_another(task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = SupervisedXresnet(**SETTINGS)
    expected = run(task, whole)
    train = SupervisedXresnet._train_epoch
    epochs: list[int] = []

    def killed_in_third(self, *args):
        if args[-1] == 3 and epochs.count(3) == 0:
            epochs.append(3)
            raise KeyboardInterrupt
        epochs.append(args[-1])
        train(self, *args)

    monkeypatch.setattr(SupervisedXresnet, "_train_epoch", killed_in_third)
    with pytest.raises(KeyboardInterrupt):
        run(task, SupervisedXresnet(**SETTINGS, output_dir=tmp_path))
    resumed = SupervisedXresnet(**SETTINGS, output_dir=tmp_path)
    np.testing.assert_array_equal(run(task, resumed), expected)
    assert epochs == [1, 2, 3, 3, 4]
    assert resumed.validation_auroc == whole.validation_auroc
    np.testing.assert_array_equal(run(task, SupervisedXresnet(**SETTINGS, output_dir=tmp_path)), expected)
    assert epochs == [1, 2, 3, 3, 4]
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"half")
    with pytest.raises(ConfigurationError, match="checkpoint"):
        run(task, SupervisedXresnet(**SETTINGS, output_dir=tmp_path))


def test_stops_when_nothing_gets_better(task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecg_hf.evaluation.baselines.supervised.macro_quality", lambda *_: 0.5)
    baseline = SupervisedXresnet(**{**SETTINGS, "epochs": 9}, patience=2)
    run(task, baseline)
    assert (baseline.epoch, len(baseline.validation_auroc)) == (1, 3)


def test_the_schedule_rises_and_falls() -> None:
    baseline = SupervisedXresnet(learning_rate=1.0)
    rates = [baseline._learning_rate(step, 100) for step in range(100)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[-1] < 0.001
    assert (np.diff(rates[5:]) < 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.zeros((64, 2))}, "no class can be learnt"),
        ({"labels": np.full((64, 2), 0.5)}, "0, 1 or NaN"),
        ({"labels": np.zeros((64, 3))}, "labels must be"),
        ({"rows": [0]}, "no class can be learnt"),
    ],
)
def test_misuse(task, change, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        SupervisedXresnet(**SETTINGS).fit_predict(
            task[0], change.get("labels", task[1]), change.get("rows", TRAIN), VALIDATION, TEST, ("a", "b")
        )
    with pytest.raises(ConfigurationError, match="batch_size"):
        SupervisedXresnet(batch_size=1)
    with pytest.raises(ConfigurationError, match="crop_s"):
        SupervisedXresnet(crop_s=0.0)
