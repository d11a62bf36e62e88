"""A network that reads a record up to some moment and predicts what comes after it (TS-TCC, ASTCL)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init

from ecg_hf.models.joint_embedding.configuration import TemporalConfig
from ecg_hf.models.joint_embedding.modeling import JointEmbeddingForPreTraining
from ecg_hf.models.modeling import attention_kernel, init_as_torch
from ecg_hf.nn.backbones.transformer import TransformerStack
from ecg_hf.nn.precision import full_precision, match_weights
from ecg_hf.nn.views.augmentations import Signals

__all__ = ["Prediction", "TemporalContext", "TemporalForPreTraining"]


class Prediction(NamedTuple):
    """What :class:`TemporalContext` makes of two views, each of the other.

    Attributes:
        contexts: Of each view, float32 ``(batch, context_size)``.
        predictions: float32 ``(batch, 2, future_steps, feature_size)``: by the first view, and by the second.
        targets: The same of the steps that are predicted: of the second view, and of the first.
        valid: uint8 ``(batch, 2, future_steps)``: 1 for targets that are there and hold signal.
    """

    contexts: tuple[Tensor, Tensor]
    predictions: Tensor
    targets: Tensor
    valid: Tensor


class TemporalContext(nn.Module):
    """Steps of unit length from a backbone's tokens, a small transformer over them, and linear predictions.

    Official code of TS-TCC: a learned token goes before the steps up to a moment; no positions, no causal mask; its
    output is the context. Scores are divided by the root of the whole width, not of a head's.

    Args:
        config: Says how large everything is.
    """

    def __init__(self, config: TemporalConfig) -> None:
        super().__init__()
        # Not at the top: the module loads the Auto classes, and they load this one.
        from ecg_hf.models.layers import EcgTransformerBlock

        self.step_samples = float(config.step_s) * float(config.sampling_rate)
        size, width = config.feature_size or config.hidden_size, config.context_size
        self.to_steps = nn.Identity() if config.feature_size is None else nn.Linear(config.hidden_size, size)
        self.to_context = nn.Linear(size, width)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.stack = TransformerStack(
            config.context_layers,
            lambda: EcgTransformerBlock(
                width,
                config.context_heads,
                config.context_mlp_size,
                kernel=attention_kernel(config),
                dropout=float(config.context_dropout),
                qkv_bias=False,
            ),
        )
        for block in self.stack.blocks:
            assert isinstance(block, EcgTransformerBlock)
            block.attention.scaling = width**-0.5
            block.mlp[1] = nn.ReLU()
        self.predictors = nn.ModuleList([nn.Linear(width, size) for _ in range(config.future_steps)])

    def steps(self, tokens: Tensor, samples: int) -> Tensor:
        """Means of tokens over ``step_s`` seconds, mapped to features of unit length.

        Args:
            tokens: float ``(batch, tokens, hidden_size)``.
            samples: Of the signal that they are of.
        """
        count = tokens.shape[1]
        together = min(max(1, round(self.step_samples * count / samples)), count)
        means = F.avg_pool1d(full_precision(tokens).transpose(1, 2), together)
        features = self.to_steps(match_weights(means.transpose(1, 2), self))
        return F.normalize(full_precision(features), dim=-1)

    def forward(
        self,
        tokens: Sequence[Tensor],
        masks: Sequence[Tensor | None],
        moments: Tensor,
        samples: int,
    ) -> Prediction:
        """Predict the steps of each view from the other.

        Args:
            tokens: A backbone's tokens of both views, ``(batch, tokens, hidden_size)``.
            masks: bool ``(batch, tokens)``, False for tokens without signal; None if all have some.
            moments: float ``(batch, 2)``, uniform: up to where the first view is read, and the second.
            samples: Of the signal that the tokens are of.
        """
        steps = [self.steps(view, samples) for view in tokens]
        batch, count = steps[0].shape[:2]
        device = moments.device
        held = []
        for mask in masks:
            every = torch.ones(batch, count, dtype=torch.bool, device=device)
            # The first token of a step stands for it.
            picked = torch.arange(count, device=device) * (tokens[0].shape[1] // count)
            held.append(every if mask is None else mask[:, picked])
        future = torch.arange(1, len(self.predictors) + 1, device=device)
        contexts, predictions, targets, valid = [], [], [], []
        for view, other in ((0, 1), (1, 0)):
            last = (moments[:, view] * max(1, count - len(future))).long()
            read = held[view] & (torch.arange(count, device=device) <= last[:, None])
            context = self._context(steps[view], read)
            index = last[:, None] + future
            inside = index.clamp(max=count - 1)
            contexts.append(full_precision(context))
            predictions.append(torch.stack([predict(context) for predict in self.predictors], dim=1))
            targets.append(steps[other].gather(1, inside[..., None].expand(-1, -1, steps[other].shape[-1])))
            valid.append((index < count) & held[other].gather(1, inside))
        return Prediction(
            (contexts[0], contexts[1]),
            full_precision(torch.stack(predictions, dim=1)),
            torch.stack(targets, dim=1),
            torch.stack(valid, dim=1).to(torch.uint8),
        )

    def _context(self, steps: Tensor, read: Tensor) -> Tensor:
        embedded = self.to_context(match_weights(steps, self))
        sequence = torch.cat([self.token.to(embedded.dtype).expand(len(embedded), -1, -1), embedded], dim=1)
        keys = F.pad(read, (1, 0), value=True)[:, None, None, :]
        context: Tensor = self.stack(sequence, keys)[:, 0]
        return context


class TemporalForPreTraining(JointEmbeddingForPreTraining):
    """A member of the family that reads records in the order of time."""

    config: TemporalConfig

    def add_parts(self) -> None:
        """The network of the contexts."""
        self.temporal = TemporalContext(self.config)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, TemporalContext):
            for layer in module.modules():
                init_as_torch(layer)
            init.normal_(module.token)

    def draw_noise(
        self, batch: Mapping[str, Tensor], generator: torch.Generator, rows: int | None = None
    ) -> dict[str, Tensor]:
        """That of the views and, last of each view, up to where it is read: as far for all records of a step."""
        noise = super().draw_noise(batch, generator, rows)["view_noise"]
        moments = torch.rand((1, 2, 1), generator=generator, device=noise.device)
        return {"view_noise": torch.cat([noise, moments.expand(len(noise), -1, -1)], dim=2)}

    def predict(
        self, views: Sequence[Signals], view_noise: Tensor, need_weights: bool = False
    ) -> tuple[Prediction, Sequence[Tensor]]:
        """Predictions from both views, and the backbone's embeddings of both."""
        backbone = self.joint_embedding.encoder
        tokens, embeds = zip(*self._encode(backbone, views, need_weights), strict=True)
        masks = [None if view.mask is None else backbone.output_mask(view.mask) for view in views]
        return self.temporal(tokens, masks, view_noise[..., -1], views[0].values.shape[-1]), embeds
