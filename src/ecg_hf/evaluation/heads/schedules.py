"""Published training schedules of linear heads, by name."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ecg_hf.errors import ConfigurationError

__all__ = ["SCHEDULES", "Schedule", "Selection", "get_schedule"]

Selection = Literal["validation", "last", "test_max"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """How a linear head is trained by stochastic gradient steps.

    Attributes:
        name: As ``get_schedule`` takes it.
        source: Where it is published, and what of it is inferred.
        optimizer: ``"adam"`` (weight decay added to the gradient) or ``"adamw"`` (decoupled).
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
    """

    name: str
    source: str
    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    batch_size: int = 16
    epochs: int = 100
    decay: Literal["constant", "step", "step_bug", "cosine", "cosine_epoch"] = "constant"
    milestone: int = 40
    gamma: float = 0.1
    warmup_iterations: int = 0
    warmup_epochs: int = 0
    warmup_start: float = 0.0
    minimum: float = 0.0
    select: Selection = "validation"
    patience: int = 0

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
