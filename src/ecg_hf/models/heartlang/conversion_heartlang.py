"""From the official checkpoints of HeartLang to this package's classes.

A checkpoint of stage 2 becomes a :class:`HeartLangModel`, with the vocabulary's checkpoint beside it a
:class:`HeartLangForPreTraining`; that of stage 1 alone a :class:`HeartLangForPreTraining` of that stage; a fine-tuned
one, recognised by its ``mlp_head``, a :class:`HeartLangForEcgClassification`.
"""

from __future__ import annotations

import argparse
from typing import Any

from torch import Tensor

from ecg_hf.errors import ConversionError
from ecg_hf.models.conversion import Converted, OfficialFiles, OfficialState
from ecg_hf.models.heartlang.configuration_heartlang import HeartLangConfig

__all__ = ["ALLOWED_GLOBALS", "FILES", "SECOND_FILES", "convert_official"]

FILES = OfficialFiles(
    names=("checkpoint-200.pth", "checkpoint-100.pth"),
    repository="https://huggingface.co/PKUDigitalHealth/HeartLang",
    size_bytes=272_615_296,
    parity="fixture, 1e-5: encoder, vocabulary, losses of both stages, gradients; beats and codes exactly; keys and "
    "shapes of the published files",
    keys=("spa_embed.embed.weight", "transformer.layers.0.0.to_qkv.weight"),
)

ALLOWED_GLOBALS = (argparse.Namespace,)
"""The official files hold their command line beside the weights."""

SECOND_FILES = ("vqhbr",)
"""Options that name another file of the authors'."""

_NOTE_ALONE = (
    "the file has no vocabulary: an encoder, without the head that predicts codes; with the authors' checkpoint of "
    "stage 1 (--vqhbr FILE) it can go on with pretraining"
)
_NOTE_FIRST = "stage 1 alone: a vocabulary, which --teacher names, and no encoder of sentences"
_HEAD = 64  # width of a head in all published models


def convert_official(state: OfficialState, *, vqhbr: OfficialState | None = None) -> Converted:
    """Convert a checkpoint.

    Sizes are read from the shapes; heads are 64 wide, unless the authors' configuration has another ``dim_head``.

    Args:
        state: Official tensors of stage 2 or of stage 1; with the prefix ``backbone.`` in fine-tuned checkpoints.
        vqhbr: Those of stage 1, beside a checkpoint of stage 2.

    Raises:
        ConversionError: if sizes can't be read or don't fit.
    """
    if state.has("quantize."):
        if vqhbr is not None:
            raise ConversionError("this is a checkpoint of stage 1: --vqhbr goes with one of stage 2")
        config = HeartLangConfig(**_vocabulary_sizes(state), without_peaks="empty", stage="vq-hbr")
        return Converted(config, _vocabulary(state, config), "pretraining", (_NOTE_FIRST,))
    source = "backbone." if state.has("backbone.") else ""
    sizes: dict[str, Any] = _sizes(state, source) | {"without_peaks": "empty"}
    # The authors' class has it, whatever the checkpoint is of.
    state.ignore(f"{source}mask_token")
    if state.has("mlp_head."):
        return _classifier(state, sizes, source)
    if vqhbr is None:
        for name in ("weight", "bias"):
            state.ignore(f"{source}lm_head.{name}")
        config = HeartLangConfig(**sizes)
        return Converted(config, _transformer(state, source, "encoder.", sizes), "model", (_NOTE_ALONE,))
    of_vocabulary = _vocabulary_sizes(vqhbr)
    differing = [name for name, value in of_vocabulary.items() if sizes.get(name, value) != value]
    if differing:
        raise ConversionError(f"the two stages differ in {', '.join(differing)}", value=differing)
    config = HeartLangConfig(**sizes | of_vocabulary)
    weights = _transformer(state, source, "heartlang.encoder.", sizes) | _vocabulary(vqhbr, config)
    width, codes = config.hidden_size, config.codebook_size
    weights["mask_token"] = state.take(f"{source}mask_token", 1, 1, width)[0, 0]
    weights["lm_head.weight"] = state.take(f"{source}lm_head.weight", codes, width)
    weights["lm_head.bias"] = state.take(f"{source}lm_head.bias", codes)
    return Converted(config, weights, "pretraining")


def _classifier(state: OfficialState, sizes: dict[str, Any], source: str) -> Converted:
    labels = state.require_shape("mlp_head.weight", 2)[0]
    for name in ("weight", "bias"):
        state.ignore(f"{source}lm_head.{name}")
    weights = _transformer(state, source, "heartlang.encoder.", sizes)
    weights["classifier.weight"] = state.take("mlp_head.weight", labels, sizes["hidden_size"])
    weights["classifier.bias"] = state.take("mlp_head.bias", labels)
    notes = (f"the {labels} labels have no names in the checkpoint",)
    return Converted(HeartLangConfig(**sizes, num_labels=labels), weights, "classification", notes)


def _sizes(state: OfficialState, source: str) -> dict[str, Any]:
    """Sizes of a transformer, under the names of the encoder of sentences."""
    width, values, kernel = state.require_shape(f"{source}token_embed.tokenConv.weight", 3)
    inner, remainder = divmod(state.require_shape(f"{source}transformer.layers.0.0.to_qkv.weight", 2)[0], 3)
    head = state.options("dim_head", published={"dim_head": _HEAD})["dim_head"]
    if not isinstance(head, int) or head < 1 or remainder or inner % head:
        raise ConversionError(
            f"heads that are {head} wide do not divide attention that is {inner}", value=head
        )
    return {
        "sentence_length": state.require_shape(f"{source}pos_embed", 3)[1] - 1,
        "beat_length": values,
        "token_kernel_size": kernel,
        "num_lead_ids": state.require_shape(f"{source}spa_embed.embed.weight", 2)[0],
        "num_time_ids": state.require_shape(f"{source}tem_embed.embed.weight", 2)[0],
        "hidden_size": width,
        "num_hidden_layers": state.count(f"{source}transformer.layers.{{}}."),
        "num_attention_heads": inner // head,
        "head_size": head,
        "intermediate_size": state.require_shape(f"{source}transformer.layers.0.1.net.1.weight", 2)[0],
    }


_OF_THE_READER = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "head_size",
    "intermediate_size",
)


def _vocabulary_sizes(state: OfficialState) -> dict[str, Any]:
    """Sizes of stage 1, without those of the encoder of sentences."""
    sizes = _sizes(state, "encoder.")
    sizes |= {f"vq_{name}": sizes.pop(name) for name in _OF_THE_READER}
    codes, values = state.require_shape("quantize.embedding.weight", 2)
    return sizes | {
        "vq_decoder_num_layers": state.count("decoder.transformer.layers.{}."),
        "codebook_size": codes,
        "code_size": values,
    }


def _vocabulary(state: OfficialState, config: HeartLangConfig) -> dict[str, Tensor]:
    """The vocabulary, as the pretraining model names it."""
    width, codes, values = config.vq_hidden_size, config.codebook_size, config.code_size
    sizes = {name: getattr(config, f"vq_{name}") for name in _OF_THE_READER}
    sizes |= {name: getattr(config, name) for name in _sizes(state, "encoder.") if name not in sizes}
    weights = _transformer(state, "encoder.", "vocabulary.reader.", sizes)
    sizes |= {"beat_length": values, "num_hidden_layers": config.vq_decoder_num_layers}
    weights |= _transformer(state, "decoder.", "vocabulary.writer.", sizes)
    for theirs, ours, out in (("encode", "to_code", values), ("decode", "to_beat", config.beat_length)):
        for layer, rows in ((0, width), (2, out)):
            key, target = f"{theirs}_task_layer.{layer}.", f"vocabulary.{ours}.{layer}."
            weights[f"{target}weight"] = state.take(f"{key}weight", rows, width)
            weights[f"{target}bias"] = state.take(f"{key}bias", rows)
    weights["vocabulary.codebook.codes"] = state.take("quantize.embedding.weight", codes, values)
    weights["vocabulary.codebook.fitted"] = state.take("quantize.embedding.initted", 1)[0]
    # Tokens that hide nothing here, and statistics of use.
    for key in (
        "encoder.mask_token",
        "decoder.mask_token",
        "quantize.cluster_size",
        "quantize.embedding.cluster_size",
        "quantize.embedding.embed_avg",
    ):
        state.ignore(key)
    return weights


def _transformer(state: OfficialState, source: str, target: str, sizes: dict[str, Any]) -> dict[str, Tensor]:
    """One transformer; ``sizes`` as :func:`_sizes` names them."""
    width, inner = sizes["hidden_size"], sizes["num_attention_heads"] * sizes["head_size"]
    between = sizes["intermediate_size"]
    taken = {
        "cls_token": ("cls_token", (width,)),
        "embedding.convolution.weight": (
            "token_embed.tokenConv.weight",
            (width, sizes["beat_length"], sizes["token_kernel_size"]),
        ),
        "embedding.lead_embedding.weight": ("spa_embed.embed.weight", (sizes["num_lead_ids"], width)),
        "embedding.time_embedding.weight": ("tem_embed.embed.weight", (sizes["num_time_ids"], width)),
        "norm.weight": ("norm_layer.weight", (width,)),
        "norm.bias": ("norm_layer.bias", (width,)),
    }
    for layer in range(sizes["num_hidden_layers"]):
        block, theirs = f"layers.blocks.{layer}.", f"transformer.layers.{layer}."
        taken[f"{block}attention.qkv.weight"] = (f"{theirs}0.to_qkv.weight", (3 * inner, width))
        for ours, name, shape in (
            ("attention_norm", "0.norm", (width,)),
            ("attention.output", "0.to_out.0", (width, inner)),
            ("mlp_norm", "1.net.0", (width,)),
            ("mlp.0", "1.net.1", (between, width)),
            ("mlp.3", "1.net.4", (width, between)),
        ):
            taken[f"{block}{ours}.weight"] = (f"{theirs}{name}.weight", shape)
            taken[f"{block}{ours}.bias"] = (f"{theirs}{name}.bias", shape[:1])
    weights = {f"{target}{ours}": state.take(source + key, *shape) for ours, (key, shape) in taken.items()}
    positions = state.take(f"{source}pos_embed", 1, 1 + sizes["sentence_length"], width)
    weights[f"{target}positions"] = positions[0]
    return weights
