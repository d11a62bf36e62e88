"""Which text tower a configuration means, and small ones for vocabularies made from a corpus' own reports."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig

from ecg_hf.errors import ConfigurationError

__all__ = ["SMALL_BERTS", "text_tower_config"]

SMALL_BERTS: dict[str, dict[str, Any]] = {
    "micro": {
        "model_type": "bert",
        "vocab_size": 512,
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "initializer_range": 0.1,
    },
    "tiny": {
        "model_type": "bert",
        "vocab_size": 4096,
        "hidden_size": 192,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "intermediate_size": 768,
        "max_position_embeddings": 128,
        "initializer_range": 0.04,
    },
    "small": {
        "model_type": "bert",
        "vocab_size": 8192,
        "hidden_size": 384,
        "num_hidden_layers": 4,
        "num_attention_heads": 6,
        "intermediate_size": 1536,
        "max_position_embeddings": 128,
        "initializer_range": 0.028,
    },
}
"""By size. They start with weights that keep the gain which 0.02 has at a width of 768 (0.02 * sqrt(768 / width));
``micro`` is for tests."""


def text_tower_config(entry: dict[str, Any] | PreTrainedConfig | None) -> PreTrainedConfig:
    """The configuration that a ``text_config`` field means; BERT-base if it is None.

    Raises:
        ConfigurationError: if the library knows no such model.
    """
    # Not at the top: AutoConfig loads our configurations, and they load this module.
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    if entry is not None and not isinstance(entry, dict):
        return entry
    text = dict(entry or {})
    kind = text.pop("model_type", "bert")
    if kind not in CONFIG_MAPPING:
        raise ConfigurationError(f"unknown text tower {kind!r}", value=kind)
    config: PreTrainedConfig = CONFIG_MAPPING[kind](**text)
    return config
