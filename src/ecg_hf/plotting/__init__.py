"""Pictures that need no evaluation: ECGs on paper, scores over time, losses of a run, maps of embeddings.

``pyplot`` is not used.
"""

from ecg_hf.plotting.ecg_paper import plot_ecg
from ecg_hf.plotting.embedding_map import categories_of, embed_in_plane, plot_embedding_map
from ecg_hf.plotting.losses import loss_series, plot_losses
from ecg_hf.plotting.over_time import plot_over_time
from ecg_hf.plotting.relevance import Relevance
from ecg_hf.plotting.style import png_bytes, save_figure

__all__ = [
    "Relevance",
    "categories_of",
    "embed_in_plane",
    "loss_series",
    "plot_ecg",
    "plot_embedding_map",
    "plot_losses",
    "plot_over_time",
    "png_bytes",
    "save_figure",
]
