"""The authors' checkpoints of ECG-FM, pretrained or with a classifier, to this package's classes."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from ecg_hf.errors import ConversionError
from ecg_hf.models.conversion import Converted, OfficialFiles, OfficialState
from ecg_hf.models.ecg_fm.configuration_ecg_fm import EcgFmConfig
from ecg_hf.models.ecg_fm.labels_ecg_fm import LABELS

__all__ = ["FILES", "conv_strides", "convert_official", "take_tower", "tower_sizes"]

FILES = OfficialFiles(
    names=("mimic_iv_ecg_physionet_pretrained.pt", "mimic_iv_ecg_finetuned.pt"),
    repository="https://huggingface.co/wanglab/ecg-fm",
    size_bytes=361_545_284,
    parity="fixture, 1e-5: resampling, scale, tokens, layers, embedding, padding, logits, losses and gradients of "
    "pretraining; keys, shapes and parameters of the published size",
    keys=(
        "feature_extractor.conv_layers.0.0.weight",
        "post_extract_proj.weight",
        "conv_pos.pos_conv.0.bias",
    ),
)

_LAYER = {
    "self_attn.out_proj": "attention.output",
    "self_attn_layer_norm": "attention_norm",
    "fc1": "mlp.0",
    "fc2": "mlp.3",
    "final_layer_norm": "mlp_norm",
}
_PRETRAINING = ("mask_emb", "quantizer.", "project_q.", "final_proj.")
_NOTE_HEADS = (
    "quantiser, projections and mask embedding of the pretraining were kept, for AutoModelForPreTraining"
)
_NOTE_LEFT_OUT = "heads and mask embedding of the pretraining were left out: the file has not all of them"
_LAYERS = re.compile(r"\[([^\]]*)\](?: *\* *(\d{1,2}))?")
_LAYER_SIZES = re.compile(r"\( *(\d{1,4}) *, *(\d{1,4}) *, *(\d{1,4}) *\)")


def convert_official(state: OfficialState) -> Converted:
    """Convert a pretrained network with what its pretraining needs, or a fine-tuned one with its classifier.

    Without the quantiser, or with a classifier, the network alone is converted. Widths and depths are read from the
    shapes. Heads and strides are known of the published size; another needs ``encoder_attention_heads`` and
    ``conv_feature_layers`` of the authors' configuration, and ``latent_groups`` if it has the quantiser.

    Args:
        state: The official tensors; those of a fine-tuned network have the prefix ``encoder.``.

    Raises:
        ConversionError: Sizes can't be read, or are not known.
    """
    prefix = "encoder." if state.has("encoder.post_extract_proj.") else ""
    sizes = tower_sizes(state, prefix, EcgFmConfig())
    head, settings = _classifier(state)
    pretraining = not head and all(state.has(prefix + name) for name in _PRETRAINING)
    if pretraining:
        settings = _pretraining_sizes(state, prefix)
    config = EcgFmConfig(
        **sizes,
        **settings,
    )
    ours = "ecg_fm.encoder." if head or pretraining else "encoder."
    weights = {ours + name: value for name, value in take_tower(state, prefix, config).items()}
    if pretraining:
        return Converted(
            config, {**weights, **_take_pretraining(state, prefix, config)}, "pretraining", (_NOTE_HEADS,)
        )
    for key in list(state.keys()):
        if key.startswith(tuple(prefix + name for name in _PRETRAINING)):
            state.ignore(key)
    return Converted(config, {**weights, **head}, "classification" if head else "model", (_NOTE_LEFT_OUT,))


def conv_strides(layers: Any) -> list[int]:
    """Third number of each convolution, of text such as ``[(256, 2, 2)] * 4``, which fairseq evaluates as code."""
    if not isinstance(layers, str) or len(layers) > 1000:
        raise ConversionError("conv_feature_layers must be text such as '[(256, 2, 2)] * 4'", value=layers)
    strides = [
        int(stride)
        for inner, times in _LAYERS.findall(layers)
        for _, _, stride in _LAYER_SIZES.findall(inner) * int(times or 1)
    ]
    if not strides:
        raise ConversionError("conv_feature_layers must be text such as '[(256, 2, 2)] * 4'", value=layers)
    return strides


def tower_sizes(
    state: OfficialState, prefix: str, published: Any, num_heads: int | None = None
) -> dict[str, Any]:
    """Fields of the tower, of the names that :class:`EcgFmConfig` has.

    Args:
        state: The official tensors.
        prefix: Before the tower's keys.
        published: Configuration of the method's published size, of which heads and strides are known.
        num_heads: Heads of each layer, instead of ``encoder_attention_heads``.

    Raises:
        ConversionError: Sizes can't be read, or are not known.
    """
    stem = f"{prefix}feature_extractor.conv_layers."
    shapes = [
        state.require_shape(f"{stem}{index}.0.weight", 3)
        for index in range(max(state.count(stem + "{}."), 1))
    ]
    leads = shapes[0][1]
    if leads != published.num_leads:
        raise ConversionError(f"the network takes {leads} leads, not {published.num_leads}", value=leads)
    hidden_size = state.require_shape(f"{prefix}post_extract_proj.weight", 2)[0]
    positions = f"{prefix}conv_pos.pos_conv.0."
    new = state.has(f"{positions}parametrizations.")
    _, group_width, position_kernel = state.require_shape(
        positions + ("parametrizations.weight.original1" if new else "weight_v"), 3
    )
    kernels = [kernel for *_, kernel in shapes]
    known: dict[str, Any] = {}
    if kernels == list(published.conv_kernel) and hidden_size == published.hidden_size:
        layers = [(*shape[::2], stride) for shape, stride in zip(shapes, published.conv_stride, strict=True)]
        known = {
            "encoder_attention_heads": published.num_attention_heads,
            "conv_feature_layers": str([layers])[1:-1],
        }
    if num_heads is not None:
        known["encoder_attention_heads"] = num_heads
    told = state.options("encoder_attention_heads", "conv_feature_layers", published=known)
    return {
        "hidden_size": hidden_size,
        "num_hidden_layers": state.count(f"{prefix}encoder.layers.{{}}."),
        "num_attention_heads": told["encoder_attention_heads"] if num_heads is None else num_heads,
        "intermediate_size": state.require_shape(f"{prefix}encoder.layers.0.fc1.weight", 2)[0],
        "conv_dim": [out for out, *_ in shapes],
        "conv_kernel": kernels,
        "conv_stride": conv_strides(told["conv_feature_layers"]),
        "num_conv_pos_embeddings": position_kernel,
        "num_conv_pos_embedding_groups": hidden_size // max(group_width, 1),
    }


def take_tower(state: OfficialState, prefix: str, config: Any) -> dict[str, Tensor]:
    """The network's weights under the tower's names; ``config`` has the sizes that :class:`EcgFmConfig` has."""
    weights: dict[str, Tensor] = {}
    width, hidden, inner = config.num_leads, config.hidden_size, config.intermediate_size
    stem = f"{prefix}feature_extractor.conv_layers."
    for index, (out, kernel) in enumerate(zip(config.conv_dim, config.conv_kernel, strict=True)):
        weights[f"stem.convolutions.{index}.weight"] = state.take(
            f"{stem}{index}.0.weight", out, width, kernel
        )
        width = out

    def take(official: str, target: str, out: int, *inside: int) -> None:
        weights[f"{target}.weight"] = state.take(f"{prefix}{official}.weight", out, *inside)
        weights[f"{target}.bias"] = state.take(f"{prefix}{official}.bias", out)

    take("feature_extractor.conv_layers.0.2", "stem.norm", config.conv_dim[0])
    take("layer_norm", "stem_norm", width)
    take("post_extract_proj", "projection", hidden, width)
    take("encoder.layer_norm", "norm", hidden)
    group_width = hidden // config.num_conv_pos_embedding_groups
    taken = state.take_weight_norm(
        f"{prefix}conv_pos.pos_conv.0.", hidden, group_width, config.num_conv_pos_embeddings
    )
    weights |= {f"positions.{name}": value for name, value in taken.items()}
    shapes = {
        "self_attn.out_proj": (hidden, hidden),
        "self_attn_layer_norm": (hidden,),
        "fc1": (inner, hidden),
        "fc2": (hidden, inner),
        "final_layer_norm": (hidden,),
    }
    for index in range(config.num_hidden_layers):
        official, target = f"encoder.layers.{index}.", f"layers.blocks.{index}."
        for name, shape in shapes.items():
            take(official + name, target + _LAYER[name], *shape)
        parts = [f"{prefix}{official}self_attn.{part}_proj." for part in "qkv"]
        weights[f"{target}attention.qkv.weight"] = torch.cat(
            [state.take(f"{part}weight", hidden, hidden) for part in parts]
        )
        weights[f"{target}attention.qkv.bias"] = torch.cat(
            [state.take(f"{part}bias", hidden) for part in parts]
        )
    return weights


def _pretraining_sizes(state: OfficialState, prefix: str) -> dict[str, Any]:
    """Fields of the quantiser and of what is compared."""
    _, all_codes, width = state.require_shape(f"{prefix}quantizer.vars", 3)
    published = EcgFmConfig()
    of_published = (all_codes, width) == (
        published.codebook_groups * published.codebook_size,
        published.codebook_dim // published.codebook_groups,
    )
    known = {"latent_groups": published.codebook_groups} if of_published else None
    groups = state.options("latent_groups", published=known)["latent_groups"]
    if not isinstance(groups, int) or groups < 1 or all_codes % groups:
        raise ConversionError(f"latent_groups {groups!r} do not divide {all_codes} codes", value=groups)
    return {
        "codebook_groups": groups,
        "codebook_size": all_codes // groups,
        "codebook_dim": width * groups,
        "contrast_size": state.require_shape(f"{prefix}final_proj.weight", 2)[0],
    }


def _take_pretraining(state: OfficialState, prefix: str, config: EcgFmConfig) -> dict[str, Tensor]:
    """Weights of everything but the network, under the names of the pretraining model."""
    groups, codes = config.codebook_groups, config.codebook_size
    features, hidden, size = int(config.conv_dim[-1]), config.hidden_size, config.contrast_size
    codebook = state.take(f"{prefix}quantizer.vars", 1, groups * codes, config.codebook_dim // groups)
    weights = {
        "mask_token": state.take(f"{prefix}mask_emb", hidden),
        "quantizer.codebook": codebook.reshape(groups, codes, -1),
        # Training goes on at the first step's temperature: no file says how far it came.
        "updates": torch.zeros((), dtype=torch.long),
    }
    for official, target, out, inside in (
        ("quantizer.weight_proj", "quantizer.scores", groups * codes, features),
        ("project_q", "target_head", size, config.codebook_dim),
        ("final_proj", "prediction_head", size, hidden),
    ):
        weights[f"{target}.weight"] = state.take(f"{prefix}{official}.weight", out, inside)
        weights[f"{target}.bias"] = state.take(f"{prefix}{official}.bias", out)
    return weights


def _classifier(state: OfficialState) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights of the head and what the configuration says about it; nothing of a network without one."""
    if not state.has("proj."):
        return {}, {}
    labels, width = state.require_shape("proj.weight", 2)
    weights = {
        "classifier.weight": state.take("proj.weight", labels, width),
        "classifier.bias": state.take("proj.bias", labels),
    }
    settings: dict[str, Any] = {"problem_type": "multi_label_classification", "num_labels": labels}
    if labels == len(LABELS):
        settings["id2label"] = dict(enumerate(LABELS))
        settings["label2id"] = {label: index for index, label in enumerate(LABELS)}
        settings["piece_pooling"] = list(LABELS.values())
    return weights, settings
