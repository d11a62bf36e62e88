#!/usr/bin/env python
"""Targets of HuBERT-ECG's pretraining for a dataset: one cluster for each token, by k-means. To copy and edit.

    python scripts/hubert_targets.py --dataset built --output targets.safetensors                      # by hand
    python scripts/hubert_targets.py --dataset built --output targets2.safetensors --model models/hubert --layer 5 \
        --clusters 500

The file has ``targets``, int32 ``(records, tokens)`` in the order of the dataset, -1 where a token sees no signal,
and the centres that other recordings can be assigned to: ``centroids``, ``mean`` and ``scale``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import AutoFeatureExtractor, AutoModel, HfArgumentParser

from ecg_hf import HubertEcgConfig, HubertEcgModel
from ecg_hf.data import load_built
from ecg_hf.errors import ConfigurationError
from ecg_hf.models.hubert_ecg.targets_hubert_ecg import describe_tokens, fit_clusters
from ecg_hf.training.collators import BatchedEcgDataset, EcgCollator


@dataclass
class ScriptArguments:
    """Recordings, and what describes their tokens."""

    dataset: str = field(metadata={"help": "Folder made by ecg_hf.data.build_dataset."})
    output: str = field(metadata={"help": "File to write, .safetensors."})
    model: str | None = field(
        default=None, metadata={"help": "HuBERT-ECG of the iteration before; descriptors by hand without it."}
    )
    layer: int | None = field(default=None, metadata={"help": "Layer of the model, from 1."})
    clusters: int = field(default=100, metadata={"help": "How many."})
    batch_size: int = field(default=64, metadata={"help": "Recordings of a mini-batch."})
    seed: int = field(default=0, metadata={"help": "Of the first centres."})
    device: str = field(default="cpu", metadata={"help": "Where the model runs."})


def main() -> None:
    """Describe, cluster, assign."""
    (args,) = HfArgumentParser(ScriptArguments).parse_args_into_dataclasses()
    if (args.model is None) != (args.layer is None):
        raise SystemExit("give --model and --layer, or neither")
    config, model = HubertEcgConfig(), None
    extractor = config.feature_extractor()
    if args.model is not None:
        model = AutoModel.from_pretrained(args.model).to(args.device).eval()
        if not isinstance(model, HubertEcgModel):
            raise SystemExit(f"{args.model} is no HuBERT-ECG")
        config, extractor = model.config, AutoFeatureExtractor.from_pretrained(args.model)
    rows = BatchedEcgDataset(load_built(args.dataset))
    loader = DataLoader(rows, args.batch_size, collate_fn=EcgCollator(extractor))

    def described(what: str) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in tqdm(loader, desc=what):
            inputs = {name: value.to(args.device) for name, value in batch.items()}
            yield describe_tokens(inputs, config, model, args.layer)

    def tokens() -> Iterator[np.ndarray]:
        for features, held in described("clustering"):
            yield features[held].cpu().numpy()

    try:
        clusters = fit_clusters(tokens, args.clusters, seed=args.seed)
        targets = torch.cat(
            [clusters.assign(features, held).cpu() for features, held in described("assigning")]
        )
    except ConfigurationError as error:
        raise SystemExit(str(error)) from None
    found = {
        "targets": targets.numpy().astype(np.int32),
        "centroids": clusters.centroids,
        "mean": clusters.mean,
        "scale": clusters.scale,
    }
    save_file(found, args.output, metadata={"settings": json.dumps(asdict(args))})
    used = len(targets[targets >= 0].unique())
    print(
        f"{len(targets):,} recordings, {targets.shape[1]} tokens each, {used} of {args.clusters} clusters in use"
    )


if __name__ == "__main__":
    main()
