"""Targets of HuBERT-ECG's pretraining: clusters of tokens by k-means.

Paper: medRxiv 2024.11.14.24317328. In the first iteration tokens are described by hand, in later ones by a layer of
the model of the iteration before. ``scripts/hubert_targets.py`` makes them for a dataset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.hubert_ecg.configuration_hubert_ecg import HubertEcgConfig
from ecg_hf.models.hubert_ecg.modeling_hubert_ecg import HubertEcgModel
from ecg_hf.nn.shards import shard_descriptors

__all__ = ["NO_TARGET", "Clusters", "describe_tokens", "fit_clusters"]

NO_TARGET = -1
"""Target of tokens that see no signal."""


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """Centres of clusters, of features that were standardised before.

    Attributes:
        centroids: float32 ``(clusters, dim)``.
        mean: float32 ``(dim,)``, subtracted from features ...
        scale: ... and what they are divided by then, ``(dim,)``.
    """

    centroids: npt.NDArray[np.float32]
    mean: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]

    def assign(self, features: Tensor, held: Tensor) -> Tensor:
        """Numbers of the nearest centres.

        Args:
            features: float ``(batch, tokens, dim)`` of :func:`describe_tokens`, as is ``held``.
            held: bool ``(batch, tokens)``.

        Returns:
            int64 ``(batch, tokens)``; :data:`NO_TARGET` where nothing is held.
        """
        device = features.device
        mean, scale, centroids = (
            torch.from_numpy(part).to(device) for part in (self.mean, self.scale, self.centroids)
        )
        nearest = torch.cdist((features.float() - mean) / scale, centroids[None]).argmin(-1)
        return nearest.masked_fill(~held, NO_TARGET)


@torch.no_grad()
def describe_tokens(
    inputs: dict[str, Tensor],
    config: HubertEcgConfig,
    model: HubertEcgModel | None = None,
    layer: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Features of each token to be clustered, and which tokens see signal.

    Args:
        inputs: What the feature extractor makes: ``input_values``, ``lead_mask``, ``sample_mask``.
        config: Says where tokens are.
        model: Describes tokens by its hidden states, in evaluation mode; by hand if not given, each by the samples
            from its first to the next one's (:func:`ecg_hf.nn.shards.shard_descriptors`).
        layer: Of the model; 1 is the output of the first.

    Returns:
        float32 ``(batch, tokens, dim)`` and bool ``(batch, tokens)``.

    Raises:
        ConfigurationError: if the model has no such layer.
    """
    values = inputs["input_values"]
    held = torch.ones_like(values, dtype=torch.bool)
    if "lead_mask" in inputs:
        held = held & inputs["lead_mask"].bool().unsqueeze(-1)
    if "sample_mask" in inputs:
        held = held & inputs["sample_mask"].bool().unsqueeze(1)
    stride = prod(config.conv_stride)
    seen = F.max_pool1d(held.flatten(1).float().unsqueeze(1), config.reach, stride).squeeze(1) > 0.0
    if model is None:
        described = shard_descriptors(values.flatten(1), stride, float(config.sampling_rate))
        return described[:, : seen.shape[1]], seen
    if layer is None or not 1 <= layer <= config.num_hidden_layers:
        raise ConfigurationError(
            f"layer must be one of 1 to {config.num_hidden_layers}, got {layer}", value=layer
        )
    states: Any = model(**inputs, output_hidden_states=True).hidden_states
    return states[layer].float(), seen


def fit_clusters(
    batches: Callable[[], Iterable[npt.NDArray[np.float32]]], clusters: int, *, seed: int = 0
) -> Clusters:
    """K-means in mini-batches, after a pass that learns mean and deviation of each feature.

    Args:
        batches: Gives float32 ``(tokens, dim)`` again and again, the same at each call; every batch is a mini-batch.
        clusters: The paper has 100 in the first iteration, 500 in the later ones.
        seed: Of the first centres.

    Raises:
        ConfigurationError: if the first batch has fewer tokens than there are clusters.
    """
    from sklearn.cluster import MiniBatchKMeans

    count, total, squares = 0, np.zeros(1), np.zeros(1)
    for batch in batches():
        count, exact = count + len(batch), batch.astype(np.float64)
        total, squares = total + exact.sum(0), squares + np.square(exact).sum(0)
    if not count:
        raise ConfigurationError("there are no tokens to cluster")
    mean = total / count
    scale = np.sqrt(np.maximum(squares / count - np.square(mean), 0.0))
    scale = np.where(scale > 1e-6, scale, 1.0)  # a feature that does not vary tells nothing
    kmeans = MiniBatchKMeans(clusters, random_state=seed, n_init=3)
    for number, batch in enumerate(batches()):
        if number == 0 and len(batch) < clusters:
            raise ConfigurationError(
                f"{clusters} clusters need as many tokens in the first batch, which has {len(batch)}: "
                "take larger batches",
                value=clusters,
            )
        kmeans.partial_fit(((batch - mean) / scale).astype(np.float32))
    return Clusters(
        kmeans.cluster_centers_.astype(np.float32), mean.astype(np.float32), scale.astype(np.float32)
    )
