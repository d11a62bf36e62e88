"""ECGFounder: the published encoder and its classifier of 150 statements.

Paper: Li et al., "An Electrocardiogram Foundation Model Built on over 10 Million Recordings with External Evaluation
across Multiple Domains", arXiv 2410.04133. Official code: ``net1d.py`` of PKUDigitalHealth/ECGFounder.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ecg_hf.models.ecgfounder.configuration_ecgfounder import EcgFounderConfig
from ecg_hf.models.modeling import (
    EcgEncoder,
    EcgForClassification,
    EcgPreTrainedModel,
    WithoutAttention,
    init_as_torch,
)
from ecg_hf.nn.backbones.net1d import Net1d, Net1dBlock
from ecg_hf.nn.heads import masked_mean
from ecg_hf.nn.masks.missing import zero_missing
from ecg_hf.nn.precision import full_precision, match_weights
from ecg_hf.nn.tokenizers import pool_tokens_mask

__all__ = ["EcgFounderForEcgClassification", "EcgFounderModel", "EcgFounderPreTrainedModel"]


class EcgFounderPreTrainedModel(WithoutAttention, EcgPreTrainedModel):
    """Initialisation shared by the ECGFounder models."""

    config: EcgFounderConfig
    config_class = EcgFounderConfig
    base_model_prefix = "ecgfounder"
    _no_split_modules = ["EcgNet1dBlock"]
    _can_record_outputs = {"hidden_states": Net1dBlock}

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        init_as_torch(module)


class EcgFounderModel(EcgFounderPreTrainedModel, EcgEncoder):
    """Convolutions over all leads at once.

    A token is one step of the last stage, 256 samples in the published size; the pooled output is the mean over the
    tokens that hold signal. Missing leads and padding are fed as zeros.
    """

    def __init__(self, config: EcgFounderConfig) -> None:
        super().__init__(config)
        # Not at the top: the module loads the Auto classes, and they load this one.
        from ecg_hf.models.layers import EcgNet1dBlock

        self.encoder = Net1d(
            config.num_leads,
            stem_channels=config.stem_channels,
            channels=config.channels,
            depths=config.depths,
            kernel_size=config.kernel_size,
            stride=config.stride,
            group_width=config.group_width,
            make_block=EcgNet1dBlock,
        )
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The stem."""
        return self.encoder.stem

    @property
    def encoder_layers(self) -> nn.ModuleList:
        """The blocks of all stages."""
        return self.encoder.blocks

    def token_mask(
        self, input_values: Tensor, lead_mask: Tensor | None = None, sample_mask: Tensor | None = None
    ) -> Tensor | None:
        """Tokens that hold signal, bool ``(batch, tokens)``, or None if all do. A token spans all leads."""
        return None if sample_mask is None else pool_tokens_mask(sample_mask, self.config.patch_size)

    def encode(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        *,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Steps of the last stage and their mean, see :meth:`EcgEncoder.encode`."""
        self.check_input_values(input_values)
        signal = match_weights(input_values, self)
        signal = zero_missing(signal, lead_mask, sample_mask)
        tokens = self.encoder(signal).transpose(1, 2)
        mask = self.token_mask(input_values, lead_mask, sample_mask)
        return tokens, masked_mean(full_precision(tokens), mask)


class EcgFounderForEcgClassification(EcgFounderPreTrainedModel, EcgForClassification):
    """The encoder with a linear head on its pooled output, as the authors have it."""

    model_class = EcgFounderModel

    def build_head(self) -> None:
        """The classifier; an attention query has one head."""
        self.build_classifier(self.config.hidden_size, 1)
