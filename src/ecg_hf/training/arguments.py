"""Training arguments with the defaults that pretraining and fine-tuning on ECGs want."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from typing import Any, Literal

from transformers import HfArgumentParser, TrainingArguments

from ecg_hf.errors import ConfigurationError

__all__ = [
    "EcgArgumentParser",
    "EcgFineTuningArguments",
    "EcgPreTrainingArguments",
    "check_training_arguments",
]

_POSITIVE = (
    *("gradient_accumulation_steps", "per_device_train_batch_size", "per_device_eval_batch_size"),
    *("eval_accumulation_steps", "dataloader_prefetch_factor"),
)
_USUAL = (
    *(
        "output_dir",
        "num_train_epochs",
        "max_steps",
        "per_device_train_batch_size",
        "seed",
        "bf16",
        "use_cpu",
    ),
    *(
        "gradient_accumulation_steps",
        "gradient_checkpointing",
        "warmup_steps",
        "eval_strategy",
        "save_strategy",
    ),
)
_NOT_NEGATIVE = ("neftune_noise_alpha", "max_grad_norm", "weight_decay", "learning_rate", "num_train_epochs")


def check_training_arguments(arguments: TrainingArguments) -> None:
    """Refuse values that would fail late, or train without a word what nobody can want.

    Raises:
        ConfigurationError: A value is not finite, not positive where it counts something, drops columns that
            collators need, asks for batches by length (records of a run all have one length), or for a tracker that
            is not installed.
    """
    for entry in fields(arguments):
        value = getattr(arguments, entry.name, None)
        finite = not isinstance(value, float) or math.isfinite(value)
        if not finite and not (entry.name == "max_grad_norm" and value == math.inf):
            raise ConfigurationError(f"{entry.name} must be a finite number, got {value}", value=value)
    for names, lowest, what in ((_POSITIVE, 1, "at least 1"), (_NOT_NEGATIVE, 0, "0 or more")):
        for name in names:
            value = getattr(arguments, name, None)
            if value is not None and value < lowest:
                raise ConfigurationError(f"{name} must be {what}, got {value}", value=value)
    if arguments.remove_unused_columns:
        raise ConfigurationError(
            "remove_unused_columns must stay False: collators need every column", value=True
        )
    if "trackio" in (arguments.report_to or ()) and find_spec("trackio") is None:
        raise ConfigurationError("report_to trackio needs trackio: pip install trackio", value="trackio")
    strategy = getattr(arguments, "train_sampling_strategy", None)
    if getattr(strategy, "value", strategy) == "group_by_length":
        raise ConfigurationError(
            "train_sampling_strategy group_by_length: records all have one length here, there is nothing to group",
            value="group_by_length",
        )


class EcgArgumentParser(HfArgumentParser):  # type: ignore[misc]
    """``HfArgumentParser`` whose help is about a script's own options.

    Fields of ``TrainingArguments`` stay options, but of more than a hundred the help shows only those that most runs
    set, and those that a subclass changes.
    """

    def __init__(self, dataclass_types: Any, **kwargs: Any) -> None:
        kwargs.setdefault("epilog", "Every other field of transformers.TrainingArguments is an option too.")
        super().__init__(dataclass_types, **kwargs)
        types = self.dataclass_types
        changed = {name for kind in types for name in vars(kind).get("__annotations__", {})}
        hidden = {entry.name for entry in fields(TrainingArguments)} - changed - set(_USUAL)
        for action in self._actions:
            if action.dest in hidden:
                action.help = argparse.SUPPRESS


@dataclass
class EcgPreTrainingArguments(TrainingArguments):
    """``TrainingArguments`` with other defaults and two additions.

    Args:
        exact_accumulation: With ``gradient_accumulation_steps=G``, let contrastive losses see all G
            micro-batches, so that losses and gradients equal one batch of G times the size. Costs one extra
            forward pass without gradient. Nothing changes for G = 1 or for
            models without contrastive embeddings. Models with batch norms (ACL-ECG, ECG-CPC), for which no
            accumulation is exact, refuse G > 1 unless this is False.

        weight_average_decay: Keep an exponential moving average of the weights with this decay per optimiser step,
            evaluate it, and leave it as the trained model. None keeps no average.

    Defaults that differ from ``TrainingArguments``, and why:
        ``remove_unused_columns=False``: batches are made by our collators. ``label_names=[]``: the loss needs no
        labels, evaluation must not look for any. ``dataloader_drop_last=True``: a smaller last batch has fewer
        negatives (evaluation keeps every record). ``logging_nan_inf_filter=False``: the filter waits for the
        device in every step, and hides a loss that became NaN. ``ddp_find_unused_parameters=False``: no
        pretraining model here leaves parameters unused. ``data_seed``: equal to ``seed`` unless given, so that the
        order of records does not depend on what was drawn before.
    """

    learning_rate: float = field(default=2e-4, metadata={"help": "Peak learning rate."})
    weight_decay: float = field(default=1e-5, metadata={"help": "Weight decay of AdamW, matrices only."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Learning-rate schedule."})
    logging_steps: float = field(default=50, metadata={"help": "Optimiser steps between log lines."})
    save_total_limit: int | None = field(default=2, metadata={"help": "Checkpoints to keep."})
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Keep False: collators need every column."}
    )
    label_names: list[str] | None = field(
        default_factory=list, metadata={"help": "Pretraining has no labels."}
    )
    dataloader_drop_last: bool = field(
        default=True, metadata={"help": "Drop the last, smaller training batch."}
    )
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "Hide losses that are not finite."})
    ddp_find_unused_parameters: bool | None = field(
        default=False, metadata={"help": "Search for unused parameters in each step of distributed training."}
    )
    exact_accumulation: bool = field(
        default=True,
        metadata={
            "help": "Let contrastive losses see all micro-batches of an optimiser step (one extra forward)."
        },
    )

    weight_average_decay: float | None = field(
        default=None,
        metadata={"help": "Decay of an average of the weights, which becomes the trained model."},
    )

    def __post_init__(self) -> None:
        """Resolve defaults that depend on others."""
        check_training_arguments(self)
        decay = self.weight_average_decay
        if decay is not None and not 0.0 <= decay < 1.0:
            raise ConfigurationError(f"weight_average_decay must be in [0, 1), got {decay}", value=decay)
        if getattr(self, "data_seed", None) is None:
            self.data_seed = self.seed
        super().__post_init__()
        if self.device.type == "cpu":
            self.dataloader_pin_memory = False


@dataclass
class EcgFineTuningArguments(TrainingArguments):
    """``TrainingArguments`` for fine-tuning: keep the epoch with the best validation macro AUROC.

    Args:
        layer_decay: Factor on the learning rate for each layer away from the head; 1 trains all alike.
        early_stopping_patience: Evaluations without a better macro AUROC before training stops; 0 never stops.
        encoder_learning_rate: Rate of the encoder; then ``learning_rate`` is the head's alone, and ``layer_decay``
            must be 1.
        stem_learning_rate: Rate of what comes before the encoder's first layer; the encoder's by default.
        stem_layers: First layers of the encoder that learn at the stem's rate.
        decay_all: Weight decay on biases and norms too, as plain AdamW over ``model.parameters()``.
        class_weights: ``balanced`` gives the rarer label value as much weight in the loss as the commoner one, see
            :func:`balanced_class_weights`; ``none`` counts every record alike.
    """

    learning_rate: float = field(default=1e-4, metadata={"help": "Peak learning rate, of the head."})
    weight_decay: float = field(default=0.05, metadata={"help": "Weight decay of AdamW, matrices only."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Learning-rate schedule."})
    warmup_steps: float = field(default=0.1, metadata={"help": "Warm-up: steps, or below 1 a share of all."})
    num_train_epochs: float = field(default=30.0, metadata={"help": "Epochs at most."})
    eval_strategy: str = field(default="epoch", metadata={"help": "When to evaluate."})
    save_strategy: str = field(default="epoch", metadata={"help": "When to save."})
    save_total_limit: int | None = field(default=1, metadata={"help": "Checkpoints to keep beside the best."})
    load_best_model_at_end: bool = field(
        default=True, metadata={"help": "End with the best epoch's weights."}
    )
    metric_for_best_model: str | None = field(default="macro_auroc", metadata={"help": "What is best."})
    greater_is_better: bool | None = field(
        default=None, metadata={"help": "Whether more of it is better; by default unless it is a loss."}
    )
    label_names: list[str] | None = field(default_factory=lambda: ["labels"], metadata={"help": "Targets."})
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Keep False: batches are ready-made."}
    )
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "Hide losses that are not finite."})
    layer_decay: float = field(default=0.75, metadata={"help": "Learning-rate factor per layer, 1 for none."})
    early_stopping_patience: int = field(default=10, metadata={"help": "Evaluations to wait, 0 for ever."})
    encoder_learning_rate: float | None = field(
        default=None, metadata={"help": "Rate of the encoder, apart from the head's."}
    )
    stem_learning_rate: float | None = field(
        default=None, metadata={"help": "Rate before the encoder's first layer; the encoder's by default."}
    )
    stem_layers: int = field(default=0, metadata={"help": "First layers at the stem's rate."})
    decay_all: bool = field(default=False, metadata={"help": "Weight decay on biases and norms too."})
    class_weights: Literal["none", "balanced"] = field(
        default="none", metadata={"help": "balanced: rare labels weigh as much as common ones in the loss."}
    )

    def __post_init__(self) -> None:
        """Check values."""
        if not 0.0 < self.layer_decay <= 1.0:
            raise ConfigurationError("layer_decay must be in (0, 1]", value=self.layer_decay)
        parts = self.encoder_learning_rate is not None
        if not parts and (self.stem_learning_rate is not None or self.stem_layers):
            raise ConfigurationError("a rate of the stem needs encoder_learning_rate")
        if parts and self.layer_decay != 1.0:
            raise ConfigurationError(
                "rates come from encoder_learning_rate or from layer_decay, not from both: set layer_decay=1",
                value=self.layer_decay,
            )
        if (
            self.stem_layers < 0
            or min(self.encoder_learning_rate or 0.0, self.stem_learning_rate or 0.0) < 0.0
        ):
            raise ConfigurationError("learning rates and stem_layers can't be negative")
        if self.class_weights not in ("none", "balanced"):
            raise ConfigurationError(
                f"class_weights must be none or balanced, got {self.class_weights!r}",
                value=self.class_weights,
            )
        if self.early_stopping_patience < 0:
            raise ConfigurationError(
                "early_stopping_patience can't be negative; 0 never stops", value=self.early_stopping_patience
            )
        check_training_arguments(self)
        super().__post_init__()
        if self.device.type == "cpu":
            self.dataloader_pin_memory = False
