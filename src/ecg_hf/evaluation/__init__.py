"""Evaluation: embed once, probe, score with intervals, compare, and show.

Figures of results live in :mod:`ecg_hf.evaluation.plotting` and the ``evaluate`` wrappers in
:mod:`ecg_hf.evaluation.hf_metrics`; both are imported on their own because of what they pull in.
"""

from ecg_hf.evaluation.attention_probe import AttentionProbe
from ecg_hf.evaluation.benchmarks import (
    BENCHMARKS,
    Benchmark,
    BenchmarkData,
    ProbeReport,
    get_benchmark,
    list_benchmarks,
    run_probe_benchmark,
)
from ecg_hf.evaluation.bootstrap import (
    BootstrapResult,
    Interval,
    PairedResult,
    bootstrap_auroc,
    paired_bootstrap,
)
from ecg_hf.evaluation.calibration import assess_calibration
from ecg_hf.evaluation.delong import delong_auroc, paired_delong
from ecg_hf.evaluation.embedding import embed_dataset, read_embeddings, write_embeddings
from ecg_hf.evaluation.fractions import LabelledSubset, merl_subset, nested_subsets
from ecg_hf.evaluation.head_inputs import Head
from ecg_hf.evaluation.leaks import LeakReport, check_leaks
from ecg_hf.evaluation.metrics import ClassScore, MacroScore, auprc, auroc, score_classes
from ecg_hf.evaluation.probe import LinearProbe
from ecg_hf.evaluation.prompts import load_prompts, prompts_for
from ecg_hf.evaluation.results import Results, read_results, write_results, zero_shot_row
from ecg_hf.evaluation.retrieval import RetrievalResult, evaluate_retrieval
from ecg_hf.evaluation.robustness import plan_leads, plan_rates, robustness_curve
from ecg_hf.evaluation.tables import results_markdown
from ecg_hf.evaluation.token_features import embed_tokens
from ecg_hf.evaluation.token_store import TokenFeatures, read_tokens
from ecg_hf.evaluation.zero_shot import ZeroShotResult, cosine_scores, encode_prompts, evaluate_zero_shot

__all__ = [
    "BENCHMARKS",
    "AttentionProbe",
    "Benchmark",
    "BenchmarkData",
    "BootstrapResult",
    "ClassScore",
    "Head",
    "Interval",
    "LabelledSubset",
    "LeakReport",
    "LinearProbe",
    "MacroScore",
    "PairedResult",
    "ProbeReport",
    "Results",
    "RetrievalResult",
    "TokenFeatures",
    "ZeroShotResult",
    "assess_calibration",
    "auprc",
    "auroc",
    "bootstrap_auroc",
    "check_leaks",
    "cosine_scores",
    "delong_auroc",
    "embed_dataset",
    "embed_tokens",
    "encode_prompts",
    "evaluate_retrieval",
    "evaluate_zero_shot",
    "get_benchmark",
    "list_benchmarks",
    "load_prompts",
    "merl_subset",
    "nested_subsets",
    "paired_bootstrap",
    "paired_delong",
    "plan_leads",
    "plan_rates",
    "prompts_for",
    "read_embeddings",
    "read_results",
    "read_tokens",
    "results_markdown",
    "robustness_curve",
    "run_probe_benchmark",
    "score_classes",
    "write_embeddings",
    "write_results",
    "zero_shot_row",
]
