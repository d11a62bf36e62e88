"""Zero-shot classification: a record's score for a class is its cosine similarity to the class's text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.metrics import FloatArray, same_in_ties

__all__ = ["cosine_scores", "encode_prompts", "unit_rows"]


def cosine_scores(ecg_features: npt.ArrayLike, text_features: npt.ArrayLike) -> FloatArray:
    """Cosine similarity of every record with every class.

    Args:
        ecg_features: Real ``(records, dim)``, normalised or not.
        text_features: Real ``(classes, dim)``, normalised or not.

    Returns:
        float64 ``(records, classes)`` in [-1, 1], see :func:`~ecg_hf.evaluation.metrics.same_in_ties`. AUROC
        depends on the order within a class alone, so no temperature is applied.

    Source: MERL ``utils/zeroshot_val.py`` (cosine similarity used directly).

    Raises:
        ConfigurationError: if the widths differ or a row is zero or not finite.
    """
    ecg, text = unit_rows(ecg_features, "record"), unit_rows(text_features, "class")
    if ecg.shape[1] != text.shape[1]:
        raise ConfigurationError(
            f"ECG features have {ecg.shape[1]} dimensions, text features {text.shape[1]}",
            value=(ecg.shape, text.shape),
        )
    return same_in_ties(ecg @ text.T)


def unit_rows(features: npt.ArrayLike, what: str) -> FloatArray:
    """Rows of Euclidean length 1, float64 ``(rows, dim)``; ``what`` names a row in messages.

    Raises:
        ConfigurationError: if there are none, or one is zero or not finite.
    """
    rows = np.asarray(features, dtype=np.float64)
    if rows.ndim != 2 or 0 in rows.shape:
        raise ConfigurationError(f"features must be (rows, dim), got {rows.shape}", value=rows.shape)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(length) & (length > 0)))
    if len(bad):
        raise ConfigurationError(f"features of {what} {bad[0]} are zero or not finite", value=int(bad[0]))
    return np.asarray(rows / length)


def encode_prompts(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str | Sequence[str]] | Mapping[str, str | Sequence[str]],
    *,
    max_length: int = 256,
    lower_case: bool = True,
    batch_size: int = 64,
) -> npt.NDArray[np.float32]:
    """Text features of every class.

    Args:
        model: Dual encoder with ``get_text_features(input_ids, attention_mask)``.
        tokenizer: The model's tokenizer.
        prompts: One text or several per class. Several are averaged after normalisation.
        max_length: Tokens kept of a prompt.
        lower_case: Lower-case the texts first, as MERL does to prompts and reports alike.
        batch_size: Texts per forward pass.

    Returns:
        float32 ``(classes, dim)``, L2-normalised.

    Raises:
        ConfigurationError: if there is no class or one has no text.
    """
    import torch

    entries = list(prompts.values()) if isinstance(prompts, Mapping) else list(prompts)
    per_class = [[entry] if isinstance(entry, str) else list(entry) for entry in entries]
    if not per_class or not all(texts and all(text.strip() for text in texts) for texts in per_class):
        raise ConfigurationError("every class needs a prompt that is not empty")
    flat = [text.lower() if lower_case else text for texts in per_class for text in texts]
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    features = []
    try:
        for start in range(0, len(flat), batch_size):
            tokens = tokenizer(
                flat[start : start + batch_size],
                padding=True,
                truncation=True,
                max_length=max_length,
                return_tensors="pt",
            )
            with torch.inference_mode():
                part = model.get_text_features(
                    tokens["input_ids"].to(device), tokens["attention_mask"].to(device)
                )
                features.append(part.float().cpu().numpy())
    finally:
        model.train(training)
    unit = unit_rows(np.concatenate(features), "prompt")
    stops = np.cumsum([len(texts) for texts in per_class])
    means = np.stack([part.mean(axis=0) for part in np.split(unit, stops[:-1])])
    return unit_rows(means, "class").astype(np.float32)
