"""Published training schedules by name: of linear and attention heads, and of fine-tuning."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Literal

from ecg_hf.errors import ConfigurationError

__all__ = ["SCHEDULES", "Schedule", "Selection", "get_schedule"]

Selection = Literal["validation", "last", "test_max"]
TrainedHead = Literal["linear", "attention", "finetune"]

_COMMON = {
    "name",
    "source",
    "head",
    "learning_rate",
    "weight_decay",
    "batch_size",
    "epochs",
    "not_reproduced",
}
HONOURED: dict[TrainedHead, set[str]] = {
    "linear": _COMMON
    | {
        "optimizer",
        "betas",
        "decay",
        "milestone",
        "gamma",
        "warmup_iterations",
        "warmup_epochs",
        "warmup_start",
    }
    | {"minimum", "select", "patience"},
    "attention": _COMMON | {"n_heads"},
    "finetune": _COMMON
    | {"betas", "decay", "warmup_iterations", "warmup_epochs", "minimum", "encoder_learning_rate"}
    | {"stem_learning_rate", "stem_layers", "pooling"},
}
"""Fields that the training of a head follows; a schedule must leave the others at their defaults."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How a head, or a whole model, is trained by stochastic gradient steps.

    Attributes:
        name: As ``get_schedule`` takes it.
        source: Where it is published, and what of it is inferred or peculiar.
        head: What it trains: ``"linear"``, ``"attention"`` (a learnable query over tokens) or ``"finetune"``.
        optimizer: ``"adam"`` (weight decay added to the gradient) or ``"adamw"`` (decoupled); attention heads and
            fine-tuning know AdamW alone.
        betas: Of the optimiser.
        learning_rate: At its peak.
        weight_decay: On weights and biases alike, as in the published code.
        batch_size: Records per step; the last, smaller batch is used too.
        epochs: Passes over the training records.
        decay: ``"constant"``; ``"step"``: times ``gamma`` from epoch ``milestone`` on; ``"step_bug"``: the same with
            the counter advanced after every iteration and once more per epoch; ``"cosine"``: per iteration;
            ``"cosine_epoch"``: per epoch.
        milestone: See ``decay``.
        gamma: See ``decay``.
        warmup_iterations: Linear warm-up from ``warmup_start``; the cosine runs over all iterations and takes over
            where the warm-up ends (as in ``timm``).
        warmup_epochs: Linear warm-up from 0; the cosine begins where it ends.
        warmup_start: Rate of the first iteration of ``warmup_iterations``.
        minimum: Rate a cosine ends at.
        select: ``"validation"``: the epoch with the best validation macro AUROC; ``"last"``; ``"test_max"``: the
            epoch that scores best on the test set. That is no estimate of anything: it is there because it is
            published.
        patience: Epochs without a better validation score before training stops; 0 never stops.
        n_heads: Attention heads of an attention head; ``None``: the head's own.
        encoder_learning_rate: For fine-tuning: of the encoder's layers; ``None``: ``learning_rate``.
        stem_learning_rate: For fine-tuning: of what comes before the encoder's layers; given with the former.
        stem_layers: Model type -> first layers that the published groups count to the stem.
        pooling: What the head of a fine-tuned model reads, as ``classifier_pooling``; ``None``: the model's own.
        not_reproduced: What else was published and is not done here: results are then not of this schedule.

    Raises:
        ConfigurationError: if a field is set that the training of this head would not follow.
    """

    name: str
    source: str
    head: TrainedHead = "linear"
    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    batch_size: int = 16
    epochs: int = 100
    betas: tuple[float, float] = (0.9, 0.999)
    decay: Literal["constant", "step", "step_bug", "cosine", "cosine_epoch"] = "constant"
    milestone: int = 40
    gamma: float = 0.1
    warmup_iterations: int = 0
    warmup_epochs: int = 0
    warmup_start: float = 0.0
    minimum: float = 0.0
    select: Selection = "validation"
    patience: int = 0
    n_heads: int | None = None
    encoder_learning_rate: float | None = None
    stem_learning_rate: float | None = None
    stem_layers: dict[str, int] = field(default_factory=dict)
    pooling: Literal["mean"] | None = None
    not_reproduced: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what would be left unread."""
        honoured = HONOURED[self.head]
        for one in fields(self):
            default = {} if one.name == "stem_layers" else one.default
            if one.name not in honoured | {"optimizer"} and getattr(self, one.name) != default:
                raise ConfigurationError(
                    f"schedule {self.name}: the {self.head} head does not follow {one.name}", value=one.name
                )
        if self.head != "linear" and self.optimizer != "adamw":
            raise ConfigurationError(f"schedule {self.name}: the {self.head} head is trained by adamw")
        if self.head == "finetune" and self.decay not in ("constant", "cosine"):
            raise ConfigurationError(f"schedule {self.name}: fine-tuning does not follow {self.decay} decay")
        if (self.encoder_learning_rate is None) != (self.stem_learning_rate is None):
            raise ConfigurationError(f"schedule {self.name}: rates of encoder and stem are given together")

    def rate(self, iteration: int, per_epoch: int) -> float:
        """Learning rate of an iteration.

        Args:
            iteration: Number of the step, from 0.
            per_epoch: Steps of an epoch.
        """
        peak, epoch = self.learning_rate, iteration // per_epoch
        if self.decay == "step":
            return peak * (self.gamma if epoch >= self.milestone else 1.0)
        if self.decay == "step_bug":
            return peak * (self.gamma if iteration + epoch >= self.milestone else 1.0)
        if self.decay == "constant":
            return peak
        if iteration < self.warmup_iterations:
            return self.warmup_start + (peak - self.warmup_start) * iteration / self.warmup_iterations
        done = float(epoch) if self.decay == "cosine_epoch" else iteration / per_epoch
        if done < self.warmup_epochs:
            return peak * done / self.warmup_epochs
        share = (done - self.warmup_epochs) / (self.epochs - self.warmup_epochs)
        return self.minimum + (peak - self.minimum) * 0.5 * (1.0 + math.cos(math.pi * share))


_MERL = "MERL main_single.py and its script: Adam 1e-3, weight decay 1e-4, batch 16, 100 epochs, x0.1 at 40"

SCHEDULES: dict[str, Schedule] = {
    schedule.name: schedule
    for schedule in (
        Schedule(
            "merl",
            f"{_MERL}; the rate falls at epoch 40 as written, the epoch is chosen on validation",
            decay="step",
        ),
        Schedule(
            "merl_step_bug",
            f"{_MERL}; the scheduler is stepped every iteration and once more per epoch, as it runs",
            decay="step_bug",
        ),
        Schedule(
            "merl_test_max",
            f"{_MERL}; stepped as it runs, and the best TEST score over epochs, as it prints",
            decay="step_bug",
            select="test_max",
        ),
        Schedule(
            "ecg_jepa",
            "ECG-JEPA linear_probe_utils: AdamW 0.01 (torch's own weight decay 0.01: the configured one is not "
            "passed), batch 16, 10 epochs, cosine per iteration between 0.1 and 1 times the rate, 10 iterations of "
            "warm-up, last epoch; inferred: the cosine counts the warm-up in",
            optimizer="adamw",
            learning_rate=0.01,
            weight_decay=0.01,
            epochs=10,
            decay="cosine",
            warmup_iterations=10,
            warmup_start=0.001,
            minimum=0.001,
            select="last",
        ),
        Schedule(
            "st_mem",
            "ST-MEM linear evaluation: AdamW, base rate 1e-3 x batch / 256, weight decay 0.05, cosine, 3 warm-up "
            "epochs, 10 epochs; inferred: batch 16, the rate ends at 0, choice on validation",
            optimizer="adamw",
            learning_rate=1e-3 * 16 / 256,
            weight_decay=0.05,
            epochs=10,
            decay="cosine",
            warmup_epochs=3,
        ),
        Schedule(
            "melp",
            "MELP linear probe: AdamW 1e-3, weight decay 1e-4, batch 128, cosine to 1e-5 over 100 epochs, stops "
            "after 5 epochs without a better validation AUROC",
            optimizer="adamw",
            batch_size=128,
            decay="cosine_epoch",
            minimum=1e-5,
            patience=5,
        ),
        Schedule(
            "strodthoff-linear",
            "AI4Health: mean over tokens, then linear; encoder frozen",
            optimizer="adamw",
            weight_decay=1e-3,
            batch_size=64,
        ),
        Schedule(
            "strodthoff-attention",
            "AI4Health: one learnable query, drawn from N(0, 1/width); no biases; encoder frozen",
            head="attention",
            optimizer="adamw",
            weight_decay=1e-3,
            batch_size=64,
            n_heads=16,
        ),
        Schedule(
            "strodthoff-finetune",
            "AI4Health: mean over tokens, then linear; rates of head, S4 layers and stem. Of ECG-JEPA's 12 blocks "
            "the first three learn as the stem does",
            head="finetune",
            optimizer="adamw",
            weight_decay=1e-3,
            batch_size=64,
            encoder_learning_rate=1e-4,
            stem_learning_rate=1e-5,
            stem_layers={"ecg-jepa": 3},
            pooling="mean",
        ),
        Schedule(
            "jepa-finetune",
            "ECG-JEPA: 1e-4 * 16 / 256 for all parameters; the published code augments and filters 0.67-40 Hz",
            head="finetune",
            optimizer="adamw",
            learning_rate=6.25e-6,
            weight_decay=0.05,
            epochs=10,
            betas=(0.9, 0.95),
            decay="cosine",
            warmup_epochs=3,
            not_reproduced=(
                "its augmentations",
                "its band-pass of 0.67-40 Hz",
                "the best epoch on the test records",
            ),
        ),
    )
}


def get_schedule(name: str) -> Schedule:
    """The schedule called ``name``.

    Raises:
        ConfigurationError: naming those there are.
    """
    if name not in SCHEDULES:
        raise ConfigurationError(f"no schedule {name!r}; there are {', '.join(SCHEDULES)}", value=name)
    return SCHEDULES[name]
