"""Evaluation: embed once, probe, score with intervals, compare, and show.

Figures live in :mod:`ecg_hf.evaluation.plotting` and the ``evaluate`` wrappers in
:mod:`ecg_hf.evaluation.hf_metrics`; both are imported on their own because of what they pull in.
"""

from ecg_hf.evaluation.bootstrap import (
    BootstrapResult,
    Interval,
    PairedResult,
    bootstrap_auroc,
    paired_bootstrap,
)
from ecg_hf.evaluation.embedding import embed_dataset, read_embeddings, write_embeddings
from ecg_hf.evaluation.fractions import LabelledSubset, merl_subset, nested_subsets
from ecg_hf.evaluation.metrics import ClassScore, MacroScore, auprc, auroc, score_classes
from ecg_hf.evaluation.probe import LinearProbe

__all__ = [
    "BootstrapResult",
    "ClassScore",
    "Interval",
    "LabelledSubset",
    "LinearProbe",
    "MacroScore",
    "PairedResult",
    "auprc",
    "auroc",
    "bootstrap_auroc",
    "embed_dataset",
    "merl_subset",
    "nested_subsets",
    "paired_bootstrap",
    "read_embeddings",
    "score_classes",
    "write_embeddings",
]
