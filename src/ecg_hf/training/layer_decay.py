"""Smaller learning rates for the layers nearer to the signal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from ecg_hf.errors import ConfigurationError

__all__ = ["layer_depths", "layerwise_groups", "part_groups"]


def layer_depths(model: nn.Module) -> dict[str, int]:
    """Depth of every parameter: 0 before the first layer, i for layer i, one more than the layers behind them.

    The layers are those the model names, see :attr:`ecg_hf.models.modeling.EcgPreTrainedModel.encoder_layers`; what
    is defined before them (patch tokeniser, positions) is at depth 0, what is defined after them (final norm, head)
    behind the last layer.

    Raises:
        ConfigurationError: if the model names no layers.
    """
    # A wrapper, such as that of adapters or of distributed training, has the model somewhere inside.
    found = (getattr(module, "encoder_layers", None) for module in model.modules())
    layers = next((layers for layers in found if isinstance(layers, nn.ModuleList)), None)
    prefix = next((name for name, module in model.named_modules() if module is layers), None)
    if layers is None or prefix is None:
        raise ConfigurationError(
            f"layer_decay: {type(model).__name__} names no encoder_layers; use 1 to train all parameters alike"
        )
    depths, behind = {}, False
    for name, _ in model.named_parameters():
        if name.startswith(f"{prefix}."):
            behind = True
            depths[name] = 1 + int(name[len(prefix) + 1 :].split(".", 1)[0])
        else:
            depths[name] = len(layers) + 1 if behind else 0
    return depths


def layerwise_groups(
    model: nn.Module, learning_rate: float, decay: float, weight_decay: float, decaying: set[str]
) -> list[dict[str, Any]]:
    """Optimiser groups with the learning rate multiplied by ``decay`` for each layer away from the head.

    Args:
        model: Model to train.
        learning_rate: Rate of the head.
        decay: Factor per layer, in (0, 1].
        weight_decay: Of the parameters in ``decaying``.
        decaying: Names of the parameters with weight decay.

    Raises:
        ConfigurationError: if ``decay`` is below 1 and the model names no layers.
    """
    depths = layer_depths(model) if decay < 1.0 else dict.fromkeys(dict(model.named_parameters()), 0)
    deepest = max(depths.values())
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = depths[name], name in decaying
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": learning_rate * decay ** (deepest - depth),
            "weight_decay": weight_decay if decays else 0.0,
        }
        for (depth, decays), parameters in groups.items()
    ]


def part_groups(
    model: PreTrainedModel,
    rates: Mapping[str, float],
    stem_layers: int,
    weight_decay: float,
    decaying: set[str],
) -> list[dict[str, Any]]:
    """Optimiser groups with one learning rate each for the head, the encoder and its stem.

    The head is what the classifier adds to the pretrained model; the stem is what comes before the encoder's first
    layer.

    Args:
        model: Model to train.
        rates: Of ``"head"``, ``"encoder"`` and ``"stem"``.
        stem_layers: First layers that belong to the stem.
        weight_decay: Of the parameters in ``decaying``.
        decaying: Names of the parameters with weight decay.

    Raises:
        ConfigurationError: if the model names no layers.
    """
    depths = layer_depths(model)
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        part = "stem" if depths[name] <= stem_layers else "encoder"
        if not name.startswith(f"{model.base_model_prefix}."):
            part = "head"
        groups.setdefault((part, name in decaying), []).append(parameter)
    return [
        {"params": parameters, "lr": rates[part], "weight_decay": weight_decay if decays else 0.0}
        for (part, decays), parameters in groups.items()
    ]
