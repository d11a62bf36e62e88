"""One entry per method: what a micro model and a batch for it look like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from ecg_hf.models.configuration import EcgConfig
from ecg_hf.models.registry import METHODS, PRETRAINABLE, MethodSpec
from ecg_hf.signal.beats.measures import NUM_MEASURES

# Tensors a method's feature extractor makes beside ``input_values``, for a batch of random records.
EXTRA_SIGNAL: dict[str, Callable[[EcgConfig, int], dict[str, torch.Tensor]]] = {
    "clear-hug": lambda config, batch: {"r_peaks": _r_peaks(config.num_samples, batch)},
    "heartlang": lambda config, batch: {"r_peaks": _r_peaks(config.num_samples, batch)},
    "ecg-beat": lambda config, batch: {"measures": _measures(batch)},
    "ecg-distil": lambda config, batch: {"measures": _measures(batch)},
}


WITHOUT_NOISE = ("etp",)
"""Methods whose step needs no random number beside dropout."""

LEARNING_STEPS = {"ecg-beat": 150, "weimann-jepa": 60}
"""Methods that take longer on random records."""


def _r_peaks(samples: int, batch: int) -> torch.Tensor:
    """Beats 1.5 to 2 s apart at 100 Hz; -1 follows the last."""
    peaks = 20 + torch.arange(12)[None, :] * (150 + 15 * torch.arange(batch))[:, None]
    return torch.where(peaks < samples, peaks, -1)


def _measures(batch: int) -> torch.Tensor:
    """Random measurements, some of them undefined."""
    values = torch.randn(batch, NUM_MEASURES, generator=torch.Generator().manual_seed(1))
    values[:, ::7] = torch.nan
    return values


@dataclass
class MicroCase:
    """A method at its smallest size with a random batch.

    ``learning_steps`` optimiser steps on one batch are enough to bring its loss down by a fifth.
    """

    spec: MethodSpec
    config: object
    signal: dict[str, torch.Tensor]
    text: dict[str, torch.Tensor]
    learning_steps: int = 30

    @property
    def has_attention(self) -> bool:
        return hasattr(self.config, "num_attention_heads")

    @property
    def batch(self) -> dict[str, torch.Tensor]:
        return {**self.signal, **self.text}


def make_case(name: str, batch_size: int = 4, **overrides: object) -> MicroCase:
    spec = METHODS[name]
    config = spec.load("config").preset(spec.sizes[0], **overrides)
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(batch_size, config.num_leads, config.num_samples, generator=generator)
    text: dict[str, torch.Tensor] = {}
    if spec.multimodal:
        words = getattr(config, "vocab_size", None) or config.text_config.vocab_size
        ids = torch.randint(104, words, (batch_size, 24), generator=generator)
        mask = torch.ones_like(ids)
        mask[0, 12:] = 0
        text = {"input_ids": ids * mask, "attention_mask": mask}
    signal = {"input_values": values}
    if name in EXTRA_SIGNAL:
        signal |= EXTRA_SIGNAL[name](config, batch_size)
    return MicroCase(spec, config, signal, text, LEARNING_STEPS.get(name, 30))


PRETRAINED = sorted(PRETRAINABLE)
MULTIMODAL = [name for name in sorted(METHODS) if METHODS[name].multimodal]
WITH_ATTENTION = [name for name in sorted(METHODS) if make_case(name).has_attention]


@pytest.fixture(params=sorted(METHODS))
def case(request: pytest.FixtureRequest) -> MicroCase:
    torch.manual_seed(0)
    return make_case(request.param)
