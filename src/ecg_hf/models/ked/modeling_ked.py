"""KED: the published ECG encoder, and a classifier to be trained on it.

Paper: Tian et al., "Foundation model of ECG diagnosis: Diagnostics and explanations of any form and rhythm on ECG",
doi 10.1016/j.xcrm.2024.101875. Official code: ``xresnet1d_101.py`` of control-spiderman/ECGFM-KED (no licence;
nothing of it is copied).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from transformers import initialization as init

from ecg_hf.models.ked.configuration_ked import KedConfig
from ecg_hf.models.modeling import (
    EcgEncoder,
    EcgForClassification,
    EcgPreTrainedModel,
    WithoutAttention,
)
from ecg_hf.nn.backbones.resnet1d import ResidualBlock1d, ResNet1d, deep_stem
from ecg_hf.nn.heads import masked_mean
from ecg_hf.nn.masks.missing import zero_missing
from ecg_hf.nn.precision import full_precision, match_weights

__all__ = ["KedForEcgClassification", "KedModel", "KedPreTrainedModel"]


class KedPreTrainedModel(WithoutAttention, EcgPreTrainedModel):
    """Initialisation shared by the KED models."""

    config: KedConfig
    config_class = KedConfig
    base_model_prefix = "ked"
    _no_split_modules = ["EcgResidualBlock1d"]
    _can_record_outputs = {"hidden_states": ResidualBlock1d}

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Conv1d):
            init.normal_(module.weight, std=(2.0 / module.weight[0].numel()) ** 0.5)


class KedModel(KedPreTrainedModel, EcgEncoder):
    """An xresnet over all leads at once.

    A token is one step of the last stage, 32 samples in the published size; the pooled output is the mean over the
    tokens that hold signal. Missing leads and padding are fed as zeros.
    """

    def __init__(self, config: KedConfig) -> None:
        super().__init__(config)
        # Not at the top: the module loads the Auto classes, and they load this one.
        from ecg_hf.models.layers import EcgResidualBlock1d

        self.encoder = ResNet1d(
            config.num_leads,
            stem_channels=config.stem_channels[-1],
            stem_kernel_size=config.kernel_size,
            stem_stride=4,
            channels=config.channels,
            depths=config.depths,
            strides=[1] + [2] * (len(config.channels) - 1),
            kernel_size=config.kernel_size,
            make_block=partial(EcgResidualBlock1d, pool_shortcut=True),
            stem=deep_stem(config.num_leads, config.stem_channels, config.kernel_size, 4),
            expansion=config.expansion,
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
        return None if sample_mask is None else self.encoder.output_mask(sample_mask.bool())

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


class KedForEcgClassification(KedPreTrainedModel, EcgForClassification):
    """The encoder with a linear head on its pooled output. The published file has none: it is to be trained."""

    model_class = KedModel

    def build_head(self) -> None:
        """The classifier; an attention query has one head."""
        self.build_classifier(self.config.hidden_size, 1)
