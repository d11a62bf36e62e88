"""Evaluation: embed once, probe, score with intervals, compare, and show.

Figures of results live in :mod:`ecg_hf.evaluation.figures`, imported on its own because it loads matplotlib.
"""

from typing import TYPE_CHECKING

from ecg_hf.lazy import lazy_names

if TYPE_CHECKING:
    from ecg_hf.data.leaks import LeakReport, check_leaks
    from ecg_hf.evaluation.benchmark_data import (
        BENCHMARKS,
        Benchmark,
        BenchmarkData,
        LabelledSubset,
        get_benchmark,
        list_benchmarks,
        merl_subset,
        nested_subsets,
        own_benchmark,
    )
    from ecg_hf.evaluation.evaluate import Evaluation, LoadedModel, evaluate_model
    from ecg_hf.evaluation.features.parts import PartsReport, embed_in_parts
    from ecg_hf.evaluation.features.pooled import embed_dataset, read_embeddings, write_embeddings
    from ecg_hf.evaluation.features.store import TokenFeatures, read_tokens
    from ecg_hf.evaluation.features.tokens import embed_tokens
    from ecg_hf.evaluation.heads.attention import AttentionProbe
    from ecg_hf.evaluation.heads.base import Head
    from ecg_hf.evaluation.heads.linear import LinearProbe
    from ecg_hf.evaluation.plan import EvaluationPlan
    from ecg_hf.evaluation.prepare import Recordings
    from ecg_hf.evaluation.protocols import Protocol, get_protocol
    from ecg_hf.evaluation.report import write_evaluation
    from ecg_hf.evaluation.results import Results, read_results, write_results
    from ecg_hf.evaluation.retrieval import RetrievalResult, evaluate_retrieval
    from ecg_hf.evaluation.robustness import plan_leads, plan_rates, robustness_curve
    from ecg_hf.evaluation.rows import score_embeddings
    from ecg_hf.evaluation.tables import evaluation_markdown, evaluation_table
    from ecg_hf.evaluation.zero_shot import cosine_scores, encode_prompts, load_prompts, prompts_for
    from ecg_hf.metrics.bootstrap import (
        BootstrapResult,
        PairedResult,
        bootstrap_auroc,
        paired_bootstrap,
    )
    from ecg_hf.metrics.calibration import assess_calibration
    from ecg_hf.metrics.delong import delong_auroc, paired_delong
    from ecg_hf.metrics.intervals import Interval
    from ecg_hf.metrics.ranking import ClassScore, MacroScore, auprc, auroc, score_classes

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
    "PartsReport",
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
    "embed_in_parts",
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
    "own_benchmark",
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

# Loaded on first use: names of benchmarks, tables and results are asked for without the torch that embeds.
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "ecg_hf.data.leaks": (
            "LeakReport",
            "check_leaks",
        ),
        ".benchmark_data": (
            "BENCHMARKS",
            "Benchmark",
            "BenchmarkData",
            "LabelledSubset",
            "get_benchmark",
            "list_benchmarks",
            "merl_subset",
            "nested_subsets",
            "own_benchmark",
        ),
        ".evaluate": (
            "Evaluation",
            "LoadedModel",
            "evaluate_model",
        ),
        ".features.parts": (
            "PartsReport",
            "embed_in_parts",
        ),
        ".features.pooled": (
            "embed_dataset",
            "read_embeddings",
            "write_embeddings",
        ),
        ".features.store": (
            "TokenFeatures",
            "read_tokens",
        ),
        ".features.tokens": ("embed_tokens",),
        ".heads.attention": ("AttentionProbe",),
        ".heads.base": ("Head",),
        ".heads.linear": ("LinearProbe",),
        ".plan": ("EvaluationPlan",),
        ".prepare": ("Recordings",),
        ".protocols": (
            "Protocol",
            "get_protocol",
        ),
        ".report": ("write_evaluation",),
        ".results": (
            "Results",
            "read_results",
            "write_results",
        ),
        ".retrieval": (
            "RetrievalResult",
            "evaluate_retrieval",
        ),
        ".robustness": (
            "plan_leads",
            "plan_rates",
            "robustness_curve",
        ),
        ".rows": ("score_embeddings",),
        ".tables": (
            "evaluation_markdown",
            "evaluation_table",
        ),
        ".zero_shot": (
            "cosine_scores",
            "encode_prompts",
            "load_prompts",
            "prompts_for",
        ),
        "ecg_hf.metrics.bootstrap": (
            "BootstrapResult",
            "PairedResult",
            "bootstrap_auroc",
            "paired_bootstrap",
        ),
        "ecg_hf.metrics.calibration": ("assess_calibration",),
        "ecg_hf.metrics.delong": (
            "delong_auroc",
            "paired_delong",
        ),
        "ecg_hf.metrics.intervals": ("Interval",),
        "ecg_hf.metrics.ranking": (
            "ClassScore",
            "MacroScore",
            "auprc",
            "auroc",
            "score_classes",
        ),
    },
)
