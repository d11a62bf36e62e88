"""Output classes shared by all models."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from transformers.utils import ModelOutput

__all__ = ["EcgAlignmentOutput", "EcgClassifierOutput", "EcgModelOutput", "EcgPreTrainingOutput"]


@dataclass
class EcgModelOutput(ModelOutput):
    """What every ECG encoder returns.

    Attributes:
        last_hidden_state: float ``(batch, tokens, hidden_size)``.
        pooler_output: float ``(batch, hidden_size)``, the record's embedding; ``(batch, pooled_size)`` where the
            configuration has that.
        hidden_states: One tensor per layer, if asked for.
        attentions: One tensor per layer, if asked for; None of methods without attention.
    """

    last_hidden_state: Tensor | None = None
    pooler_output: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class EcgAlignmentOutput(EcgModelOutput):
    """Output of a dual encoder; the last three are set if text was given.

    Attributes:
        ecg_embeds: float ``(records, projection_dim)``, L2-normalised.
        text_embeds: float ``(texts, projection_dim)``, L2-normalised.
        logits_per_ecg: float ``(records, texts)``: cosine similarity divided by the temperature.
    """

    ecg_embeds: Tensor | None = None
    text_embeds: Tensor | None = None
    logits_per_ecg: Tensor | None = None


@dataclass
class EcgPreTrainingOutput(ModelOutput):
    """What every pretraining model returns.

    Attributes:
        loss: Scalar, the weighted sum of ``loss_terms``.
        loss_terms: Unweighted scalar of each term.
        metrics: Further scalars worth logging, not part of the loss.
        ecg_embeds: float ``(batch, dim)``.
        text_embeds: float ``(batch, dim)``, multimodal methods only.
        reconstruction: float ``(batch, masked, patch_size)`` in the units of the target, if patches are predicted;
            with several views of each record ``batch * views`` rows, the views of a record side by side.
        masked_index: int64 ``(batch, masked)``: tokens (lead-major) that ``reconstruction`` belongs to.
        hidden_states: One tensor per layer of the encoder, if asked for: of the tokens it was given. If a step
            runs the encoder several times, those of each run in turn.
        attentions: Likewise; None of methods without attention.
    """

    loss: Tensor | None = None
    loss_terms: dict[str, Tensor] | None = None
    metrics: dict[str, Tensor] | None = None
    ecg_embeds: Tensor | None = None
    text_embeds: Tensor | None = None
    reconstruction: Tensor | None = None
    masked_index: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class EcgClassifierOutput(ModelOutput):
    """What every classification model returns.

    Attributes:
        loss: Scalar, if labels were given.
        logits: float ``(batch, num_labels)``.
        hidden_states: One tensor per layer, if asked for.
        attentions: One tensor per layer, if asked for.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
