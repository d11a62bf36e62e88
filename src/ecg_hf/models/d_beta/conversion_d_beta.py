"""The authors' checkpoints of D-BETA, whole or the ECG branch alone, to this package's classes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ecg_hf.errors import ConversionError
from ecg_hf.models.conversion import Converted, OfficialFiles, OfficialState
from ecg_hf.models.d_beta.configuration_d_beta import FLAN_T5_BASE, DBetaConfig
from ecg_hf.models.ecg_fm.conversion_ecg_fm import take_tower, tower_sizes
from ecg_hf.models.text_tower import build_text_tower

__all__ = ["FILES", "convert_official"]

FILES = OfficialFiles(
    names=("sample.pt",),
    repository="https://huggingface.co/Manhph2211/D-BETA",
    size_bytes=1_285_549_320,
    parity="fixture, 1e-5: tokens, embedding, text, fusion, masks, four losses, gradients; keys, shapes and "
    "parameters of the published ECG branch",
    keys=(
        "class_embedding",
        "ecg_encoder.feature_extractor.conv_layers.0.0.weight",
        "ecg_encoder.post_extract_proj.weight",
        "ecg_encoder.conv_pos.pos_conv.0.bias",
    ),
)

_NOTE_LICENCE = (
    "the authors' code and weights are under CC BY-NC 4.0: for research, and so is what is made of them"
)
_NOTE_BRANCH = "the file holds the ECG branch alone: no zero-shot answers"
_NOTE_ENCODER = "the file holds no pooler: the embedding is the class token"
_NOTE_TOKENIZER = (
    "for zero-shot answers save the tokenizer beside the weights: "
    "AutoTokenizer.from_pretrained('google/flan-t5-base').save_pretrained(folder)"
)
_T5_HEAD = 64


def convert_official(state: OfficialState, *, num_attention_heads: int | None = None) -> Converted:
    """Convert a checkpoint.

    Widths and depths are read from the shapes. Heads, strides and the layer of the reconstruction are known of the
    published size; others need ``encoder_attention_heads``, ``conv_feature_layers`` and, of whole files,
    ``num_heads``, ``mem_layer`` and ``mem_decoder_num_heads`` of the authors' configuration (``--config``).

    Args:
        state: The official tensors.
        num_attention_heads: Heads of the ECG encoder, instead of ``encoder_attention_heads``.

    Raises:
        ConversionError: Sizes can't be read, or are not known.
    """
    whole, pooled = state.has("language_encoder."), state.has("multi_modal_ecg_proj.")
    sizes = tower_sizes(state, "ecg_encoder.", DBetaConfig(), num_attention_heads)
    if not pooled:
        config = DBetaConfig(**sizes, parts="encoder")
        notes = (_NOTE_LICENCE, _NOTE_BRANCH, _NOTE_ENCODER)
        return Converted(config, _branch(state, config), "model", notes)
    sizes["projection_dim"] = state.require_shape("multi_modal_ecg_proj.weight", 2)[0]
    if not whole:
        sizes |= {"parts": "branch", "fusion_heads": 1}
        config = DBetaConfig(**sizes)
        return Converted(config, _branch(state, config), "model", (_NOTE_LICENCE, _NOTE_BRANCH))
    config = DBetaConfig(**sizes, **_fusion_sizes(state, sizes))
    weights = {f"d_beta.{name}": value for name, value in _branch(state, config).items()}
    weights |= {f"d_beta.{name}": value for name, value in _text(state, config).items()}
    weights |= _fusion(state, config)
    weights |= _decoder(state, config)
    return Converted(config, weights, "pretraining", (_NOTE_LICENCE, _NOTE_TOKENIZER))


def _fusion_sizes(state: OfficialState, sizes: dict[str, Any]) -> dict[str, Any]:
    """Sizes of a whole file beyond those of the ECG encoder."""
    published, block = DBetaConfig(), "language_encoder.encoder.block."
    known: dict[str, Any] = {}
    decoder_size = state.require_shape("mim_head.decoder_embed.weight", 2)[0]
    if sizes["projection_dim"] == published.projection_dim and decoder_size == published.decoder_hidden_size:
        known = {
            "num_heads": published.fusion_heads,
            "mem_layer": published.reconstruction_layer,
            "mem_decoder_num_heads": published.decoder_num_attention_heads,
        }
    told = state.options("num_heads", "mem_layer", "mem_decoder_num_heads", published=known)
    vocabulary, width = state.require_shape("language_encoder.shared.weight", 2)
    inner = state.require_shape(f"{block}0.layer.0.SelfAttention.q.weight", 2)[0]
    buckets, heads = state.require_shape(f"{block}0.layer.0.SelfAttention.relative_attention_bias.weight", 2)
    if inner % heads:
        raise ConversionError(f"{heads} heads do not divide the text tower's width of {inner}", value=heads)
    return {
        "fusion_layers": state.count("multi_modal_ecg_layers.{}."),
        "fusion_heads": told["num_heads"],
        "reconstruction_layer": told["mem_layer"],
        "decoder_hidden_size": decoder_size,
        "decoder_num_layers": state.count("mim_head.decoder.resblocks.{}."),
        "decoder_num_attention_heads": told["mem_decoder_num_heads"],
        "text_sees_padding": True,
        "text_config": {
            **FLAN_T5_BASE,
            "vocab_size": vocabulary,
            "d_model": width,
            "d_kv": inner // heads,
            "d_ff": state.require_shape(f"{block}0.layer.1.DenseReluDense.wi_0.weight", 2)[0],
            "num_layers": state.count(block + "{}."),
            "num_heads": heads,
            "relative_attention_num_buckets": buckets,
        },
    }


def _branch(state: OfficialState, config: DBetaConfig) -> dict[str, Tensor]:
    """The ECG encoder with what there is of its pooler, as :class:`DBetaModel` names them."""
    state.ignore("ecg_encoder.mask_emb")
    weights = {f"encoder.{name}": value for name, value in take_tower(state, "ecg_encoder.", config).items()}
    weights["class_token"] = state.take("class_embedding", config.hidden_size)
    if config.parts != "encoder":
        width = config.projection_dim
        _linear(state, weights, "multi_modal_ecg_proj", "projection", width, config.hidden_size)
        _linear(state, weights, "unimodal_ecg_pooler.dense", "pooler", width, width)
    return weights


def _linear(
    state: OfficialState, weights: dict[str, Tensor], official: str, target: str, *shape: int
) -> None:
    weights[f"{target}.weight"] = state.take(f"{official}.weight", *shape)
    weights[f"{target}.bias"] = state.take(f"{official}.bias", shape[0])


def _text(state: OfficialState, config: DBetaConfig) -> dict[str, Tensor]:
    """The text tower and its pooler."""
    width, text = config.projection_dim, config.text_config
    with torch.device("meta"):
        tower = build_text_tower(text, "cls")  # type: ignore[arg-type]
    weights = {
        f"text_encoder.{name}": state.take(f"language_encoder.{name}", *value.shape)
        for name, value in tower.state_dict().items()
    }
    state.ignore("language_encoder.encoder.embed_tokens.weight")
    _linear(state, weights, "multi_modal_language_proj", "text_projection", width, text.hidden_size)  # type: ignore[union-attr]
    _linear(state, weights, "unimodal_language_pooler.dense", "text_pooler", width, width)
    return weights


def _fusion(state: OfficialState, config: DBetaConfig) -> dict[str, Tensor]:
    """Fusion layers, their poolers, and the heads for words and pairs."""
    width = config.projection_dim
    weights: dict[str, Tensor] = {"fusion.modality": state.take("modality_type_embeddings.weight", 2, width)}
    for side, name in (("language", "text"), ("ecg", "ecg")):
        for index in range(config.fusion_layers):
            official, target = f"multi_modal_{side}_layers.{index}.", f"fusion.{name}_layers.{index}."
            for theirs, ours, norm in (
                ("attention", "attention", "attention_norm"),
                ("crossattention", "cross_attention", "cross_norm"),
            ):
                parts = [f"{official}{theirs}.self.{part}." for part in ("query", "key", "value")]
                weights[f"{target}{ours}.in_proj_weight"] = torch.cat(
                    [state.take(f"{part}weight", width, width) for part in parts]
                )
                weights[f"{target}{ours}.in_proj_bias"] = torch.cat(
                    [state.take(f"{part}bias", width) for part in parts]
                )
                _linear(
                    state,
                    weights,
                    f"{official}{theirs}.output.dense",
                    f"{target}{ours}.out_proj",
                    width,
                    width,
                )
                _linear(state, weights, f"{official}{theirs}.output.LayerNorm", target + norm, width)
            _linear(state, weights, f"{official}intermediate.dense", f"{target}mlp.0", 4 * width, width)
            _linear(state, weights, f"{official}output.dense", f"{target}mlp.2", width, 4 * width)
            _linear(state, weights, f"{official}output.LayerNorm", f"{target}mlp_norm", width)
        _linear(state, weights, f"multi_modal_{side}_pooler.dense", f"fused_{name}_pooler", width, width)
    _linear(state, weights, "itm_head.fc", "match_head", 2, 2 * width)
    vocabulary = int(config.text_config.vocab_size)  # type: ignore[union-attr]
    _linear(state, weights, "mlm_head.transform.dense", "word_head.dense", width, width)
    _linear(state, weights, "mlm_head.transform.LayerNorm", "word_head.norm", width)
    weights["word_head.bias"] = state.take("mlm_head.bias", vocabulary)
    weights["word_weights"] = state.take("mlm_head.decoder.weight", vocabulary, width)
    state.ignore("mlm_head.decoder.bias")
    return weights


def _decoder(state: OfficialState, config: DBetaConfig) -> dict[str, Tensor]:
    """The decoder of hidden ECG tokens; its table of positions is computed."""
    width, official = config.decoder_hidden_size, "mim_head."
    weights: dict[str, Tensor] = {
        "decoder.mask_token": state.take(f"{official}mask_token", 1, 1, width)[0, 0]
    }
    _linear(state, weights, f"{official}decoder_embed", "decoder.embedding", width, config.projection_dim)
    for index in range(config.decoder_num_layers):
        theirs, ours = f"{official}decoder.resblocks.{index}.", f"decoder.blocks.{index}."
        weights[f"{ours}attention.in_proj_weight"] = state.take(
            f"{theirs}attn.in_proj_weight", 3 * width, width
        )
        weights[f"{ours}attention.in_proj_bias"] = state.take(f"{theirs}attn.in_proj_bias", 3 * width)
        _linear(state, weights, f"{theirs}attn.out_proj", f"{ours}attention.out_proj", width, width)
        _linear(state, weights, f"{theirs}ln_1", f"{ours}attention_norm", width)
        _linear(state, weights, f"{theirs}ln_2", f"{ours}mlp_norm", width)
        _linear(state, weights, f"{theirs}mlp.c_fc", f"{ours}widen", 4 * width, width)
        _linear(state, weights, f"{theirs}mlp.c_proj", f"{ours}narrow", width, 4 * width)
    _linear(state, weights, f"{official}decoder_norm", "decoder.norm", width)
    samples = config.num_leads * config.stride
    _linear(state, weights, f"{official}decoder_pred", "decoder.output", samples, width)
    state.ignore(f"{official}decoder_pos_embed.pe")
    return weights
