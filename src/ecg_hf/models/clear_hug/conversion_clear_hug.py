"""From the official checkpoints of CLEAR-HUG to this package's classes.

A pretraining checkpoint (``released_ckpt.pth``) becomes a :class:`ClearHugForPreTraining`; a fine-tuned one,
recognised by its ``mlp_head``, a :class:`ClearHugForEcgClassification`, whose decoder is left out.
"""

from __future__ import annotations

import argparse

from torch import Tensor

from ecg_hf.errors import ConversionError
from ecg_hf.models.clear_hug.configuration_clear_hug import ClearHugConfig
from ecg_hf.models.conversion import Converted, OfficialFiles, OfficialState, attention_heads
from ecg_hf.signal.leads import STANDARD_LEADS

__all__ = ["ALLOWED_GLOBALS", "FILES", "convert_official"]

FILES = OfficialFiles(
    names=("released_ckpt.pth",),
    repository="https://github.com/Ashespt/CLEAR-HUG",
    size_bytes=1_217_470_848,
    parity="fixture, 1e-5: beats, masks, encoder, decoder, loss, gradients, classifier",
    keys=("spa_embed.embed.weight", "encoder_transformer.layers.0.self_attn.in_proj_weight"),
)

ALLOWED_GLOBALS = (argparse.Namespace,)
"""The official files hold their command line beside the weights."""

_BLOCK = {
    "self_attn.in_proj_weight": "attention.qkv.weight",
    "self_attn.in_proj_bias": "attention.qkv.bias",
    "self_attn.out_proj.weight": "attention.output.weight",
    "self_attn.out_proj.bias": "attention.output.bias",
    "norm1.weight": "attention_norm.weight",
    "norm1.bias": "attention_norm.bias",
    "norm2.weight": "mlp_norm.weight",
    "norm2.bias": "mlp_norm.bias",
    "ff.0.weight": "mlp.0.weight",
    "ff.0.bias": "mlp.0.bias",
    "ff.3.weight": "mlp.3.weight",
    "ff.3.bias": "mlp.3.bias",
}
_DECODER = ("decoder_", "mask_token")
_NOTES = (
    "encoder attention is dense, as when the authors' weights were published",
    "the authors state no licence for code or weights: use them yourself, do not pass them on",
)


def convert_official(
    state: OfficialState,
    *,
    num_attention_heads: int | None = None,
    decoder_num_attention_heads: int | None = None,
) -> Converted:
    """Convert a checkpoint.

    The encoder's attention becomes ``dense``: the released weights were published with code that had no encoder mask,
    and the mask of the current code does not block either.

    Args:
        state: Official tensors, with the prefix ``backbone.`` in fine-tuned checkpoints.
        num_attention_heads: Heads of the encoder, which shapes don't determine: 8 in the base model, 16 in the
            large one.
        decoder_num_attention_heads: Heads of the decoder, for a pretraining checkpoint: 16 in both.

    Raises:
        ConversionError: if a number of heads is needed and not given or does not fit, or if this is not a
            checkpoint of this method.
    """
    tuned = state.has("mlp_head.")
    source = "backbone." if tuned else ""
    leads, width = state.require_shape(f"{source}cls_token", 2)
    positions = state.require_shape(f"{source}pos_embed", 3)[1]
    length = state.require_shape(f"{source}token_embed.tokenConv.weight", 3)
    inner = state.require_shape(f"{source}encoder_transformer.layers.0.ff.0.weight", 2)[0]
    if leads != len(STANDARD_LEADS):
        raise ConversionError(f"{leads} lead tokens are not those of the 12 standard leads", value=leads)
    if positions <= leads or positions % leads:
        raise ConversionError(f"{positions} positions are not whole beats of {leads} leads", value=positions)
    settings: dict[str, int] = {
        "beats_per_lead": positions // leads - 1,
        "beat_length": length[1],
        "token_kernel_size": length[2],
        "num_lead_ids": state.require_shape(f"{source}spa_embed.embed.weight", 2)[0],
        "num_time_ids": state.require_shape(f"{source}tem_embed.embed.weight", 2)[0],
        "hidden_size": width,
        "num_hidden_layers": state.count(source + "encoder_transformer.layers.{}."),
        "intermediate_size": inner,
        "num_attention_heads": attention_heads(
            "encoder", num_attention_heads, width, "8 or 16", "--num-attention-heads"
        ),
    }
    out: dict[str, Tensor] = {}
    _encoder(state, source, "clear_hug.encoder.", settings, out)
    if tuned:
        return _classifier(state, settings, out)
    narrow = state.require_shape("decoder_embed.weight", 2)[0]
    settings |= {
        "decoder_hidden_size": narrow,
        "decoder_num_layers": state.count("decoder_transformer.layers.{}."),
        "decoder_intermediate_size": state.require_shape("decoder_transformer.layers.0.ff.0.weight", 2)[0],
        "decoder_num_attention_heads": attention_heads(
            "decoder", decoder_num_attention_heads, narrow, "16", "--decoder-num-attention-heads"
        ),
    }
    _decoder(state, settings, out)
    return Converted(ClearHugConfig(encoder_attention="dense", **settings), out, "pretraining", _NOTES)


def _classifier(state: OfficialState, settings: dict[str, int], out: dict[str, Tensor]) -> Converted:
    width = settings["hidden_size"]
    labels = state.require_shape("mlp_head.weight", 2)[0]
    out["classifier.weight"] = state.take("mlp_head.weight", labels, width)
    out["classifier.bias"] = state.take("mlp_head.bias", labels)
    hug = state.has("backbone.moe.")
    if hug:
        names = {f"level1_experts.{i}": f"group_maps.{i}" for i in range(3)}
        names |= {f"level2_experts.{i}": f"pair_maps.{i}" for i in range(3)}
        for theirs, ours in {**names, "level3_expert": "whole_map"}.items():
            key = f"backbone.moe.{theirs}.net.0"
            out[f"classifier_hug.{ours}.weight"] = state.take(f"{key}.weight", width, width)
            out[f"classifier_hug.{ours}.bias"] = state.take(f"{key}.bias", width)
    for key in list(state.keys()):
        # A classifier does not need the decoder it was pretrained with.
        if key.startswith(tuple(f"backbone.{name}" for name in _DECODER)):
            state.ignore(key)
    config = ClearHugConfig(
        encoder_attention="dense", head_type="hug" if hug else "mean", num_labels=labels, **settings
    )
    notes = (*_NOTES, f"the {labels} labels have no names in the checkpoint")
    return Converted(config, out, "classification", notes)


def _blocks(
    state: OfficialState, source: str, target: str, depth: int, width: int, inner: int, out: dict[str, Tensor]
) -> None:
    shapes = {
        "self_attn.in_proj_weight": (3 * width, width),
        "self_attn.in_proj_bias": (3 * width,),
        "self_attn.out_proj.weight": (width, width),
        "ff.0.weight": (inner, width),
        "ff.0.bias": (inner,),
        "ff.3.weight": (width, inner),
    }
    for layer in range(depth):
        for theirs, ours in _BLOCK.items():
            key, shape = f"{source}.layers.{layer}.{theirs}", shapes.get(theirs, (width,))
            out[f"{target}layers.blocks.{layer}.{ours}"] = state.take(key, *shape)


def _encoder(
    state: OfficialState, source: str, target: str, settings: dict[str, int], out: dict[str, Tensor]
) -> None:
    leads, width = len(STANDARD_LEADS), settings["hidden_size"]
    tokens = leads * (1 + settings["beats_per_lead"])
    shape = (width, settings["beat_length"], settings["token_kernel_size"])
    out[f"{target}lead_tokens"] = state.take(f"{source}cls_token", leads, width)
    out[f"{target}positions"] = state.take(f"{source}pos_embed", 1, tokens, width)
    out[f"{target}embedding.convolution.weight"] = state.take(f"{source}token_embed.tokenConv.weight", *shape)
    for theirs, ours in (("spa", "lead"), ("tem", "time")):
        rows = settings[f"num_{ours}_ids"]
        key = f"{source}{theirs}_embed.embed.weight"
        out[f"{target}embedding.{ours}_embedding.weight"] = state.take(key, rows, width)
    _norm(state, f"{source}norm_layer", f"{target}norm", width, out)
    depth, inner = settings["num_hidden_layers"], settings["intermediate_size"]
    _blocks(state, f"{source}encoder_transformer", target, depth, width, inner, out)


def _decoder(state: OfficialState, settings: dict[str, int], out: dict[str, Tensor]) -> None:
    leads, width = len(STANDARD_LEADS), settings["decoder_hidden_size"]
    tokens, length = leads * (1 + settings["beats_per_lead"]), settings["beat_length"]
    out["decoder.mask_token"] = state.take("mask_token", 1, 1, width)
    out["decoder.positions"] = state.take("decoder_pos_embed", 1, tokens, width)
    out["decoder.embedding.weight"] = state.take("decoder_embed.weight", width, settings["hidden_size"])
    out["decoder.embedding.bias"] = state.take("decoder_embed.bias", width)
    out["decoder.head.weight"] = state.take("decoder_pred.weight", length, width)
    out["decoder.head.bias"] = state.take("decoder_pred.bias", length)
    _norm(state, "decoder_norm", "decoder.norm", width, out)
    depth, inner = settings["decoder_num_layers"], settings["decoder_intermediate_size"]
    _blocks(state, "decoder_transformer", "decoder.", depth, width, inner, out)


def _norm(state: OfficialState, source: str, target: str, width: int, out: dict[str, Tensor]) -> None:
    for name in ("weight", "bias"):
        out[f"{target}.{name}"] = state.take(f"{source}.{name}", width)
