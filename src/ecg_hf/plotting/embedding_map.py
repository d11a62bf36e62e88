"""A t-SNE map of embeddings, coloured by class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from ecg_hf.errors import ConfigurationError
from ecg_hf.plotting.style import INK, MUTED, PALETTE, figure_in_mm

__all__ = ["categories_of", "embed_in_plane", "plot_embedding_map"]

OTHER = "other"
SEVERAL = "several"
NONE = "none"
GREY = "#b9bfc6"
MAX_POINTS = 3000
PCA_COMPONENTS = 50
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "h")


def categories_of(labels: npt.ArrayLike, names: Sequence[str], *, several: bool = True) -> list[str]:
    """One category per record of a multi-label matrix: its only label, ``several`` or ``none``.

    Args:
        labels: 0/1 ``(records, classes)``.
        names: Names of the classes.
        several: Whether a record with several labels is ``several``; if not, it is named after the rarest of them,
            the one that says most about it.
    """
    matrix = np.asarray(labels, dtype=bool)
    counts = matrix.sum(axis=1)
    rarity = np.argsort(np.argsort(matrix.sum(axis=0)))
    rarest = np.where(matrix, rarity, len(names)).argmin(axis=1)
    return [
        NONE if n == 0 else SEVERAL if n > 1 and several else names[i]
        for i, n in zip(rarest, counts, strict=True)
    ]


def embed_in_plane(
    embeddings: npt.ArrayLike, *, seed: int = 0, perplexity: float = 30.0
) -> npt.NDArray[np.float64]:
    """t-SNE coordinates of embeddings: standardised, reduced by PCA, then laid out from the PCA plane.

    Args:
        embeddings: Real ``(records, dim)``, at least 4 records.
        seed: Seed of the layout.
        perplexity: Neighbourhood size; lowered for few records.

    Returns:
        float64 ``(records, 2)``. Distances within a cluster mean something, those between clusters little.

    Raises:
        ConfigurationError: for too few records or values that are not finite.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    x = np.asarray(embeddings, dtype=np.float64)
    if x.ndim != 2 or len(x) < 4 or x.shape[1] < 2 or not np.isfinite(x).all():
        raise ConfigurationError(
            f"a map needs at least 4 finite embeddings of 2 dimensions, got {x.shape}", value=x.shape
        )
    spread = x.std(axis=0)
    x = (x - x.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    components = min(PCA_COMPONENTS, *x.shape)
    reduced = PCA(n_components=components, random_state=seed).fit_transform(x)
    layout = TSNE(perplexity=min(perplexity, (len(x) - 1) / 3), init="pca", random_state=seed)
    return np.asarray(layout.fit_transform(reduced), dtype=np.float64)


def plot_embedding_map(
    embeddings: npt.ArrayLike,
    categories: Sequence[str],
    *,
    title: str = "",
    max_points: int = MAX_POINTS,
    seed: int = 0,
    coordinates: npt.ArrayLike | None = None,
) -> Figure:
    """Draw a map of embeddings, one colour and marker per category.

    The eight most frequent categories get a colour, the rest is grey ``other``. Beyond ``max_points`` records a
    uniform sample is drawn; the picture says how many of how many.

    Args:
        embeddings: Real ``(records, dim)``.
        categories: Category of every record (see :func:`categories_of`).
        title: Stands above the map.
        max_points: Records drawn at most.
        seed: Seed of sample and layout.
        coordinates: Coordinates to draw instead of computing them, ``(records, 2)``.

    Raises:
        ConfigurationError: if categories do not fit the embeddings.
    """
    x = np.asarray(embeddings)
    if x.ndim != 2 or len(categories) != len(x):
        raise ConfigurationError(f"{len(categories)} categories for embeddings {x.shape}", value=x.shape)
    total = len(x)
    rows = np.arange(total)
    if total > max_points:
        rows = np.sort(np.random.default_rng(seed).choice(total, size=max_points, replace=False))
    plane = embed_in_plane(x[rows], seed=seed) if coordinates is None else np.asarray(coordinates)[rows]
    kinds = np.array([categories[int(i)] for i in rows])
    counts = Counter(kinds.tolist())
    plain = (SEVERAL, NONE, OTHER)
    coloured = [name for name, _ in sorted(counts.items(), key=lambda i: (-i[1], i[0])) if name not in plain]
    coloured, rest = coloured[: len(PALETTE)], coloured[len(PALETTE) :]
    grey = [name for name in (*rest, *plain) if counts[name]]

    figure = figure_in_mm(150.0, 108.0)
    axes = figure.add_axes((0.02, 0.085, 0.69, 0.835))
    axes.set(xticks=[], yticks=[])
    axes.set_aspect("equal", adjustable="datalim")
    for spine in axes.spines.values():
        spine.set_visible(False)
    size = float(np.clip(9000.0 / len(rows), 5.0, 30.0))
    if grey:
        there = np.isin(kinds, grey)
        axes.scatter(plane[there, 0], plane[there, 1], s=size * 0.7, color=GREY, marker="o", linewidths=0, alpha=0.7,
                     label=_grey_label(grey, counts))  # fmt: skip
    for i, name in enumerate(coloured):
        there = kinds == name
        axes.scatter(
            plane[there, 0], plane[there, 1], s=size, color=PALETTE[i], marker=MARKERS[i], linewidths=0,
            alpha=0.8, label=f"{name}  ({counts[name]:,})",
        )  # fmt: skip
    handles, labels = axes.get_legend_handles_labels()
    order = [*range(1, len(handles)), 0] if grey else list(range(len(handles)))
    legend = figure.legend(
        [handles[i] for i in order], [labels[i] for i in order], loc="upper left", bbox_to_anchor=(0.725, 0.925),
        frameon=False, fontsize=8.5, labelcolor=INK, borderaxespad=0.0, labelspacing=0.65, handletextpad=0.5,
    )  # fmt: skip
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1.0)
            handle.set_sizes([26.0])  # type: ignore[attr-defined]
    if title:
        figure.text(0.03, 0.945, title, fontsize=10, color=INK)
    shown = f"{len(rows):,} records" if len(rows) == total else f"{len(rows):,} of {total:,} records"
    figure.text(0.03, 0.03, f"t-SNE of {shown}; the axes have no unit", fontsize=7.5, color=MUTED)
    return figure


def _grey_label(names: Sequence[str], counts: Counter[str]) -> str:
    total = sum(counts[name] for name in names)
    return f"{names[0] if len(names) == 1 else OTHER}  ({total:,})"
