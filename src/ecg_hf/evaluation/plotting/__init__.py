"""Figures: ECG paper, losses, results with intervals, maps of embeddings. ``pyplot`` is not used."""

from ecg_hf.evaluation.plotting.curves import loss_series, plot_losses
from ecg_hf.evaluation.plotting.ecg_paper import plot_ecg
from ecg_hf.evaluation.plotting.embedding_map import categories_of, embed_in_plane, plot_embedding_map
from ecg_hf.evaluation.plotting.lead_curve import plot_robustness
from ecg_hf.evaluation.plotting.reliability import plot_reliability
from ecg_hf.evaluation.plotting.results_table import plot_results
from ecg_hf.evaluation.plotting.roc import plot_roc
from ecg_hf.evaluation.plotting.style import png_bytes, save_figure

__all__ = [
    "categories_of",
    "embed_in_plane",
    "loss_series",
    "plot_ecg",
    "plot_embedding_map",
    "plot_losses",
    "plot_reliability",
    "plot_results",
    "plot_robustness",
    "plot_roc",
    "png_bytes",
    "save_figure",
]
