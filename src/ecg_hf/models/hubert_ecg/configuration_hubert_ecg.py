"""Configuration of HuBERT-ECG."""

# No postponed annotations here or in any configuration, because ``@strict`` can't resolve them.

from dataclasses import fields
from math import prod
from typing import Any, Self

from huggingface_hub.dataclasses import strict

from ecg_hf.errors import ModelFolderError
from ecg_hf.models.configuration import EcgConfig
from ecg_hf.models.safe_loading import FOREIGN_CODE

__all__ = ["HubertEcgConfig"]

PRESETS: dict[str, dict[str, Any]] = {
    "micro": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "conv_dim": [8, 8, 8, 8, 8],
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "classifier_dropout": 0.0,
    },
    "small": {},
    "base": {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
    },
    "large": {
        "hidden_size": 960,
        "num_hidden_layers": 16,
        "num_attention_heads": 12,
        "intermediate_size": 3840,
    },
}
"""Named sizes: the published ones, and ``micro`` for tests."""


OFFICIAL_TYPE = "hubert_ecg"
"""``model_type`` of the authors' own ``config.json``."""

_FIXED = {
    "conv_bias": False,
    "conv_pos_batch_norm": False,
    "do_stable_layer_norm": False,
    "feat_extract_activation": "gelu",
    "feat_extract_norm": "group",
    "feat_proj_layer_norm": True,
    "hidden_act": "gelu",
}
"""What the authors' configuration could choose otherwise, and the published models do not."""

_OF_THE_LIBRARY = (
    "_name_or_path",
    "architectures",
    "dtype",
    "id2label",
    "label2id",
    "problem_type",
    "torch_dtype",
)


@strict
class HubertEcgConfig(EcgConfig):
    """Configuration of :class:`~ecg_hf.HubertEcgModel` and its classifier.

    Names and defaults are those of the published ``config.json`` of the small model.

    Args:
        num_samples: Samples of each lead: 5 s. The network sees all leads one after the other.
        hidden_size: Width of the tokens.
        num_hidden_layers: Transformer layers.
        num_attention_heads: Heads of each.
        intermediate_size: Width inside their MLPs.
        conv_dim: Channels of the convolutions that make tokens.
        conv_kernel: Their widths.
        conv_stride: Their strides.
        num_conv_pos_embeddings: Width of the positional convolution.
        num_conv_pos_embedding_groups: Its groups.
        hidden_dropout: Dropout before the first layer and in each.
        attention_dropout: Dropout on attention weights.
        layer_norm_eps: Epsilon of the layer norms.
        classifier_hidden_size: Width of a hidden layer with tanh in the classifier; None for a linear one.
        classifier_cosine: Logits are cosines between the embedding and one vector per label.

    Raises:
        ConfigurationError: if values contradict each other.
    """

    model_type = "hubert-ecg"
    presets = PRESETS

    sampling_rate: float | int = 100
    num_samples: int = 500
    hidden_size: int = 512
    num_hidden_layers: int = 8
    num_attention_heads: int = 8
    intermediate_size: int = 2048
    conv_dim: list[int] | tuple[int, ...] = (512, 512, 512, 512, 512)
    conv_kernel: list[int] | tuple[int, ...] = (10, 3, 3, 2, 2)
    conv_stride: list[int] | tuple[int, ...] = (4, 2, 2, 2, 2)
    num_conv_pos_embeddings: int = 128
    num_conv_pos_embedding_groups: int = 16
    hidden_dropout: float | int = 0.1
    attention_dropout: float | int = 0.1
    layer_norm_eps: float = 1e-5
    classifier_dropout: float | int = 0.1
    classifier_hidden_size: int | None = None
    classifier_cosine: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        """Check that everything fits."""
        super().__post_init__(**kwargs)
        lengths = {len(self.conv_dim), len(self.conv_kernel), len(self.conv_stride)}
        self.require(len(lengths) == 1 and 0 not in lengths, "conv_dim, _kernel and _stride differ in number")
        sizes = (*self.conv_dim, *self.conv_kernel, *self.conv_stride)
        self.require(all(size > 0 for size in sizes), "sizes of convolutions must be positive", sizes)
        for name in ("hidden_size", "num_hidden_layers", "intermediate_size", "num_conv_pos_embeddings"):
            self.require(getattr(self, name) > 0, f"{name} must be positive", getattr(self, name))
        for name in ("num_attention_heads", "num_conv_pos_embedding_groups"):
            value = getattr(self, name)
            fits = value > 0 and self.hidden_size % value == 0
            self.require(fits, f"{name} {value} does not divide hidden_size {self.hidden_size}", value)
        self.require(
            self.num_leads * self.num_samples >= self.reach,
            f"{self.num_leads} leads of {self.num_samples} samples are less than a token, {self.reach}",
            self.num_samples,
        )
        self.require(
            not (self.classifier_cosine and self.classifier_hidden_size),
            "a classifier of cosines has no hidden layer",
            self.classifier_hidden_size,
        )

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Self:
        """Like the base class's; also reads the authors' own ``config.json``, of ``model_type`` ``hubert_ecg``.

        What that says of training and of pretraining heads is left out.

        Raises:
            ModelFolderError: also for a network of the authors' code that none of the published models has.
        """
        if config_dict.get("model_type") == OFFICIAL_TYPE:
            path = config_dict.get("_name_or_path")
            for name, published in _FIXED.items():
                if config_dict.get(name, published) != published:
                    raise ModelFolderError(
                        f"config.json: {name} is {config_dict[name]!r}, HuBERT-ECG has {published!r}",
                        path=None if path is None else str(path),
                        value=name,
                    )
            known = {field.name for field in fields(cls)} | {*_OF_THE_LIBRARY, *FOREIGN_CODE}
            config_dict = {name: value for name, value in config_dict.items() if name in known}
            config_dict["model_type"] = cls.model_type
        return super().from_dict(config_dict, **kwargs)

    @property
    def reach(self) -> int:
        """Samples that a token sees."""
        return 1 + sum(
            (kernel - 1) * prod(self.conv_stride[:index]) for index, kernel in enumerate(self.conv_kernel)
        )
