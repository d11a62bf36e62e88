"""Baselines that belong into every table: hand-made features, MiniRocket, a network trained from scratch."""

from ecg_hf.evaluation.baselines.base import (
    BASELINES,
    Baseline,
    FrozenBaseline,
    SupervisedBaseline,
    baseline_features,
    get_baseline,
    list_baselines,
)
from ecg_hf.signal.beats.measure_table import describe_features, feature_names

__all__ = [
    "BASELINES",
    "Baseline",
    "FrozenBaseline",
    "SupervisedBaseline",
    "baseline_features",
    "describe_features",
    "feature_names",
    "get_baseline",
    "list_baselines",
]
