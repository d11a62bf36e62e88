"""From the authors' checkpoints of ECG-JEPA (Weimann) to this package's classes.

Their pretraining saves teacher, student and predictor (:class:`WeimannJepaForPreTraining`), their script for smaller
files keeps the teacher alone (:class:`WeimannJepaModel`), their fine-tuning saves an encoder with its classifier
(:class:`WeimannJepaForEcgClassification`).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ecg_hf.errors import ConversionError
from ecg_hf.models.conversion import Converted, OfficialFiles, OfficialState
from ecg_hf.models.weimann_jepa.configuration_weimann_jepa import WeimannJepaConfig
from ecg_hf.signal.leads import STANDARD_LEADS

__all__ = ["FILES", "convert_official"]

FILES = OfficialFiles(
    names=("chkpt_100000.pt", "chkpt_100000.min.pt"),
    repository="https://github.com/kweimann/ECG-JEPA (no weights published)",
    size_bytes=340_740_096,
    parity="fixture, 1e-5: tokens, embedding, attention pooling, loss, gradients, momentum step; parameters of the "
    "published sizes",
    keys=("patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "blocks.0.mlp.fc1.weight"),
)

_TEACHER, _STUDENT, _PREDICTOR = "target_encoder.", "encoder.", "predictor."
_LAYER = {
    "norm1": "attention_norm",
    "attn.qkv": "attention.qkv",
    "attn.proj": "attention.output",
    "norm2": "mlp_norm",
    "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.3",
}
# Heads by width and depth of the networks that the authors have configurations of.
_HEADS = {(192, 8): 4, (384, 8): 6, (768, 12): 12}
_PREDICTOR_HEADS = {(96, 8): 4, (192, 8): 6, (384, 12): 12}
_PUBLISHED = {
    "channel_size": 5000,
    "sampling_frequency": 500,
    "norm_eps": 1e-6,
    "dropout": 0.0,
    "attn_dropout": 0.0,
    "min_keep_ratio": 0.15,
    "max_keep_ratio": 0.25,
    "min_block_size": 10,
    "encoder_momentum": 0.998,
    "final_encoder_momentum": 0.9995,
    "use_register": False,
}


def convert_official(
    state: OfficialState,
    *,
    num_attention_heads: int | None = None,
    predictor_num_attention_heads: int | None = None,
) -> Converted:
    """Convert a checkpoint.

    Widths and depths are read from the shapes. Heads are known of the published sizes; others need ``num_heads`` and,
    of whole files, ``pred_num_heads`` of the authors' configuration, which their own files hold. Length, rate, leads,
    masks and momentum are from there too, and the published ones without it.

    Args:
        state: Official tensors; a bare encoder may lack the prefix ``target_encoder.`` or ``encoder.``.
        num_attention_heads: Heads of the encoder, instead of ``num_heads``.
        predictor_num_attention_heads: Heads of the predictor, instead of ``pred_num_heads``.

    Raises:
        ConversionError: Sizes can't be read, or are not known; a classifier pools what ours does not.
    """
    prefix = next((name for name in (_TEACHER, _STUDENT) if state.has(name)), "")
    head = next((name for name in ("attn_pool.", "fc.") if state.has(name)), None)
    told = state.options(*_PUBLISHED, published=_PUBLISHED)
    settings = _encoder_sizes(state, prefix, told, num_attention_heads)
    if head is not None:
        return _classifier(state, prefix, head, settings, told)
    if not state.has(_PREDICTOR):
        config = WeimannJepaConfig(**settings)
        weights = _encoder(state, prefix, "encoder.", config)
        note = "the checkpoint holds one encoder: more pretraining starts with its copy as student, a new predictor"
        return Converted(config, weights, "model", (note,))
    config = WeimannJepaConfig(**settings, **_predictor_sizes(state, told, predictor_num_attention_heads))
    weights = {
        **_encoder(state, _TEACHER, "weimann_jepa.encoder.", config),
        **_encoder(state, _STUDENT, "student.", config),
        **_predictor(state, config),
    }
    note = "the embedding is that of the teacher, target_encoder, which the authors evaluate"
    return Converted(config, weights, "pretraining", (note,))


def _heads(state: OfficialState, option: str, given: int | None, published: int | None) -> int:
    if given is not None:
        return given
    known = {} if published is None else {option: published}
    heads: int = state.options(option, published=known)[option]
    return heads


def _encoder_sizes(
    state: OfficialState, prefix: str, told: dict[str, Any], num_heads: int | None
) -> dict[str, Any]:
    """Fields of the configuration but for the predictor's."""
    width, leads, patch_size = state.require_shape(f"{prefix}patch_embed.proj.weight", 3)
    depth = state.count(prefix + "blocks.{}.")
    registers = state.shape(f"{prefix}registers")
    return {
        "sampling_rate": told["sampling_frequency"],
        "num_samples": told["channel_size"],
        "lead_names": _leads(state, leads),
        "patch_size": patch_size,
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": _heads(state, "num_heads", num_heads, _HEADS.get((width, depth))),
        "intermediate_size": state.require_shape(f"{prefix}blocks.0.mlp.fc1.weight", 2)[0],
        "num_registers": registers[1] if registers and len(registers) == 3 else 0,
        "bias": state.has(f"{prefix}patch_embed.proj.bias"),
        "qkv_bias": state.has(f"{prefix}blocks.0.attn.qkv.bias"),
        "hidden_dropout": told["dropout"],
        "attention_dropout": told["attn_dropout"],
        "layer_norm_eps": told["norm_eps"],
        "keep_ratio": [told["min_keep_ratio"], told["max_keep_ratio"]],
        "min_block_size": told["min_block_size"],
        "ema_momentum": told["encoder_momentum"],
        "ema_momentum_end": told["final_encoder_momentum"],
    }


def _leads(state: OfficialState, count: int) -> list[str]:
    """Names of the leads; those of the authors' data where the configuration has none."""
    names = state.options("channels", published={"channels": STANDARD_LEADS})["channels"]
    listed = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    if not listed or len(names) != count:
        raise ConversionError(f"the network takes {count} leads, channels names {names!r}", value=names)
    return list(names)


def _predictor_sizes(state: OfficialState, told: dict[str, Any], num_heads: int | None) -> dict[str, Any]:
    width = state.require_shape(f"{_PREDICTOR}embed.weight", 2)[0]
    depth = state.count(_PREDICTOR + "blocks.{}.")
    return {
        "predictor_hidden_size": width,
        "predictor_num_layers": depth,
        "predictor_num_attention_heads": _heads(
            state, "pred_num_heads", num_heads, _PREDICTOR_HEADS.get((width, depth))
        ),
        "predictor_intermediate_size": state.require_shape(f"{_PREDICTOR}blocks.0.mlp.fc1.weight", 2)[0],
    }


def _take(
    state: OfficialState, out: dict[str, Tensor], target: str, source: str, bias: bool, *shape: int
) -> None:
    """A weight of the given shape and, if there is to be one, its bias."""
    out[f"{target}.weight"] = state.take(f"{source}.weight", *shape)
    if bias:
        out[f"{target}.bias"] = state.take(f"{source}.bias", shape[0])


def _blocks(
    state: OfficialState,
    source: str,
    target: str,
    depth: int,
    width: int,
    inner: int,
    config: WeimannJepaConfig,
) -> dict[str, Tensor]:
    shapes = {
        "attn.qkv": (3 * width, width),
        "attn.proj": (width, width),
        "mlp.fc1": (inner, width),
        "mlp.fc2": (width, inner),
    }
    out: dict[str, Tensor] = {}
    for layer in range(depth):
        for theirs, ours in _LAYER.items():
            bias = config.qkv_bias if theirs == "attn.qkv" else config.bias
            names = f"{target}layers.blocks.{layer}.{ours}", f"{source}blocks.{layer}.{theirs}"
            _take(state, out, *names, bias, *shapes.get(theirs, (width,)))
    return out


def _encoder(state: OfficialState, source: str, target: str, config: WeimannJepaConfig) -> dict[str, Tensor]:
    width, leads = config.hidden_size, config.num_leads
    out = _blocks(state, source, target, config.num_hidden_layers, width, config.intermediate_size, config)
    if config.num_registers:
        out[f"{target}registers"] = state.take(f"{source}registers", 1, config.num_registers, width)
    patches = f"{target}patch_projection", f"{source}patch_embed.proj"
    _take(state, out, *patches, config.bias, width, leads, config.patch_size)
    _take(state, out, f"{target}norm", f"{source}norm", config.bias, width)
    return out


def _predictor(state: OfficialState, config: WeimannJepaConfig) -> dict[str, Tensor]:
    width, narrow = config.hidden_size, config.predictor_hidden_size
    depth, inner = config.predictor_num_layers, config.predictor_intermediate_size
    out = _blocks(state, _PREDICTOR, _PREDICTOR, depth, narrow, inner, config)
    out["predictor.mask_token"] = state.take("predictor.mask_token", 1, 1, narrow)
    _take(state, out, "predictor.embedding", "predictor.embed", config.bias, narrow, width)
    _take(state, out, "predictor.norm", "predictor.norm", config.bias, narrow)
    _take(state, out, "predictor.projection", "predictor.proj", config.bias, width, narrow)
    return out


def _classifier(
    state: OfficialState, prefix: str, head: str, settings: dict[str, Any], told: dict[str, Any]
) -> Converted:
    """The encoder with attention pooling or a linear layer on the mean of its tokens."""
    if told["use_register"]:
        raise ConversionError("its classifier pools registers too (use_register), which is not supported")
    attention = head == "attn_pool."
    last = "attn_pool.cross_attention_block.proj" if attention else "fc"
    labels, width = state.require_shape(f"{last}.weight", 2)
    config = WeimannJepaConfig(
        **settings, num_labels=labels, classifier_pooling="attention" if attention else "mean"
    )
    weights = _encoder(state, prefix, "weimann_jepa.encoder.", config)
    weights["classifier.weight"] = state.take(f"{last}.weight", labels, width)
    if attention:
        pool = "attn_pool.cross_attention_block."
        key_value = state.take(f"{pool}kv.weight", 2 * width, width)
        weights |= {
            "classifier_pool.query": state.take("attn_pool.query_token", 1, 1, width),
            "classifier_pool.query_projection.weight": state.take(f"{pool}q.weight", width, width),
            "classifier_pool.key_projection.weight": key_value[:width],
            "classifier_pool.value_projection.weight": key_value[width:],
        }
    else:
        # The authors' linear layer has no bias unless asked to: zeros are the same.
        bias = state.shape("fc.bias")
        weights["classifier.bias"] = (
            weights["classifier.weight"].new_zeros(labels) if bias is None else state.take("fc.bias", labels)
        )
    extractor: dict[str, Any] = {}
    if state.has("preprocess."):
        for name in ("mean", "std"):
            # In the order of PTB-XL's files, whatever the network's is.
            values = state.take(f"preprocess.{name}", len(STANDARD_LEADS)).tolist()
            extractor[name] = [values[STANDARD_LEADS.index(lead)] for lead in config.lead_names or ()]
    notes = ["the labels have no names in the checkpoint"]
    if prefix == _TEACHER and state.has(_STUDENT):
        for key in list(state.keys()):
            if key.startswith((_STUDENT, _PREDICTOR)):
                state.ignore(key)
        notes.append("student and predictor of the pretraining were left out")
    return Converted(config, weights, "classification", tuple(notes), extractor)
