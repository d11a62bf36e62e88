"""The run to be planned: what a recipe and options come to, without touching data, devices or the network."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

from transformers import AutoConfig

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.registry import MethodSpec
from ecg_hf.training.arguments import EcgPreTrainingArguments
from ecg_hf.training.recipe import Recipe
from ecg_hf.training.settings import Precision, RunSettings, precision_of, resolve_settings

__all__ = ["PlannedRun", "plan_settings", "planned_run"]

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
        accelerator: Whether the devices are GPUs; else the run is planned for the processor of one machine.
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
    accelerator: bool = True
    notes: tuple[str, ...] = ()

    @property
    def records_per_step(self) -> int:
        """Records in an optimiser step over all devices."""
        return self.batch_size * self.accumulation * self.gpus

    def feature_extractor(self) -> Any:
        """The feature extractor of the run."""
        return self.method.feature_extractor_for(self.config, pretraining=True, **self.extractor_options)


def planned_run(
    model: str,
    *,
    size: str | None = None,
    recipe: str | Path | Recipe | None = None,
    gpus: int = 1,
    batch_size: int | None = None,
    precision: Precision | None = None,
    accelerator: bool = True,
    **options: Any,
) -> PlannedRun:
    """Put a run together as :func:`ecg_hf.training.pretrain` does, from the same options.

    Args:
        model: Method, see ``ecg_hf.models.registry.METHODS``.
        size: Preset; the recipe's if not given.
        recipe: Name or path of a recipe; the library's defaults at the smallest size if not given. Arguments given
            here take precedence over it.
        gpus: Devices, one process each.
        batch_size: Records in a micro-batch of one device.
        precision: Arithmetic; if not given, what recipe and options say, else bfloat16 on a GPU and float32 on a
            processor.
        accelerator: Plan for GPUs, not for the processor of this machine.
        options: ``model_options``, ``extractor_options``, ``text_model`` and ``training_options`` of
            :func:`~ecg_hf.training.settings.resolve_settings`.

    Raises:
        ConfigurationError: There is no such method, size or recipe, or values can't work.
    """
    asked = resolve_settings(model, size=size, recipe=recipe, **options)
    if batch_size is not None:
        asked.training["per_device_train_batch_size"] = batch_size
    return plan_settings(asked, gpus=gpus, precision=precision, accelerator=accelerator)


def plan_settings(
    asked: RunSettings, *, gpus: int = 1, precision: Precision | None = None, accelerator: bool = True
) -> PlannedRun:
    """The run that settings come to; arguments as in :func:`planned_run`.

    Raises:
        ConfigurationError: if values can't work, or the optimiser is not AdamW.
    """
    training = {**_DEFAULTS, **asked.training}
    if not str(getattr(training["optim"], "value", training["optim"])).startswith("adamw_torch"):
        raise ConfigurationError(
            f"plans are made for AdamW, not for {training['optim']}", value=training["optim"]
        )
    options, notes = _text_tower(asked)
    if precision is None:
        precision = precision_of(asked.training, bf16_by_default=accelerator)
    if precision not in get_args(Precision):
        raise ConfigurationError(
            f"unknown precision {precision!r}; known: {', '.join(get_args(Precision))}", value=precision
        )
    run = PlannedRun(
        method=asked.method,
        size=asked.size,
        recipe=asked.recipe,
        config=asked.method.load("config").preset(asked.size, **options),
        extractor_options=asked.extractor_options,
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
        accelerator=accelerator,
        notes=notes,
    )
    for name in ("batch_size", "accumulation", "gpus"):
        value = getattr(run, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigurationError(f"{name} must be a positive whole number, got {value!r}", value=value)
    if run.max_steps <= 0 and not 0 < run.epochs < math.inf:
        raise ConfigurationError(f"epochs must be positive, got {run.epochs!r}", value=run.epochs)
    return run


def _text_tower(asked: RunSettings) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Options with the text tower that would be trained, never downloaded; and what was assumed about it."""
    options, name = asked.model_options, asked.text_model
    if not asked.method.multimodal or name is None or "text_config" in options:
        return options, ()
    if Path(name).is_dir():
        return {**options, "text_config": AutoConfig.from_pretrained(name)}, ()
    return {**options, "text_config": {"model_type": "bert"}}, (
        f"the text tower {name} is not downloaded for a plan: taken to be shaped as BERT-base",
    )
