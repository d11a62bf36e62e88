"""From the official checkpoints of ECG-JEPA to this package's classes.

The authors publish only the student encoder (``multiblock_epoch100.pth``, ``random_epoch100.pth``): it becomes an
:class:`EcgJepaModel`. A whole training module (``encoder.``, ``target_encoder.``, ``predictor.``) becomes an
:class:`EcgJepaForPreTraining`.
"""

from __future__ import annotations

from torch import Tensor

from ecg_hf.errors import ConversionError
from ecg_hf.models.conversion import Converted, OfficialFiles, OfficialState, attention_heads
from ecg_hf.models.ecg_jepa.configuration_ecg_jepa import JEPA_LEADS, EcgJepaConfig
from ecg_hf.nn.positions import grid_sincos_positions

__all__ = ["FILES", "convert_official"]

FILES = OfficialFiles(
    names=("multiblock_epoch100.pth", "random_epoch100.pth"),
    repository="https://github.com/sehunfromdaegu/ECG_JEPA",
    size_bytes=340_270_080,
    parity="fixture, 2e-5: tokens, embedding, loss, gradients, momentum step",
    keys=("W_P.weight", "encoder_blocks.blocks.0.attn.qkv.weight"),
)

_BLOCK = {
    "norm1.weight": "attention_norm.weight",
    "norm1.bias": "attention_norm.bias",
    "attn.qkv.weight": "attention.qkv.weight",
    "attn.proj.weight": "attention.output.weight",
    "attn.proj.bias": "attention.output.bias",
    "norm2.weight": "mlp_norm.weight",
    "norm2.bias": "mlp_norm.bias",
    "mlp.fc1.weight": "mlp.0.weight",
    "mlp.fc1.bias": "mlp.0.bias",
    "mlp.fc2.weight": "mlp.3.weight",
    "mlp.fc2.bias": "mlp.3.bias",
}
_POSITION_TOLERANCE = 1e-6


def convert_official(
    state: OfficialState,
    *,
    num_attention_heads: int | None = None,
    predictor_num_attention_heads: int | None = None,
) -> Converted:
    """Convert a checkpoint.

    Args:
        state: Official tensors; the encoder's may have the prefix ``encoder.``.
        num_attention_heads: Heads of the encoder, which shapes don't determine: 16 in the released checkpoints.
        predictor_num_attention_heads: Heads of the predictor, if the checkpoint has one: 12 in the official
            pretraining script.

    Raises:
        ConversionError: if the number of heads is needed and not given or does not fit, if positions are not the
            fixed table this package computes, or if this is not a checkpoint of this method.
    """
    prefix = "encoder." if state.has("encoder.") else ""
    whole = state.has("target_encoder.") or state.has("predictor.")
    width, patch_size = state.require_shape(f"{prefix}W_P.weight", 2)
    tokens, _ = state.require_shape(f"{prefix}pos_embed", 2)
    depth = state.count(prefix + "encoder_blocks.blocks.{}.")
    inner = state.require_shape(f"{prefix}encoder_blocks.blocks.0.mlp.fc1.weight", 2)[0]
    leads = len(JEPA_LEADS)
    if tokens % leads:
        raise ConversionError(f"{tokens} positions are not those of {leads} leads", value=tokens)
    patches = tokens // leads
    settings: dict[str, int] = {
        "patch_size": patch_size,
        "num_samples": patches * patch_size,
        "hidden_size": width,
        "num_hidden_layers": depth,
        "intermediate_size": inner,
        "num_attention_heads": attention_heads(
            "encoder", num_attention_heads, width, 16, "--num-attention-heads"
        ),
    }
    converted: dict[str, Tensor] = {}
    if not whole:
        _encoder(state, prefix, "encoder.", settings, converted)
        notes = (
            "the checkpoint holds only the student encoder: more pretraining starts with a new teacher and predictor",
        )
        return Converted(EcgJepaConfig(**settings), converted, "model", notes)

    narrow = state.require_shape("predictor.predictor_embed.weight", 2)[0]
    settings |= {
        "predictor_hidden_size": narrow,
        "predictor_num_layers": state.count("predictor.predictor_blocks.blocks.{}."),
        "predictor_intermediate_size": state.require_shape(
            "predictor.predictor_blocks.blocks.0.mlp.fc1.weight", 2
        )[0],
        "predictor_num_attention_heads": attention_heads(
            "predictor", predictor_num_attention_heads, narrow, 12, "--predictor-num-attention-heads"
        ),
    }
    _encoder(state, "encoder.", "ecg_jepa.encoder.", settings, converted)
    _encoder(state, "target_encoder.", "target_encoder.", settings, converted)
    _predictor(state, settings, converted)
    notes = ("masking and momentum are not in a checkpoint: the configuration has the published ones",)
    return Converted(EcgJepaConfig(**settings), converted, "pretraining", notes)


def _blocks(
    state: OfficialState, source: str, target: str, depth: int, width: int, inner: int, out: dict[str, Tensor]
) -> None:
    shapes = {
        "attn.qkv.weight": (3 * width, width),
        "attn.proj.weight": (width, width),
        "mlp.fc1.weight": (inner, width),
        "mlp.fc1.bias": (inner,),
        "mlp.fc2.weight": (width, inner),
    }
    for layer in range(depth):
        for theirs, ours in _BLOCK.items():
            key, shape = f"{source}.blocks.{layer}.{theirs}", shapes.get(theirs, (width,))
            out[f"{target}.layers.blocks.{layer}.{ours}"] = state.take(key, *shape)


def _plain(state: OfficialState, out: dict[str, Tensor], target: str, source: str, *shape: int) -> None:
    """A weight of the given shape and its bias."""
    out[f"{target}.weight"] = state.take(f"{source}.weight", *shape)
    out[f"{target}.bias"] = state.take(f"{source}.bias", shape[0])


def _encoder(
    state: OfficialState, source: str, target: str, settings: dict[str, int], out: dict[str, Tensor]
) -> None:
    width, size = settings["hidden_size"], settings["patch_size"]
    patches = settings["num_samples"] // size
    _check_positions(
        state, f"{source}pos_embed", grid_sincos_positions(range(len(JEPA_LEADS)), patches, width)
    )
    _plain(state, out, f"{target}patch_projection", f"{source}W_P", width, size)
    _plain(state, out, f"{target}norm", f"{source}norm", width)
    depth, inner = settings["num_hidden_layers"], settings["intermediate_size"]
    _blocks(state, f"{source}encoder_blocks", target.removesuffix("."), depth, width, inner, out)


def _predictor(state: OfficialState, settings: dict[str, int], out: dict[str, Tensor]) -> None:
    width, narrow = settings["hidden_size"], settings["predictor_hidden_size"]
    patches = settings["num_samples"] // settings["patch_size"]
    _check_positions(state, "predictor.pos_embed", grid_sincos_positions([0], patches, narrow))
    out["predictor.mask_token"] = state.take("predictor.mask_token", 1, 1, narrow)
    _plain(state, out, "predictor.embedding", "predictor.predictor_embed", narrow, width)
    _plain(state, out, "predictor.norm", "predictor.predictor_norm", narrow)
    _plain(state, out, "predictor.projection", "predictor.predictor_proj", width, narrow)
    depth, inner = settings["predictor_num_layers"], settings["predictor_intermediate_size"]
    _blocks(state, "predictor.predictor_blocks", "predictor", depth, narrow, inner, out)


def _check_positions(state: OfficialState, key: str, expected: Tensor) -> None:
    """Positions are computed instead of loaded, so the authors' must equal ours."""
    expected = expected.flatten(0, 1)
    found = state.take(key, *expected.shape)
    if state.shape(key) != tuple(expected.shape):
        return  # recorded, and listed with all other problems
    largest = float((found - expected).abs().max())
    if not largest <= _POSITION_TOLERANCE:
        raise ConversionError(
            f"{key} is not the fixed sine-cosine table (largest difference {largest:.3g}): learned positions and "
            "other leads are not supported",
            value=largest,
        )
