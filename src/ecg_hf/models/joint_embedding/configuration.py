"""Configuration of the joint-embedding family: a backbone, views, heads, a teacher."""

# No postponed annotations here, because ``@strict`` can't resolve them.

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.configuration import EcgConfig
from ecg_hf.nn.views.augmentations import check_views

__all__ = [
    "BACKBONES",
    "BackboneConfig",
    "BackboneFields",
    "CnnFields",
    "JointEmbeddingConfig",
    "MerlVitFields",
    "ResNet1dFields",
    "TemporalConfig",
    "VitFields",
    "Xresnet1dFields",
    "as_entry",
    "backbone_fields",
]


@strict
@dataclass(kw_only=True)
class BackboneFields:
    """Fields of a backbone.

    Attributes:
        type: Its name in :data:`BACKBONES`.
    """

    layer_class: ClassVar[str]

    type: str = ""

    @property
    def hidden_size(self) -> int:
        """Width of a token and of the record's embedding."""
        raise NotImplementedError

    @property
    def num_hidden_layers(self) -> int:
        """Number of :attr:`Backbone.layers`."""
        raise NotImplementedError

    @property
    def num_attention_heads(self) -> int | None:
        """Heads of each layer; None without attention."""
        return None


@strict
@dataclass(kw_only=True)
class ResNet1dFields(BackboneFields):
    """A residual network of basic blocks. With its defaults, that of MERL: 3,848,832 parameters.

    Official code: MERL's ``ResNet18`` (stem of width 7, no max-pooling, strided projections in the shortcuts).

    Attributes:
        channels: Channels of each stage; the last are the width of a token.
        depths: Blocks of each stage; each stage but the first halves the length.
        kernel_size: Odd width of the blocks' convolutions.
        stem_kernel_size: Odd width of the stem.
        bottleneck: Three convolutions per block, of which the last has four times the channels (ResNet-50, -101).
        token_s: Seconds of a token. The stem takes the stride that comes nearest: 2 at 500 Hz (MERL's), 1 at 100 Hz,
            where a token is 80 ms because the stages alone take 8 samples.
    """

    layer_class = "EcgResidualBlock1d"
    deep_stem: ClassVar[bool] = False

    channels: list[int] | tuple[int, ...] = (64, 128, 256, 512)
    depths: list[int] | tuple[int, ...] = (2, 2, 2, 2)
    kernel_size: int = 3
    stem_kernel_size: int = 7
    bottleneck: bool = False
    token_s: float | int = 0.032

    def __post_init__(self) -> None:
        """Check that stages and sizes fit."""
        if not 0 < len(self.channels) == len(self.depths) or min(*self.channels, *self.depths, 1) < 1:
            raise ValueError("channels and depths must be positive, and as many")
        if self.kernel_size % 2 == 0 or self.stem_kernel_size % 2 == 0 or self.token_s <= 0:
            raise ValueError("kernel sizes must be odd, token_s positive")

    @property
    def hidden_size(self) -> int:
        """Channels of the last stage."""
        return self.channels[-1] * self.expansion

    @property
    def expansion(self) -> int:
        """Channels after a block over those inside it."""
        return 4 if self.bottleneck else 1

    @property
    def num_hidden_layers(self) -> int:
        """Residual blocks."""
        return sum(self.depths)


@strict
@dataclass(kw_only=True)
class Xresnet1dFields(ResNet1dFields):
    """A residual network with a stem of three convolutions and averages in its shortcuts.

    Source: He et al. 2019 (bag of tricks) in one dimension, as benchmarks train it on PTB-XL.

    Attributes:
        token_s: As for the base class; 32 samples at 500 Hz, 8 at 100 Hz.
    """

    deep_stem = True

    channels: list[int] | tuple[int, ...] = (64, 128, 192, 256)
    kernel_size: int = 5
    stem_kernel_size: int = 5
    token_s: float | int = 0.064


@strict
@dataclass(kw_only=True)
class VitFields(BackboneFields):
    """A pre-norm transformer over patches of all leads. With its defaults, the size of MERL's ``vit_tiny``.

    Differs from official code: positions are a fixed sine-cosine table, and the last norm is before the mean over
    tokens instead of after it.

    Attributes:
        patch_s: Seconds of a patch, which is a token.
        width: Width of a token.
        depth: Layers.
        num_heads: Attention heads.
        mlp_ratio: Width inside the layers' MLPs over that of a token.
    """

    layer_class = "EcgTransformerBlock"
    as_merl: ClassVar[bool] = False
    head_size: ClassVar[int | None] = None

    patch_s: float | int = 0.1
    width: int = 192
    depth: int = 12
    num_heads: int = 3
    mlp_ratio: float | int = 4

    def __post_init__(self) -> None:
        """Check that sizes fit."""
        if min(self.depth, self.num_heads) < 1 or self.width % (2 * self.num_heads) or self.width < 1:
            raise ValueError("width must be a multiple of twice num_heads, and depth positive")
        if self.patch_s <= 0 or self.mlp_ratio <= 0:
            raise ValueError("patch_s and mlp_ratio must be positive")

    @property
    def hidden_size(self) -> int:
        """Width of a token."""
        return self.width

    @property
    def num_hidden_layers(self) -> int:
        """Transformer layers."""
        return self.depth

    @property
    def num_attention_heads(self) -> int:
        """Heads of each layer."""
        return self.num_heads


@strict
@dataclass(kw_only=True)
class CnnFields(BackboneFields):
    """Convolutions, each followed by batch norm, ReLU and pooling of two steps: those of TS-TCC with these defaults.

    ``leadwise``, one network reads every lead by itself, as in CLOCS; a token is the mean of the leads that hold
    signal, and a linear layer behind them gives it its ``width``.

    Attributes:
        channels: Of each layer.
        kernel_size: Width of the convolutions.
        strides: Of each convolution.
        dropout: Behind the first layer, ``leadwise`` behind each.
        leadwise: One network for every lead.
        width: Of a token, for ``leadwise``; None for the last channels.
    """

    layer_class = "EcgConvPoolBlock"

    channels: list[int] | tuple[int, ...] = (32, 64, 128)
    kernel_size: int = 8
    strides: list[int] | tuple[int, ...] = (1, 1, 1)
    dropout: float | int = 0.35
    leadwise: bool = False
    width: int | None = None

    def __post_init__(self) -> None:
        """Check that sizes fit."""
        if not 0 < len(self.channels) == len(self.strides) or min(*self.channels, *self.strides) < 1:
            raise ValueError("channels and strides must be positive, and as many")
        if self.kernel_size < 1 or not 0.0 <= self.dropout < 1.0:
            raise ValueError("kernel_size must be positive, dropout in [0, 1)")
        if self.width is not None and (self.width < 1 or not self.leadwise):
            raise ValueError("width is positive, and of leadwise networks alone")

    @property
    def hidden_size(self) -> int:
        """Width of a token."""
        return self.width or self.channels[-1]

    @property
    def num_hidden_layers(self) -> int:
        """Convolutions."""
        return len(self.channels)


@strict
@dataclass(kw_only=True)
class MerlVitFields(VitFields):
    """MERL's own transformer: learned positions, patches without bias, the embedding is the norm of the mean.

    Attributes:
        head_width: Width of each head, whatever that of a token.
    """

    as_merl = True

    head_width: int = 64

    @property
    def head_size(self) -> int:  # type: ignore[override]
        """Width of each head."""
        return self.head_width


BACKBONES: dict[str, type[BackboneFields]] = {
    "resnet1d": ResNet1dFields,
    "xresnet1d": Xresnet1dFields,
    "vit": VitFields,
    "cnn": CnnFields,
    "merl_vit": MerlVitFields,
}
"""Fields of each backbone by its name."""


def backbone_fields(entry: Mapping[str, Any]) -> BackboneFields:
    """The fields that a configuration's ``backbone`` names, filled up with defaults.

    Raises:
        ConfigurationError: for an unknown backbone or field, or values that do not fit.
    """
    name = str(entry.get("type", "resnet1d"))
    if name not in BACKBONES:
        raise ConfigurationError(f"unknown backbone {name!r}; known: {', '.join(BACKBONES)}", value=name)
    kind = BACKBONES[name]
    known = [field.name for field in fields(kind)]
    for field in entry:
        if field not in known:
            raise ConfigurationError(
                f"backbone {name} has no field {field!r}; it has {', '.join(known)}", value=field
            )
    try:
        return kind(**{**entry, "type": name})
    except (StrictDataclassError, ValueError, TypeError) as error:
        raise ConfigurationError(f"backbone {name}: {' '.join(str(error).split())}", value=name) from None


def as_entry(fields: BackboneFields) -> dict[str, Any]:
    """The entry that gives ``fields``, all defaults written out, as JSON has it."""
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in asdict(fields).items()
    }


@strict
class BackboneConfig(EcgConfig):
    """Configuration of a method whose encoder is one of the backbones.

    Args:
        backbone: Its ``type``, a key of :data:`BACKBONES`, and those fields of the type that are to have other values
            than their defaults.
    """

    backbone: dict[str, Any] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        """Write the backbone's defaults out."""
        super().__post_init__(**kwargs)
        self.backbone = as_entry(backbone_fields(self.backbone or {}))

    @property
    def backbone_fields(self) -> BackboneFields:
        """The fields of the backbone."""
        return backbone_fields(self.backbone or {})

    @property
    def hidden_size(self) -> int:
        """Width of a token and of the record's embedding."""
        return self.backbone_fields.hidden_size

    @property
    def num_hidden_layers(self) -> int:
        """Layers of the backbone."""
        return self.backbone_fields.num_hidden_layers

    @property
    def num_attention_heads(self) -> int:
        """Attention heads of a layer.

        Raises:
            AttributeError: if the backbone has no attention.
        """
        heads = self.backbone_fields.num_attention_heads
        if heads is None:
            raise AttributeError(f"backbone {self.backbone_fields.type} has no attention")
        return heads


MICRO: dict[str, Any] = {
    "sampling_rate": 100,
    "num_samples": 1000,
    "backbone": {"type": "resnet1d", "channels": [8, 16], "depths": [1, 1], "token_s": 0.08},
    "projector_sizes": [32, 16],
    "views_together": True,
}
"""For tests."""

MICRO_CONTEXT: dict[str, Any] = {
    "feature_size": 16,
    "future_steps": 3,
    "context_size": 16,
    "context_layers": 1,
    "context_heads": 2,
    "context_mlp_size": 32,
    "context_dropout": 0.0,
}
"""For tests of methods that read a record in the order of time."""

TINY: dict[str, Any] = {
    "sampling_rate": 100,
    "num_samples": 1000,
    "backbone": {"type": "resnet1d", "channels": [24, 48, 96, 192], "depths": [1, 1, 1, 1]},
    "projector_sizes": [384, 128],
}
"""For two CPU cores."""

BASE_100HZ: dict[str, Any] = {"sampling_rate": 100, "num_samples": 1000}
"""``base`` for records of 100 Hz, a third of its operations."""

CROP_AND_TIME_OUT: tuple[dict[str, Any], ...] = (
    {"op": "crop_resize", "length": [0.5, 1.0]},
    {"op": "time_out", "share": [0.2, 0.4]},
)
"""The best pair of views of Mehari and Strodthoff (arXiv 2103.12676) on 12-lead records."""

VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "vit": {"backbone": as_entry(VitFields(type="vit"))},
    "xresnet1d": {"backbone": as_entry(Xresnet1dFields(type="xresnet1d"))},
    "rate-safe": {"views": [{"op": "crop_resize", "length": [0.85, 1.0]}, CROP_AND_TIME_OUT[1]]},
    "more-views": {
        "views": [
            *CROP_AND_TIME_OUT,
            {"op": "noise", "p": 0.5},
            {"op": "wander", "p": 0.5},
            {"op": "gain", "p": 0.5},
        ]
    },
}
"""Another backbone or set of views. ``rate-safe`` lowers the apparent heart rate by at most 15 %."""


@strict
class JointEmbeddingConfig(BackboneConfig):
    """What the methods of the family share; each sets other defaults and adds what its loss needs.

    Most of the methods were made for pictures: which backbone reads a recording and which views it has are not from
    their papers. Views, backbones and sizes of heads are those of the ECG literature where there are any, else this
    package's choice.

    Args:
        sampling_rate: Hertz.
        num_samples: Longest signal, in samples.
        backbone: Its ``type``, a key of :data:`BACKBONES`, and those fields of the type that are to have other values
            than their defaults.
        views: Augmentations of each view in turn, see :mod:`ecg_hf.nn.views.augmentations`.
        second_views: Those of the second view, if they are others than the first's.
        views_together: Encode both views as one batch, so that batch norms of the backbone see both; the reference
            implementations encode one after the other.
        projector_sizes: Hidden widths and output width of the projector.
        projector_last_norm: Whether the projector ends with a batch norm (without scale and shift).
        predictor_sizes: Hidden widths of the predictor, whose output is as wide as the projector's; None for no
            predictor.
        predictor_last_norm: Whether the predictor ends with a batch norm.
        ema_start: Share of its weights that the teacher keeps at the first optimiser step; None for no teacher.
        ema_end: The same at the last step; in between a cosine leads from one to the other.
    """

    presets = {"micro": MICRO, "tiny": TINY, "base-100hz": BASE_100HZ, "base": {}}
    variants = VARIANTS

    views: list[dict[str, Any]] | tuple[dict[str, Any], ...] = CROP_AND_TIME_OUT
    second_views: list[dict[str, Any]] | tuple[dict[str, Any], ...] | None = None
    views_together: bool = False
    projector_sizes: list[int] | tuple[int, ...] = (512, 128)
    projector_last_norm: bool = False
    predictor_sizes: list[int] | tuple[int, ...] | None = None
    predictor_last_norm: bool = False
    ema_start: float | int | None = None
    ema_end: float | int = 1.0

    def __post_init__(self, **kwargs: Any) -> None:
        """Check that everything fits."""
        super().__post_init__(**kwargs)
        for name in ("views", "second_views"):
            entries = getattr(self, name)
            if entries is not None:
                check_views(entries, name)
                setattr(self, name, [dict(entry) for entry in entries])
        sizes = (*self.projector_sizes, *(self.predictor_sizes or ()))
        self.require(
            len(self.projector_sizes) > 0 and min(sizes) > 0, "widths of heads must be positive", sizes
        )
        for name in ("ema_start", "ema_end"):
            momentum = getattr(self, name)
            self.require(momentum is None or 0.0 <= momentum <= 1.0, f"{name} must be in [0, 1]", momentum)

    @property
    def view_entries(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Augmentations of the first view and of the second."""
        first = list(self.views)
        return first, first if self.second_views is None else list(self.second_views)


@strict
class TemporalConfig(JointEmbeddingConfig):
    """What the methods that read a record in the order of time share; the other fields are the family's.

    From TS-TCC's official code: the network of the contexts with its sizes. Inferred: steps of 0.16 s, of which 10 s
    have 62, at any rate; 19 of them are predicted, the share that the code predicts of its own.

    Args:
        step_s: Seconds of a step, the mean of the tokens it takes; 0 for one step per token.
        feature_size: Width of a step behind a linear layer; None for the backbone's tokens as they are.
        future_steps: Steps that are predicted, each by a linear layer of its own.
        context_size: Width of the transformer over the steps, and of the context.
        context_layers: Its layers.
        context_heads: Attention heads of a layer.
        context_mlp_size: Width inside a layer's MLP.
        context_dropout: Dropout in its layers.
    """

    step_s: float | int = 0.16
    feature_size: int | None = 128
    future_steps: int = 19
    context_size: int = 100
    context_layers: int = 4
    context_heads: int = 4
    context_mlp_size: int = 64
    context_dropout: float | int = 0.1

    def __post_init__(self, **kwargs: Any) -> None:
        """Check that sizes fit."""
        super().__post_init__(**kwargs)
        positive = ("future_steps", "context_size", "context_layers", "context_heads", "context_mlp_size")
        for name in (*positive, *(["feature_size"] if self.feature_size is not None else [])):
            self.require(getattr(self, name) > 0, f"{name} must be positive", getattr(self, name))
        fits = self.context_size % self.context_heads == 0
        self.require(fits, "context_size must be a multiple of context_heads", self.context_size)
        self.require(self.step_s >= 0.0, "step_s must not be negative", self.step_s)
        dropout = self.context_dropout
        self.require(0.0 <= dropout < 1.0, "context_dropout must be in [0, 1)", dropout)
