"""Trainers of the methods that need more than :class:`~ecg_hf.training.trainer.EcgPreTrainer`.

The registry's line of such a method names this module.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from ecg_hf.errors import ConfigurationError
from ecg_hf.training.trainer import EcgPreTrainer

__all__ = [
    "EcgCpcTrainer",
    "EcgJepaTrainer",
    "SimSiamTrainer",
    "WeightDecaySchedule",
    "WeimannJepaTrainer",
    "cosine_after_warmup",
    "cosine_learning_rate",
]

_LOWEST = 1e-6  # published: where the warm-up starts and the cosine ends


class EcgCpcTrainer(EcgPreTrainer):
    """Pretrains :class:`~ecg_hf.models.ecg_cpc.modeling_ecg_cpc.EcgCpcForPreTraining`.

    The authors' optimiser has three learning rates: the prediction head's, a tenth of it for the S4 blocks and a
    hundredth for the stem (``EcgCpcConfig.predictor_lr_factor``, ``encoder_lr_factor``), and decays all parameters,
    biases and norms too.
    """

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Stem, S4 blocks and head, each with its learning rate."""
        config: Any = model.config
        factors = {
            ".encoder.": float(config.encoder_lr_factor),
            ".context.": float(config.predictor_lr_factor),
            "": 1.0,
        }
        groups: dict[str, list[nn.Parameter]] = {part: [] for part in factors}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                groups[next(part for part in factors if part in f".{name}")].append(parameter)
        return [
            {
                "params": groups[part],
                "lr": self.args.learning_rate * factor,
                "weight_decay": self.args.weight_decay,
            }
            for part, factor in factors.items()
        ]


def cosine_learning_rate(step: int, total: int, warmup: int, peak: float, lowest: float) -> float:
    """Learning rate of a step: linear warm-up, then a cosine that has been running since step 0.

    Because the cosine does not wait for the warm-up, the rate drops a little where the two meet (with 5 % of
    warm-up from the peak to 99.4 % of it).

    Official code: timm's ``CosineLRScheduler`` with ``warmup_prefix=False``.

    Args:
        step: From 0.
        total: Steps of the run.
        warmup: Steps of the warm-up.
        peak: Highest rate.
        lowest: Rate at the start of the warm-up and at the end.
    """
    if step < warmup:
        return lowest + step * (peak - lowest) / warmup
    done = min(step / max(total, 1), 1.0)
    return lowest + 0.5 * (peak - lowest) * (1.0 + math.cos(math.pi * done))


def cosine_after_warmup(step: int, total: int, warmup: int, start: float, end: float, first: float) -> float:
    """A value of a step: linear from ``first`` to ``start``, then half a cosine to ``end`` at the last step.

    Official code: ``cosine_schedule`` of kweimann/ECG-JEPA.

    Args:
        step: From 0.
        total: Steps of the run.
        warmup: Steps of the warm-up.
        start: Value after the warm-up.
        end: Value at the last step.
        first: Value where the warm-up starts.
    """
    if step < warmup:
        return first + step * (start - first) / warmup
    done = min((step - warmup) / max(total - warmup - 1, 1), 1.0)
    return end + 0.5 * (start - end) * (1.0 + math.cos(math.pi * done))


class EcgJepaTrainer(EcgPreTrainer):
    """Pretrains :class:`~ecg_hf.models.ecg_jepa.modeling_ecg_jepa.EcgJepaForPreTraining`.

    ``lr_scheduler_type="cosine"`` is the schedule of the official code, :func:`cosine_learning_rate`;
    ``lr_scheduler_kwargs={"lowest": ...}`` sets its lowest rate (1e-6). Other types are the library's.
    """

    lr_scheduler: LRScheduler | None
    schedule_settings: ClassVar[tuple[str, ...]] = ("lowest",)

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> LRScheduler:
        """Make the schedule.

        Raises:
            ConfigurationError: for settings the cosine does not know.
        """
        if getattr(self.args.lr_scheduler_type, "value", self.args.lr_scheduler_type) != "cosine":
            scheduler: LRScheduler = super().create_scheduler(num_training_steps, optimizer)
            return scheduler
        if self.lr_scheduler is None:
            settings = {name: float(value) for name, value in (self.args.lr_scheduler_kwargs or {}).items()}
            unknown = settings.keys() - set(self.schedule_settings)
            if unknown:
                known = " and ".join(map(repr, self.schedule_settings))
                raise ConfigurationError(
                    f"the cosine schedule of {type(self).__name__} knows {known} only, not {', '.join(unknown)}",
                    value=settings,
                )
            target = self.optimizer if optimizer is None else optimizer
            self.lr_scheduler = self.cosine_schedule(target, num_training_steps, settings)
            self._created_lr_scheduler = True  # a second call of train() makes its own
        return self.lr_scheduler

    def cosine_schedule(
        self, optimizer: torch.optim.Optimizer, total: int, settings: dict[str, float]
    ) -> LRScheduler:
        """The published schedule.

        Args:
            optimizer: Whose groups have the highest rates.
            total: Steps of the run.
            settings: Those of ``schedule_settings`` that are given.
        """
        return LambdaLR(optimizer, self._factors(cosine_learning_rate, optimizer, total, settings))

    def _factors(
        self,
        formula: Callable[[int, int, int, float, float], float],
        optimizer: torch.optim.Optimizer,
        total: int,
        settings: dict[str, float],
    ) -> list[Callable[[int], float]]:
        """What each group's own rate is multiplied by, as a function of the step."""
        warmup, lowest = self.args.get_warmup_steps(total), settings.get("lowest", _LOWEST)

        def factor(peak: float, step: int) -> float:
            return formula(step, total, warmup, peak, min(lowest, peak)) / peak if peak else 1.0

        return [partial(factor, float(group["lr"])) for group in optimizer.param_groups]


class WeightDecaySchedule(LambdaLR):
    """Learning rates by factors, and weight decay along half a cosine from what a group has to ``end``.

    Groups without weight decay have none at any step.

    Args:
        optimizer: Whose groups are changed.
        factors: Of the learning rates, one function of the step for each group.
        total: Steps of the run.
        end: Weight decay at the last step.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        factors: list[Callable[[int], float]],
        *,
        total: int,
        end: float,
    ) -> None:
        # Numbers alone: they are saved with the run, and read back without unpickling anything else.
        self.start_decays = [float(group["weight_decay"]) for group in optimizer.param_groups]
        self.total = total
        self.end = end
        super().__init__(optimizer, factors)

    def step(self, epoch: int | None = None) -> None:
        """Go on to the next step."""
        super().step(epoch)
        for group, start in zip(self.optimizer.param_groups, self.start_decays, strict=True):
            if start:
                group["weight_decay"] = cosine_after_warmup(
                    self.last_epoch, self.total, 0, start, self.end, start
                )


class WeimannJepaTrainer(EcgJepaTrainer):
    """Pretrains :class:`~ecg_hf.models.weimann_jepa.modeling_weimann_jepa.WeimannJepaForPreTraining`.

    ``lr_scheduler_type="cosine"`` is the schedule of the official code: a cosine that begins after the warm-up, and
    with ``lr_scheduler_kwargs={"final_weight_decay": ...}`` another one for the weight decay, from
    ``weight_decay`` on. Registers and mask token have none.
    """

    schedule_settings = ("lowest", "final_weight_decay")

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Weight decay on the weights of convolutions and linear layers, none on anything else."""
        decaying = {
            id(module.weight) for module in model.modules() if isinstance(module, nn.Linear | nn.Conv1d)
        }
        groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for parameter in model.parameters():
            if parameter.requires_grad:
                groups[id(parameter) in decaying].append(parameter)
        return [
            {"params": groups[decays], "weight_decay": self.args.weight_decay if decays else 0.0}
            for decays in (True, False)
        ]

    def cosine_schedule(
        self, optimizer: torch.optim.Optimizer, total: int, settings: dict[str, float]
    ) -> LRScheduler:
        """The published schedule of learning rate and weight decay."""

        def rate(step: int, total: int, warmup: int, peak: float, lowest: float) -> float:
            return cosine_after_warmup(step, total, warmup, peak, lowest, lowest)

        factors = self._factors(rate, optimizer, total, settings)
        end = settings.get("final_weight_decay")
        if end is None:
            return LambdaLR(optimizer, factors)
        return WeightDecaySchedule(optimizer, factors, total=total, end=end)


class SimSiamTrainer(EcgPreTrainer):
    """Pretrains :class:`~ecg_hf.models.joint_embedding.modeling_simsiam.SimSiamForPreTraining`.

    The predictor's learning rate is constant: it has to keep up with the projections while the rest slows down
    (paper, section 4.2). Only the schedule of the other parameters follows ``lr_scheduler_type``.
    """

    lr_scheduler: LRScheduler | None

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """As for every method, and the predictor's parameters apart."""
        theirs = {
            id(parameter) for name, parameter in model.named_parameters() if ".predictor." in f".{name}"
        }
        groups = []
        for group in super().parameter_groups(model):
            for constant in (False, True):
                chosen = [p for p in group["params"] if (id(p) in theirs) == constant]
                groups.append({**group, "params": chosen, "constant_lr": constant})
        return groups

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> LRScheduler:
        """The library's schedule, without effect on the predictor."""
        made = self.lr_scheduler is None
        scheduler: LRScheduler = super().create_scheduler(num_training_steps, optimizer)
        if made and isinstance(scheduler, LambdaLR):
            groups = zip(scheduler.lr_lambdas, scheduler.optimizer.param_groups, strict=True)
            factors = [_constant if group["constant_lr"] else factor for factor, group in groups]
            self.lr_scheduler = LambdaLR(scheduler.optimizer, factors)
        assert self.lr_scheduler is not None
        return self.lr_scheduler


def _constant(step: int) -> float:
    """What the schedule multiplies a constant learning rate by."""
    return 1.0
