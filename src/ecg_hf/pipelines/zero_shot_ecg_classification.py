"""``pipeline("zero-shot-ecg-classification")``: similarity of ECGs to arbitrary texts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ecg_hf.errors import ConfigurationError
from ecg_hf.nn.precision import similarity
from ecg_hf.pipelines.base import EcgPipeline, accepted_inputs, check_choice, check_count, top_entries
from ecg_hf.processing.text import tokenize_texts

__all__ = ["ZeroShotEcgClassificationPipeline"]

_FUNCTIONS = ("none", "softmax")
_CACHED_LABEL_SETS = 8
_DEFAULT_TEMPERATURE = 0.07

Prompts = tuple[tuple[str, ...], ...]
"""For each label, the texts whose embeddings are averaged."""


class ZeroShotEcgClassificationPipeline(EcgPipeline):
    """Compare ECGs with texts through a dual encoder.

    Accepts what :class:`~ecg_hf.pipelines.ecg_classification.EcgClassificationPipeline` does. Options, in the
    constructor or the call:

    - ``candidate_labels``: names (``["atrial fibrillation", "normal ECG"]``), full prompts, or a mapping from
      label to its prompt or to several prompts, whose embeddings are averaged. One text is split at its commas, as
      in the library's zero-shot pipelines.
    - ``hypothesis_template``: text each prompt is put into, at ``{}``; ``"{}"`` by default, which leaves
      prompts as they are.
    - ``function_to_apply``: ``"none"`` (default): the score is the cosine similarity, independent of which
      other labels are asked for, in [-1, 1], not a probability. ``"softmax"``: the score is the softmax over
      the candidate labels of similarity / temperature; it adds up to 1, presumes that exactly one label
      applies, and is not calibrated.
    - ``temperature``: for the softmax; the model's own (``config.temperature`` or ``logit_scale``) by default,
      else 0.07.
    - ``top_k``: number of best labels to keep; all by default.
    - ``data_root``, ``sampling_rate``, ``lead_names``, ``unit``, ``layout``, ``on_error``, ``window_s``,
      ``stride_s``: see :class:`~ecg_hf.pipelines.base.EcgPipeline`.

    Returns, per record, a list of ``{"label", "score", "similarity"}`` by descending score.

    Texts are encoded once per set of labels, not once per record, and remembered until the model changes.

    Example:
        >>> classify = pipeline("zero-shot-ecg-classification", model="org/cg-dmer")
        >>> classify("records500/00000/00001_hr", candidate_labels=["atrial fibrillation", "normal ECG"])
        [{'label': 'normal ECG', 'score': 0.41, 'similarity': 0.41}, ...]
    """

    _load_tokenizer = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._text_cache: OrderedDict[tuple[Any, ...], Tensor] = OrderedDict()
        super().__init__(*args, **kwargs)
        if not hasattr(self.model, "get_text_features"):
            raise ConfigurationError(
                f"{type(self.model).__name__} has no text side: zero-shot answers need a model that has one",
                value=type(self.model).__name__,
            )

    def __getstate__(self) -> dict[str, Any]:
        # Cached embeddings are keyed by the identity of the model, which a copy does not share.
        return {**self.__dict__, "_text_cache": OrderedDict()}

    def _sanitize_parameters(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        preprocess, forward = self._input_parameters(options)
        postprocess: dict[str, Any] = {}
        if "candidate_labels" in options:
            labels, prompts = _parse_labels(options.pop("candidate_labels"))
            forward["prompts"], postprocess["labels"] = prompts, labels
        if "hypothesis_template" in options:
            template = options.pop("hypothesis_template")
            if not isinstance(template, str) or "{}" not in template:
                raise ConfigurationError("hypothesis_template must be a text with {} in it", value=template)
            forward["template"] = template
        for name in ("function_to_apply", "temperature", "top_k"):
            if name in options:
                postprocess[name] = options.pop(name)
        self._refuse_unknown(options)
        if "function_to_apply" in postprocess:
            check_choice("function_to_apply", postprocess["function_to_apply"], _FUNCTIONS)
        check_count("top_k", postprocess.get("top_k"), 1)
        temperature = postprocess.get("temperature")
        if temperature is not None and not (isinstance(temperature, int | float) and temperature > 0):
            raise ConfigurationError(f"temperature must be positive, got {temperature!r}", value=temperature)
        return preprocess, forward, postprocess

    def _forward(
        self, input_tensors: dict[str, Tensor], prompts: Prompts | None = None, template: str = "{}"
    ) -> dict[str, Tensor]:
        if prompts is None:
            raise ConfigurationError("candidate_labels are missing: pass the labels to compare the ECGs with")
        texts = self._text_features(prompts, template)
        ecgs = self.model.get_ecg_features(**accepted_inputs(self.model.get_ecg_features, input_tensors))
        return {"similarity": similarity(ecgs, texts)}

    def postprocess(
        self,
        model_outputs: dict[str, Tensor],
        labels: Sequence[str] = (),
        function_to_apply: str = "none",
        temperature: float | None = None,
        top_k: int | None = None,
    ) -> list[dict[str, Any]]:
        """Scores of one record."""
        cosines = model_outputs["similarity"][0]
        scores = cosines
        if function_to_apply == "softmax":
            scores = (cosines / (temperature or self._model_temperature())).softmax(-1)
        entries = [
            {"label": label, "score": score, "similarity": cosine}
            for label, score, cosine in zip(labels, scores.tolist(), cosines.tolist(), strict=True)
        ]
        return top_entries(entries, top_k)

    def text_embedding(self, text: str) -> Tensor:
        """The L2-normalised float32 embedding of a text, ``(projection_dim,)``."""
        with torch.no_grad():
            return self._text_features(((text,),), "{}")[0]

    def _text_features(self, prompts: Prompts, template: str) -> Tensor:
        """One L2-normalised float32 embedding per label, ``(labels, projection_dim)``."""
        key = (
            prompts,
            template,
            id(self.model),
            self.model.device,
            self.model.dtype,
            self._weights_version(),
        )
        cached = self._text_cache.get(key)
        if cached is None:
            cached = self._encode_prompts(prompts, template)
            self._text_cache[key] = cached
            if len(self._text_cache) > _CACHED_LABEL_SETS:
                self._text_cache.popitem(last=False)
        return cached

    def _encode_prompts(self, prompts: Prompts, template: str) -> Tensor:
        texts = [template.replace("{}", prompt) for several in prompts for prompt in several]
        limits = (self.tokenizer.model_max_length, getattr(self.model.config, "max_text_length", None))
        encoded = tokenize_texts(
            self.tokenizer,
            texts,
            max_length=min((limit for limit in limits if limit is not None and limit < 1e6), default=None),
            return_tensors="pt",
        )
        features = self.model.get_text_features(
            **{name: ids.to(self.model.device) for name, ids in encoded.items()}
        ).float()
        unknown = [text for text, row in zip(texts, features, strict=True) if not row.any()]
        if unknown:
            raise ConfigurationError(f"the model knows no word of {unknown[0]!r}", value=unknown[0])
        counts = [len(several) for several in prompts]
        means = torch.stack([part.mean(dim=0) for part in features.split(counts)])
        return F.normalize(means, dim=-1)

    def _weights_version(self) -> int:
        """A number that changes whenever weights are written, whether by an optimiser or by loading."""
        return sum(
            parameter._version for parameter in self.model.parameters() if not parameter.is_inference()
        )

    def _model_temperature(self) -> float:
        logit_scale = getattr(self.model, "logit_scale", None)
        if isinstance(logit_scale, Tensor):
            return 1.0 / float(logit_scale.exp())
        return float(getattr(self.model.config, "temperature", _DEFAULT_TEMPERATURE))


def _parse_labels(candidate_labels: Any) -> tuple[tuple[str, ...], Prompts]:
    """Labels and the prompts of each.

    Raises:
        ConfigurationError: if labels are missing, one occurs twice, or something is not a text.
    """
    if isinstance(candidate_labels, str):
        candidate_labels = [text.strip() for text in candidate_labels.split(",") if text.strip()]
    if not isinstance(candidate_labels, Iterable | None):
        raise ConfigurationError("candidate_labels must be texts", value=candidate_labels)
    if isinstance(candidate_labels, Mapping):
        labels = tuple(candidate_labels)
        prompts = tuple(
            tuple(texts) if isinstance(texts, Iterable) and not isinstance(texts, str) else (texts,)
            for texts in candidate_labels.values()
        )
    else:
        labels = tuple(candidate_labels or ())
        prompts = tuple((label,) for label in labels)
    if not labels or not all(prompts):
        raise ConfigurationError("candidate_labels must name at least one label, each with a prompt")
    if not all(isinstance(text, str) and text.strip() for several in (labels, *prompts) for text in several):
        raise ConfigurationError("candidate_labels and their prompts must be texts that are not empty")
    if len(set(labels)) != len(labels):
        raise ConfigurationError("candidate_labels must not contain a label twice")
    return labels, prompts
