"""The authors' checkpoints of HuBERT-ECG, pretrained or with a classifier, to this package's classes.

Read from safetensors: the older ``.pt`` files pickle an object of the authors' configuration, which is refused.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ecg_hf.errors import ConversionError
from ecg_hf.models.conversion import Converted, OfficialFiles, OfficialState
from ecg_hf.models.hubert_ecg.configuration_hubert_ecg import HubertEcgConfig
from ecg_hf.models.hubert_ecg.labels_hubert_ecg import LABELS

__all__ = ["FILES", "convert_official"]

FILES = OfficialFiles(
    names=("model.safetensors",),
    repository="https://huggingface.co/Edoardo-Coppola (hubert-ecg-small, -base, -large; "
    "HuBERT-ECG-SFT-CardioLearning-small, -base, -large)",
    size_bytes=750_575_104,
    parity="fixture, 1e-5: preprocessing, tokens, layers, embedding, three heads; keys, shapes and parameters of the "
    "published sizes",
    keys=(
        "feature_extractor.conv_layers.0.conv.weight",
        "feature_projection.projection.weight",
        "encoder.pos_conv_embed.conv.bias",
    ),
)

_HEADS_BY_WIDTH = {512: 8, 768: 12, 960: 12}
_LAYER = {
    "attention.out_proj": "attention.output",
    "layer_norm": "attention_norm",
    "feed_forward.intermediate_dense": "mlp.0",
    "feed_forward.output_dense": "mlp.3",
    "final_layer_norm": "mlp_norm",
}
_NOTE_LICENCE = (
    "the authors' weights are under CC BY-NC 4.0: not for commercial use, and so is what is made of them"
)
_NOTE_PRETRAINING = "heads and mask embedding of the pretraining were left out: it is not here"
_NOTE_LABELS = (
    "164 outputs are taken for the Cardio-Learning labels in the order of their published table (inferred)"
)


def convert_official(state: OfficialState) -> Converted:
    """Convert a pretrained network, or a fine-tuned one with its classifier.

    Widths and depths are read from the shapes. Heads and strides are known of the published sizes; others need
    ``num_attention_heads`` and ``conv_stride`` of the authors' configuration (``--config``).

    Args:
        state: The official tensors; the network's may have the prefix ``hubert_ecg.``.

    Raises:
        ConversionError: Sizes can't be read, or are not known.
    """
    prefix = "hubert_ecg." if state.has("hubert_ecg.") else ""
    stem = f"{prefix}feature_extractor.conv_layers."
    shapes = [
        state.require_shape(f"{stem}{index}.conv.weight", 3)
        for index in range(max(state.count(stem + "{}."), 1))
    ]
    hidden_size = state.require_shape(f"{prefix}feature_projection.projection.weight", 2)[0]
    positions = f"{prefix}encoder.pos_conv_embed.conv."
    new = state.has(f"{positions}parametrizations.")
    name = "parametrizations.weight.original1" if new else "weight_v"
    _, group_width, position_kernel = state.require_shape(positions + name, 3)
    feed_forward = f"{prefix}encoder.layers.0.feed_forward.intermediate_dense.weight"
    published = HubertEcgConfig()
    kernels = [kernel for *_, kernel in shapes]
    known: dict[str, Any] | None = None
    if kernels == list(published.conv_kernel) and hidden_size in _HEADS_BY_WIDTH:
        known = {
            "num_attention_heads": _HEADS_BY_WIDTH[hidden_size],
            "conv_stride": list(published.conv_stride),
        }
    sizes: dict[str, Any] = {
        "hidden_size": hidden_size,
        "num_hidden_layers": state.count(f"{prefix}encoder.layers.{{}}."),
        "intermediate_size": state.require_shape(feed_forward, 2)[0],
        "conv_dim": [out for out, *_ in shapes],
        "conv_kernel": kernels,
        "num_conv_pos_embeddings": position_kernel,
        "num_conv_pos_embedding_groups": hidden_size // max(group_width, 1),
        **state.options("num_attention_heads", "conv_stride", published=known),
    }
    head, told = _classifier(state, hidden_size)
    config = HubertEcgConfig(**sizes, **told)
    ours = "hubert_ecg.encoder." if head else "encoder."
    weights = {ours + name: value for name, value in _tower(state, prefix, config, shapes[0][1]).items()}
    _ignore_pretraining(state, prefix)
    notes = [_NOTE_LICENCE, _NOTE_PRETRAINING, *([_NOTE_LABELS] if "id2label" in told else [])]
    return Converted(config, {**weights, **head}, "classification" if head else "model", tuple(notes))


def _tower(state: OfficialState, prefix: str, config: HubertEcgConfig, leads: int) -> dict[str, Tensor]:
    """The network's weights under the tower's names."""
    if leads != 1:
        raise ConversionError(
            f"the network takes {leads} channels; HuBERT-ECG takes leads laid end to end", value=leads
        )
    weights: dict[str, Tensor] = {}
    width, hidden, inner = 1, config.hidden_size, config.intermediate_size
    stem = f"{prefix}feature_extractor.conv_layers."
    for index, (out, kernel) in enumerate(zip(config.conv_dim, config.conv_kernel, strict=True)):
        weights[f"stem.convolutions.{index}.weight"] = state.take(
            f"{stem}{index}.conv.weight", out, width, kernel
        )
        width = out

    def take(official: str, target: str, out: int, *inside: int) -> None:
        weights[f"{target}.weight"] = state.take(f"{prefix}{official}.weight", out, *inside)
        weights[f"{target}.bias"] = state.take(f"{prefix}{official}.bias", out)

    take("feature_extractor.conv_layers.0.layer_norm", "stem.norm", config.conv_dim[0])
    take("feature_projection.layer_norm", "stem_norm", width)
    take("feature_projection.projection", "projection", hidden, width)
    take("encoder.layer_norm", "norm", hidden)
    group_width = hidden // config.num_conv_pos_embedding_groups
    taken = state.take_weight_norm(
        f"{prefix}encoder.pos_conv_embed.conv.", hidden, group_width, config.num_conv_pos_embeddings
    )
    weights |= {f"positions.{name}": value for name, value in taken.items()}
    inputs = {
        "attention.out_proj": (hidden, hidden),
        "layer_norm": (hidden,),
        "feed_forward.intermediate_dense": (inner, hidden),
        "feed_forward.output_dense": (hidden, inner),
        "final_layer_norm": (hidden,),
    }
    for index in range(config.num_hidden_layers):
        official, target = f"encoder.layers.{index}.", f"layers.blocks.{index}."
        for name, shape in inputs.items():
            take(official + name, target + _LAYER[name], *shape)
        parts = [f"{prefix}{official}attention.{part}_proj." for part in "qkv"]
        weights[f"{target}attention.qkv.weight"] = torch.cat(
            [state.take(f"{part}weight", hidden, hidden) for part in parts]
        )
        weights[f"{target}attention.qkv.bias"] = torch.cat(
            [state.take(f"{part}bias", hidden) for part in parts]
        )
    return weights


def _classifier(state: OfficialState, hidden_size: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights of the head and what the configuration says about it; nothing of a network without one."""
    weights: dict[str, Tensor] = {}
    settings: dict[str, Any] = {}

    def take(name: str, out: int, inside: int) -> None:
        weights[f"{name}.weight"] = state.take(f"{name}.weight", out, inside)
        weights[f"{name}.bias"] = state.take(f"{name}.bias", out)

    if state.shape("label_embedding.weight") is not None:
        labels = state.require_shape("label_embedding.weight", 2)[0]
        weights["classifier.weight"] = state.take("label_embedding.weight", labels, hidden_size)
        settings["classifier_cosine"] = True
    elif state.has("classifier.0."):
        inner = state.require_shape("classifier.0.weight", 2)[0]
        labels = state.require_shape("classifier.2.weight", 2)[0]
        take("classifier.0", inner, hidden_size)
        take("classifier.2", labels, inner)
        settings["classifier_hidden_size"] = inner
    elif state.has("classifier."):
        labels = state.require_shape("classifier.weight", 2)[0]
        take("classifier", labels, hidden_size)
    else:
        return {}, {}
    settings |= {"problem_type": "multi_label_classification", "num_labels": labels}
    if labels == len(LABELS):
        settings["id2label"] = dict(enumerate(LABELS))
        settings["label2id"] = {label: index for index, label in enumerate(LABELS)}
    return weights, settings


def _ignore_pretraining(state: OfficialState, prefix: str) -> None:
    state.ignore(f"{prefix}masked_spec_embed")
    for index in range(state.count(f"{prefix}final_proj.{{}}.")):
        for name in ("final_proj.{}.weight", "final_proj.{}.bias", "label_embedding.{}.weight"):
            state.ignore(prefix + name.format(index))
