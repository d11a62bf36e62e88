"""Trainer of ECG-CPC."""

from __future__ import annotations

from typing import Any

from torch import nn

from ecg_hf.training.trainer import EcgPreTrainer

__all__ = ["EcgCpcTrainer"]


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
