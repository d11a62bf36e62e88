"""Figures of evaluations: results with intervals, ROC curves, reliability, fewer leads and lower rates."""

from ecg_hf.evaluation.plotting.lead_curve import plot_robustness
from ecg_hf.evaluation.plotting.reliability import plot_reliability
from ecg_hf.evaluation.plotting.results_table import plot_results
from ecg_hf.evaluation.plotting.roc import plot_roc

__all__ = ["plot_reliability", "plot_results", "plot_robustness", "plot_roc"]
