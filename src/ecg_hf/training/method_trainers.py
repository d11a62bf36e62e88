"""Trainers of the methods that need more than :class:`~ecg_hf.training.trainer.EcgPreTrainer`.

The registry's line of such a method names this module.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from ecg_hf.errors import ConfigurationError
from ecg_hf.training.trainer import EcgPreTrainer

__all__ = ["EcgCpcTrainer", "EcgJepaTrainer", "SimSiamTrainer", "cosine_learning_rate"]

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


class EcgJepaTrainer(EcgPreTrainer):
    """Pretrains :class:`~ecg_hf.models.ecg_jepa.modeling_ecg_jepa.EcgJepaForPreTraining`.

    ``lr_scheduler_type="cosine"`` is the schedule of the official code, :func:`cosine_learning_rate`;
    ``lr_scheduler_kwargs={"lowest": ...}`` sets its lowest rate (1e-6). Other types are the library's.
    """

    lr_scheduler: LRScheduler | None

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
            settings = dict(self.args.lr_scheduler_kwargs or {})
            lowest = float(settings.pop("lowest", _LOWEST))
            if settings:
                raise ConfigurationError(
                    f"the cosine schedule of ECG-JEPA knows 'lowest' only, not {', '.join(settings)}",
                    value=settings,
                )
            warmup = self.args.get_warmup_steps(num_training_steps)
            target = self.optimizer if optimizer is None else optimizer
            factors: list[Callable[[int], float]] = [
                partial(_factor, num_training_steps, warmup, float(group["lr"]), lowest)
                for group in target.param_groups
            ]
            self.lr_scheduler = LambdaLR(target, factors)
            self._created_lr_scheduler = True  # a second call of train() makes its own
        return self.lr_scheduler


def _factor(total: int, warmup: int, peak: float, lowest: float, step: int) -> float:
    """What the schedule multiplies a group's own rate by."""
    return cosine_learning_rate(step, total, warmup, peak, min(lowest, peak)) / peak if peak else 1.0


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
