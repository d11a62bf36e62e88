"""Encoder and decoder layers that support gradient checkpointing: activations recomputed instead of kept.

The library looks for subclasses of its ``GradientCheckpointingLayer``; ``every_n_layers`` counts them.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from ecg_hf.nn.backbones.net1d import Net1dBlock
from ecg_hf.nn.backbones.resnet1d import ConvPoolBlock, ResidualBlock1d
from ecg_hf.nn.backbones.s4 import S4Block
from ecg_hf.nn.backbones.transformer import TransformerBlock
from ecg_hf.nn.backbones.vgg1d import VggStage
from ecg_hf.nn.normalization import statistics_kept

__all__ = [
    "CheckpointedLayer",
    "EcgConvPoolBlock",
    "EcgNet1dBlock",
    "EcgResidualBlock1d",
    "EcgS4Block",
    "EcgTransformerBlock",
    "EcgVggStage",
]


class CheckpointedLayer(GradientCheckpointingLayer):
    """Mixin for layers whose call is checkpointed, hooks included. Listed after the layer's own class.

    Unlike the library's version, a first layer that gets the raw signal has gradients also with
    ``use_reentrant=True``, and running statistics of batch norms are updated once per step.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # Not the library's function, which wraps ``forward``: ``__call__`` below replaces it.
        super(GradientCheckpointingLayer, cls).__init_subclass__(**kwargs)

    def __call__(self, hidden_states: Tensor, *args: Any) -> Any:
        """Run the layer, checkpointed while training if the library has enabled it and there are gradients."""
        if not (self.gradient_checkpointing and self.training and torch.is_grad_enabled()):
            return nn.Module.__call__(self, hidden_states, *args)
        learns = any(parameter.requires_grad for parameter in self.parameters())
        if learns and not hidden_states.requires_grad:
            # A reentrant checkpoint passes gradients on only if one of its inputs requires one.
            hidden_states = hidden_states.detach().requires_grad_()
        checkpoint = self._gradient_checkpointing_func
        return checkpoint(_Repeatable(partial(nn.Module.__call__, self), self), hidden_states, *args)


class _Repeatable:
    """A forward pass whose runs after the first are recomputations for the backward pass."""

    def __init__(self, run: partial[Any], layer: nn.Module) -> None:
        self.run = run
        self.layer = layer
        self.repeats = False

    def __call__(self, *args: Any) -> Any:
        if self.repeats:
            with statistics_kept(self.layer):
                return self.run(*args)
        self.repeats = True
        return self.run(*args)


class EcgTransformerBlock(TransformerBlock, CheckpointedLayer):
    """:class:`~ecg_hf.nn.backbones.transformer.TransformerBlock` that can be checkpointed."""


class EcgS4Block(S4Block, CheckpointedLayer):
    """:class:`~ecg_hf.nn.backbones.s4.S4Block` that can be checkpointed."""


class EcgNet1dBlock(Net1dBlock, CheckpointedLayer):
    """:class:`~ecg_hf.nn.backbones.net1d.Net1dBlock` that can be checkpointed."""


class EcgResidualBlock1d(ResidualBlock1d, CheckpointedLayer):
    """:class:`~ecg_hf.nn.backbones.resnet1d.ResidualBlock1d` that can be checkpointed."""


class EcgVggStage(VggStage, CheckpointedLayer):
    """:class:`~ecg_hf.nn.backbones.vgg1d.VggStage` that can be checkpointed."""


class EcgConvPoolBlock(ConvPoolBlock, CheckpointedLayer):
    """:class:`~ecg_hf.nn.backbones.resnet1d.ConvPoolBlock` that can be checkpointed."""
