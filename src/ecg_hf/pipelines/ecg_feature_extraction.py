"""``pipeline("ecg-feature-extraction")``: embeddings of ECGs."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ecg_hf.errors import ConfigurationError
from ecg_hf.pipelines.base import EcgPipeline, accepted_inputs

__all__ = ["EcgFeatureExtractionPipeline"]


class EcgFeatureExtractionPipeline(EcgPipeline):
    """Embed ECGs with the encoder of any model of this package.

    Accepts what :class:`~ecg_hf.pipelines.ecg_classification.EcgClassificationPipeline` does. Options, in the
    constructor or the call:

    - ``pool``: ``True`` (default) for one vector per ECG, the model's pooled output; ``False`` for one per token.
    - ``return_tensors``: a float32 tensor instead of a list.
    - ``data_root``, ``sampling_rate``, ``lead_names``, ``unit``, ``layout``, ``on_error``, ``window_s``,
      ``stride_s``: see :class:`~ecg_hf.pipelines.base.EcgPipeline`.

    Returns, per record, ``hidden_size`` numbers, or ``(tokens, hidden_size)`` without pooling.

    Example:
        >>> embed = pipeline("ecg-feature-extraction", model="org/ecg-jepa")
        >>> len(embed("records500/00000/00001_hr"))
        768
    """

    def _sanitize_parameters(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        preprocess, forward = self._input_parameters(options)
        postprocess: dict[str, Any] = {}
        for name, where in (("pool", forward), ("return_tensors", postprocess)):
            if name in options:
                where[name] = options.pop(name)
                if not isinstance(where[name], bool):
                    raise ConfigurationError(f"{name} must be true or false", value=where[name])
        self._refuse_unknown(options)
        return preprocess, forward, postprocess

    def _forward(self, input_tensors: dict[str, Tensor], pool: bool = True) -> dict[str, Tensor]:
        encoder = self.model.base_model
        outputs = encoder(**accepted_inputs(encoder.forward, input_tensors))
        features = outputs.pooler_output if pool else outputs.last_hidden_state
        return {"features": features.float()}

    def postprocess(self, model_outputs: dict[str, Tensor], return_tensors: bool = False) -> Any:
        """Features of one record."""
        features = model_outputs["features"][0]
        return features if return_tensors else features.tolist()
