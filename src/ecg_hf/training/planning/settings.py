"""The run to be planned: what a recipe and options come to, without touching data, devices or the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from transformers import AutoConfig

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.registry import MethodSpec, get_method
from ecg_hf.training.arguments import EcgPreTrainingArguments
from ecg_hf.training.recipe import Recipe, list_recipes, recipe_for

__all__ = ["PlannedRun", "Precision", "planned_run"]

Precision = Literal["bf16", "fp16", "fp32"]

_DEFAULTS = {field.name: field.default for field in fields(EcgPreTrainingArguments)}


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A pretraining run on several devices.

    Attributes:
        method: The method.
        size: Preset of its configuration.
        recipe: Name of the recipe.
        config: Configuration of the model.
        extractor_options: Fields of the feature extractor that the recipe sets.
        batch_size: Records in a micro-batch of one device.
        accumulation: Micro-batches of an optimiser step.
        gpus: Devices.
        epochs: Passes over the data.
        max_steps: Optimiser steps if positive, instead of ``epochs``.
        precision: Arithmetic of the forward pass; weights, gradients and optimiser are float32 in any case.
        checkpointing: Whether activations are recomputed in the backward pass.
        exact_accumulation: See :class:`EcgPreTrainingArguments`.
        drop_last: Whether an incomplete last batch of an epoch is left out.
        checkpoints_kept: Checkpoints on disk at a time; None for all.
        notes: What was assumed on the way.
    """

    method: MethodSpec
    size: str
    recipe: str
    config: Any
    extractor_options: dict[str, Any]
    batch_size: int
    accumulation: int
    gpus: int
    epochs: float
    max_steps: int
    precision: Precision
    checkpointing: bool
    exact_accumulation: bool
    drop_last: bool
    checkpoints_kept: int | None
    notes: tuple[str, ...] = ()

    @property
    def records_per_step(self) -> int:
        """Records in an optimiser step over all devices."""
        return self.batch_size * self.accumulation * self.gpus

    def feature_extractor(self) -> Any:
        """The feature extractor of the run."""
        return self.method.feature_extractor_for(self.config, **self.extractor_options)


def planned_run(
    model: str,
    *,
    size: str | None = None,
    recipe: str | Path | Recipe | None = None,
    gpus: int = 1,
    batch_size: int | None = None,
    precision: Precision | None = None,
    model_options: Mapping[str, Any] | None = None,
    training_options: Mapping[str, Any] | None = None,
) -> PlannedRun:
    """Put a run together as :func:`ecg_hf.training.pretrain` would.

    Args:
        model: Method, see ``ecg_hf.models.registry.METHODS``.
        size: Preset; the recipe's if not given.
        recipe: Name or path of a recipe, the method's published one if not given. Arguments given here take
            precedence over it.
        gpus: Devices, one process each.
        batch_size: Records in a micro-batch of one device.
        precision: Arithmetic; if not given, what the recipe says, else bfloat16 as on any recent GPU.
        model_options: Fields of the configuration.
        training_options: Fields of :class:`EcgPreTrainingArguments`.

    Raises:
        ConfigurationError: There is no such method, size or recipe, or values can't work.
    """
    method = get_method(model)
    if recipe is None and method.module in list_recipes():
        recipe = method.module
    base = recipe_for(method, recipe)
    size = base.size if size is None else size
    training = {**_DEFAULTS, **base.training, **(training_options or {})}
    if batch_size is not None:
        training["per_device_train_batch_size"] = batch_size
    if not str(getattr(training["optim"], "value", training["optim"])).startswith("adamw_torch"):
        raise ConfigurationError(
            f"plans are made for AdamW, not for {training['optim']}", value=training["optim"]
        )
    options, notes = _text_tower(method, base, base.model_options(model_options or {}))
    precision = _precision(base, training_options or {}) if precision is None else precision
    if precision not in get_args(Precision):
        raise ConfigurationError(
            f"unknown precision {precision!r}; known: {', '.join(get_args(Precision))}", value=precision
        )
    run = PlannedRun(
        method=method,
        size=size,
        recipe=base.name,
        config=method.load("config").preset(size, **options),
        extractor_options=dict(base.feature_extractor),
        batch_size=training["per_device_train_batch_size"],
        accumulation=training["gradient_accumulation_steps"],
        gpus=gpus,
        epochs=training["num_train_epochs"],
        max_steps=training["max_steps"],
        precision=precision,
        checkpointing=bool(training["gradient_checkpointing"]),
        exact_accumulation=bool(training["exact_accumulation"]),
        drop_last=bool(training["dataloader_drop_last"]),
        checkpoints_kept=training["save_total_limit"],
        notes=notes,
    )
    for name in ("batch_size", "accumulation", "gpus"):
        value = getattr(run, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigurationError(f"{name} must be a positive whole number, got {value!r}", value=value)
    if run.max_steps <= 0 and not run.epochs > 0:
        raise ConfigurationError(f"epochs must be positive, got {run.epochs!r}", value=run.epochs)
    return run


def _precision(recipe: Recipe, given: Mapping[str, Any]) -> Precision:
    """As pretraining chooses on a GPU: bfloat16 unless a precision was."""
    chosen = {**recipe.training, **given}
    if chosen.get("fp16"):
        return "fp16"
    return "bf16" if chosen.get("bf16", "fp16" not in chosen) else "fp32"


def _text_tower(
    method: MethodSpec, recipe: Recipe, options: dict[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Options with the text tower that would be trained, never downloaded; and what was assumed about it."""
    if not method.multimodal:
        return options, ()
    name = recipe.text_model
    if name is None:
        # A tower trained from scratch has no layers worth freezing, see ``ecg_hf.training.run``.
        return {**options, "freeze_text_layers": 0}, ()
    if "text_config" in options:
        return options, ()
    if Path(name).is_dir():
        return {**options, "text_config": AutoConfig.from_pretrained(name)}, ()
    return {**options, "text_config": {"model_type": "bert"}}, (
        f"the text tower {name} is not downloaded for a plan: taken to be shaped as BERT-base",
    )
