"""ST-MEM: the encoder, its pretraining by reconstruction of hidden patches, and its classifier.

Paper: Na et al., "Guiding Masked Representation Learning to Capture Spatio-Temporal Relationship of
Electrocardiogram", ICLR 2024, arXiv 2402.09450. Official code: ``bakqui/ST-MEM``, CC BY-NC 4.0; nothing of it is
copied here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.utils.output_capturing import capture_outputs

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.modeling import (
    EcgEncoder,
    EcgForClassification,
    EcgForPreTraining,
    EcgPreTrainedModel,
    masked_token_weights,
    patch_token_mask,
)
from ecg_hf.models.outputs import EcgPreTrainingOutput
from ecg_hf.models.st_mem.configuration_st_mem import StMemConfig
from ecg_hf.models.st_mem.encoder_st_mem import FencedPositions, StMemDecoder, StMemEncoder, fenced_mask
from ecg_hf.nn.losses import normalize_patches, reconstruction_loss
from ecg_hf.nn.masks.patches import mask_patches
from ecg_hf.nn.precision import full_precision
from ecg_hf.nn.tokenizers import gather_tokens, patchify

__all__ = ["StMemForEcgClassification", "StMemForPreTraining", "StMemModel", "StMemPreTrainedModel"]


class StMemPreTrainedModel(EcgPreTrainedModel):
    """Initialisation and token mask shared by the ST-MEM models."""

    config: StMemConfig
    config_class = StMemConfig
    base_model_prefix = "st_mem"
    _no_split_modules = ["EcgTransformerBlock"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        std = float(self.config.initializer_range)
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
        elif isinstance(module, FencedPositions):
            init.copy_(module.table, module.initial_table())
        elif isinstance(module, StMemEncoder):
            init.normal_(module.sep_token, std=std)
            init.normal_(module.lead_embedding, std=std)
        elif isinstance(module, StMemDecoder):
            init.normal_(module.mask_token, std=std)

    def check_input_values(self, input_values: Tensor, *, any_length: bool = False) -> None:
        """As in the base class; signals are whole patches."""
        super().check_input_values(input_values, any_length=any_length)
        samples, size = input_values.shape[-1], self.config.patch_size
        if samples % size:
            raise ConfigurationError(
                f"{samples} samples are not a multiple of {size} up to {self.config.num_samples}",
                value=samples,
            )

    def token_mask(
        self, input_values: Tensor, lead_mask: Tensor | None = None, sample_mask: Tensor | None = None
    ) -> Tensor | None:
        """Which tokens hold signal: the patches of each lead in turn, between its SEP tokens; None if all do."""
        mask = patch_token_mask(input_values, self.config.patch_size, lead_mask, sample_mask)
        return fenced_mask(mask, self.config.num_leads)


class StMemModel(StMemPreTrainedModel, EcgEncoder):
    """ST-MEM's encoder. Nothing is hidden here."""

    _keys_to_ignore_on_load_unexpected = [r"^decoder\."]

    def __init__(self, config: StMemConfig) -> None:
        super().__init__(config)
        self.encoder = StMemEncoder(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The projection of patches."""
        return self.encoder.patch_projection

    @property
    def encoder_layers(self) -> nn.ModuleList:
        """The blocks of the encoder."""
        return self.encoder.layers.blocks

    def encode(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        *,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Tokens ``(batch, leads * (patches + 2), hidden_size)``, each lead between SEP tokens; see the base class.

        Differs from official code: that fails with fewer leads than 12; here missing ones are not attended to.

        Raises:
            ConfigurationError: if the signal is longer than ``num_samples`` or not whole patches.
        """
        self.check_input_values(input_values)
        mask = patch_token_mask(input_values, self.config.patch_size, lead_mask, sample_mask)
        tokens, pooled = self.encoder(input_values, mask, need_weights=need_weights)
        return tokens, pooled


class StMemForPreTraining(StMemPreTrainedModel, EcgForPreTraining):
    """ST-MEM with its decoder: the encoder sees a quarter of the patches of all leads, the decoder lead by lead."""

    def __init__(self, config: StMemConfig) -> None:
        super().__init__(config)
        self.st_mem = StMemModel(config)
        self.decoder = StMemDecoder(config)
        self.post_init()
        self.freeze_fixed_parameters()

    def freeze_fixed_parameters(self) -> None:
        """Freeze both tables of times."""
        self.st_mem.encoder.positions.requires_grad_(False)
        self.decoder.positions.requires_grad_(False)

    def draw_noise(
        self, batch: Mapping[str, Tensor], generator: torch.Generator, rows: int | None = None
    ) -> dict[str, Tensor]:
        """One uniform number per patch."""
        values, config = batch["input_values"], self.config
        shape = (len(values) if rows is None else rows, config.num_leads, config.num_patches)
        return {"noise": torch.rand(shape, generator=generator, device=values.device)}

    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        noise: Tensor | None = None,
        return_loss: bool = True,
        **kwargs: Any,
    ) -> EcgPreTrainingOutput:
        """Reconstruct hidden patches.

        Args:
            input_values: float32 ``(batch, leads, samples)``.
            lead_mask: ``(batch, leads)``, 0 for missing leads; their patches are not targets.
            sample_mask: ``(batch, samples)``, 0 for padding; likewise.
            noise: float ``(batch, leads, patches)``: the patches with the smallest numbers of each lead stay visible;
                drawn here if not given.
            return_loss: Accepted because the trainer looks for it; the loss is always computed.
            kwargs: ``output_hidden_states`` and ``output_attentions`` (of the encoder), ``return_dict``.
        """
        config = self.config
        self.st_mem.check_input_values(input_values)
        noise = self.complete_noise(input_values, noise=noise)["noise"]
        assert noise is not None
        patches = patchify(full_precision(input_values), config.patch_size)
        token_mask = patch_token_mask(input_values, config.patch_size, lead_mask, sample_mask)
        mask = mask_patches(noise[..., : patches.shape[2]], float(config.mask_ratio))
        tokens, pooled = self.st_mem.encoder(
            input_values, token_mask, mask.visible, need_weights=self.wants_attentions(kwargs)
        )
        reconstruction = self.decoder(tokens, mask, token_mask)
        target = normalize_patches(patches, config.reconstruction_target).flatten(1, 2)
        target, weights = gather_tokens(target, mask.masked), masked_token_weights(mask.masked, token_mask)
        loss = reconstruction_loss(reconstruction, target, weights)
        of_zero = reconstruction_loss(torch.zeros_like(target), target, weights)
        return EcgPreTrainingOutput(
            loss=loss,
            loss_terms={"reconstruction": loss.detach()},
            metrics={"masked_error_vs_zero": loss.detach() / of_zero.clamp(min=1e-12)},
            ecg_embeds=pooled,
            reconstruction=reconstruction,
            masked_index=mask.masked,
        )


class StMemForEcgClassification(StMemPreTrainedModel, EcgForClassification):
    """ST-MEM's encoder with a linear head on the norm of the mean of the patches, or a query."""

    _keys_to_ignore_on_load_unexpected = [r"^decoder\."]

    model_class = StMemModel
