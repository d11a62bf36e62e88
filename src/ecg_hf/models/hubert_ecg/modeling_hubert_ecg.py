"""HuBERT-ECG: the published encoder over leads laid end to end, and its classifier.

Paper: Coppola et al., "HuBERT-ECG as a self-supervised foundation model for broad and scalable cardiac applications",
medRxiv 2024.11.14.24317328. Official code: Edoar-do/HuBERT-ECG; the network is ``transformers.HubertModel`` with
other strides.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init

from ecg_hf.errors import ConfigurationError, EcgError
from ecg_hf.models.hubert_ecg.configuration_hubert_ecg import HubertEcgConfig
from ecg_hf.models.hubert_ecg.conversion_hubert_ecg import convert_official
from ecg_hf.models.modeling import EcgEncoder, EcgForClassification, EcgPreTrainedModel, attention_kernel
from ecg_hf.models.official_layout import FETCHING, official_type, read_official
from ecg_hf.models.registry import get_method
from ecg_hf.nn.backbones.wav2vec import PositionalConvolution, StridedStem, Wav2VecTower
from ecg_hf.nn.heads import masked_mean
from ecg_hf.nn.precision import full_precision

__all__ = ["CosineHead", "HubertEcgForEcgClassification", "HubertEcgModel", "HubertEcgPreTrainedModel"]


_SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "conv_dim",
    "conv_kernel",
    "conv_stride",
    "num_conv_pos_embeddings",
    "num_conv_pos_embedding_groups",
)
"""Fields of a configuration that weights must agree with; heads and strides are in no weight."""


class CosineHead(nn.Module):
    """Cosines between an embedding and one vector per label, ``(batch, hidden_size)`` to ``(batch, num_labels)``."""

    def __init__(self, hidden_size: int, num_labels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_labels, hidden_size))

    def forward(self, pooled: Tensor) -> Tensor:
        """Compare."""
        return F.normalize(pooled, dim=-1) @ F.normalize(self.weight, dim=-1).T


class HubertEcgPreTrainedModel(EcgPreTrainedModel):
    """Initialisation shared by the HuBERT-ECG models."""

    config: HubertEcgConfig
    config_class = HubertEcgConfig
    base_model_prefix = "hubert_ecg"
    _no_split_modules = ["EcgTransformerBlock"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Conv1d):
            init.kaiming_normal_(module.weight)
        elif isinstance(module, PositionalConvolution):
            taps, width = module.direction.shape[-1], module.direction.shape[0]
            init.normal_(module.direction, std=(4.0 / (taps * width)) ** 0.5)
            init.copy_(module.scale, module.direction.norm(dim=(0, 1), keepdim=True))
            init.zeros_(module.bias)
        elif isinstance(module, CosineHead):
            init.normal_(module.weight, std=float(self.config.initializer_range))

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """Like the base class's; also from a folder or repository in the authors' own layout.

        Its weights are converted while they are loaded; nothing of its code is run. Labels are those of a fine-tuned
        file, unless the configuration names others.

        Raises:
            EcgError: also if weights are not those of the network that ``config.json`` describes.
        """
        source = args[0] if args else kwargs.get("pretrained_model_name_or_path")
        if source is None or official_type(source, kwargs) is None:
            return super().from_pretrained(*args, **kwargs)
        fetching = {name: kwargs.pop(name) for name in FETCHING if name in kwargs}
        kwargs.pop("pretrained_model_name_or_path", None)
        config = kwargs.pop("config", None)
        if not isinstance(config, HubertEcgConfig):
            config, kwargs = cls.config_class.from_pretrained(
                source if config is None else config, return_unused_kwargs=True, **fetching, **kwargs
            )
        config = deepcopy(config)
        converted = read_official(source, fetching, convert_official, config, _SIZES)
        if converted.role == "classification" and not kwargs.get("ignore_mismatched_sizes"):
            _take_head(config, converted.config)
        config.architectures = [get_method(config.model_type).class_name(converted.role)]
        try:
            loaded = super().from_pretrained(
                None, *args[1:], config=config, state_dict=converted.state_dict, **kwargs
            )
        except EcgError as error:
            error.path = error.path or str(source)
            raise
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model.name_or_path = model.config.name_or_path = str(source)
        return loaded


def _take_head(config: HubertEcgConfig, of_weights: HubertEcgConfig) -> None:
    """Describe the head that is in a file, whose labels ``config.json`` may leave unnamed."""
    config.classifier_hidden_size = of_weights.classifier_hidden_size
    config.classifier_cosine = of_weights.classifier_cosine
    unnamed = all(name == f"LABEL_{index}" for index, name in config.id2label.items())
    # Two labels without a name are what the library makes of a configuration that says nothing.
    if unnamed and config.num_labels in (2, of_weights.num_labels):
        config.id2label, config.label2id = dict(of_weights.id2label), dict(of_weights.label2id)
    config.problem_type = config.problem_type or of_weights.problem_type


class HubertEcgModel(HubertEcgPreTrainedModel, EcgEncoder):
    """One transformer over all leads, laid end to end.

    A token sees 82 samples and the next one begins 64 later, so some tokens see the end of a lead and the beginning
    of the next. The pooled output is the mean over the tokens that see signal.
    """

    def __init__(self, config: HubertEcgConfig) -> None:
        super().__init__(config)
        # Not at the top: the module loads the Auto classes, and they load this one.
        from ecg_hf.models.layers import EcgTransformerBlock

        kernel = attention_kernel(config)
        self.encoder = Wav2VecTower(
            StridedStem(1, config.conv_dim, config.conv_kernel, config.conv_stride),
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
        samples = input_values.shape[1] * input_values.shape[2]
        if samples < self.config.reach:
            raise ConfigurationError(
                f"input_values have {samples} samples in all leads, a token takes {self.config.reach}",
                value=tuple(input_values.shape),
            )

    def token_mask(
        self, input_values: Tensor, lead_mask: Tensor | None = None, sample_mask: Tensor | None = None
    ) -> Tensor | None:
        """Tokens that see signal, bool ``(batch, tokens)``, or None if all do."""
        if lead_mask is None and sample_mask is None:
            return None
        return self.encoder.stem.tokens_mask(
            self._signal_mask(input_values, lead_mask, sample_mask).flatten(1)
        )

    def encode(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        *,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Tokens of the leads, one lead after the other, and their mean; see :meth:`EcgEncoder.encode`.

        Differs from official code: it takes no masks in evaluation, so that missing leads and padding are attended
        to as zeros.
        """
        self.check_input_values(input_values)
        if lead_mask is not None or sample_mask is not None:
            held = self._signal_mask(input_values, lead_mask, sample_mask)
            input_values = input_values.masked_fill(~held, 0.0)
        mask = self.token_mask(input_values, lead_mask, sample_mask)
        tokens = self.encoder(
            self.encoder.embed(input_values.flatten(1).unsqueeze(1)), mask, need_weights=need_weights
        )
        return tokens, masked_mean(full_precision(tokens), mask)

    def _signal_mask(
        self, input_values: Tensor, lead_mask: Tensor | None, sample_mask: Tensor | None
    ) -> Tensor:
        """Which values are signal: bool ``(batch, leads, samples)``."""
        held = torch.ones_like(input_values, dtype=torch.bool)
        if lead_mask is not None:
            held = held & lead_mask.bool().unsqueeze(-1)
        if sample_mask is not None:
            held = held & sample_mask.bool().unsqueeze(1)
        return held


class HubertEcgForEcgClassification(HubertEcgPreTrainedModel, EcgForClassification):
    """The encoder with one of the authors' three heads: linear, a hidden layer with tanh, or cosines."""

    model_class = HubertEcgModel

    def build_classifier(self, hidden_size: int, num_heads: int, token_size: int | None = None) -> None:
        """Create pooling, dropout and the configured head."""
        super().build_classifier(hidden_size, num_heads, token_size)
        config = self.config
        if config.classifier_cosine:
            self.classifier = CosineHead(hidden_size, config.num_labels)
        elif config.classifier_hidden_size is not None:
            self.classifier = nn.Sequential(
                nn.Linear(hidden_size, config.classifier_hidden_size),
                nn.Tanh(),
                nn.Linear(config.classifier_hidden_size, config.num_labels),
            )
