"""The authors' checkpoints of MELP, of which the ECG encoder with its poolers is kept, to this package's class."""

from __future__ import annotations

from torch import Tensor

from ecg_hf.errors import ConversionError
from ecg_hf.models.conversion import Converted, OfficialFiles, OfficialState
from ecg_hf.models.ecg_fm.conversion_ecg_fm import take_tower, tower_sizes
from ecg_hf.models.ecg_text.conversion_merl import LEADS
from ecg_hf.models.melp.configuration_melp import MelpConfig

__all__ = ["FILES", "convert_official", "take_pooler"]

_CONTRAST, _CAPTION = "attn_pool_contrast.", "attn_pool_caption."

FILES = OfficialFiles(
    names=("model.safetensors",),
    repository="https://huggingface.co/fuyingw/MELP_Encoder",
    size_bytes=260_335_104,
    parity="structure only: poolers on their fixture, 1e-5; no whole model to compare with",
    # Long enough to be told from ECG-FM, whose keys the file has behind a prefix.
    keys=(
        f"{_CONTRAST}query",
        f"{_CONTRAST}attn.q_proj_weight",
        f"{_CONTRAST}attn.k_proj_weight",
        f"{_CONTRAST}attn.v_proj_weight",
        "proj_contrast",
    ),
)

_UNUSED_TOWER = ("mask_emb", "quantizer.", "project_q.", "final_proj.")
_UNUSED = ("logit_scale", "bn.", "head.")
_NOTES = (
    "structure only: the poolers were shown equal to the official code, the whole network was not",
    "heads of the tower's own pretraining, the temperature and a batch norm that no embedding passes were left out",
    "leads in the order of MIMIC-IV-ECG, aVF before aVL, as the weights expect",
)


def convert_official(state: OfficialState, *, num_attention_heads: int | None = None) -> Converted:
    """Convert the encoder: the file of the Hub, or a training checkpoint that has it.

    Where the poolers and the transformer are in the file is found by their keys. Widths and depths are read from the
    shapes. Heads and strides are known of the published size; others need ``encoder_attention_heads``,
    ``conv_feature_layers`` and ``attn_pooler_heads`` of the authors' configuration (``--config``); the poolers'
    heads may be called ``heads`` too.

    Args:
        state: The official tensors.
        num_attention_heads: Heads of the transformer, instead of ``encoder_attention_heads``.

    Raises:
        ConversionError: Sizes can't be read, or are not known.
    """
    prefix = _prefix(state, f"{_CONTRAST}query")
    tower = _prefix(state, "post_extract_proj.weight")
    published = MelpConfig()
    sizes = tower_sizes(state, tower, published, num_attention_heads)
    beats, width = state.require_shape(f"{prefix}{_CONTRAST}query", 2)
    captions, caption_width = 0, published.token_dim
    if state.has(prefix + _CAPTION):
        captions, caption_width = state.require_shape(f"{prefix}{_CAPTION}query", 2)
    is_published = (sizes["hidden_size"], width) == (published.hidden_size, published.projection_dim)
    config = MelpConfig(
        **sizes,
        lead_names=LEADS,
        projection_dim=width,
        num_beat_queries=beats,
        token_dim=caption_width,
        num_token_queries=captions,
        pooler_heads=_pooler_heads(state, published.pooler_heads if is_published else None),
    )
    weights = {f"encoder.{name}": value for name, value in take_tower(state, tower, config).items()}
    weights |= _poolers(state, prefix, config)
    for key in list(state.keys()):
        if key.startswith((*(tower + name for name in _UNUSED_TOWER), *(prefix + name for name in _UNUSED))):
            state.ignore(key)
    # Where the poolers' keys have no prefix, any other key is an error.
    others = state.ignore_outside(prefix) if tower.startswith(prefix) else 0
    notes = (*_NOTES, f"{others} tensors beside the ECG encoder were left out: the text side is not here")
    return Converted(config, weights, "model", notes if others else _NOTES)


def _prefix(state: OfficialState, end: str) -> str:
    """What is before the only key that ends with ``end``."""
    found = [key for key in state.keys() if f".{key}".endswith(f".{end}")]  # noqa: SIM118
    if len(found) != 1:
        what = f"{len(found)} keys are" if found else "no key is"
        raise ConversionError(f"not a checkpoint of this method: {what} {end}", value=found)
    return found[0].removesuffix(end)


def _pooler_heads(state: OfficialState, published: int | None) -> int:
    known = state.options("heads", published={"heads": published})["heads"]
    heads = state.options(
        "attn_pooler_heads", published=None if known is None else {"attn_pooler_heads": known}
    )["attn_pooler_heads"]
    try:
        return int(heads)
    except (TypeError, ValueError):
        raise ConversionError("attn_pooler_heads must be a whole number", value=heads) from None


def _poolers(state: OfficialState, prefix: str, config: MelpConfig) -> dict[str, Tensor]:
    width = config.projection_dim
    weights = take_pooler(state, prefix + _CONTRAST, "beat_pool.", config.num_beat_queries, width, config)
    # The official product is beats @ matrix.
    weights["projection.weight"] = state.take(f"{prefix}proj_contrast", width, width).T.contiguous()
    norms = {"ln_contrast": ("beat_norm", width)}
    if config.num_token_queries:
        queries, width = config.num_token_queries, config.token_dim
        weights |= take_pooler(state, prefix + _CAPTION, "token_pool.", queries, width, config)
        norms["ln_caption"] = ("token_norm", width)
    for official, (ours, size) in norms.items():
        for name in ("weight", "bias"):
            weights[f"{ours}.{name}"] = state.take(f"{prefix}{official}.{name}", size)
    return weights


def take_pooler(
    state: OfficialState, official: str, target: str, queries: int, width: int, config: MelpConfig
) -> dict[str, Tensor]:
    """One attentional pooler.

    Args:
        state: The official tensors.
        official: Before its keys there.
        target: Before its keys here.
        queries: Their number.
        width: Of the queries.
        config: Has the width of the tokens.
    """
    hidden = config.hidden_size
    # torch has one matrix for queries, keys and values where all are of one width.
    inside: dict[str, tuple[int, ...]] = (
        {"in_proj_weight": (3 * width, width)}
        if width == hidden
        else {
            "q_proj_weight": (width, width),
            "k_proj_weight": (width, hidden),
            "v_proj_weight": (width, hidden),
        }
    )
    inside |= {"in_proj_bias": (3 * width,), "out_proj.weight": (width, width), "out_proj.bias": (width,)}
    weights = {f"{target}query": state.take(f"{official}query", queries, width)}
    for name, shape in inside.items():
        weights[f"{target}attention.{name}"] = state.take(f"{official}attn.{name}", *shape)
    for theirs, ours, size in (("ln_q", "query_norm", width), ("ln_k", "token_norm", hidden)):
        for name in ("weight", "bias"):
            weights[f"{target}{ours}.{name}"] = state.take(f"{official}{theirs}.{name}", size)
    return weights
