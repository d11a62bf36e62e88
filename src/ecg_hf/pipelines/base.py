"""What the ECG pipelines share: inputs, batching, and which tensors reach the model."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor
from transformers.pipelines.base import Pipeline

from ecg_hf.errors import ConfigurationError
from ecg_hf.pipelines.inputs import as_pipeline_input, load_ecg

__all__ = ["EcgPipeline", "check_choice", "top_entries"]

_INPUT_OPTIONS = ("data_root", "sampling_rate", "lead_names", "unit", "layout")


class EcgPipeline(Pipeline):
    """Reads and prepares ECGs one by one; batches are collated from finished tensors only.

    Options of every ECG pipeline, in the constructor or the call:

    - ``data_root``: folder that paths are relative to and must not leave;
    - ``sampling_rate``, ``lead_names``, ``unit``, ``layout``: of arrays and files that do not carry them.
    """

    _load_processor = False
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = True
    _load_tokenizer = False

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Run on one ECG, or on a list, array, generator or data set of them."""
        inputs = as_pipeline_input(inputs)
        if isinstance(inputs, list) and not inputs:
            return []
        return super().__call__(inputs, **kwargs)

    def _input_parameters(self, options: dict[str, Any]) -> dict[str, Any]:
        """Take the input options out of the call's keyword arguments."""
        return {name: options.pop(name) for name in _INPUT_OPTIONS if name in options}

    def _refuse_unknown(self, options: dict[str, Any]) -> None:
        if options:
            names = ", ".join(sorted(options))
            raise ConfigurationError(f"{type(self).__name__} has no option {names}", value=names)

    def preprocess(self, input_: Any, **options: Any) -> dict[str, Tensor]:
        """One ECG as tensors with a batch axis of 1."""
        ecg, extractor_options = load_ecg(input_, **options)
        # Asked for always: batches are collated by key, and padding must not decide which keys there are.
        features = self.feature_extractor(
            ecg, return_tensors="pt", return_sample_mask=True, **extractor_options
        )
        return dict(features.to(self.dtype))


def accepted_inputs(function: Callable[..., Any], inputs: dict[str, Any]) -> dict[str, Any]:
    """The prepared tensors a model's function takes; a sample mask without padding is left out."""
    parameters = inspect.signature(function).parameters
    kept = {name: value for name, value in inputs.items() if name in parameters}
    mask = kept.get("sample_mask")
    if mask is not None and bool(mask.all()):
        del kept["sample_mask"]
    return kept


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise a ``ConfigurationError`` unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ConfigurationError(f"{name} must be one of {', '.join(choices)}, got {value!r}", value=value)


def top_entries(entries: list[dict[str, Any]], top_k: int | None) -> list[dict[str, Any]]:
    """Entries by falling score, at most ``top_k``.

    Raises:
        ConfigurationError: if ``top_k`` is not a positive number.
    """
    if top_k is not None and top_k < 1:
        raise ConfigurationError(f"top_k must be at least 1, got {top_k}", value=top_k)
    return sorted(entries, key=lambda entry: -entry["score"])[:top_k]
