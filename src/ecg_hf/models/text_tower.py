"""The text tower of the methods that learn from reports: any BERT-like encoder, from scratch or pretrained."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from ecg_hf.errors import ConfigurationError

__all__ = [
    "build_text_tower",
    "check_tokens",
    "freeze_text_layers",
    "load_text_tower",
    "pool_text",
]


def build_text_tower(config: PreTrainedConfig, pooling: str) -> PreTrainedModel:
    """The text encoder that ``config`` describes, without a pooler unless it is used.

    An unused pooler would have parameters without gradient, which DistributedDataParallel refuses.

    Args:
        config: Of the tower.
        pooling: ``pooler`` or ``cls``, see :func:`pool_text`.
    """
    model_class = MODEL_MAPPING[type(config)]
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
