"""The authors' checkpoints of MERL, ResNet or ViT, whole or the ECG encoder alone, to this package's classes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ecg_hf.errors import ConversionError
from ecg_hf.models.conversion import Converted, OfficialFiles, OfficialState
from ecg_hf.models.ecg_text.configuration_merl import MerlConfig
from ecg_hf.models.text_tower import build_text_tower

__all__ = ["FILES", "LEADS", "convert_official"]

FILES = OfficialFiles(
    names=(
        "res18_best_ckpt.pth",
        "vit_tiny_best_ckpt.pth",
        "res18_best_encoder.pth",
        "vit_tiny_best_encoder.pth",
    ),
    repository="https://github.com/cheliu-computation/MERL-ICML2024 (Google Drive)",
    size_bytes=457_062_912,
    parity="fixture, 1e-5: encoder, attention pool, projections, losses, zero-shot; ResNet-18, -50, ViT; keys and "
    "shapes of the published sizes",
    keys=("proj_t.0.weight", "linear1.weight"),
    part_keys=(
        ("bn1.running_mean", "layer1.0.conv2.weight", "layer4.0.shortcut.0.weight"),
        ("to_patch_embedding.weight", "pos_embedding", "block0.attn.fn.to_qkv.weight"),
    ),
)

LEADS = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")
"""The order of MIMIC-IV-ECG, in which the authors' weights expect the leads."""

_RATE = 500
_SAMPLES = 5000
_STRIDE = 2
_VIT_WIDTHS = (192, 384, 512, 768)
_HEAD_WIDTH = 64
_POOL_WIDTH, _POOL_HEADS = 256, 4
_NOTE_LICENCE = "the authors' code and weights are under the MIT licence"
_NOTE_LEADS = (
    "leads in the order of MIMIC-IV-ECG: aVF before aVL; the feature extractor beside the weights sees to it"
)
_NOTE_HEAD = "the classifier of a fine-tuned ViT was left out"
_NOTE_ENCODER = "the file holds the ECG encoder alone: no zero-shot answers"
_NOTE_NO_TOWER = "the file holds no text tower: zero-shot answers need text features made elsewhere"
_NOTE_TOKENIZER = (
    "for zero-shot answers save the authors' tokenizer beside the weights: "
    "AutoTokenizer.from_pretrained('ncbi/MedCPT-Query-Encoder').save_pretrained(folder)"
)
_BATCH_NORM = ("weight", "bias", "running_mean", "running_var")


def convert_official(state: OfficialState, *, num_attention_heads: int | None = None) -> Converted:
    """Convert a checkpoint.

    Widths, depths and patches are read from the shapes; strides are those of the official code. Heads are known of
    the published sizes. Of others, a ViT needs ``heads`` and ``dim_head`` and the attention pool of a whole ResNet
    ``heads``, from the authors' configuration (``--config``) or from ``num_attention_heads``.

    Args:
        state: The official tensors; the encoder's have the prefix ``ecg_encoder.`` in whole files.
        num_attention_heads: Heads of the ResNet's attention pool, or of the ViT's layers.

    Raises:
        ConversionError: Sizes can't be read, or are not known.
    """
    whole = state.has("ecg_encoder.")
    prefix = "ecg_encoder." if whole else ""
    vit = state.has(f"{prefix}to_patch_embedding.")
    if vit:
        options, encoder = _vit(state, prefix, num_attention_heads)
        head_of = _mlp_head
    else:
        options, encoder = _resnet(state, prefix)
        head_of = _attention_head
    tuned = state.has(f"{prefix}head.")
    for name in ("linear", "head"):  # classifiers: of the ResNet's class, never trained, and of fine-tuning
        state.ignore(f"{prefix}{name}.weight")
        state.ignore(f"{prefix}{name}.bias")
    common = (_NOTE_LICENCE, _NOTE_LEADS, *([_NOTE_HEAD] if tuned else []))
    options["lead_names"] = list(LEADS)
    if not whole:
        config = MerlConfig(**options, text_side="none")
        weights = {f"encoder.{name}": value for name, value in encoder.items()}
        return Converted(config, weights, "model", (*common, _NOTE_ENCODER))

    out, text_inner = state.require_shape("proj_t.2.weight", 2)
    options |= {"projection_dim": out, "projection_hidden_size": text_inner}
    head = head_of(state, options, num_attention_heads)
    text, notes = _text(state, options)
    config = MerlConfig(**options)
    model = {
        **{f"encoder.{name}": value for name, value in encoder.items()},
        **{f"signal_projection.{name}": value for name, value in head.items()},
        **text,
    }
    view_size = out if not vit else config.hidden_size
    weights = {f"ecg_text.{name}": value for name, value in model.items()}
    for index in (0, 1):
        weights[f"views.maps.{index}.weight"] = state.take(f"linear{index + 1}.weight", out, view_size)
    return Converted(config, weights, "pretraining", (*common, *notes))


def _take(
    state: OfficialState, out: dict[str, Tensor], official: str, target: str, *shape: int, bias: bool = True
) -> None:
    """Weight and, unless told otherwise, bias of a layer."""
    out[f"{target}.weight"] = state.take(f"{official}.weight", *shape)
    if bias:
        out[f"{target}.bias"] = state.take(f"{official}.bias", shape[0])


def _batch_norm(
    state: OfficialState, out: dict[str, Tensor], official: str, target: str, channels: int
) -> None:
    for name in _BATCH_NORM:
        out[f"{target}.{name}"] = state.take(f"{official}.{name}", channels)
    out[f"{target}.num_batches_tracked"] = state.take(f"{official}.num_batches_tracked")


def _resnet(state: OfficialState, prefix: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Options and weights of a residual network."""
    stem, leads, kernel = state.require_shape(f"{prefix}conv1.weight", 3)
    _check_leads(leads)
    stages = 0
    while state.has(f"{prefix}layer{stages + 1}."):
        stages += 1
    state.require_shape(f"{prefix}layer1.0.conv1.weight", 3)
    bottleneck = state.has(f"{prefix}layer1.0.conv3.")
    depths = [state.count(f"{prefix}layer{stage + 1}.{{}}.") for stage in range(stages)]
    channels = [
        state.require_shape(f"{prefix}layer{stage + 1}.0.conv1.weight", 3)[0] for stage in range(stages)
    ]
    block_kernel = state.require_shape(f"{prefix}layer1.0.conv2.weight", 3)[2]
    if channels[0] != stem:
        raise ConversionError(
            f"the stem has {stem} channels, the first stage {channels[0]}", value=(stem, channels[0])
        )
    out: dict[str, Tensor] = {}
    _take(state, out, f"{prefix}conv1", "network.stem.0", stem, leads, kernel, bias=False)
    _batch_norm(state, out, f"{prefix}bn1", "network.stem.1", stem)
    width, block = stem, 0
    for stage, (narrow, depth) in enumerate(zip(channels, depths, strict=True)):
        wide = 4 * narrow if bottleneck else narrow
        for index in range(depth):
            official, target = f"{prefix}layer{stage + 1}.{index}.", f"network.blocks.{block}."
            shapes = (
                [(narrow, width, 1), (narrow, narrow, block_kernel), (wide, narrow, 1)]
                if bottleneck
                else [(narrow, width, block_kernel), (narrow, narrow, block_kernel)]
            )
            for number, shape in enumerate(shapes):
                inner = f"{target}convolutions.{number}."
                _take(state, out, f"{official}conv{number + 1}", f"{inner}0", *shape, bias=False)
                _batch_norm(state, out, f"{official}bn{number + 1}", f"{inner}1", shape[0])
            if width != wide or (stage > 0 and index == 0):
                inner = f"{target}shortcut.0."
                _take(state, out, f"{official}shortcut.0", f"{inner}0", wide, width, 1, bias=False)
                _batch_norm(state, out, f"{official}shortcut.1", f"{inner}1", wide)
            width, block = wide, block + 1
    backbone = {
        "type": "resnet1d",
        "channels": channels,
        "depths": depths,
        "kernel_size": block_kernel,
        "stem_kernel_size": kernel,
        "bottleneck": bottleneck,
        "token_s": _STRIDE * 2 ** (stages - 1) / _RATE,
    }
    return {"backbone": backbone, "num_samples": _SAMPLES}, out


def _vit(
    state: OfficialState, prefix: str, num_heads: int | None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Options and weights of a transformer."""
    width, leads, patch = state.require_shape(f"{prefix}to_patch_embedding.weight", 3)
    _check_leads(leads)
    _, patches, _ = state.require_shape(f"{prefix}pos_embedding", 3)
    inner = state.require_shape(f"{prefix}block0.attn.fn.to_qkv.weight", 2)[0] // 3
    mlp = state.require_shape(f"{prefix}block0.ff.fn.net.0.weight", 2)[0]
    if num_heads is None:
        known = {"heads": inner // _HEAD_WIDTH, "dim_head": _HEAD_WIDTH} if width in _VIT_WIDTHS else None
        sizes = state.options("heads", "dim_head", published=known)
        num_heads, head_width = sizes["heads"], sizes["dim_head"]
    else:
        head_width = inner // max(num_heads, 1)
    if num_heads < 1 or num_heads * head_width != inner:
        raise ConversionError(
            f"{num_heads} heads of width {head_width} are not the {inner} columns of the attention",
            value=num_heads,
        )
    depth = state.count(f"{prefix}block{{}}.")
    out: dict[str, Tensor] = {}
    _take(state, out, f"{prefix}to_patch_embedding", "embedding", width, leads, patch, bias=False)
    out["positions.table"] = state.take(f"{prefix}pos_embedding", 1, patches, width)[0]
    _take(state, out, f"{prefix}norm", "norm", width)
    for index in range(depth):
        official, target = f"{prefix}block{index}.", f"stack.blocks.{index}."
        _take(state, out, f"{official}attn.norm", f"{target}attention_norm", width)
        _take(state, out, f"{official}attn.fn.to_qkv", f"{target}attention.qkv", 3 * inner, width)
        _take(state, out, f"{official}attn.fn.to_out.0", f"{target}attention.output", width, inner)
        _take(state, out, f"{official}ff.norm", f"{target}mlp_norm", width)
        _take(state, out, f"{official}ff.fn.net.0", f"{target}mlp.0", mlp, width)
        _take(state, out, f"{official}ff.fn.net.3", f"{target}mlp.3", width, mlp)
    backbone = {
        "type": "merl_vit",
        "patch_s": patch / _RATE,
        "width": width,
        "depth": depth,
        "num_heads": num_heads,
        "head_width": head_width,
        "mlp_ratio": mlp / width,
    }
    return {"backbone": backbone, "ecg_head": "mlp", "num_samples": patches * patch}, out


def _check_leads(leads: int) -> None:
    if leads != len(LEADS):
        raise ConversionError(f"the network takes {leads} leads, MERL takes {len(LEADS)}", value=leads)


def _attention_head(
    state: OfficialState, options: dict[str, Any], num_heads: int | None
) -> dict[str, Tensor]:
    """The ResNet's attention pool; adds its sizes to ``options``."""
    out = options["projection_dim"]
    width = state.require_shape("downconv.weight", 3)[1]
    tokens = state.require_shape("att_pool_head.positional_embedding", 3)[1] - 1
    if num_heads is None:
        published = {"heads": _POOL_HEADS} if out == _POOL_WIDTH else None
        num_heads = state.options("heads", published=published)["heads"]
    options["attention_pool_heads"] = num_heads
    stride = _STRIDE * 2 ** (len(options["backbone"]["channels"]) - 1)
    if tokens != -(-_SAMPLES // stride):
        options["num_samples"] = tokens * stride
    pool = "att_pool_head."
    weights = {
        "narrow.weight": state.take("downconv.weight", out, width, 1)[..., 0],
        "narrow.bias": state.take("downconv.bias", out),
        "class_token": state.take(f"{pool}cls_token", 1, 1, out),
        "positions": state.take(f"{pool}positional_embedding", 1, 1 + tokens, out),
        "attention.in_proj_weight": state.take(f"{pool}mhsa.in_proj_weight", 3 * out, out),
        "attention.in_proj_bias": state.take(f"{pool}mhsa.in_proj_bias", 3 * out),
    }
    _take(state, weights, f"{pool}mhsa.out_proj", "attention.out_proj", out, out)
    _take(state, weights, f"{pool}c_proj", "output", out, out)
    return weights


def _mlp_head(state: OfficialState, options: dict[str, Any], num_heads: int | None) -> dict[str, Tensor]:
    """The ViT's projector."""
    out, inner = options["projection_dim"], options["projection_hidden_size"]
    weights: dict[str, Tensor] = {}
    _take(state, weights, "proj_e.0", "layers.0", inner, options["backbone"]["width"])
    _batch_norm(state, weights, "proj_e.1", "layers.1", inner)
    _take(state, weights, "proj_e.3", "layers.3", out, inner)
    _batch_norm(state, weights, "proj_e.4", "layers.4", out)
    return weights


def _text(state: OfficialState, options: dict[str, Any]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Text projector and, if the file has it, text tower; adds its sizes to ``options``."""
    out, inner = options["projection_dim"], options["projection_hidden_size"]
    width = state.require_shape("proj_t.0.weight", 2)[1]
    weights: dict[str, Tensor] = {}
    _take(state, weights, "proj_t.0", "text_projection.0", inner, width)
    _take(state, weights, "proj_t.2", "text_projection.2", out, inner)
    if not state.has("lm_model."):
        options |= {
            "text_side": "head",
            "text_config": {
                "model_type": "bert",
                "hidden_size": width,
                "num_attention_heads": max(1, width // 64),
            },
        }
        return weights, (_NOTE_NO_TOWER,)
    embeddings, layer = "lm_model.embeddings.", "lm_model.encoder.layer."
    known = {"lm_heads": width // 64} if width % 64 == 0 else None
    options["text_config"] = {
        "model_type": "bert",
        "vocab_size": state.require_shape(f"{embeddings}word_embeddings.weight", 2)[0],
        "max_position_embeddings": state.require_shape(f"{embeddings}position_embeddings.weight", 2)[0],
        "type_vocab_size": state.require_shape(f"{embeddings}token_type_embeddings.weight", 2)[0],
        "hidden_size": width,
        "num_hidden_layers": state.count(f"{layer}{{}}."),
        "intermediate_size": state.require_shape(f"{layer}0.intermediate.dense.weight", 2)[0],
        "num_attention_heads": state.options("lm_heads", published=known)["lm_heads"],
    }
    config = MerlConfig(**options)
    with torch.device("meta"):
        tower = build_text_tower(config.text_config, config.text_pooling)  # type: ignore[arg-type]
    for name, value in tower.state_dict().items():
        weights[f"text_encoder.{name}"] = state.take(f"lm_model.{name}", *value.shape)
    state.ignore(f"{embeddings}position_ids")
    return weights, (_NOTE_TOKENIZER,)
