"""The text tower of the methods that learn from reports, from scratch or pretrained; and words of reports hidden."""

from __future__ import annotations

import inspect
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from transformers import PreTrainedConfig, PreTrainedModel

from ecg_hf.errors import ConfigurationError
from ecg_hf.nn.masks.patches import TokenMask, mask_text_tokens

__all__ = [
    "MaskedText",
    "build_text_tower",
    "check_tokens",
    "freeze_text_layers",
    "load_text_tower",
    "mask_report",
    "pool_text",
]


def build_text_tower(config: PreTrainedConfig, pooling: str) -> PreTrainedModel:
    """The text encoder that ``config`` describes, without a decoder, and without a pooler unless it is used.

    An unused pooler would have parameters without gradient, which DistributedDataParallel refuses.

    Args:
        config: Of the tower.
        pooling: ``pooler`` or ``cls``, see :func:`pool_text`.
    """
    # Not at the top: the Auto classes load our models, and they load this module.
    from transformers import AutoModel, T5EncoderModel
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    model_class = MODEL_MAPPING[type(config)]
    if config.model_type == "t5":
        return T5EncoderModel(deepcopy(config))  # it changes the configuration it is given
    options = {}
    if "add_pooling_layer" in inspect.signature(model_class).parameters:
        options["add_pooling_layer"] = pooling == "pooler"
    tower: PreTrainedModel = AutoModel.from_config(config, **options)
    return tower


def load_text_tower(tower: PreTrainedModel, text_model: str, **options: Any) -> None:
    """Give a tower the weights of a pretrained model, as far as the tower has such parts.

    Args:
        tower: Built from the configuration of ``text_model``.
        text_model: Folder or Hub name of a model in safetensors format.
        options: Passed to ``AutoModel.from_pretrained``.
    """
    from transformers import AutoModel

    pretrained = AutoModel.from_pretrained(text_model, use_safetensors=True, **options)
    own = tower.state_dict()
    tower.load_state_dict({k: v for k, v in pretrained.state_dict().items() if k in own})


def freeze_text_layers(tower: PreTrainedModel, count: int) -> None:
    """Freeze a tower's embeddings and its lower layers; all of it, the pooler too, if they are all its layers.

    Args:
        tower: The text encoder.
        count: Layers to freeze; 0 freezes nothing.

    Raises:
        ConfigurationError: if the tower is not laid out as BERT is.
    """
    if not count:
        return
    tower.get_input_embeddings().requires_grad_(False)
    embeddings = getattr(tower, "embeddings", None)
    layers = getattr(getattr(tower, "encoder", None), "layer", None)
    if embeddings is None or layers is None:
        raise ConfigurationError(
            f"freeze_text_layers needs a BERT-like text tower, not {type(tower).__name__}"
        )
    frozen: list[nn.Module] = [embeddings, *layers[:count]] if count < len(layers) else [tower]
    for module in frozen:
        module.requires_grad_(False)


def check_tokens(text_encoder: PreTrainedModel, input_ids: Tensor) -> None:
    """Refuse tokens the text tower has no embedding for.

    On an accelerator their values are not looked at, nor in compiled and exported graphs.

    Raises:
        ConfigurationError: if a token number or the length of the texts is beyond the tower's.
    """
    positions = getattr(text_encoder.config, "max_position_embeddings", None)
    if positions is not None and input_ids.shape[-1] > positions:
        raise ConfigurationError(
            f"texts have {input_ids.shape[-1]} tokens, the model takes {positions}", value=input_ids.shape[-1]
        )
    traced = isinstance(input_ids, FakeTensor) or torch.compiler.is_compiling() or torch.jit.is_tracing()
    if input_ids.device.type != "cpu" or traced or not input_ids.numel():
        return
    known, largest = text_encoder.config.vocab_size, int(input_ids.max())
    if largest >= known or int(input_ids.min()) < 0:
        raise ConfigurationError(
            f"token {largest} of a vocabulary of {known}: the tokenizer is not that of the model",
            value=largest,
        )


def pool_text(outputs: object, pooling: str) -> Tensor:
    """``(batch, text_hidden)`` from the tower's output: its pooler (as MERL) or the first token."""
    pooled: Tensor = (
        outputs.pooler_output if pooling == "pooler" else outputs.last_hidden_state[:, 0]  # type: ignore[attr-defined]
    )
    return pooled


class MaskedText(NamedTuple):
    """A report with words hidden.

    Attributes:
        input_ids: int64 ``(batch, length)``, corrupted.
        targets: Which positions are to be predicted.
        labels: int64 ``(batch, k)``: the true ids there.
    """

    input_ids: Tensor
    targets: TokenMask
    labels: Tensor


def mask_report(
    input_ids: Tensor, attention_mask: Tensor, token_noise: Tensor, choice_noise: Tensor, config: Any
) -> MaskedText:
    """Hide words of each report.

    Args:
        input_ids: int64 ``(batch, length)``.
        attention_mask: ``(batch, length)``.
        token_noise: float ``(batch, >= length)`` uniform; decides which words.
        choice_noise: float ``(batch, >= length)`` uniform; decides by what they are replaced (``bert`` mode).
        config: Has ``text_mask_probability``, ``text_mask_replacement`` and the ids of special tokens.
    """
    length = input_ids.shape[1]
    maskable = attention_mask.bool()
    for special in config.text_special_token_ids:
        maskable = maskable & (input_ids != special)
    targets = mask_text_tokens(token_noise[:, :length], maskable, float(config.text_mask_probability))
    labels = input_ids.gather(1, targets.positions)
    replacement = torch.full_like(labels, config.text_mask_token_id)
    if config.text_mask_replacement == "bert":
        choice = choice_noise.gather(1, targets.positions)
        vocabulary = config.text_config.vocab_size
        # 80 % mask, 10 % a random word (the last tenth of the noise, stretched over the vocabulary), 10 % unchanged.
        random_word = ((choice - 0.9) * 10 * vocabulary).long().clamp(0, vocabulary - 1)
        replacement = torch.where(choice < 0.8, replacement, torch.where(choice < 0.9, labels, random_word))
    replacement = torch.where(targets.weights.bool(), replacement, labels)
    return MaskedText(input_ids.scatter(1, targets.positions, replacement), targets, labels)
