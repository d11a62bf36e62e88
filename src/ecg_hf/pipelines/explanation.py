"""What a score of one recording is due to, by lead and time: gradient x input, and occlusion.

Both compare the recording with one whose leads lie flat at their median. Occlusion lays one stretch of one lead flat
and says how much of the score is lost; gradient x input is its first-order estimate for every single sample. The maps
say what moved the score of this model, right or wrong, and nothing about the patient's heart.

Gradient x input: Shrikumar et al., arXiv 1605.01713; occlusion: Zeiler and Fergus, arXiv 1311.2901.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ecg_hf.errors import ConfigurationError, SignalError
from ecg_hf.models.registry import get_method
from ecg_hf.pipelines.base import accepted_inputs
from ecg_hf.pipelines.ecg_classification import EcgClassificationPipeline
from ecg_hf.pipelines.interpretation import reason_to_abstain
from ecg_hf.pipelines.zero_shot_ecg_classification import ZeroShotEcgClassificationPipeline
from ecg_hf.processing.inputs import parse_inputs
from ecg_hf.signal import EcgRecord, check_quality

__all__ = ["Explanation", "Maps", "draw_explanation", "explain", "explain_score", "task_to_explain"]

Score = Callable[[Mapping[str, Tensor]], Tensor]
"""Prepared tensors of a batch to one number per record, ``(batch,)``."""

_BATCH = 64


@dataclass(frozen=True, slots=True, eq=False)
class Maps:
    """What a score is due to. Positive speaks for it; zero in leads that the recording does not have.

    Attributes:
        score: Of the recording as it is.
        gradient: float32 ``(leads, samples)``: gradient times the distance from the lead's median.
        occlusion: float32 ``(leads, stretches)``: score lost with one stretch of one lead laid flat.
        by_lead: float32 ``(leads,)``: with the whole lead laid flat.
        by_time: float32 ``(stretches,)``: with one stretch of all leads laid flat.
    """

    score: float
    gradient: npt.NDArray[np.float32]
    occlusion: npt.NDArray[np.float32]
    by_lead: npt.NDArray[np.float32]
    by_time: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """Why a model gives a recording a score.

    Attributes:
        record: What was explained: the stretch the model saw, its leads in the model's order, in millivolts.
        label: What the score is of.
        name: The same for a reader.
        score: Probability of a classifier, or cosine similarity to a text.
        scale: What the maps are of: the classifier's ``logit``, or that ``similarity``.
        start_s: Seconds into the recording at which it begins.
        patch_s: Seconds of a stretch.
        sampling_rate: Of the maps' samples, in hertz.
        maps: Rows are the leads of ``record``.
    """

    record: EcgRecord
    label: str
    name: str
    score: float
    scale: str
    start_s: float
    patch_s: float
    sampling_rate: float
    maps: Maps

    def as_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "record": self.record.record_id,
            "label": self.label,
            "name": self.name,
            "score": self.score,
            "scale": self.scale,
            "value": self.maps.score,
            "lead_names": list(self.record.lead_names),
            "start_s": self.start_s,
            "stretch_s": self.patch_s,
            "sampling_rate": self.sampling_rate,
            "occlusion_by_lead": _rounded(self.maps.by_lead),
            "occlusion_by_time": _rounded(self.maps.by_time),
            "occlusion": _rounded(self.maps.occlusion),
            "gradient_x_input": _rounded(self.maps.gradient),
        }


def explain_score(
    score: Score, inputs: Mapping[str, Tensor], *, patch: int, batch_size: int = _BATCH
) -> Maps:
    """Maps of any score that is differentiable in the signal.

    Measurements and R peaks among the inputs stay as they are: what reaches the score through them is not shown.

    Args:
        score: Of a model in evaluation mode.
        inputs: Tensors of one record: ``input_values`` ``(1, leads, samples)``, ``lead_mask``, ``sample_mask`` and
            whatever else the model reads.
        patch: Samples of a stretch.
        batch_size: Occluded copies per forward pass.

    Returns:
        Maps of the samples that are signal, in the order of the input's leads.
    """
    values = inputs["input_values"].detach()
    real = torch.ones(values.shape[-1], dtype=torch.bool, device=values.device)
    if "sample_mask" in inputs:
        real = inputs["sample_mask"][0].bool()
    places = real.nonzero()[:, 0]
    leads, samples, patches = values.shape[1], len(places), math.ceil(len(places) / patch)
    there = torch.ones(leads, dtype=torch.bool, device=values.device)
    if "lead_mask" in inputs:
        there = inputs["lead_mask"][0].bool()
    flat = values[0][:, places].median(-1, keepdim=True).values

    variable = values.clone().requires_grad_()
    with torch.enable_grad():
        whole = score({**inputs, "input_values": variable})
        (gradient,) = torch.autograd.grad(whole.sum(), variable)
    product = gradient[0][:, places] * (values[0][:, places] - flat)

    # One row per occluded copy: each stretch of each lead, each whole lead, each stretch of all leads.
    each = torch.eye(leads * patches, dtype=torch.bool).view(-1, leads, patches)
    lead = torch.eye(leads, dtype=torch.bool)[:, :, None].expand(-1, -1, patches)
    time = torch.eye(patches, dtype=torch.bool)[:, None].expand(-1, leads, -1)
    hidden = torch.cat([each[there.cpu().repeat_interleave(patches)], lead, time]).to(values.device)
    others = {name: value for name, value in inputs.items() if name != "input_values"}
    lost = []
    with torch.no_grad():
        for rows in hidden.split(batch_size):
            mask = torch.zeros(len(rows), leads, values.shape[-1], dtype=torch.bool, device=values.device)
            mask[:, :, places] = rows.repeat_interleave(patch, dim=2)[:, :, :samples]
            level = flat.expand(-1, values.shape[-1])
            batch = {name: value.expand(len(rows), *value.shape[1:]) for name, value in others.items()}
            lost.append(whole.detach() - score({**batch, "input_values": torch.where(mask, level, values)}))
    drops = torch.cat(lost).float()
    occlusion = drops.new_zeros(leads, patches)
    occlusion[there] = drops[: len(drops) - leads - patches].view(-1, patches)
    gone = ~there
    by_lead = drops[len(drops) - leads - patches : len(drops) - patches].masked_fill(gone, 0.0)
    return Maps(
        score=float(whole.detach()),
        gradient=_array(product.masked_fill(gone[:, None], 0.0)),
        occlusion=_array(occlusion),
        by_lead=_array(by_lead),
        by_time=_array(drops[len(drops) - patches :]),
    )


def explain(
    pipe: EcgClassificationPipeline | ZeroShotEcgClassificationPipeline,
    record: EcgRecord,
    label: str | None = None,
    *,
    start_s: float = 0.0,
    patch_s: float = 0.2,
) -> Explanation:
    """Explain the score that a pipeline's model gives one recording.

    Args:
        pipe: Of a classifier, whose classes are explained; or of a model with a text side, for any text.
        record: Of a long recording as much as the model takes is explained, from ``start_s`` on.
        label: Class, by its short name or the one for a reader; the likeliest if not given. Or the text.
        start_s: Seconds into the recording at which to begin.
        patch_s: Seconds of the stretches that are laid flat.

    Raises:
        ConfigurationError: if there is no such class, no text, or a number can't be.
        SignalError: if the recording's quality forbids an answer, or it has too few leads for the model.
    """
    extractor, model = pipe.feature_extractor, pipe.model.eval()
    record = _stretch(record, extractor, start_s)
    noted = record.with_notes(
        *check_quality(record.signal, record.sampling_rate, record.lead_names, thorough=True)
    )
    reason = reason_to_abstain(noted)
    if reason is not None:
        raise SignalError(f"there is no answer to explain: {reason}")
    inputs = dict(extractor(record, return_tensors="pt", return_sample_mask=True).to(pipe.device))
    leads = int(inputs["lead_mask"].sum())
    if leads < model.config.min_leads:
        raise SignalError(
            f"there is no answer to explain: it needs at least {model.config.min_leads} leads, "
            f"the recording has {leads}"
        )
    rate = float(extractor.sampling_rate)
    patch = round(patch_s * rate) if math.isfinite(patch_s) else 0
    if not 0 < patch <= inputs["input_values"].shape[-1]:
        raise ConfigurationError(f"stretches of {patch_s:g} s can't be laid flat", value=patch_s)
    if isinstance(pipe, EcgClassificationPipeline):
        index, label, name = _chosen_class(pipe, inputs, label)
        maps = explain_score(_class_score(model, index), inputs, patch=patch)
        scale, shown = "logit", _probability(pipe, inputs, index)
    else:
        if not label:
            raise ConfigurationError("a model without classes explains a text: name one as the label")
        maps = explain_score(_text_score(model, pipe.text_embedding(label)), inputs, patch=patch)
        name, scale, shown = label, "similarity", maps.score
    rows, drawn = _drawn(record, extractor, inputs["lead_mask"][0])
    return Explanation(
        record=drawn,
        label=label,
        name=name,
        score=shown,
        scale=scale,
        start_s=start_s,
        patch_s=patch / rate,
        sampling_rate=rate,
        maps=replace(
            maps, gradient=maps.gradient[rows], occlusion=maps.occlusion[rows], by_lead=maps.by_lead[rows]
        ),
    )


def draw_explanation(explanation: Explanation, path: str | os.PathLike[str]) -> None:
    """Draw the maps on the recording: occlusion as shades, gradient x input along the traces.

    Args:
        explanation: Of a recording.
        path: A .png or .svg file; its folder is made.
    """
    from ecg_hf.plotting import Relevance, plot_ecg, save_figure

    maps, record = explanation.maps, explanation.record
    relevance = Relevance(
        maps.occlusion,
        explanation.patch_s,
        maps.gradient,
        explanation.sampling_rate,
        explanation.name,
        explanation.scale,
    )
    title = f"{record.record_id or 'recording'}: {explanation.name} {explanation.score:.2f}"
    if explanation.start_s:
        title += f", from {explanation.start_s:g} s"
    figure = plot_ecg(record, layout="rows", relevance=relevance, title=title, duration_s=record.duration_s)
    save_figure(figure, path)


def task_to_explain(config: Any, label: str | None = None) -> str:
    """The pipeline whose scores are explained: that of the model's classes, or of its text side if it has none.

    Args:
        config: Of the model.
        label: What is to be explained, which must exist; None for the likeliest class.

    Raises:
        ConfigurationError: if there is no such class, or a text is needed and there is none.
    """
    has_classes = any("Classification" in kind for kind in config.architectures or [])
    if not has_classes and get_method(config.model_type).multimodal:
        if not label:
            raise ConfigurationError("a model without classes explains a text: name one as the label")
        return "zero-shot-ecg-classification"
    if has_classes and label is not None:
        _class_index(config, label)
    return "ecg-classification"


def _stretch(record: EcgRecord, extractor: Any, start_s: float) -> EcgRecord:
    """As much of a recording as the model takes, from ``start_s`` on."""
    rate, length = record.sampling_rate, record.signal.shape[1]
    if not (math.isfinite(start_s) and 0 <= round(start_s * rate) < length):
        raise ConfigurationError(
            f"can't begin at {start_s:g} s: the recording has {record.duration_s:g} s", value=start_s
        )
    first = round(start_s * rate)
    last = length if extractor.duration_s is None else first + round(extractor.duration_s * rate)
    return replace(record, signal=record.signal[:, first:last])


def _class_score(model: Any, index: int) -> Score:
    def score(inputs: Mapping[str, Tensor]) -> Tensor:
        logits: Tensor = model(**accepted_inputs(model.forward, inputs)).logits
        return logits[:, index].float()

    return score


def _text_score(model: Any, text: Tensor) -> Score:
    def score(inputs: Mapping[str, Tensor]) -> Tensor:
        features: Tensor = model.get_ecg_features(**accepted_inputs(model.get_ecg_features, inputs))
        return features.float() @ text

    return score


def _chosen_class(
    pipe: EcgClassificationPipeline, inputs: Mapping[str, Tensor], label: str | None
) -> tuple[int, str, str]:
    """Index, short name and name for a reader of the class to explain."""
    config = pipe.model.config
    shorts, names = _class_names(config)
    index = int(_logits(pipe, inputs).argmax()) if label is None else _class_index(config, label)
    return index, shorts[index], names[index]


def _class_names(config: Any) -> tuple[list[str], list[str]]:
    """Short names of a classifier's classes, and those for a reader."""
    details = getattr(config, "label_details", None) or {}
    shorts = [config.id2label[index] for index in range(config.num_labels)]
    return shorts, [str(details.get(short, {}).get("name", short)) for short in shorts]


def _class_index(config: Any, label: str) -> int:
    shorts, names = _class_names(config)
    for known in (shorts, names):
        if label in known:
            return known.index(label)
    raise ConfigurationError(f"no class {label!r}; there are {', '.join(shorts)}", value=label)


def _logits(pipe: EcgClassificationPipeline, inputs: Mapping[str, Tensor]) -> Tensor:
    with torch.no_grad():
        logits: Tensor = pipe.model(**accepted_inputs(pipe.model.forward, inputs)).logits[0]
    return logits


def _probability(pipe: EcgClassificationPipeline, inputs: Mapping[str, Tensor], index: int) -> float:
    """The score that the pipeline itself gives the class."""
    answers = pipe.postprocess({"logits": _logits(pipe, inputs)[None].float()})
    scores = {answer["label"]: answer["score"] for answer in answers}
    return float(scores[pipe.model.config.id2label[index]])


def _drawn(record: EcgRecord, extractor: Any, lead_mask: Tensor) -> tuple[npt.NDArray[np.intp], EcgRecord]:
    """Rows of the maps that the recording has leads for, and the recording with those leads, by the model's names."""
    (named,) = parse_inputs(
        record,
        sampling_rate=None,
        lead_names=None,
        unit="mV",
        layout=None,
        expected_rate=float(extractor.sampling_rate),
        expected_leads=tuple(extractor.lead_names),
    )
    rows = np.flatnonzero(lead_mask.cpu().numpy())
    wanted = [extractor.lead_names[row] for row in rows]
    return rows, replace(record, lead_names=named.lead_names).select_leads(wanted)


def _array(values: Tensor) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = values.detach().float().cpu().numpy()
    return array


def _rounded(values: npt.NDArray[np.float32]) -> Any:
    """Nested lists of four significant digits, which is more than the maps are worth."""
    if values.ndim > 1:
        return [_rounded(row) for row in values]
    return [float(f"{value:.4g}") for value in values.tolist()]
