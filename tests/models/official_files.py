"""A tiny file as its authors publish it, for every method whose weights convert, and what its conversion is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from ecg_hf.models.melp.configuration_melp import MelpConfig
from ecg_hf.models.melp.modeling_melp import MelpModel
from ecg_hf.models.registry import METHODS

__all__ = ["CONVERTED", "Official", "official_file"]

Official = tuple[dict[str, Tensor], dict[str, Any]]
"""Tensors by the authors' keys, and keywords of ``convert_checkpoint``."""

CONVERTED = [name for name, spec in METHODS.items() if spec.official_weights is not None]
"""Methods that have a converter."""

# Fixture, the prefix of its weights where it holds other tensors too, and what neither tensors nor metadata tell.
_FIXTURES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "clear-hug": (
        "clear_hug/clear_stage1_state_dict",
        "",
        {"num_attention_heads": 4, "decoder_num_attention_heads": 4},
    ),
    "d-beta": ("d_beta/tiny_state_dict", "", {}),
    "ecg-cpc": ("cpc_s4/causal_state_dict", "", {}),
    "ecg-fm": ("ecg_fm/tiny_state_dict", "", {}),
    "ecg-jepa": (
        "ecg_jepa/tiny_state_dict",
        "",
        {"num_attention_heads": 4, "predictor_num_attention_heads": 2},
    ),
    "ecgfounder": ("ecgfounder/tiny_state_dict", "", {}),
    "heartlang": ("heartlang/tiny_backbone_state_dict", "", {}),
    "hubert-ecg": ("hubert_ecg/tiny_state_dict", "", {}),
    "ked": ("ked/tiny_state_dict", "", {}),
    "merl": ("merl/tiny_resnet18_ecgclip", "state.", {"num_attention_heads": 4}),
    "st-mem": ("st_mem/tiny_st_mem_norm_pix_true", "state.", {"config": {"heads": 2}}),
    "weimann-jepa": ("weimann_ecg_jepa/tiny_state_dict", "", {}),
}


def _melp(fixtures: Any) -> Official:
    """No whole file of MELP exists to compare with: the layout of a small model of ours."""
    from tests.models.melp.test_parity_melp import SIZES, official_layout

    torch.manual_seed(0)
    network = MelpModel(MelpConfig.preset("micro"))
    return official_layout(network, tower="ecg_encoder."), {"config": SIZES}


_OTHERS: dict[str, Callable[[Any], Official]] = {"melp": _melp}


def official_file(method: str, fixtures: Any) -> Official:
    """The file of a method of :data:`CONVERTED`.

    Args:
        method: Name in the registry.
        fixtures: Folder of the official numbers, as the fixture ``shared_fixtures``.
    """
    if method in _OTHERS:
        return _OTHERS[method](fixtures)
    name, prefix, told = _FIXTURES[method]
    folder, _, file = name.partition("/")
    path = Path(fixtures / folder) / f"{file}.safetensors"
    with safe_open(path, "pt") as opened:
        metadata = opened.metadata() or {}
    # Of KED each size has its own entry; the others have one that holds all of them.
    config = json.loads(metadata["config"]) if "config" in metadata else metadata
    if config and "num_attention_heads" not in told:
        told = {"config": config, **told}
    weights = load_file(path)
    return {key.removeprefix(prefix): weights[key] for key in weights if key.startswith(prefix)}, dict(told)
