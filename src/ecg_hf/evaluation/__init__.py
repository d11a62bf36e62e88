"""Evaluation: embed once, probe, score with intervals, compare, and show.

Figures of results live in :mod:`ecg_hf.evaluation.plotting` and the ``evaluate`` wrappers in
:mod:`ecg_hf.evaluation.hf_metrics`; both are imported on their own because of what they pull in.
"""

from ecg_hf.evaluation.attention_probe import AttentionProbe
from ecg_hf.evaluation.benchmark_data import BenchmarkData
from ecg_hf.evaluation.bootstrap import (
    BootstrapResult,
    Interval,
    PairedResult,
    bootstrap_auroc,
    paired_bootstrap,
)
from ecg_hf.evaluation.calibration import assess_calibration
from ecg_hf.evaluation.definitions import BENCHMARKS, Benchmark, get_benchmark, list_benchmarks
from ecg_hf.evaluation.delong import delong_auroc, paired_delong
from ecg_hf.evaluation.embedding import embed_dataset, read_embeddings, write_embeddings
from ecg_hf.evaluation.evaluation_run import Evaluation, LoadedModel, evaluate_model
from ecg_hf.evaluation.fractions import LabelledSubset, merl_subset, nested_subsets
from ecg_hf.evaluation.head_inputs import Head
from ecg_hf.evaluation.leaks import LeakReport, check_leaks
from ecg_hf.evaluation.metrics import ClassScore, MacroScore, auprc, auroc, score_classes
from ecg_hf.evaluation.plan import EvaluationPlan
from ecg_hf.evaluation.prepared import Recordings
from ecg_hf.evaluation.probe import LinearProbe
from ecg_hf.evaluation.prompts import load_prompts, prompts_for
from ecg_hf.evaluation.protocols import Protocol, get_protocol
from ecg_hf.evaluation.reporting import write_evaluation
from ecg_hf.evaluation.results import Results, read_results, write_results
from ecg_hf.evaluation.retrieval import RetrievalResult, evaluate_retrieval
from ecg_hf.evaluation.robustness import plan_leads, plan_rates, robustness_curve
from ecg_hf.evaluation.rows import score_embeddings
from ecg_hf.evaluation.tables import evaluation_markdown, evaluation_table
from ecg_hf.evaluation.token_features import embed_tokens
from ecg_hf.evaluation.token_store import TokenFeatures, read_tokens
from ecg_hf.evaluation.zero_shot import cosine_scores, encode_prompts

__all__ = [
    "BENCHMARKS",
    "AttentionProbe",
    "Benchmark",
    "BenchmarkData",
    "BootstrapResult",
    "ClassScore",
    "Evaluation",
    "EvaluationPlan",
    "Head",
    "Interval",
    "LabelledSubset",
    "LeakReport",
    "LinearProbe",
    "LoadedModel",
    "MacroScore",
    "PairedResult",
    "Protocol",
    "Recordings",
    "Results",
    "RetrievalResult",
    "TokenFeatures",
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
    "evaluate_model",
    "evaluate_retrieval",
    "evaluation_markdown",
    "evaluation_table",
    "get_benchmark",
    "get_protocol",
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
    "robustness_curve",
    "score_classes",
    "score_embeddings",
    "write_embeddings",
    "write_evaluation",
    "write_results",
]
