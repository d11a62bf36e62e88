"""What a run is asked for: method, size, recipe and options, put together in one place.

Training and planning both start from :func:`resolve_settings`, so a plan is that of the run with the same options.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ecg_hf.models.registry import MethodSpec, get_method
from ecg_hf.training.recipe import Recipe, recipe_for

__all__ = ["REPORT_FILE", "Precision", "RunSettings", "precision_of", "resolve_settings"]

REPORT_FILE = "pretrain_report.json"
"""The account of a run, in its folder."""

Precision = Literal["bf16", "fp16", "fp32"]


@dataclass(frozen=True, slots=True)
class RunSettings:
    """A pretraining run before data and devices are looked at.

    Attributes:
        method: The method.
        size: Preset of its configuration.
        recipe: Name of the recipe, ``defaults`` without one.
        model_options: Fields of the configuration beyond the preset.
        extractor_options: Fields of the feature extractor.
        text_model: Pretrained text tower; None to train a small one from scratch, or without text.
        training: Fields of :class:`EcgPreTrainingArguments` that were set.
    """

    method: MethodSpec
    size: str
    recipe: str
    model_options: dict[str, Any]
    extractor_options: dict[str, Any]
    text_model: str | None
    training: dict[str, Any]


def resolve_settings(
    model: str,
    *,
    size: str | None = None,
    recipe: str | Path | Recipe | None = None,
    model_options: Mapping[str, Any] | None = None,
    extractor_options: Mapping[str, Any] | None = None,
    text_model: str | None = None,
    training_options: Mapping[str, Any] | None = None,
) -> RunSettings:
    """Lay options over a recipe; without a recipe, over the library's defaults at the smallest size.

    Args:
        model: Method, see ``ecg_hf.models.registry.METHODS``.
        size: Preset, instead of the recipe's.
        recipe: Name or path of a recipe.
        model_options: Fields of the configuration; ``variant`` names several, over the recipe's.
        extractor_options: Fields of the feature extractor.
        text_model: Pretrained text tower, instead of the recipe's.
        training_options: Fields of :class:`EcgPreTrainingArguments`.

    Raises:
        ConfigurationError: There is no such method, recipe or variant, or the method is not pretrained here.
    """
    method = get_method(model)
    method.require_role("pretraining")
    base = recipe_for(method, recipe)
    text_model = base.text_model if text_model is None else text_model
    options = base.model_options(model_options or {})
    if text_model is None and hasattr(method.load("config"), "freeze_text_layers"):
        # Freezing layers that were never trained would freeze noise: the preset's value is for a pretrained tower.
        options = {**options, "freeze_text_layers": 0}
    return RunSettings(
        method=method,
        size=base.size if size is None else size,
        recipe=base.name,
        model_options=options,
        extractor_options={**base.feature_extractor, **(extractor_options or {})},
        text_model=text_model,
        training={**base.training, **(training_options or {})},
    )


def precision_of(training: Mapping[str, Any], *, bf16_by_default: bool) -> Precision:
    """Arithmetic of the forward pass: what was chosen, else bfloat16 where the device is made for it.

    Args:
        training: Fields of :class:`EcgPreTrainingArguments` that were set.
        bf16_by_default: Whether the run is on a GPU with bfloat16.
    """
    if training.get("fp16"):
        return "fp16"
    chosen = "bf16" in training or "fp16" in training
    return "bf16" if training.get("bf16", bf16_by_default and not chosen) else "fp32"
