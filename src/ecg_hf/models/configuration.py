"""The part of the configuration all methods share: the signal contract and the classification head."""

# No postponed annotations here or in any configuration, because ``@strict`` can't resolve them.

from collections.abc import Iterable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, ClassVar, Literal, NoReturn, Self

from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig
from transformers.utils import logging

from ecg_hf.auto_map import LeadsToPackage, without_shim
from ecg_hf.errors import ConfigurationError, EcgError, ModelFolderError
from ecg_hf.models.registry import AUTO_CLASSES, METHODS, ClassRole, get_method
from ecg_hf.models.safe_loading import FOREIGN_CODE, MAX_LABELS, check_config_values
from ecg_hf.signal.leads import STANDARD_LEADS, normalize_lead_names

__all__ = ["EcgConfig"]

logger = logging.get_logger(__name__)

MAX_LABEL_LENGTH = 200
"""Longest label, and longest name of one, in characters."""

_OF_THE_LIBRARY = frozenset(
    {
        "attn_implementation",
        "auto_map",
        "bos_token_id",
        "eos_token_id",
        "experts_implementation",
        "gradient_checkpointing",
        "is_causal",
        "model_type",
        "pad_token_id",
        "quantization_config",
        "tie_last_hidden_states",
        "torch_dtype",
        "transformers_weights",
        "use_cache",
    }
)
"""Options that any configuration of the library accepts besides its fields and settable properties.

``use_cache`` and the ids of tokens are what the library's Trainer writes into the configurations of models it trains.
"""


@strict
class EcgConfig(LeadsToPackage, PreTrainedConfig):
    """Signal contract shared by all models.

    Args:
        sampling_rate: Hertz of ``input_values``.
        lead_names: Order of the leads in ``input_values``.
        num_samples: Longest signal, in samples.
        classifier_pooling: How a classification head pools tokens: ``mean`` (the model's pooled output) or
            ``attention`` (one learnable query).
        classifier_dropout: Dropout before the classifier's linear layer.
        initializer_range: Standard deviation of randomly initialised weights.
        label_details: What is known about the labels of a fine-tuned classifier, by label: ``name`` (in words),
            ``threshold`` (probability from which the label counts as present, chosen on validation records; None
            where they had no positive) and ``reference_auroc`` (on test records, on validation records where there
            was no test; None where undefined). ``ecg-hf finetune`` fills it in.
        auxiliary_targets: What pretraining predicts from whole records beside its own losses: ``terms`` (words of the
            report and pairs of them; supervision by reports) and ``measures`` (359 measurements of the ECG).
        auxiliary_terms: Most terms, the most frequent ones.
        auxiliary_weight: Weight of the auxiliary losses.
        min_leads: Fewest leads, those that follow from others included, with which a classifier's findings are worth
            giving; ``ecg-hf predict`` gives none with fewer.

    Raises:
        ConfigurationError: for unknown options. Unknown fields of a ``config.json`` (which may come from a later
            version) give a warning and are kept as attributes.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Named sizes, smallest first."""

    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"full": {}}
    """Named ablations and alternatives; ``full`` is the method itself."""

    takes_auxiliary_targets: ClassVar[bool] = False
    """Whether the method's pretraining predicts ``auxiliary_targets``."""

    sampling_rate: float | int = 500
    lead_names: list[str] | tuple[str, ...] | None = None
    num_samples: int = 5000
    classifier_pooling: Literal["mean", "attention"] = "mean"
    classifier_dropout: float | int = 0.0
    initializer_range: float | int = 0.02
    label_details: dict[str, dict[str, str | float | int | None]] | None = None
    auxiliary_targets: list[str] | tuple[str, ...] = ()
    auxiliary_terms: int = 1024
    auxiliary_weight: float | int = 1.0
    min_leads: int = 1

    def __post_init__(self, **kwargs: Any) -> None:
        """Fill in the standard leads and normalise their names."""
        self._refuse_unknown(kwargs)
        super().__post_init__(**without_shim(kwargs))
        self.lead_names = list(normalize_lead_names(self.lead_names or STANDARD_LEADS))
        _check_label_details(self.label_details)
        unknown = set(self.auxiliary_targets) - {"terms", "measures"}
        self.require(not unknown, "auxiliary_targets are terms and measures", sorted(unknown))
        self.require(
            self.takes_auxiliary_targets or not self.auxiliary_targets,
            f"{self.model_type} takes no auxiliary_targets",
            list(self.auxiliary_targets),
        )

    @property
    def target_inputs(self) -> tuple[str, ...]:
        """Switches of the feature extractor that are on while pretraining alone: what they return makes targets."""
        return ("return_measures",) if "measures" in self.auxiliary_targets else ()

    @classmethod
    def _unknown(cls, names: Iterable[str]) -> list[str]:
        """Those of ``names`` that are neither fields nor the library's own."""
        known = {field.name for field in fields(cls)} | _OF_THE_LIBRARY

        def settable(name: str) -> bool:
            there = getattr(cls, name, None)
            return isinstance(there, property) and there.fset is not None

        return [n for n in names if n not in known and not n.startswith("_") and not settable(n)]

    @classmethod
    def _refuse_unknown(cls, names: Iterable[str]) -> None:
        for name in cls._unknown(names):
            close = get_close_matches(name, [field.name for field in fields(cls)], n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ConfigurationError(f"{cls.__name__} has no option {name!r}{hint}", value=name)

    def update(self, config_dict: dict[str, Any]) -> None:
        """Change fields.

        Raises:
            ConfigurationError: if a field does not exist, or a value does not fit.
        """
        self._refuse_unknown(name for name in config_dict if not hasattr(self, name))
        _check_label_details(config_dict.get("label_details"))
        try:
            super().update(config_dict)
        except StrictDataclassError as error:
            raise ConfigurationError(f"{type(self).__name__}: {' '.join(str(error).split())}") from None

    @classmethod
    def variant_fields(cls, variant: str) -> dict[str, Any]:
        """Fields that a variant sets.

        Raises:
            ConfigurationError: if the method has no such variant.
        """
        if variant not in cls.variants:
            raise ConfigurationError(
                f"unknown variant {variant!r}; known: {', '.join(cls.variants)}", value=variant
            )
        return dict(cls.variants[variant])

    @classmethod
    def fields_of_teacher(cls, teacher: PreTrainedConfig) -> dict[str, Any]:
        """Fields that a pretraining run takes over from the model it learns from.

        Args:
            teacher: That model's configuration.

        Raises:
            ConfigurationError: if the method learns from none, or from another kind.
        """
        raise ConfigurationError(
            f"{cls.model_type} learns from no teacher of another run", value=cls.model_type
        )

    @classmethod
    def preset(cls, size: str, *, variant: str = "full", **overrides: Any) -> Self:
        """A named size, optionally as one of the method's variants.

        Args:
            size: A key of :attr:`presets`.
            variant: A key of :attr:`variants`.
            overrides: Fields that take precedence over both.

        Raises:
            ConfigurationError: if the size or variant does not exist, or a value does not fit.
        """
        if size not in cls.presets:
            raise ConfigurationError(f"unknown size {size!r}; known: {', '.join(cls.presets)}", value=size)
        try:
            return cls(**{**cls.presets[size], **cls.variant_fields(variant), **overrides})
        except StrictDataclassError as error:
            raise ConfigurationError(f"{cls.__name__}: {' '.join(str(error).split())}") from None

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Self:
        """Like the library's, after refusing values no model has, because a ``config.json`` may come from anyone.

        Raises:
            ModelFolderError: see :func:`ecg_hf.models.safe_loading.check_config_values`; also for values of a wrong
                type.
            ConfigurationError: for unknown options in ``kwargs``.
        """
        path = config_dict.get("_name_or_path")
        check_config_values(config_dict, cls, path)
        if not kwargs.get("return_unused_kwargs"):
            cls._refuse_unknown(name for name in kwargs if name != "return_unused_kwargs")
        foreign = [name for name in FOREIGN_CODE if without_shim(config_dict).get(name)]
        if foreign:
            logger.warning("config.json names code in %s, which is not run", " and ".join(foreign))
            config_dict = {name: value for name, value in config_dict.items() if name not in FOREIGN_CODE}
        others = {name: config_dict[name] for name in cls._unknown(config_dict)}
        if others:
            logger.warning_once(f"config.json: {cls.__name__} has no fields {', '.join(map(repr, others))}")
        known = {name: value for name, value in config_dict.items() if name not in others}
        try:
            loaded: Any = super().from_dict(known, **kwargs)
            config = loaded[0] if isinstance(loaded, tuple) else loaded
            for name, value in others.items():
                setattr(config, name, value)
        except EcgError:
            raise
        # Deriving sizes from nonsense fails in many ways: division by zero, text instead of numbers or lists.
        except (
            StrictDataclassError,
            TypeError,
            ValueError,
            ArithmeticError,
            LookupError,
            AttributeError,
        ) as error:
            raise ModelFolderError(
                f"config.json can't be used: {' '.join(str(error).split())}", path=path
            ) from error
        result: Self = loaded
        return result

    def to_dict(self) -> dict[str, Any]:
        """Like the library's, without the folders that configurations inside this one were loaded from."""
        content: dict[str, Any] = super().to_dict()
        for name in self.sub_configs:
            if isinstance(content.get(name), dict):
                content[name].pop("_name_or_path", None)
        return content

    def feature_extractor(self, **options: Any) -> Any:
        """The method's feature extractor for models of this configuration: its rate, leads and length.

        Args:
            options: Other fields of the feature extractor.

        Raises:
            ConfigurationError: if an option contradicts the configuration, does not exist or can't work.

        Example:
            >>> config = EcgJepaConfig.preset("tiny")
            >>> model, extractor = EcgJepaModel(config), config.feature_extractor()
        """
        return get_method(self.model_type).feature_extractor_for(self, **options)

    def check_feature_extractor(self, extractor: Any) -> None:
        """Check that the output of ``extractor`` fits models of this configuration.

        Raises:
            ConfigurationError: if rates or leads differ, or its recordings are longer than ``num_samples``.
        """
        hint = "; config.feature_extractor() makes one that fits"
        rates = float(extractor.sampling_rate), float(self.sampling_rate)
        self.require(
            rates[0] == rates[1],
            f"the feature extractor gives {rates[0]:g} Hz, the model takes {rates[1]:g} Hz{hint}",
            rates[0],
        )
        names, wanted = list(extractor.lead_names), list(self.lead_names or ())
        self.require(
            names == wanted,
            f"the feature extractor gives leads {' '.join(names)}, the model takes {' '.join(wanted)}{hint}",
            names,
        )
        samples = extractor.n_samples
        self.require(
            samples is None or samples <= self.num_samples,
            f"the feature extractor gives {samples} samples, the model takes {self.num_samples}{hint}",
            samples,
        )

    @property
    def num_leads(self) -> int:
        """Number of leads."""
        return len(self.lead_names or ())

    def auto_classes(self) -> dict[str, str]:
        """The method's classes, by Auto class."""
        spec = METHODS.get(self.model_type)
        if spec is None or spec.class_name("config") != type(self).__name__:
            return {}
        roles: tuple[ClassRole, ...] = ("config", "model", "pretraining", "classification")
        return {AUTO_CLASSES[role]: spec.class_name(role) for role in roles if role in spec.roles}

    def require(self, condition: bool, message: str, value: object = None) -> None:
        """Raise a :class:`~ecg_hf.errors.ConfigurationError` unless ``condition`` holds."""
        if not condition:
            raise ConfigurationError(f"{type(self).__name__}: {message}", value=value)


def _check_label_details(details: Any) -> None:
    """Raise unless ``details`` is what :attr:`EcgConfig.label_details` says, of a size a classifier can have."""
    if details is None:
        return

    def refuse(what: str, value: object) -> NoReturn:
        raise ConfigurationError(f"label_details: {what}", value=value)

    if not isinstance(details, Mapping) or len(details) > MAX_LABELS:
        refuse(f"must be an object of at most {MAX_LABELS} labels", type(details).__name__)
    for label, entry in details.items():
        if not isinstance(label, str) or len(label) > MAX_LABEL_LENGTH:
            refuse(f"a label must be text of at most {MAX_LABEL_LENGTH} characters", label)
        if not isinstance(entry, Mapping) or not set(entry) <= {"name", "threshold", "reference_auroc"}:
            refuse(f"{label!r} may have name, threshold and reference_auroc alone", entry)
        name = entry.get("name")
        if name is not None and (not isinstance(name, str) or len(name) > MAX_LABEL_LENGTH):
            refuse(f"the name of {label!r} must be text of at most {MAX_LABEL_LENGTH} characters", name)
        for field in ("threshold", "reference_auroc"):
            value = entry.get(field)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if value is not None and not (number and 0.0 <= value <= 1.0):
                refuse(f"{field} of {label!r} must be a number from 0 to 1, or null", value)
