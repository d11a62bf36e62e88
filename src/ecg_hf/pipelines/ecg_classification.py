"""``pipeline("ecg-classification")``: labels and scores from a classification model."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ecg_hf.errors import SignalError
from ecg_hf.pipelines.base import EcgPipeline, accepted_inputs, check_choice, check_count, top_entries

__all__ = ["EcgClassificationPipeline", "default_function"]

_FUNCTIONS = ("sigmoid", "softmax", "none")


class EcgClassificationPipeline(EcgPipeline):
    """Classify ECGs.

    Accepts paths of recordings, ``EcgRecord``, mappings ``{"signal", "sampling_rate", "lead_names"}``, arrays
    (with ``sampling_rate=`` and ``lead_names=``), lists, datasets and streams of them. Options, in the constructor
    or the call:

    - ``top_k``: number of best labels to keep; all by default.
    - ``function_to_apply``: ``"sigmoid"`` (default for multi-label models), ``"softmax"`` (default for
      single-label ones) or ``"none"`` (default for regression).
    - ``data_root``, ``sampling_rate``, ``lead_names``, ``unit``, ``layout``, ``on_error``, ``window_s``,
      ``stride_s``: see :class:`~ecg_hf.pipelines.base.EcgPipeline`.

    A recording of fewer leads than the classifier's ``min_leads`` is a :class:`~ecg_hf.errors.SignalError`, as for
    ``ecg-hf predict``, which abstains.

    Returns, per record, a list of ``{"label", "score"}`` by descending score.

    Example:
        >>> classify = pipeline("ecg-classification", model="org/cg-dmer-ptbxl-super")
        >>> classify("records500/00000/00001_hr", top_k=2)
        [{'label': 'NORM', 'score': 0.91}, {'label': 'STTC', 'score': 0.06}]
    """

    def _sanitize_parameters(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        preprocess, forward = self._input_parameters(options)
        postprocess: dict[str, Any] = {}
        for name in ("top_k", "function_to_apply"):
            if name in options:
                postprocess[name] = options.pop(name)
        self._refuse_unknown(options)
        if postprocess.get("function_to_apply") is not None:
            check_choice("function_to_apply", postprocess["function_to_apply"], _FUNCTIONS)
        check_count("top_k", postprocess.get("top_k"), 1)
        return preprocess, forward, postprocess

    def _features(self, ecg: Any, extractor_options: dict[str, Any]) -> dict[str, Tensor]:
        features = super()._features(ecg, extractor_options)
        fewest, wanted = int(features["lead_mask"].sum(-1).min()), self.model.config.min_leads
        if fewest < wanted:
            raise SignalError(
                f"findings need at least {wanted} leads, the recording has {fewest}", value=fewest
            )
        return features

    def _forward(self, input_tensors: dict[str, Tensor], **_: Any) -> dict[str, Tensor]:
        outputs = self.model(**accepted_inputs(self.model.forward, input_tensors))
        return {"logits": outputs.logits.float()}

    def postprocess(
        self, model_outputs: dict[str, Tensor], top_k: int | None = None, function_to_apply: str | None = None
    ) -> list[dict[str, Any]]:
        """Scores of one record."""
        logits = model_outputs["logits"][0]
        function = function_to_apply or default_function(self.model.config)
        if function == "sigmoid":
            logits = logits.sigmoid()
        elif function == "softmax":
            logits = logits.softmax(-1)
        names = self.model.config.id2label
        entries = [{"label": names[index], "score": score} for index, score in enumerate(logits.tolist())]
        return top_entries(entries, top_k)


def default_function(config: Any) -> str:
    """What makes scores of a classifier's logits: ``"sigmoid"``, ``"softmax"`` or, for regression, ``"none"``."""
    if config.problem_type == "regression":
        return "none"
    if config.problem_type == "multi_label_classification" or config.num_labels == 1:
        return "sigmoid"
    return "softmax"
