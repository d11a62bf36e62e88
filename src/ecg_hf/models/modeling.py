"""Base classes of all models: loading, initialisation, attention dispatch, encoding, noise, classification."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

import torch
from accelerate.state import GradientState
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from ecg_hf.errors import ConfigurationError, ModelFolderError
from ecg_hf.models.configuration import EcgConfig
from ecg_hf.models.outputs import EcgClassifierOutput, EcgModelOutput
from ecg_hf.models.safe_loading import check_complete, check_finite, check_weight_files
from ecg_hf.nn.attention import AttentionKernel, SelfAttention, eager_attention
from ecg_hf.nn.auxiliary import AuxiliaryTargets
from ecg_hf.nn.backbones.transformer import TransformerBlock
from ecg_hf.nn.gather import PoolEmbeddings, gather_across_processes
from ecg_hf.nn.heads import AttentionQueryPool, MaskedTokenHead, UnprojectedQueryPool
from ecg_hf.nn.losses import classification_loss
from ecg_hf.nn.normalization import GlobalBatchNorm1d
from ecg_hf.nn.precision import match_weights
from ecg_hf.nn.tokenizers import ConvPatchTokenizer, patchify
from ecg_hf.signal.beats.measures import NUM_MEASURES

__all__ = [
    "EcgEncoder",
    "EcgForClassification",
    "EcgForPreTraining",
    "EcgPreTrainedModel",
    "WithoutAttention",
    "attention_kernel",
    "init_as_torch",
    "masked_token_weights",
    "patch_token_mask",
]

_ALIGNMENT = 64
"""Bytes; what torch gives tensors it allocates itself."""


def attention_kernel(config: EcgConfig) -> AttentionKernel:
    """The kernel ``config`` names, looked up at each call so that ``set_attn_implementation`` takes effect.

    Where weights are needed it is the eager one: no other kernel of the library returns them.
    """
    return _ConfiguredKernel(config).attend


class _ConfiguredKernel:
    # A class, not a closure: models are pickled, and a copied model must follow its own configuration.
    def __init__(self, config: EcgConfig) -> None:
        self.config = config

    def attend(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        *,
        need_weights: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        kernel = eager_attention
        if not need_weights:
            implementation = self.config._attn_implementation
            kernel = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention)
        result: tuple[Tensor, Tensor | None] = kernel(module, query, key, value, attention_mask, **kwargs)
        return result


def patch_token_mask(
    input_values: Tensor, patch_size: int, lead_mask: Tensor | None, sample_mask: Tensor | None
) -> Tensor | None:
    """Which of the ``leads * patches`` tokens (lead-major) hold signal, or None if all do.

    Args:
        input_values: float ``(batch, leads, samples)``.
        patch_size: Samples per patch.
        lead_mask: ``(batch, leads)``: 0 for leads that are missing.
        sample_mask: ``(batch, samples)``: 0 for padding; a patch counts if any of its samples does.

    Returns:
        bool ``(batch, leads * patches)`` or None.
    """
    if lead_mask is None and sample_mask is None:
        return None
    batch, leads, samples = input_values.shape
    mask = torch.ones(batch, leads, samples // patch_size, dtype=torch.bool, device=input_values.device)
    if lead_mask is not None:
        mask = mask & lead_mask.bool().unsqueeze(-1)
    if sample_mask is not None:
        mask = mask & patchify(sample_mask.bool().unsqueeze(1), patch_size).any(-1)
    return mask.flatten(1)


def masked_token_weights(masked: Tensor, token_mask: Tensor | None) -> Tensor:
    """Weights of masked tokens in a loss: 1 for those that hold signal, else 0.

    Args:
        masked: int64 ``(batch, masked)``, indices of tokens.
        token_mask: bool ``(batch, tokens)``: False for missing leads and padding; None if all hold signal.

    Returns:
        float32 ``(batch, masked)``.
    """
    if token_mask is None:
        return torch.ones_like(masked, dtype=torch.float32)
    return token_mask.gather(1, masked).float()


@torch.no_grad()
def init_as_torch(module: nn.Module) -> None:
    """Initialise a linear or convolutional layer as torch does, for ``_init_weights``; others are left alone."""
    if isinstance(module, nn.Linear | nn.Conv1d):
        init.kaiming_uniform_(module.weight, a=math.sqrt(5.0))
        if module.bias is not None:
            bound = module.weight[0].numel() ** -0.5
            init.uniform_(module.bias, -bound, bound)


def _align_weights(model: nn.Module) -> None:
    """Copy tensors that lie askew in a mapped file: kernels add up in another order there, and round otherwise."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.device.type == "cpu" and tensor.data_ptr() % _ALIGNMENT:
            tensor.data = tensor.data.clone()


class EcgPreTrainedModel(PreTrainedModel):
    """Base of every model of this package."""

    config: EcgConfig
    main_input_name = "input_values"
    input_modalities = ("time",)
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs = {"hidden_states": TransformerBlock, "attentions": SelfAttention}
    # Our losses are plain means. With the library's default of True, gradient accumulation would multiply the
    # loss of any model whose forward takes ``**kwargs`` and gets ``labels``.
    accepts_loss_kwargs = False

    _optional_parts: tuple[str, ...] = ()
    """Attributes that may be None: left out where a folder has none of their weights."""

    micro_batch_statistics = False
    """Whether batch norms may train with gradient accumulation, each micro-batch by its own statistics."""

    @property
    def encoder_layers(self) -> nn.ModuleList:
        """The layers of the encoder, first to last: those that ``hidden_states`` and layer-wise decay count.

        Raises:
            ConfigurationError: if the class does not name any.
        """
        if self.base_model is self:
            raise ConfigurationError(f"{type(self).__name__} names no encoder_layers")
        layers: nn.ModuleList = self.base_model.encoder_layers
        return layers

    def train(self, mode: bool = True) -> Self:
        """Switch between training and evaluation.

        Raises:
            ConfigurationError: In the middle of an optimiser step of several micro-batches, if batch norms would see
                one micro-batch at a time: the step would not be that of the whole batch.
        """
        for inner in self.modules() if self.micro_batch_statistics else ():
            if isinstance(inner, EcgPreTrainedModel):
                inner.micro_batch_statistics = True
        if mode and not self.micro_batch_statistics and _is_accumulating():
            norms = (module for module in self.modules() if isinstance(module, GlobalBatchNorm1d))
            if any(parameter.requires_grad for norm in norms for parameter in norm.parameters()):
                # The step ends here; left as it is, accelerate would take the next run for its continuation.
                GradientState()._set_sync_gradients(True)
                raise ConfigurationError(
                    f"gradient accumulation does not give {type(self).__name__} the gradient of the whole batch: its "
                    "batch norms see one micro-batch at a time. Take larger batches or more processes, freeze the "
                    "encoder, or set model.micro_batch_statistics = True to train with statistics of micro-batches"
                )
        super().train(mode)
        return self

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, AttentionQueryPool):
            init.normal_(module.query, std=float(self.config.initializer_range))
        elif isinstance(module, MaskedTokenHead):
            init.zeros_(module.bias)
        elif isinstance(module, AuxiliaryTargets):
            module.reset_buffers()
        elif isinstance(module, ConvPatchTokenizer):
            # With 0.02 these narrow layers are all but linear and untrained embeddings of PTB-XL records have a mean
            # cosine of 0.996 (0.9996 after min-max); with fan-in scale and wider blocks it is 0.94 (0.994).
            for layer in module.modules():
                if isinstance(layer, nn.Conv1d | nn.Linear):
                    init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)

    def freeze_fixed_parameters(self) -> None:
        """Freeze what the method never trains (a teacher, lower text layers). Nothing by default.

        Called after construction and again after loading, because ``from_pretrained`` returns every parameter
        trainable.
        """

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """Load as the library does, but whole and safe weights only; then freeze what the method keeps fixed.

        Weights are moved to addresses the processor likes: the same weights give the same bits from whatever file.

        Raises:
            ModelFolderError: for pickles, damaged or foreign files, sizes that do not fit the weights, weights that
                are missing or not finite; see :mod:`ecg_hf.models.safe_loading`.
        """
        source = args[0] if args else kwargs.get("pretrained_model_name_or_path")
        with_info = kwargs.pop("output_loading_info", False)
        kwargs["use_safetensors"] = True
        try:
            model, info = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        except SafetensorError as error:
            raise ModelFolderError(f"no whole safetensors file: {error}", path=source) from None
        model._leave_out_absent_parts(info)
        check_complete(model, info, source)
        check_finite(model, source)
        _align_weights(model)
        model.freeze_fixed_parameters()
        return (model, info) if with_info else model

    def _leave_out_absent_parts(self, info: dict[str, Any]) -> None:
        """Go without the optional parts that the folder has nothing of: a classifier's encoder without text."""
        for part in self._optional_parts:
            names = {name for name in self.state_dict() if name.startswith(f"{part}.")}
            if names and names <= set(info["missing_keys"]):
                setattr(self, part, None)
                info["missing_keys"] = type(info["missing_keys"])(set(info["missing_keys"]) - names)

    @staticmethod
    def _load_pretrained_model(
        model: Any, state_dict: Any, checkpoint_files: Any, load_config: Any, *args: Any, **kwargs: Any
    ) -> Any:
        # The one moment when the library has built the model, without storage, and knows the files.
        if state_dict is None and checkpoint_files:
            check_weight_files(
                model,
                checkpoint_files,
                load_config.pretrained_model_name_or_path,
                allow_mismatch=load_config.ignore_mismatched_sizes,
            )
        return PreTrainedModel._load_pretrained_model(
            model, state_dict, checkpoint_files, load_config, *args, **kwargs
        )

    def token_mask(
        self, input_values: Tensor, lead_mask: Tensor | None = None, sample_mask: Tensor | None = None
    ) -> Tensor | None:
        """Which tokens of ``last_hidden_state`` hold signal, or None if all do.

        By default tokens are the patches of each lead in turn; models that lay them out differently override this.

        Args:
            input_values: float ``(batch, leads, samples)``.
            lead_mask: ``(batch, leads)``: 0 for leads that are missing.
            sample_mask: ``(batch, samples)``: 0 for padding.

        Returns:
            bool ``(batch, tokens)`` or None.
        """
        return patch_token_mask(input_values, self.config.patch_size, lead_mask, sample_mask)

    def wants_attentions(self, options: Mapping[str, Any]) -> bool:
        """Whether keyword arguments of ``forward``, or the configuration, ask for attention weights."""
        wanted = options.get("output_attentions")
        return bool(getattr(self.config, "output_attentions", False) if wanted is None else wanted)

    def check_input_values(self, input_values: Tensor, *, any_length: bool = False) -> None:
        """Raise a typed error unless ``input_values`` fits the model (shape and kind, no device sync).

        Any floating dtype will do: encoders convert the signal to that of their weights.

        Args:
            input_values: ``(batch, leads, samples)``.
            any_length: Also take more than ``config.num_samples`` samples: pieces of a stream.
        """
        if not input_values.is_floating_point():
            raise ConfigurationError(
                f"input_values must be floating-point numbers, got {input_values.dtype}",
                value=input_values.dtype,
            )
        if input_values.ndim != 3 or input_values.shape[1] != self.config.num_leads:
            raise ConfigurationError(
                f"input_values must be (batch, {self.config.num_leads} leads, samples), got "
                f"{tuple(input_values.shape)}",
                value=tuple(input_values.shape),
            )
        # Usually a recording at another rate: 10 s at 240 Hz are no shape error to a convolution made for 100 Hz.
        if not any_length and input_values.shape[2] > self.config.num_samples:
            raise ConfigurationError(
                f"input_values have {input_values.shape[2]} samples, the model takes {self.config.num_samples} at "
                f"{self.config.sampling_rate:g} Hz; config.feature_extractor() makes them fit",
                value=int(input_values.shape[2]),
            )


class WithoutAttention:
    """Mixin for models without attention layers, whose attention kernel can't be chosen. Goes before the base."""

    _supports_sdpa = False
    _supports_flash_attn = False
    _supports_flex_attn = False
    _supports_attention_backend = False


class EcgEncoder(EcgPreTrainedModel):
    """Base of a method's encoder, the class ``AutoModel`` loads.

    Subclasses write :meth:`encode`; those whose ``forward`` takes more than the signal and its masks override that.
    """

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> EcgModelOutput:
        """Encode records.

        Args:
            input_values: float32 ``(batch, leads, samples)`` as the feature extractor makes them.
            lead_mask: ``(batch, leads)``, 0 for missing leads.
            sample_mask: ``(batch, samples)``, 0 for padding.
            kwargs: ``output_hidden_states``, ``output_attentions`` (of models with attention), ``return_dict``.

        Raises:
            ConfigurationError: if the shape does not fit.
        """
        need_weights = self.wants_attentions(kwargs)
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
        """Tokens and the records' embeddings, without the library's output options; checks the inputs.

        Args:
            input_values: As for :meth:`forward`, as are the masks.
            lead_mask: ``(batch, leads)``.
            sample_mask: ``(batch, samples)``.
            need_weights: Attention weights are asked for: they must be computed to be recorded.

        Returns:
            float ``(batch, tokens, width)`` and float32 ``(batch, hidden_size)``.
        """
        raise NotImplementedError(f"{type(self).__name__} has no encode")


class EcgForPreTraining(EcgPreTrainedModel):
    """Base of pretraining models: the contract :class:`ecg_hf.training.EcgPreTrainer` relies on.

    Attributes:
        pool_embeddings: Called in ``forward`` on the local contrastive embeddings; returns the pool the losses run
            over. Gathers across processes by default; the trainer exchanges it to accumulate gradients exactly.
        auxiliary: The auxiliary targets of the configuration, if it has any; ``forward`` adds their losses.
    """

    pool_embeddings: PoolEmbeddings = staticmethod(gather_across_processes)
    auxiliary: AuxiliaryTargets | None
    # The base model inside records by its own rule; decoder, predictor and teacher are not to be recorded.
    _can_record_outputs = {
        "hidden_states": OutputRecorder(TransformerBlock, layer_name="encoder"),
        "attentions": OutputRecorder(SelfAttention, index=1, layer_name="encoder"),
    }

    def post_init(self) -> None:
        """As the library's, once the heads of the auxiliary targets are there."""
        config = self.config
        self.auxiliary = None
        if config.auxiliary_targets:
            self.auxiliary = AuxiliaryTargets(
                int(getattr(config, "pooled_size", None) or config.hidden_size),
                num_terms=config.auxiliary_terms if "terms" in config.auxiliary_targets else 0,
                num_measures=NUM_MEASURES if "measures" in config.auxiliary_targets else 0,
            )
        super().post_init()

    def draw_noise(
        self, batch: Mapping[str, Tensor], generator: torch.Generator, rows: int | None = None
    ) -> dict[str, Tensor]:
        """Draw every random number one step needs, as keyword arguments of ``forward``.

        Args:
            batch: The step's inputs.
            generator: Source of randomness, on the inputs' device.
            rows: First dimension of each tensor; the batch's own if not given.
        """
        return {}

    def complete_noise(self, input_values: Tensor, **given: Tensor | None) -> dict[str, Tensor | None]:
        """``given`` with a fresh draw of :meth:`draw_noise` in the place of what is None.

        For ``forward``: the trainer hands all noise in, a user who calls the model by hand hands in none.

        Args:
            input_values: float ``(batch, leads, samples)``.
            given: The noise arguments of ``forward``.

        Returns:
            The same names; None remains where this configuration draws nothing.
        """
        if all(value is not None for value in given.values()):
            return given
        # Seeded on the host by torch's own generator: reproducible, and no device has to be waited for.
        generator = torch.Generator(input_values.device).manual_seed(int(torch.randint(2**62, ())))
        drawn = self.draw_noise({"input_values": input_values}, generator)
        return {name: drawn.get(name) if value is None else value for name, value in given.items()}

    def check_full_length(self, input_values: Tensor) -> None:
        """Raise a typed error unless records are as long as the configuration says, for objectives that need it."""
        self.check_input_values(input_values)
        if input_values.shape[-1] != self.config.num_samples:
            raise ConfigurationError(
                f"pretraining takes {self.config.num_samples} samples, got {input_values.shape[-1]}",
                value=tuple(input_values.shape),
            )

    def weighted_sum(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The loss: each term times ``config.<its name>_weight``, where there is one, added up.

        Auxiliary losses are multiplied by ``config.auxiliary_weight``.
        """

        def weight(name: str) -> float:
            name = "auxiliary" if name.startswith("auxiliary_") else name
            return float(getattr(self.config, f"{name}_weight", 1.0))

        return torch.stack([weight(name) * term for name, term in terms.items()]).sum()

    def before_training(self, batches: Iterable[Mapping[str, Tensor]]) -> None:
        """Learn what targets are relative to, such as means over the training records; the auxiliary ones by default.

        Called by the trainer on every process before the first step of a new run, with all training records in their
        own order; what is learnt belongs into buffers, which a resumed run loads.

        Args:
            batches: Inputs of ``forward``.
        """
        if self.auxiliary is not None:
            self.auxiliary.fit(batches)

    def after_training(self, batches: Iterable[Mapping[str, Tensor]]) -> None:
        """Learn what scores are relative to from the finished weights. Nothing by default.

        Args:
            batches: As for :meth:`before_training`.
        """

    def after_optimizer_step(self, step: int, total_steps: int) -> None:
        """Follow an optimiser step, such as by moving a teacher. Nothing by default.

        Called by the trainer on every process after the weights have changed. It depends on its arguments and the
        weights alone, so that a resumed run does what an uninterrupted one does.

        Args:
            step: Index of the step just taken, from 0.
            total_steps: Steps of the whole run.
        """


class EcgForClassification(EcgPreTrainedModel):
    """Base of classification models: an encoder, pooling, dropout and one linear layer.

    Subclasses name their encoder's class in ``model_class``, its attribute in ``base_model_prefix``; they may
    override :meth:`build_head` or name another ``attention_pool``. ``classifier`` may be ``nn.Identity``.
    """

    model_class: ClassVar[type[EcgPreTrainedModel]]
    attention_pool: ClassVar[type[AttentionQueryPool] | type[UnprojectedQueryPool]] = AttentionQueryPool
    classifier: nn.Module

    def __init__(self, config: EcgConfig) -> None:
        super().__init__(config)
        setattr(self, self.base_model_prefix, self.build_encoder())
        self.build_head()
        self.post_init()
        self.freeze_fixed_parameters()

    def build_encoder(self) -> EcgPreTrainedModel:
        """The encoder, by default a ``model_class`` as configured."""
        return self.model_class(self.config)

    def build_head(self) -> None:
        """Create what follows the encoder: :meth:`build_classifier` with the encoder's width and heads."""
        self.build_classifier(self.config.hidden_size, self.config.num_attention_heads)

    def freeze_fixed_parameters(self) -> None:
        """Freeze the encoder, where the configuration has a ``freeze_encoder`` that is on."""
        if getattr(self.config, "freeze_encoder", False):
            self.base_model.requires_grad_(False)

    def build_classifier(self, hidden_size: int, num_heads: int, token_size: int | None = None) -> None:
        """Create pooling, dropout and linear layer.

        Args:
            hidden_size: Width of what is pooled.
            num_heads: Of the attention query, if tokens are pooled by one.
            token_size: Width of a token, if it is another.
        """
        config = self.config
        self.num_labels = config.num_labels
        bias = True
        if config.classifier_pooling == "attention":
            hidden_size = token_size or hidden_size
            self.classifier_pool = self.attention_pool(hidden_size, num_heads)
            # The linear layer is then the projection behind the heads, which has no bias either.
            bias = self.attention_pool is not UnprojectedQueryPool
        self.classifier_dropout = nn.Dropout(float(config.classifier_dropout))
        self.classifier = nn.Linear(hidden_size, config.num_labels, bias=bias)

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> EcgClassifierOutput:
        """Classify records.

        Args:
            input_values: float32 ``(batch, leads, samples)`` as the feature extractor makes them.
            lead_mask: ``(batch, leads)``, 0 for missing leads.
            sample_mask: ``(batch, samples)``, 0 for padding.
            labels: See :func:`ecg_hf.nn.losses.classification_loss`; the kind is ``config.problem_type``, by
                default multi-label for floating labels and single-label for integers.
            kwargs: Passed to the encoder: its own extra tensors, ``output_hidden_states``, ``output_attentions``.
                ``return_dict=False`` gives a tuple.

        Raises:
            ConfigurationError: if the labels do not fit the logits, or hold values that are no labels.
        """
        outputs: EcgModelOutput = self.base_model(
            input_values, lead_mask, sample_mask, return_dict=True, **kwargs
        )
        assert outputs.last_hidden_state is not None
        if self.config.classifier_pooling == "attention":
            mask = self.base_model.token_mask(input_values, lead_mask, sample_mask)
            pooled = self.classifier_pool(outputs.last_hidden_state, mask)
        else:
            pooled = outputs.pooler_output
        return self.classified(pooled, labels, outputs)

    def classified(
        self, pooled: Tensor | None, labels: Tensor | None, outputs: EcgModelOutput
    ) -> EcgClassifierOutput:
        """Logits of pooled features, their loss if there are labels, and what was recorded of the encoder."""
        assert pooled is not None
        logits = self.classify(pooled)
        loss = None if labels is None else classification_loss(logits, labels, self.problem_type(labels))
        return EcgClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )

    def classify(self, pooled: Tensor) -> Tensor:
        """Logits of pooled features; some methods pool in float32 whatever the head's weights are."""
        logits: Tensor = self.classifier(match_weights(self.classifier_dropout(pooled), self.classifier))
        return logits

    def problem_type(self, labels: Tensor) -> str:
        """The configured kind of problem, else the one that the labels' dtype tells."""
        told = "multi_label_classification" if labels.is_floating_point() else "single_label_classification"
        return self.config.problem_type or told


def _is_accumulating() -> bool:
    """Whether this is a micro-batch of an optimiser step that more are to follow, by accelerate's account."""
    return bool(GradientState._shared_state) and not GradientState().sync_gradients
