"""One record with what the model made of its hidden patches, in millivolts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ecg_hf.nn.losses.reconstruction import normalize_patches
from ecg_hf.nn.tokenizers import patchify, unpatchify

__all__ = ["Showcase", "reconstruct_record", "record_millivolts"]


@dataclass(frozen=True, slots=True, eq=False)
class Showcase:
    """A record and its reconstruction.

    Attributes:
        signal_mv: float32 ``(leads, samples)``.
        reconstruction_mv: float32 ``(leads, samples)``; meaningful where ``hidden`` says so.
        hidden: bool ``(leads, patches)``.
        sampling_rate: Hertz.
        lead_names: Rows.
        masked_error_vs_zero: Squared error over hidden patches relative to predicting zero, in the units of the
            model's target.
    """

    signal_mv: npt.NDArray[np.float32]
    reconstruction_mv: npt.NDArray[np.float32]
    hidden: npt.NDArray[np.bool_]
    sampling_rate: float
    lead_names: tuple[str, ...]
    masked_error_vs_zero: float


def reconstruct_record(model: Any, processor: Any, row: dict[str, Any], *, seed: int = 0) -> Showcase | None:
    """Hide patches of one record and let a pretraining model fill them in; None if it predicts no patches of a lead.

    The model predicts each hidden patch in the units of its target. A standardised patch gets its true mean and
    spread back, as is usual for such pictures: what is shown is the predicted shape, not the predicted level.

    Args:
        model: Pretraining model. If it predicts patches, its output has ``reconstruction`` and ``masked_index``, its
            configuration ``patch_size`` and ``reconstruction_target``.
        processor: Its processor, or its feature extractor if it has no text.
        row: Canonical row: ``ecg`` (decoded) and ``report``.
        seed: Which patches are hidden.
    """
    if not hasattr(model.config, "reconstruction_target"):
        return None
    extractor = getattr(processor, "feature_extractor", processor)
    inputs = dict(extractor(row["ecg"], return_tensors="pt"))
    if processor is not extractor:
        inputs |= dict(processor(text=[row["report"]], return_tensors="pt"))
    noise = model.draw_noise(inputs, torch.Generator().manual_seed(seed))
    training = model.training
    model.eval()
    with torch.inference_mode():
        output = model(**inputs, **noise)
    model.train(training)
    if output.reconstruction is None or output.reconstruction.shape[-1] != model.config.patch_size:
        return None

    # A method with several views of each record gives as many rows; the first view is shown.
    predicted, masked_index = output.reconstruction[:1], output.masked_index[:1]
    config = model.config
    values = inputs["input_values"]
    patches = patchify(values, config.patch_size)
    target = normalize_patches(patches, config.reconstruction_target)
    filled = target.flatten(1, 2).clone()
    index = masked_index.unsqueeze(-1).expand_as(predicted)
    filled = filled.scatter(1, index, predicted).view_as(target)
    if config.reconstruction_target == "patch_zscore":
        variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
        filled = filled * variance.sqrt() + mean
    elif config.reconstruction_target == "lead_zscore":
        variance, mean = torch.var_mean(patches, dim=(-2, -1), keepdim=True)
        filled = filled * variance.sqrt() + mean

    hidden = torch.zeros(patches.shape[1] * patches.shape[2], dtype=torch.bool)
    hidden[masked_index[0]] = True
    signal = record_millivolts(extractor, row["ecg"])
    reconstruction = _undo_normalization(values[0].numpy(), unpatchify(filled)[0].numpy(), signal)
    return Showcase(
        signal_mv=signal,
        reconstruction_mv=reconstruction,
        hidden=hidden.view(patches.shape[1], patches.shape[2]).numpy(),
        sampling_rate=float(config.sampling_rate),
        lead_names=tuple(config.lead_names),
        masked_error_vs_zero=float(output.metrics["masked_error_vs_zero"]),
    )


def record_millivolts(extractor: Any, ecg: Any) -> npt.NDArray[np.float32]:
    """The record as the extractor makes it, but without normalisation: float32 ``(leads, samples)``."""
    plain = type(extractor)(**{**extractor.to_dict(), "normalization": "none"})
    signal: npt.NDArray[np.float32] = np.asarray(plain(ecg, return_tensors="np")["input_values"][0])
    return signal


def _undo_normalization(
    values: npt.NDArray[np.float32], filled: npt.NDArray[np.float32], signal: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Map ``filled`` to millivolts by the straight line that maps ``values`` to ``signal``, lead by lead.

    Every normalisation of the feature extractor is such a line within a lead.
    """
    spread = values.std(axis=1, keepdims=True)
    slope = np.divide(signal.std(axis=1, keepdims=True), spread, out=np.ones_like(spread), where=spread > 0)
    offset = signal.mean(axis=1, keepdims=True) - slope * values.mean(axis=1, keepdims=True)
    restored: npt.NDArray[np.float32] = (slope * filled + offset).astype(np.float32)
    return restored
