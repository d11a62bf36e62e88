"""ECG-JEPA: the encoder, its pretraining with a teacher, and its classifier.

Paper: Kim, "Learning General Representation of 12-Lead Electrocardiogram with a Joint-Embedding Predictive
Architecture", arXiv 2410.08559. Official code: ``sehunfromdaegu/ECG_JEPA``. (Another ECG-JEPA, by Weimann and Conrad,
arXiv 2410.13867, is a different method.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.utils.output_capturing import capture_outputs

from ecg_hf.models.ecg_jepa.configuration_ecg_jepa import EcgJepaConfig
from ecg_hf.models.ecg_jepa.encoder_ecg_jepa import EcgJepaEncoder, EcgJepaPredictor, pick_times
from ecg_hf.models.modeling import EcgEncoder, EcgForClassification, EcgForPreTraining, EcgPreTrainedModel
from ecg_hf.models.outputs import EcgPreTrainingOutput
from ecg_hf.nn.backbones.transformer import TransformerBlock, TransformerStack
from ecg_hf.nn.cropa import cropa_mask
from ecg_hf.nn.ema import copy_weights, ema_update, linear_momentum
from ecg_hf.nn.heads import masked_mean
from ecg_hf.nn.losses.latent import latent_prediction_loss, latent_statistics
from ecg_hf.nn.masks.time import TimeMask, draw_time_mask
from ecg_hf.nn.precision import full_precision

__all__ = ["EcgJepaForEcgClassification", "EcgJepaForPreTraining", "EcgJepaModel", "EcgJepaPreTrainedModel"]


class EcgJepaPreTrainedModel(EcgPreTrainedModel):
    """Initialisation shared by the ECG-JEPA models."""

    config: EcgJepaConfig
    config_class = EcgJepaConfig
    base_model_prefix = "ecg_jepa"
    _no_split_modules = ["EcgTransformerBlock"]
    # CroPA is an arbitrary boolean mask, which these kernels don't support.
    _supports_flash_attn = False
    _supports_flex_attn = False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Truncated normal weights; deeper blocks add less to the residual stream.

        Official code: ``_init_weights`` and ``fix_init_weight`` divide the weights of block ``i`` (from 1) by
        ``sqrt(2 i)`` after drawing them.
        """
        super()._init_weights(module)
        std = float(self.config.initializer_range)
        if isinstance(module, nn.Linear):
            init.trunc_normal_(module.weight, std=std)
        elif isinstance(module, EcgJepaEncoder):
            if self.config.patch_initializer_range is not None:
                init.trunc_normal_(
                    module.patch_projection.weight, std=float(self.config.patch_initializer_range)
                )
            init.copy_(module.positions, module.position_table())
            init.copy_(module.cropa, cropa_mask(self.config.num_leads, self.config.num_patches))
            _shrink_with_depth(module.layers, std)
        elif isinstance(module, EcgJepaPredictor):
            init.copy_(module.positions, module.position_table())
            init.trunc_normal_(module.mask_token, std=std)
            _shrink_with_depth(module.layers, std)


def _shrink_with_depth(stack: TransformerStack, std: float) -> None:
    """Draw the weights of each block's outputs; called for the module that owns the stack.

    The library initialises only modules that have tensors themselves, which the stack has not.
    """
    for depth, block in enumerate(stack.blocks, start=1):
        assert isinstance(block, TransformerBlock)
        shrink = (2.0 * depth) ** -0.5
        for layer in (block.attention.output, block.mlp[-1]):
            init.trunc_normal_(layer.weight, std=std * shrink, a=-2.0 * shrink, b=2.0 * shrink)


class EcgJepaModel(EcgJepaPreTrainedModel, EcgEncoder):
    """The student encoder, which is what the method publishes and evaluates."""

    _keys_to_ignore_on_load_unexpected = [r"^target_encoder\.", r"^predictor\."]

    def __init__(self, config: EcgJepaConfig) -> None:
        super().__init__(config)
        self.encoder = EcgJepaEncoder(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The patch projection."""
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
        """Tokens ``(batch, leads * patches, hidden_size)``, lead by lead, and the mean of those that hold signal.

        Leaving a lead out by ``lead_mask`` gives what a model whose ``lead_names`` lack it gives.
        """
        self.check_input_values(input_values)
        token_mask = self.token_mask(input_values, lead_mask, sample_mask)
        tokens = self.encoder(input_values, token_mask, need_weights=need_weights)
        return tokens, masked_mean(full_precision(tokens), token_mask)


class EcgJepaForPreTraining(EcgJepaPreTrainedModel, EcgForPreTraining):
    """Student, teacher and predictor.

    The teacher sees all patches; the student sees the visible ones only; the predictor predicts, lead by lead, the
    teacher's tokens of the hidden ones. The teacher follows the student after each optimiser step.
    """

    def __init__(self, config: EcgJepaConfig) -> None:
        super().__init__(config)
        self.ecg_jepa = EcgJepaModel(config)
        self.target_encoder = EcgJepaEncoder(config)
        self.predictor = EcgJepaPredictor(config)
        self.post_init()
        if self.device.type != "meta":
            copy_weights(self.target_encoder, self.ecg_jepa.encoder)
        self.freeze_fixed_parameters()

    def freeze_fixed_parameters(self) -> None:
        """Freeze the teacher."""
        self.target_encoder.requires_grad_(False)

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """Load; if the checkpoint has only the encoder, such as the official ones, the teacher is copied from it."""
        wants_info = kwargs.pop("output_loading_info", False)
        model, info = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        if any(name.startswith("target_encoder.") for name in info["missing_keys"]):
            copy_weights(model.target_encoder, model.ecg_jepa.encoder)
        return (model, info) if wants_info else model

    def train(self, mode: bool = True) -> EcgJepaForPreTraining:
        """Switch to training; the teacher only if it is to drop paths."""
        super().train(mode)
        if not self.config.target_drop_path:
            self.target_encoder.eval()
        return self

    def after_optimizer_step(self, step: int, total_steps: int) -> None:
        """Move the teacher towards the student, by smaller steps as training goes on."""
        start, end = float(self.config.ema_momentum), float(self.config.ema_momentum_end)
        momentum = linear_momentum(step, total_steps, start, end)
        ema_update(self.target_encoder, self.ecg_jepa.encoder, momentum)

    def draw_noise(
        self, batch: Mapping[str, Tensor], generator: torch.Generator, rows: int | None = None
    ) -> dict[str, Tensor]:
        """Indices of visible and hidden moments, int64 ``(rows, visible)`` and ``(rows, masked)``.

        Their numbers are part of the draw and shape the tensors. To avoid waiting for the device, everything is drawn
        on the CPU; of a ``generator`` on another device only the seed is read, so seed one for each step.
        """
        config, values = self.config, batch["input_values"]
        if generator.device.type != "cpu":
            generator = torch.Generator().manual_seed(generator.initial_seed())
        low, high = config.mask_scale or (0.0, 0.0)
        times = draw_time_mask(
            len(values) if rows is None else rows,
            values.shape[-1] // config.patch_size,
            config.mask_strategy,
            (low, high),
            generator,
            num_blocks=config.num_mask_blocks,
            mask_last=config.mask_last_patch,
            per_row=config.mask_per == "sample",
        )
        return {
            "visible_times": times.visible.to(values.device, non_blocking=True),
            "masked_times": times.masked.to(values.device, non_blocking=True),
        }

    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        visible_times: Tensor | None = None,
        masked_times: Tensor | None = None,
        return_loss: bool = True,
        **kwargs: Any,
    ) -> EcgPreTrainingOutput:
        """Predict the teacher's tokens of hidden patches.

        Args:
            input_values: float32 ``(batch, leads, samples)``.
            lead_mask: ``(batch, leads)``, 0 for missing leads; their tokens are not targets.
            sample_mask: ``(batch, samples)``, 0 for padding; likewise.
            visible_times: int64 ``(batch, visible)`` from :meth:`draw_noise`; drawn here if not given. With
                ``mask_per="batch"`` all rows are assumed to be the same.
            masked_times: int64 ``(batch, masked)``, likewise.
            return_loss: Accepted because the trainer looks for it; the loss is always computed.
            kwargs: ``output_hidden_states`` and ``output_attentions`` (of the student), ``return_dict``.
        """
        self.ecg_jepa.check_input_values(input_values)
        if visible_times is None or masked_times is None:
            # Both or none: they are parts of one draw.
            drawn = self.complete_noise(input_values, visible_times=None, masked_times=None)
            visible_times, masked_times = drawn["visible_times"], drawn["masked_times"]
        assert visible_times is not None
        assert masked_times is not None
        times = TimeMask(visible_times, masked_times)
        leads = self.config.num_leads
        token_mask = self.ecg_jepa.token_mask(input_values, lead_mask, sample_mask)

        target, weights = self.targets(input_values, times, token_mask)
        context = self.ecg_jepa.encoder(
            input_values, token_mask, times.visible, need_weights=self.wants_attentions(kwargs)
        )
        # The predictor processes leads separately, so only padding has to be hidden, not missing leads.
        predicted = self.predictor(context, times, None if sample_mask is None else token_mask)
        hidden = times.masked.shape[1]
        prediction = predicted.unflatten(1, (leads, -1))[:, :, -hidden:].flatten(1, 2)
        loss = latent_prediction_loss(prediction, target, weights)
        return EcgPreTrainingOutput(
            loss=loss,
            loss_terms={"latent_prediction": loss.detach()},
            metrics=latent_statistics(prediction, target, weights),
        )

    @torch.no_grad()
    def targets(
        self, input_values: Tensor, times: TimeMask, token_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The teacher's tokens of hidden patches, normed once more without weights.

        Returns:
            float ``(batch, leads * masked, hidden_size)``, lead by lead, and which of them count (None: all).
        """
        leads = self.config.num_leads
        tokens = full_precision(self.target_encoder(input_values, token_mask))
        normed = F.layer_norm(tokens, tokens.shape[-1:], eps=self.config.layer_norm_eps)
        target = pick_times(normed.unflatten(1, (leads, -1)), times.masked).flatten(1, 2)
        if token_mask is None:
            return target, None
        return target, pick_times(token_mask.unflatten(1, (leads, -1)), times.masked).flatten(1)


class EcgJepaForEcgClassification(EcgJepaPreTrainedModel, EcgForClassification):
    """The student encoder with a linear head on the pooled or attention-pooled tokens."""

    _keys_to_ignore_on_load_unexpected = [r"^target_encoder\.", r"^predictor\."]

    model_class = EcgJepaModel
