"""ECG-JEPA (Weimann): the encoder, its pretraining with a teacher, and its classifier.

Paper: Weimann and Conrad, "Self-Supervised Pre-Training with Joint-Embedding Predictive Architecture Boosts ECG
Classification Performance", arXiv 2410.13867. Official code: ``kweimann/ECG-JEPA``. (Another ECG-JEPA, by Kim, arXiv
2410.08559, is the method ``ecg-jepa``.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from ecg_hf.models.modeling import (
    EcgEncoder,
    EcgForClassification,
    EcgForPreTraining,
    EcgPreTrainedModel,
    masked_token_weights,
)
from ecg_hf.models.outputs import EcgPreTrainingOutput
from ecg_hf.models.weimann_jepa.configuration_weimann_jepa import WeimannJepaConfig
from ecg_hf.models.weimann_jepa.encoder_weimann_jepa import WeimannJepaEncoder, WeimannJepaPredictor
from ecg_hf.nn.attention import SelfAttention
from ecg_hf.nn.backbones.transformer import TransformerBlock
from ecg_hf.nn.ema import copy_weights, ema_update, linear_momentum
from ecg_hf.nn.heads import UnprojectedQueryPool, masked_mean
from ecg_hf.nn.losses.latent import latent_prediction_loss, latent_statistics
from ecg_hf.nn.masks.time import TimeMask, draw_covered_times
from ecg_hf.nn.precision import full_precision
from ecg_hf.nn.tokenizers import gather_tokens, pool_tokens_mask

__all__ = [
    "WeimannJepaForEcgClassification",
    "WeimannJepaForPreTraining",
    "WeimannJepaModel",
    "WeimannJepaPreTrainedModel",
]


class WeimannJepaPreTrainedModel(EcgPreTrainedModel):
    """Initialisation and token mask shared by the models."""

    config: WeimannJepaConfig
    config_class = WeimannJepaConfig
    base_model_prefix = "weimann_jepa"
    _no_split_modules = ["EcgTransformerBlock"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Truncated normal weights; those of each block's outputs are smaller the more layers the encoder has.

        Official code: the constructors of ``VisionTransformer``, ``Predictor`` (which also divides by the depth of
        the encoder) and ``ViTClassifier``.
        """
        super()._init_weights(module)
        std = float(self.config.initializer_range)
        if isinstance(module, nn.Linear | nn.Conv1d):
            init.trunc_normal_(module.weight, std=std)
        elif isinstance(module, UnprojectedQueryPool):
            init.trunc_normal_(module.query, std=std)
        elif isinstance(module, WeimannJepaEncoder | WeimannJepaPredictor):
            init.copy_(module.positions, module.position_table())
            # The library initialises only modules that have tensors themselves, which a block has not.
            for block in module.layers.blocks:
                assert isinstance(block, TransformerBlock)
                for layer in (block.attention.output, block.mlp[-1]):
                    init.trunc_normal_(layer.weight, std=std * (2.0 * self.config.num_hidden_layers) ** -0.5)
            learned = module.registers if isinstance(module, WeimannJepaEncoder) else module.mask_token
            if learned is not None:
                init.trunc_normal_(learned, std=std)

    def token_mask(
        self, input_values: Tensor, lead_mask: Tensor | None = None, sample_mask: Tensor | None = None
    ) -> Tensor | None:
        """Patches that hold signal, bool ``(batch, patches)``, or None if all do. A patch spans all leads."""
        return None if sample_mask is None else pool_tokens_mask(sample_mask, self.config.patch_size)


class WeimannJepaModel(WeimannJepaPreTrainedModel, EcgEncoder):
    """The teacher's encoder, which is what the authors publish, evaluate and fine-tune.

    Missing leads and padding are zeros: the mean of signals that are normalised as the feature extractor does.
    """

    _keys_to_ignore_on_load_unexpected = [r"^student\.", r"^predictor\."]

    def __init__(self, config: WeimannJepaConfig) -> None:
        super().__init__(config)
        self.encoder = WeimannJepaEncoder(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The patch projection."""
        return self.encoder.patch_projection

    @property
    def encoder_layers(self) -> nn.ModuleList:
        """The blocks of the encoder."""
        return self.encoder.layers.blocks

    def mask_inputs(
        self, input_values: Tensor, lead_mask: Tensor | None = None, sample_mask: Tensor | None = None
    ) -> Tensor:
        """The signal with zeros for missing leads and padding; checks its shape."""
        self.check_input_values(input_values)
        if lead_mask is not None:
            input_values = input_values.masked_fill(~lead_mask.bool().unsqueeze(-1), 0.0)
        if sample_mask is not None:
            input_values = input_values.masked_fill(~sample_mask.bool().unsqueeze(1), 0.0)
        return input_values

    def encode(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        *,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Tokens ``(batch, patches, hidden_size)`` and the mean of those that hold signal; see the base class."""
        values = self.mask_inputs(input_values, lead_mask, sample_mask)
        token_mask = self.token_mask(input_values, lead_mask, sample_mask)
        tokens = self.encoder(values, token_mask, need_weights=need_weights)
        return tokens, masked_mean(full_precision(tokens), token_mask)


class WeimannJepaForPreTraining(WeimannJepaPreTrainedModel, EcgForPreTraining):
    """Teacher, student and predictor.

    The teacher (``weimann_jepa``, what ``AutoModel`` loads) sees all patches, the student a fifth of them; the
    predictor predicts the teacher's tokens of the others. The teacher follows the student after each optimiser step.

    Differs from official code: that moves the teacher before each forward pass, which is the same but for the last
    step, after which it stays; and with gradient accumulation, where it moves for each micro-batch.
    """

    # Those of the student, which learns; the teacher is a model of its own, whose calls record for themselves.
    _can_record_outputs = {
        "hidden_states": OutputRecorder(TransformerBlock, layer_name="student"),
        "attentions": OutputRecorder(SelfAttention, index=1, layer_name="student"),
    }

    def __init__(self, config: WeimannJepaConfig) -> None:
        super().__init__(config)
        self.weimann_jepa = WeimannJepaModel(config)
        self.student = WeimannJepaEncoder(config)
        self.predictor = WeimannJepaPredictor(config)
        self.post_init()
        if self.device.type != "meta":
            copy_weights(self.weimann_jepa.encoder, self.student)
        self.freeze_fixed_parameters()

    @property
    def encoder_layers(self) -> nn.ModuleList:
        """The blocks of the student."""
        return self.student.layers.blocks

    def freeze_fixed_parameters(self) -> None:
        """Freeze the teacher."""
        self.weimann_jepa.requires_grad_(False)

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """Load; if there is only the encoder, as in the authors' smaller files, the student starts as its copy."""
        wants_info = kwargs.pop("output_loading_info", False)
        model, info = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        if any(name.startswith("student.") for name in info["missing_keys"]):
            model.student.load_state_dict(model.weimann_jepa.encoder.state_dict())
        return (model, info) if wants_info else model

    def train(self, mode: bool = True) -> WeimannJepaForPreTraining:
        """Switch student and predictor to training; targets have no dropout."""
        super().train(mode)
        self.weimann_jepa.eval()
        return self

    def after_optimizer_step(self, step: int, total_steps: int) -> None:
        """Move the teacher towards the student, by smaller steps as training goes on.

        The momentum is that of the next step, for which the official code moves the teacher.
        """
        start, end = float(self.config.ema_momentum), float(self.config.ema_momentum_end)
        momentum = linear_momentum(step + 1, total_steps, start, end)
        ema_update(self.weimann_jepa.encoder, self.student, momentum)

    def draw_noise(
        self, batch: Mapping[str, Tensor], generator: torch.Generator, rows: int | None = None
    ) -> dict[str, Tensor]:
        """Indices of visible and hidden patches, int64 ``(rows, visible)`` and ``(rows, masked)``.

        Their numbers are part of the draw and shape the tensors. To avoid waiting for the device, everything is drawn
        on the CPU; of a ``generator`` on another device only the seed is read, so seed one for each step.
        """
        config, values = self.config, batch["input_values"]
        if generator.device.type != "cpu":
            generator = torch.Generator().manual_seed(generator.initial_seed())
        low, high = config.keep_ratio
        times = draw_covered_times(
            len(values) if rows is None else rows,
            values.shape[-1] // config.patch_size,
            (low, high),
            config.min_block_size,
            generator,
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
        """Predict the teacher's tokens of hidden patches; the loss is the mean absolute error.

        Args:
            input_values: float32 ``(batch, leads, samples)``.
            lead_mask: ``(batch, leads)``, 0 for missing leads, which are fed as zeros.
            sample_mask: ``(batch, samples)``, 0 for padding; its patches are neither attended to nor predicted.
            visible_times: int64 ``(batch, visible)`` from :meth:`draw_noise`; drawn here if not given.
            masked_times: int64 ``(batch, masked)``, likewise.
            return_loss: Accepted because the trainer looks for it; the loss is always computed.
            kwargs: ``output_hidden_states`` and ``output_attentions`` (of the student), ``return_dict``.
        """
        teacher = self.weimann_jepa
        values = teacher.mask_inputs(input_values, lead_mask, sample_mask)
        if visible_times is None or masked_times is None:
            # Both or none: they are parts of one draw.
            drawn = self.complete_noise(input_values, visible_times=None, masked_times=None)
            visible_times, masked_times = drawn["visible_times"], drawn["masked_times"]
        assert visible_times is not None
        assert masked_times is not None
        times = TimeMask(visible_times, masked_times)
        token_mask = self.token_mask(input_values, lead_mask, sample_mask)
        with torch.no_grad():
            whole = full_precision(teacher(values, None, sample_mask, return_dict=True).last_hidden_state)
        target = gather_tokens(whole, times.masked)
        weights = None if token_mask is None else masked_token_weights(times.masked, token_mask)
        context = self.student(values, token_mask, times.visible, need_weights=self.wants_attentions(kwargs))
        prediction = self.predictor(context, times, token_mask)
        loss = latent_prediction_loss(prediction, target, weights, beta=0.0)
        # Each record hides others of its patches, so the places to compare are those of whole records.
        metrics = latent_statistics(whole, whole, token_mask)
        metrics.pop("unexplained", None)
        return EcgPreTrainingOutput(
            loss=loss, loss_terms={"latent_prediction": loss.detach()}, metrics=metrics
        )


class WeimannJepaForEcgClassification(WeimannJepaPreTrainedModel, EcgForClassification):
    """The encoder with a linear head on the mean of its tokens, or the authors' attention pooling.

    That pools with one learned query; queries, keys, values and classes have no bias.
    """

    _keys_to_ignore_on_load_unexpected = WeimannJepaModel._keys_to_ignore_on_load_unexpected

    model_class = WeimannJepaModel
    attention_pool = UnprojectedQueryPool
