"""What every method's configuration has in common: the signal contract and the classification head."""

# No postponed annotations here or in any configuration: ``@strict`` does not see through them.

from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.registry import AUTO_CLASSES, METHODS, ClassRole
from ecg_hf.shim import LeadsToPackage, without_shim
from ecg_hf.signal.leads import STANDARD_LEADS, normalize_lead_names

__all__ = ["EcgConfig"]


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
    """

    sampling_rate: float | int = 500
    lead_names: list[str] | tuple[str, ...] | None = None
    num_samples: int = 5000
    classifier_pooling: Literal["mean", "attention"] = "mean"
    classifier_dropout: float | int = 0.0
    initializer_range: float | int = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        """Fill in the standard leads and normalise their names."""
        super().__post_init__(**without_shim(kwargs))
        self.lead_names = list(normalize_lead_names(self.lead_names or STANDARD_LEADS))

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
        return {AUTO_CLASSES[role]: spec.class_name(role) for role in roles}

    def require(self, condition: bool, message: str, value: object = None) -> None:
        """Raise a :class:`~ecg_hf.errors.ConfigurationError` unless ``condition`` holds."""
        if not condition:
            raise ConfigurationError(f"{type(self).__name__}: {message}", value=value)
