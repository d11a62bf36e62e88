"""From the authors' checkpoints of ST-MEM to this package's classes.

They publish the encoder alone (:class:`StMemModel`) and the whole of pretraining (:class:`StMemForPreTraining`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ecg_hf.errors import ConversionError
from ecg_hf.models.conversion import Converted, OfficialFiles, OfficialState
from ecg_hf.models.st_mem.configuration_st_mem import StMemConfig
from ecg_hf.signal.leads import STANDARD_LEADS

__all__ = ["FILES", "convert_official"]

FILES = OfficialFiles(
    names=("st_mem_vit_base_encoder.pth", "st_mem_vit_base_full.pth"),
    repository="https://github.com/bakqui/ST-MEM (links to Google Drive)",
    size_bytes=354_139_012,
    parity="fixture, 1e-5: preprocessing, tokens, embedding, reconstruction, loss, gradients; keys and shapes of the "
    "published sizes",
    keys=("sep_embedding", "lead_embeddings.0", "block0.attn.fn.to_qkv.weight"),
)

_HEAD_SIZE = 64  # of every model the official code builds
_BLOCK = {
    "attn.norm": "attention_norm",
    "attn.fn.to_qkv": "attention.qkv",
    "attn.fn.to_out.0": "attention.output",
    "ff.norm": "mlp_norm",
    "ff.fn.net.0": "mlp.0",
    "ff.fn.net.3": "mlp.3",
}
_EMBEDDING = {"1": "patch_norm", "2": "patch_projection", "3": "token_norm"}
_NOTE_LICENCE = (
    "the authors' code and weights are under CC BY-NC 4.0: not for commercial use, nor what is made of them"
)
_NOTE_ENCODER = "the checkpoint holds only the encoder: more pretraining starts with a new decoder"


def convert_official(state: OfficialState, *, num_attention_heads: int | None = None) -> Converted:
    """Convert the encoder alone or all of pretraining.

    Sizes are read from the shapes, heads from a width of 64 each, which all models of the official code have. The
    authors' configuration (``--config``) may say ``heads`` and ``decoder_heads``, ``norm_pix_loss``, ``mask_ratio``.

    Args:
        state: Official tensors; those of the encoder may have the prefix ``encoder.`` or ``backbone.``.
        num_attention_heads: Heads of the encoder, if they are not 64 wide.

    Raises:
        ConversionError: Sizes can't be read or don't fit, or this is not a checkpoint of this method.
    """
    keys = [*state.keys()]
    prefix = next((k.removesuffix("sep_embedding") for k in keys if k.endswith("sep_embedding")), "")
    root = prefix.removesuffix("encoder.")
    patch_size = state.require_shape(f"{prefix}to_patch_embedding.1.weight", 1)[0]
    _, positions, width = state.require_shape(f"{prefix}pos_embedding", 3)
    leads = state.count(prefix + "lead_embeddings.{}")
    if leads != len(STANDARD_LEADS):
        raise ConversionError(f"embeddings of {leads} leads: their names are known of 12 alone", value=leads)
    settings: dict[str, Any] = {
        "patch_size": patch_size,
        "num_samples": (positions - 2) * patch_size,
        "hidden_size": width,
        **_stack_sizes(state, prefix + "block{}.", "", "num_hidden_layers", num_attention_heads, "heads"),
    }
    if not state.has(f"{root}decoder_blocks."):
        config = StMemConfig(**settings)
        _check_copies(state, prefix, root, config)
        weights = _encoder(state, prefix, "encoder.", config)
        return Converted(config, weights, "model", (_NOTE_LICENCE, _NOTE_ENCODER))

    told = state.options("norm_pix_loss", "mask_ratio", published={"norm_pix_loss": True, "mask_ratio": 0.75})
    blocks = root + "decoder_blocks.{}."
    config = StMemConfig(
        **settings,
        **_stack_sizes(state, blocks, "decoder_", "decoder_num_layers", None, "decoder_heads"),
        decoder_hidden_size=state.require_shape(f"{root}to_decoder_embedding.weight", 2)[0],
        reconstruction_target="patch_zscore" if told["norm_pix_loss"] else "raw",
        mask_ratio=told["mask_ratio"],
    )
    _check_copies(state, prefix, root, config)
    weights = _encoder(state, prefix, "st_mem.encoder.", config) | _decoder(state, root, config)
    return Converted(config, weights, "pretraining", (_NOTE_LICENCE,))


def _stack_sizes(
    state: OfficialState, blocks: str, prefix: str, depth: str, heads: int | None, option: str
) -> dict[str, int]:
    """Depth, heads and widths of a stack of blocks; ``option`` is the authors' name of its heads."""
    inner = state.require_shape(f"{blocks.format(0)}attn.fn.to_qkv.weight", 2)[0] // 3
    heads = heads or state.options(option, published={option: inner // _HEAD_SIZE})[option]
    if type(heads) is not int or heads < 1 or inner % heads:
        raise ConversionError(f"{heads} heads do not divide an inner width of {inner}", value=heads)
    return {
        depth: state.count(blocks),
        f"{prefix}num_attention_heads": heads,
        f"{prefix}head_size": inner // heads,
        f"{prefix}intermediate_size": state.require_shape(f"{blocks.format(0)}ff.fn.net.0.weight", 2)[0],
    }


def _check_copies(state: OfficialState, prefix: str, root: str, config: StMemConfig) -> None:
    """Whole files hold the embedding of patches twice, because it is one module under two names."""
    if root == prefix or not state.has(f"{root}to_patch_embedding."):
        return
    for name, shape in _embedding_shapes(config).items():
        copy, own = (state.take(f"{where}to_patch_embedding.{name}", *shape) for where in (root, prefix))
        if not torch.equal(copy, own):
            raise ConversionError(f"two different tensors to_patch_embedding.{name}", value=name)


def _embedding_shapes(config: StMemConfig) -> dict[str, tuple[int, ...]]:
    size, width = config.patch_size, config.hidden_size
    shapes: dict[str, tuple[int, ...]] = {"2.weight": (width, size), "2.bias": (width,)}
    for number, wide in (("1", size), ("3", width)):
        shapes |= {f"{number}.{part}": (wide,) for part in ("weight", "bias")}
    return shapes


def _blocks(
    state: OfficialState, source: str, target: str, depth: int, width: int, inner: int, mlp: int
) -> dict[str, Tensor]:
    shapes: dict[str, tuple[int, ...]] = {
        "attn.fn.to_qkv": (3 * inner, width),
        "attn.fn.to_out.0": (width, inner),
        "ff.fn.net.0": (mlp, width),
        "ff.fn.net.3": (width, mlp),
    }
    weights: dict[str, Tensor] = {}
    for layer in range(depth):
        for theirs, ours in _BLOCK.items():
            shape = shapes.get(theirs, (width,))
            key, name = f"{source.format(layer)}{theirs}", f"{target}layers.blocks.{layer}.{ours}"
            weights[f"{name}.weight"] = state.take(f"{key}.weight", *shape)
            weights[f"{name}.bias"] = state.take(f"{key}.bias", shape[0])
    return weights


def _encoder(state: OfficialState, source: str, target: str, config: StMemConfig) -> dict[str, Tensor]:
    width = config.hidden_size
    lead_embeddings = [
        state.take(f"{source}lead_embeddings.{lead}", width) for lead in range(config.num_leads)
    ]
    weights = {
        f"{target}positions.table": state.take(f"{source}pos_embedding", 1, config.num_patches + 2, width)[0],
        f"{target}sep_token": state.take(f"{source}sep_embedding", width),
        f"{target}lead_embedding": torch.stack(lead_embeddings),
        f"{target}norm.weight": state.take(f"{source}norm.weight", width),
        f"{target}norm.bias": state.take(f"{source}norm.bias", width),
    }
    for name, shape in _embedding_shapes(config).items():
        number, part = name.split(".")
        key = f"{source}to_patch_embedding.{name}"
        weights[f"{target}{_EMBEDDING[number]}.{part}"] = state.take(key, *shape)
    inner = config.num_attention_heads * config.head_size
    depth, mlp = config.num_hidden_layers, config.intermediate_size
    return weights | _blocks(state, source + "block{}.", target, depth, width, inner, mlp)


def _decoder(state: OfficialState, source: str, config: StMemConfig) -> dict[str, Tensor]:
    width, target = config.decoder_hidden_size, "decoder."
    table = state.take(f"{source}decoder_pos_embed", 1, config.num_patches + 2, width)
    weights = {
        f"{target}mask_token": state.take(f"{source}mask_embedding", 1, 1, width),
        f"{target}positions.table": table[0],
    }
    for theirs, ours, shape in (
        ("to_decoder_embedding", "embedding", (width, config.hidden_size)),
        ("decoder_norm", "norm", (width,)),
        ("decoder_head", "head", (config.patch_size, width)),
    ):
        weights[f"{target}{ours}.weight"] = state.take(f"{source}{theirs}.weight", *shape)
        weights[f"{target}{ours}.bias"] = state.take(f"{source}{theirs}.bias", shape[0])
    inner = config.decoder_num_attention_heads * config.decoder_head_size
    depth, mlp = config.decoder_num_layers, config.decoder_intermediate_size
    return weights | _blocks(state, source + "decoder_blocks.{}.", target, depth, width, inner, mlp)
