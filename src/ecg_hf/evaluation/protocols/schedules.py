"""Training schedules of heads as published, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["SCHEDULES", "HeadSchedule"]


@dataclass(frozen=True, slots=True)
class HeadSchedule:
    """How a head is trained.

    Attributes:
        name: Identifier.
        head: ``"linear"``, ``"attention"`` or ``"finetune"``.
        optimizer: ``"adam"`` or ``"adamw"``.
        learning_rate: Of the head.
        weight_decay: As the optimiser takes it.
        batch_size: Records per step.
        epochs: Passes over the training records.
        decay: ``"constant"``, ``"step"`` or ``"cosine"``.
        milestones: For ``"step"``: when the rate is multiplied by ``gamma``.
        gamma: See ``milestones``.
        decay_unit: Whether milestones and cosine count epochs or optimiser steps.
        warmup: Epochs or steps (see ``decay_unit``) of linear warm-up.
        min_learning_rate: Where warm-up begins and a cosine ends.
        betas: Of the optimiser.
        group_learning_rates: ``"encoder"`` and ``"stem"`` (what comes before its layers) -> rate, for fine-tuning.
        stem_layers: Model type -> first layers that the published groups count to the stem.
        pooling: What the head of a fine-tuned model reads, as ``classifier_pooling``; ``None``: the model's own.
        n_heads: Attention heads of an attention head.
        not_reproduced: What else was published, and is not done here: results are then not of this schedule.
        note: What is peculiar, and where it is from.
    """

    name: str
    head: Literal["linear", "attention", "finetune"]
    optimizer: Literal["adam", "adamw"]
    learning_rate: float
    weight_decay: float
    batch_size: int
    epochs: int
    decay: Literal["constant", "step", "cosine"] = "constant"
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    decay_unit: Literal["epoch", "step"] = "epoch"
    warmup: int = 0
    min_learning_rate: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    group_learning_rates: dict[str, float] = field(default_factory=dict)
    stem_layers: dict[str, int] = field(default_factory=dict)
    pooling: Literal["mean"] | None = None
    n_heads: int | None = None
    not_reproduced: tuple[str, ...] = ()
    note: str = ""


SCHEDULES: dict[str, HeadSchedule] = {
    schedule.name: schedule
    for schedule in (
        HeadSchedule(
            "merl-linear", "linear", "adam", 1e-3, 1e-4, 16, 100, "step", (40,), decay_unit="step",
            note="The script steps its scheduler after every batch (and once more per epoch), so that the rate falls "
            "to 1e-4 after 40 steps, not epochs. It also leaves BatchNorm of a frozen ResNet in training mode.",
        ),
        HeadSchedule(
            "merl-linear-epochs", "linear", "adam", 1e-3, 1e-4, 16, 100, "step", (40,),
            note="What MERL's milestones were meant to be: the rate falls after 40 epochs.",
        ),
        HeadSchedule(
            "strodthoff-linear", "linear", "adamw", 1e-3, 1e-3, 64, 100,
            note="Mean over tokens, then linear; encoder frozen.",
        ),
        HeadSchedule(
            "strodthoff-attention", "attention", "adamw", 1e-3, 1e-3, 64, 100, n_heads=16,
            note="One learnable query, drawn from N(0, 1/width); no biases; encoder frozen.",
        ),
        HeadSchedule(
            "strodthoff-finetune", "finetune", "adamw", 1e-3, 1e-3, 64, 100,
            group_learning_rates={"encoder": 1e-4, "stem": 1e-5}, stem_layers={"ecg-jepa": 3}, pooling="mean",
            note="Mean over tokens, then linear; rates of head, S4 layers and stem. Of ECG-JEPA's 12 blocks the "
            "first three learn as the stem does.",
        ),
        HeadSchedule(
            "jepa-linear", "linear", "adamw", 1e-2, 1e-2, 16, 10, "cosine", decay_unit="step", warmup=10,
            min_learning_rate=1e-3,
            note="The weight decay is torch's default: the 0.005 of the configuration is not passed on.",
        ),
        HeadSchedule(
            "jepa-finetune", "finetune", "adamw", 6.25e-6, 0.05, 16, 10, "cosine", warmup=3, betas=(0.9, 0.95),
            not_reproduced=("its augmentations", "its band-pass of 0.67-40 Hz", "the best epoch on the test records"),
            note="1e-4 * 16 / 256 for all parameters; the published code augments and filters 0.67-40 Hz.",
        ),
    )
}  # fmt: skip
"""Published schedules by name."""
