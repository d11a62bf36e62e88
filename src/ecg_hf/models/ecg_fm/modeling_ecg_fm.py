"""ECG-FM: the published encoder over pieces of 5 s, and its classifier.

Paper: McKeen et al., "ECG-FM: An Open Electrocardiogram Foundation Model", arXiv 2408.05178. Official code:
``Wav2Vec2CMSCModel`` and ``ECGTransformerClassificationModel`` of Jwoo5/fairseq-signals, bowang-lab/ECG-FM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.ecg_fm.configuration_ecg_fm import EcgFmConfig
from ecg_hf.models.modeling import EcgEncoder, EcgForClassification, EcgPreTrainedModel, attention_kernel
from ecg_hf.models.outputs import EcgClassifierOutput, EcgModelOutput
from ecg_hf.nn.backbones.wav2vec import PositionalConvolution, StridedStem, Wav2VecTower
from ecg_hf.nn.heads import masked_mean, mean_probability_logits
from ecg_hf.nn.losses import classification_loss
from ecg_hf.nn.precision import full_precision

__all__ = ["EcgFmForEcgClassification", "EcgFmModel", "EcgFmPreTrainedModel", "Pieces", "init_wav2vec"]


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """Records cut into pieces; those of one record are consecutive rows.

    Attributes:
        values: float ``(batch * count, leads, samples)``, zero in missing leads and padding.
        sample_mask: bool ``(batch * count, samples)``, or None if all is signal.
        count: Pieces per record.
    """

    values: Tensor
    sample_mask: Tensor | None
    count: int


@torch.no_grad()
def init_wav2vec(module: nn.Module) -> None:
    """Initialise the convolutions of a tower of wav2vec 2.0, for ``_init_weights``; others are left alone."""
    if isinstance(module, nn.Conv1d):
        init.kaiming_normal_(module.weight)
    elif isinstance(module, PositionalConvolution):
        module_width, _, taps = module.direction.shape
        init.normal_(module.direction, std=(4.0 / (taps * module_width)) ** 0.5)
        init.copy_(module.scale, module.direction.norm(dim=(0, 1), keepdim=True))
        init.zeros_(module.bias)


class EcgFmPreTrainedModel(EcgPreTrainedModel):
    """Initialisation shared by the ECG-FM models."""

    config: EcgFmConfig
    config_class = EcgFmConfig
    base_model_prefix = "ecg_fm"
    _no_split_modules = ["EcgTransformerBlock"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        init_wav2vec(module)


class EcgFmModel(EcgFmPreTrainedModel, EcgEncoder):
    """Convolutions and a transformer over all leads at once, for each piece of a record by itself.

    A token is 16 samples; the last 4 of 2500 are unseen. The pooled output is the mean over all tokens that hold
    signal. Hidden states and attentions have one row per piece.
    """

    def __init__(self, config: EcgFmConfig) -> None:
        super().__init__(config)
        # Not at the top: the module loads the Auto classes, and they load this one.
        from ecg_hf.models.layers import EcgTransformerBlock

        kernel = attention_kernel(config)
        self.encoder = Wav2VecTower(
            StridedStem(config.num_leads, config.conv_dim, config.conv_kernel, config.conv_stride),
            hidden_size=config.hidden_size,
            num_layers=config.num_hidden_layers,
            make_block=lambda: EcgTransformerBlock(
                config.hidden_size,
                config.num_attention_heads,
                config.intermediate_size,
                kernel=kernel,
                dropout=float(config.hidden_dropout),
                attention_dropout=float(config.attention_dropout),
                norm_eps=config.layer_norm_eps,
                norm_first=False,
            ),
            position_kernel=config.num_conv_pos_embeddings,
            position_groups=config.num_conv_pos_embedding_groups,
            dropout=float(config.hidden_dropout),
            norm_eps=config.layer_norm_eps,
            positions_see_masked=True,
        )
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The convolutions that make tokens."""
        return self.encoder.stem

    @property
    def encoder_layers(self) -> nn.ModuleList:
        """The transformer layers."""
        return self.encoder.layers.blocks

    def check_input_values(self, input_values: Tensor, *, any_length: bool = False) -> None:
        """Like the base class; also refuses signals too short for a token."""
        super().check_input_values(input_values, any_length=any_length)
        if input_values.shape[-1] < self.config.reach:
            raise ConfigurationError(
                f"input_values have {input_values.shape[-1]} samples, a token takes {self.config.reach}",
                value=tuple(input_values.shape),
            )

    def pieces(
        self, input_values: Tensor, lead_mask: Tensor | None = None, sample_mask: Tensor | None = None
    ) -> Pieces:
        """Records as the network sees them: zeros where there is no signal, cut, the last piece padded.

        Raises:
            ConfigurationError: if the mask is not one of samples.
        """
        if lead_mask is not None:
            input_values = input_values.masked_fill(lead_mask.unsqueeze(-1) == 0, 0.0)
        if sample_mask is not None:
            expected = (input_values.shape[0], input_values.shape[2])
            if tuple(sample_mask.shape) != expected:
                raise ConfigurationError(
                    f"a mask of samples must be (batch, samples) {expected}, got {tuple(sample_mask.shape)}",
                    value=tuple(sample_mask.shape),
                )
            sample_mask = sample_mask.bool()
            input_values = input_values.masked_fill(~sample_mask.unsqueeze(1), 0.0)
        samples, window = input_values.shape[-1], self.config.window_samples
        if window is None or samples <= window:
            return Pieces(input_values, sample_mask, 1)
        missing = -samples % window
        if missing:
            if sample_mask is None:
                sample_mask = torch.ones_like(input_values[:, 0], dtype=torch.bool)
            sample_mask = F.pad(sample_mask, (0, missing))
            input_values = F.pad(input_values, (0, missing))
        cut = input_values.unflatten(-1, (-1, window)).transpose(1, 2)
        if sample_mask is not None:
            sample_mask = sample_mask.unflatten(-1, (-1, window)).flatten(0, 1)
        return Pieces(cut.flatten(0, 1), sample_mask, cut.shape[1])

    def token_mask(
        self, input_values: Tensor, lead_mask: Tensor | None = None, sample_mask: Tensor | None = None
    ) -> Tensor | None:
        """Tokens that hold signal, bool ``(batch, tokens)``, or None if all do. A token spans all leads."""
        pieces = self.pieces(input_values, None, sample_mask)
        if pieces.sample_mask is None:
            return None
        held = self.encoder.stem.tokens_mask(pieces.sample_mask)
        mask: Tensor = held.unflatten(0, (-1, pieces.count)).flatten(1)
        return mask

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> EcgModelOutput:
        """Encode records, see :meth:`EcgEncoder.forward`.

        Args:
            input_values: float32 ``(batch, leads, samples)`` as the feature extractor makes them.
            lead_mask: ``(batch, leads)``, 0 for missing leads.
            sample_mask: ``(batch, samples)``, 0 for padding.
            attention_mask: The same under the name it has in the authors' code.
            kwargs: ``output_hidden_states``, ``output_attentions``, ``return_dict``.

        Raises:
            ConfigurationError: if the shape does not fit.
        """
        need_weights = self.wants_attentions(kwargs)
        sample_mask = attention_mask if sample_mask is None else sample_mask
        tokens, pooled = self.encode(input_values, lead_mask, sample_mask, need_weights=need_weights)
        return EcgModelOutput(last_hidden_state=tokens, pooler_output=pooled)

    def encode(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        *,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Tokens of all pieces and their mean, see :meth:`EcgEncoder.encode`."""
        self.check_input_values(input_values)
        pieces = self.pieces(input_values, lead_mask, sample_mask)
        mask = None if pieces.sample_mask is None else self.encoder.stem.tokens_mask(pieces.sample_mask)
        tokens = self.encoder(self.encoder.embed(pieces.values), mask, need_weights=need_weights)
        tokens = tokens.unflatten(0, (-1, pieces.count)).flatten(1, 2)
        if mask is not None:
            mask = mask.unflatten(0, (-1, pieces.count)).flatten(1)
        return tokens, masked_mean(full_precision(tokens), mask)


class EcgFmForEcgClassification(EcgFmPreTrainedModel, EcgForClassification):
    """The encoder with a linear head. Pieces are classified by themselves; their probabilities become one."""

    model_class = EcgFmModel

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        labels: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> EcgClassifierOutput:
        """Classify records, see :meth:`EcgForClassification.forward`.

        Args:
            input_values: float32 ``(batch, leads, samples)``.
            lead_mask: ``(batch, leads)``, 0 for missing leads.
            sample_mask: ``(batch, samples)``, 0 for padding.
            labels: See :func:`ecg_hf.nn.losses.classification_loss`.
            attention_mask: As ``sample_mask``.
            kwargs: ``output_hidden_states``, ``output_attentions``, ``return_dict``.

        Raises:
            ConfigurationError: if the labels do not fit the logits, or hold values that are no labels.
        """
        model = self.base_model
        model.check_input_values(input_values)
        sample_mask = attention_mask if sample_mask is None else sample_mask
        pieces = model.pieces(input_values, lead_mask, sample_mask)
        outputs: EcgClassifierOutput = super().forward(
            pieces.values, None, pieces.sample_mask, return_dict=True, **kwargs
        )
        logits = outputs.logits
        assert logits is not None
        kind = self.config.problem_type if labels is None else self.problem_type(labels)
        if pieces.count > 1:
            logits = self._one_of_pieces(logits.unflatten(0, (-1, pieces.count)), pieces, kind)
        loss = None if labels is None else classification_loss(logits, labels, str(kind))
        return EcgClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )

    def _one_of_pieces(self, logits: Tensor, pieces: Pieces, kind: str | None) -> Tensor:
        """``(batch, pieces, labels)`` to ``(batch, labels)``; pieces weigh what they hold of signal."""
        weights = torch.ones_like(logits[..., 0], dtype=torch.float32)
        if pieces.sample_mask is not None:
            weights = pieces.sample_mask.float().mean(1).unflatten(0, (-1, pieces.count))
            # A record without signal: give all pieces the same weight, as the shares would be NaN.
            weights = torch.where(weights.sum(1, keepdim=True) > 0.0, weights, 1.0)
        held = (weights > 0.0).unsqueeze(-1)
        weights = weights / weights.sum(1, keepdim=True)
        if kind is None:
            # As the classification pipeline interprets logits of an unnamed problem.
            kind = "multi_label_classification" if self.num_labels == 1 else "single_label_classification"
        mean = mean_probability_logits(logits, weights, kind)
        if self.config.piece_pooling is None:
            return mean
        largest = logits.float().masked_fill(~held, -torch.inf).amax(1)
        takes_largest = torch.tensor(
            [how == "max" for how in self.config.piece_pooling], device=logits.device
        )
        return torch.where(takes_largest, largest, mean)
