"""ECG-CPC: convolutional stem and S4 context network, pretrained by contrastive predictive coding.

Papers: "Pretraining Strategies and Scaling for ECG Foundation Models", arXiv 2605.12241 (default), and ECG-CPC of
arXiv 2509.25095 (whole records in one pass). Official code: ``AI4HealthUOL/ecg-pretraining-strategies`` and
``AI4HealthUOL/ecg-fm-benchmarking``. All outputs equal the official model's for converted weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.ecg_cpc.configuration_ecg_cpc import EcgCpcConfig
from ecg_hf.models.ecg_cpc.encoder_ecg_cpc import (
    ConvStem,
    EcgCpcStream,
    Windows,
    crop_records,
    split_windows,
)
from ecg_hf.models.modeling import (
    EcgForClassification,
    EcgForPreTraining,
    EcgPreTrainedModel,
    WithoutAttention,
    init_as_torch,
)
from ecg_hf.models.outputs import EcgClassifierOutput, EcgModelOutput, EcgPreTrainingOutput
from ecg_hf.nn.backbones.s4 import S4Block, S4Layer, S4Stack
from ecg_hf.nn.heads import UnprojectedQueryPool, masked_mean, mean_probability_logits
from ecg_hf.nn.losses import classification_loss, cpc_loss, draw_negatives
from ecg_hf.nn.tokenizers import pool_tokens_mask

__all__ = [
    "EcgCpcForEcgClassification",
    "EcgCpcForPreTraining",
    "EcgCpcModel",
    "EcgCpcPreTrainedModel",
]


class EcgCpcPreTrainedModel(WithoutAttention, EcgPreTrainedModel):
    """Initialisation shared by the ECG-CPC models."""

    config: EcgCpcConfig
    config_class = EcgCpcConfig
    base_model_prefix = "ecg_cpc"
    _no_split_modules = ["EcgS4Block"]
    _can_record_outputs = {"hidden_states": S4Block}
    _keep_in_fp32_modules_strict = ["log_dt"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        init_as_torch(module)
        if isinstance(module, UnprojectedQueryPool):
            init.normal_(module.query, std=module.query.shape[-1] ** -0.5)
        elif isinstance(module, S4Layer):
            init.normal_(module.C)
            init.normal_(module.D)
            init.uniform_(module.log_dt, *module.log_dt_range)
            module.rebuild_basis()


class EcgCpcModel(EcgCpcPreTrainedModel):
    """Stem and context network.

    Records are cut into windows of ``config.window_samples`` that do not overlap and are encoded
    separately; the tokens of a record's windows are concatenated. The pooled output is the mean over the tokens
    that hold signal. :meth:`init_stream` and :meth:`stream_step` run the same network, in one pass, on samples as
    they arrive.
    """

    _keys_to_ignore_on_load_unexpected = [r"^prediction_head\."]

    def __init__(self, config: EcgCpcConfig) -> None:
        super().__init__(config)
        # Not at the top: the module loads the Auto classes, and they load this one.
        from ecg_hf.models.layers import EcgS4Block

        self.encoder = ConvStem(config)
        self.context = S4Stack(
            config.num_hidden_layers,
            lambda: EcgS4Block(
                config.hidden_size,
                dropout=float(config.hidden_dropout_prob),
                norm_eps=config.layer_norm_eps,
                state_size=config.state_size,
                max_length=config.num_tokens,
                bidirectional=config.bidirectional,
                dt_min=config.dt_min,
                dt_max=config.dt_max,
            ),
        )
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The stem."""
        return self.encoder

    @property
    def encoder_layers(self) -> nn.ModuleList:
        """The S4 blocks of the context network."""
        return self.context.blocks

    def token_mask(
        self, input_values: Tensor, lead_mask: Tensor | None = None, sample_mask: Tensor | None = None
    ) -> Tensor | None:
        """Tokens that hold signal, bool ``(batch, tokens)``, or None if all do. A token spans all leads."""
        return None if sample_mask is None else pool_tokens_mask(sample_mask, self.config.patch_size)

    def mask_inputs(
        self, input_values: Tensor, lead_mask: Tensor | None = None, sample_mask: Tensor | None = None
    ) -> Tensor:
        """Check inputs and zero missing leads and padding.

        Raises:
            ConfigurationError: if the shape does not fit.
        """
        self.check_input_values(input_values)
        if input_values.shape[-1] == 0:
            raise ConfigurationError("input_values have no samples", value=tuple(input_values.shape))
        if lead_mask is not None:
            input_values = input_values.masked_fill(~lead_mask.bool().unsqueeze(-1), 0.0)
        if sample_mask is not None:
            input_values = input_values.masked_fill(~sample_mask.bool().unsqueeze(1), 0.0)
        return input_values

    def windows(
        self, input_values: Tensor, lead_mask: Tensor | None = None, sample_mask: Tensor | None = None
    ) -> Windows:
        """Records as the network sees them: masked and cut into windows."""
        values = self.mask_inputs(input_values, lead_mask, sample_mask)
        return split_windows(values, sample_mask, self.config.window_samples, self.config.patch_size)

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def encode_windows(
        self, values: Tensor, token_mask: Tensor | None = None, **kwargs: Any
    ) -> EcgModelOutput:
        """Encode windows separately.

        Args:
            values: float ``(windows, leads, samples)``.
            token_mask: bool ``(windows, tokens)``: False for padding.
            kwargs: ``output_hidden_states``.

        Returns:
            ``last_hidden_state`` ``(windows, tokens, hidden_size)``, pooled by mean.
        """
        tokens = self.context(self.encoder(values), token_mask)
        return EcgModelOutput(last_hidden_state=tokens, pooler_output=masked_mean(tokens.float(), token_mask))

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> EcgModelOutput:
        """Encode records.

        Args:
            input_values: float32 ``(batch, leads, samples)`` in millivolts.
            lead_mask: ``(batch, leads)``, 0 for missing leads, which are fed as zeros.
            sample_mask: ``(batch, samples)``, 0 for padding.
            kwargs: ``output_hidden_states``, ``return_dict``.

        Returns:
            ``last_hidden_state`` ``(batch, ceil(samples / patch_size), hidden_size)`` and its mean over tokens.

        Raises:
            ConfigurationError: if the shape does not fit.
        """
        windows = self.windows(input_values, lead_mask, sample_mask)
        outputs: EcgModelOutput = self.encode_windows(
            windows.values, windows.token_mask, return_dict=True, **kwargs
        )
        assert outputs.last_hidden_state is not None
        if windows.count == 1:
            return outputs
        tokens = -(-input_values.shape[-1] // self.config.patch_size)

        def joined(states: Any) -> Any:
            # If layers are asked for by number, the library gives None for the others.
            if states is None:
                return None
            return states.unflatten(0, (-1, windows.count)).flatten(1, 2)[:, :tokens]

        hidden, states = joined(outputs.last_hidden_state), outputs.hidden_states
        return EcgModelOutput(
            last_hidden_state=hidden,
            pooler_output=masked_mean(hidden.float(), self.token_mask(input_values, None, sample_mask)),
            hidden_states=None if states is None else tuple(map(joined, states)),
        )

    def init_stream(self, batch_size: int = 1, lead_mask: Tensor | None = None) -> EcgCpcStream:
        """The state before the first sample of a stream.

        Args:
            batch_size: Number of parallel streams.
            lead_mask: ``(batch, leads)``, 0 for missing leads.

        Raises:
            ConfigurationError: if the model looks into the future, or is in training mode.
        """
        if self.config.bidirectional:
            raise ConfigurationError("a bidirectional model can't be streamed: it needs the future")
        if self.training:
            raise ConfigurationError("streaming needs evaluation mode: call eval() first")
        mask = None if lead_mask is None else lead_mask.bool().unsqueeze(-1)
        return EcgCpcStream(self.encoder.init_stream(batch_size), self.context.init_stream(batch_size), mask)

    def stream_step(
        self, samples: Tensor, stream: EcgCpcStream, final: bool = False
    ) -> tuple[Tensor, EcgCpcStream]:
        """Encode the next samples of a stream, in chunks of any size and constant memory.

        The tokens of all calls, joined, are those of one pass over the whole signal (``window_samples=None``). A
        token needs the sample behind it, so an odd last sample gives its token only with ``final``.

        Args:
            samples: float ``(batch, leads, any number)`` in millivolts at ``config.sampling_rate``.
            stream: From :meth:`init_stream` or the previous call; it is not changed.
            final: No samples will follow.

        Returns:
            New tokens ``(batch, tokens, hidden_size)``, possibly none, and the new state.
        """
        self.check_input_values(samples, any_length=True)
        if self.training:
            raise ConfigurationError("streaming needs evaluation mode: call eval() first")
        if stream.lead_mask is not None:
            samples = samples.masked_fill(~stream.lead_mask, 0.0)
        tokens, waiting = self.encoder.stream_step(samples, stream.waiting, final)
        tokens, layers = self.context.stream_step(tokens, stream.layers)
        return tokens, EcgCpcStream(waiting, layers, stream.lead_mask)


class EcgCpcForPreTraining(EcgCpcPreTrainedModel, EcgForPreTraining):
    """ECG-CPC with its linear prediction head.

    Each step takes one random window of each record, drawn with the negatives in :meth:`draw_noise`; so does
    evaluation, where the trainer seeds the draw by batch.
    """

    def __init__(self, config: EcgCpcConfig) -> None:
        super().__init__(config)
        if config.bidirectional:
            raise ConfigurationError(
                "CPC predicts the future, which a bidirectional network sees: embed with it or fine-tune it, but it "
                "can't be pretrained",
                value=config.bidirectional,
            )
        self.ecg_cpc = EcgCpcModel(config)
        self.prediction_head = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.post_init()

    def _window(self, samples: int) -> int:
        config = self.config
        window = samples if config.window_samples is None else min(config.window_samples, samples)
        if window <= config.patch_size * (config.steps_predicted + 1):
            raise ConfigurationError(
                f"{samples} samples are too few to predict {config.steps_predicted} tokens ahead",
                value=samples,
            )
        return window

    def draw_noise(
        self, batch: Mapping[str, Tensor], generator: torch.Generator, rows: int | None = None
    ) -> dict[str, Tensor]:
        """Where each record's window begins, and each position's negatives."""
        config, values = self.config, batch["input_values"]
        rows = len(values) if rows is None else rows
        tokens = -(-self._window(values.shape[-1]) // config.patch_size)
        place: dict[str, Any] = {"generator": generator, "device": values.device}
        return {
            "crop_noise": torch.rand(rows, **place),
            "negative_index": draw_negatives(
                rows, tokens, config.steps_predicted, config.num_negatives, **place
            ),
        }

    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        crop_noise: Tensor | None = None,
        negative_index: Tensor | None = None,
        return_loss: bool = True,
        **kwargs: Any,
    ) -> EcgPreTrainingOutput:
        """The contrastive loss of one window per record.

        Args:
            input_values: float32 ``(batch, leads, samples)`` in millivolts.
            lead_mask: ``(batch, leads)``, 0 for missing leads.
            sample_mask: ``(batch, samples)``, 0 for padding at one end.
            crop_noise: float ``(batch,)`` uniform; drawn here if not given.
            negative_index: int64 ``(batch, tokens - steps_predicted, num_negatives)``; drawn here if not given.
            return_loss: Accepted because the trainer looks for it; the loss is always computed.
            kwargs: ``output_hidden_states`` (of the window), ``return_dict``.

        Returns:
            The loss (summed over positions), and as metrics its mean over positions (chance: ``log(1 + negatives)``),
            the accuracy, and the targets' standard deviation within a record, which is 0 if they have collapsed.

        Raises:
            ConfigurationError: if records are too short to predict anything.
        """
        config = self.config
        values = self.ecg_cpc.mask_inputs(input_values, lead_mask, sample_mask)
        noise = self.complete_noise(values, crop_noise=crop_noise, negative_index=negative_index)
        crop_noise, negative_index = noise["crop_noise"], noise["negative_index"]
        assert crop_noise is not None
        assert negative_index is not None
        if config.clip_mv is not None:
            values = values.clamp(-config.clip_mv, config.clip_mv)
        window = self._window(values.shape[-1])
        values, sample_mask = crop_records(values, sample_mask, window, crop_noise)
        token_mask = None if sample_mask is None else pool_tokens_mask(sample_mask, config.patch_size)
        targets = self.ecg_cpc.encoder(values)
        predictions = self.prediction_head(self.ecg_cpc.context(targets, token_mask))
        result = cpc_loss(predictions, targets, negative_index, config.steps_predicted, token_mask)
        return EcgPreTrainingOutput(
            loss=result.loss,
            loss_terms={"cpc": result.loss.detach()},
            metrics={
                "cpc_per_position": result.mean_loss,
                "cpc_accuracy": result.accuracy,
                "target_std": targets.detach().float().std(1).mean(),
            },
        )


class EcgCpcForEcgClassification(EcgCpcPreTrainedModel, EcgForClassification):
    """ECG-CPC with a classifier over windows.

    Training sees one random window of each record, drawn with torch's generator. Evaluation sees all of them and
    averages their probabilities, each window by the signal it holds; ``logits`` are those of the mean probability, so
    their sigmoid (softmax for ``single_label_classification``) is that mean. Values of a regression are averaged
    directly.

    Pools with one learnable query by default; the classifier behind it has no bias. With ``config.freeze_encoder``
    only the head is trained, and the encoder stays in evaluation mode.
    """

    _keys_to_ignore_on_load_unexpected = [r"^prediction_head\."]

    model_class = EcgCpcModel
    attention_pool = UnprojectedQueryPool
    ecg_cpc: EcgCpcModel

    def build_head(self) -> None:
        """The classifier; the number of the query's heads is the authors'."""
        self.build_classifier(self.config.hidden_size, self.config.classifier_num_heads)

    def train(self, mode: bool = True) -> Self:
        """Like ``nn.Module.train``, but a frozen encoder stays in evaluation mode: no dropout or batch statistics."""
        super().train(mode)
        if self.config.freeze_encoder:
            self.ecg_cpc.eval()
        return self

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> EcgClassifierOutput:
        """Classify records; see the class for how windows are used.

        Args:
            input_values: float32 ``(batch, leads, samples)`` in millivolts.
            lead_mask: ``(batch, leads)``, 0 for missing leads.
            sample_mask: ``(batch, samples)``, 0 for padding at one end.
            labels: See :func:`ecg_hf.nn.losses.classification_loss`; the kind is ``config.problem_type``, by
                default multi-label for floating labels and single-label for integers.
            kwargs: ``output_hidden_states`` (of the windows), ``return_dict``.
        """
        base, window = self.ecg_cpc, self.config.window_samples
        if self.training and window is not None and input_values.shape[-1] > window:
            values = base.mask_inputs(input_values, lead_mask, sample_mask)
            noise = torch.rand(len(values), device=values.device)
            values, sample_mask = crop_records(values, sample_mask, window, noise)
            windows = split_windows(values, sample_mask, window, self.config.patch_size)
        else:
            windows = base.windows(input_values, lead_mask, sample_mask)
        outputs: EcgModelOutput = base.encode_windows(
            windows.values, windows.token_mask, return_dict=True, **kwargs
        )
        if self.config.classifier_pooling == "attention":
            pooled = self.classifier_pool(outputs.last_hidden_state, windows.token_mask)
        else:
            pooled = outputs.pooler_output
        logits = self.classify(pooled)
        kind = self.config.problem_type if labels is None else self.problem_type(labels)
        if windows.count > 1:
            logits = self._average(logits.unflatten(0, (-1, windows.count)), windows, kind)
        loss = None if labels is None else classification_loss(logits, labels, str(kind))
        return EcgClassifierOutput(loss=loss, logits=logits, hidden_states=outputs.hidden_states)

    def _average(self, logits: Tensor, windows: Windows, kind: str | None) -> Tensor:
        weights = logits.new_ones(logits.shape[:2], dtype=torch.float32)
        if windows.token_mask is not None:
            weights = windows.token_mask.float().mean(1).unflatten(0, (-1, windows.count))
            # A record without signal: give all windows the same weight, as the shares would be NaN.
            weights = torch.where(weights.sum(1, keepdim=True) > 0.0, weights, 1.0)
        weights = weights / weights.sum(1, keepdim=True)
        if kind is None:
            # As the classification pipeline interprets logits of an unnamed problem.
            kind = "multi_label_classification" if self.num_labels == 1 else "single_label_classification"
        return mean_probability_logits(logits, weights, kind)
