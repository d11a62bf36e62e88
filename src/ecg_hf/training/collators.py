"""From rows of a dataset to the tensors of a training step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ecg_hf.data.decoding import DecodedBatch
from ecg_hf.errors import ConfigurationError
from ecg_hf.processing import EcgFeatureExtractor
from ecg_hf.processing.text import tokenize_texts

if TYPE_CHECKING:
    from ecg_hf.training.batches import EcgBatch

__all__ = ["EcgCollator", "EcgTextCollator", "extract_features"]

_MASKS = ("lead_mask", "sample_mask")


def extract_features(
    extractor: EcgFeatureExtractor, decoded: DecodedBatch, *, drop_full_masks: bool = True
) -> dict[str, Tensor]:
    """Model inputs of a decoded batch, in one vectorised call.

    Args:
        extractor: The model's feature extractor.
        decoded: Signals in millivolts.
        drop_full_masks: Leave masks out that mask nothing: attention without a mask is faster.

    Returns:
        ``input_values`` float32 ``(batch, leads, samples)``, masks, and what else the extractor makes.
    """
    signal = decoded.signal
    if not decoded.lead_mask.all():
        # The decoder writes zeros for a lead a record lacks; the extractor tells missing leads by NaN.
        signal = np.where(decoded.lead_mask[..., None], signal, np.float32(np.nan))
    ecg: Any = signal
    if decoded.is_padded:
        # Padding must not take part in normalisation: hand over the records at their own lengths.
        ecg = [row[:, :length] for row, length in zip(signal, decoded.lengths.tolist(), strict=True)]
    features = extractor(
        ecg,
        sampling_rate=decoded.sampling_rate,
        lead_names=decoded.lead_names,
        layout="leads_first",
        return_tensors="pt",
        r_peaks=decoded.r_peaks,
    )
    return _without_full_masks(dict(features)) if drop_full_masks else dict(features)


def _without_full_masks(features: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in features.items() if name not in _MASKS or not bool(value.all())}


class EcgCollator:
    """ECGs alone: ``input_values`` and the masks that mask something.

    Args:
        feature_extractor: The model's feature extractor.

    Takes an :class:`~ecg_hf.training.batches.EcgBatch` (fast) or a list of canonical rows, decoded by the
    ``Ecg`` feature; a ``labels`` entry of the rows is not for pretraining and is left out. Known R peaks go to the
    feature extractor; those of a list of rows must be at the rate the rows' ``ecg`` has, which a column cast to
    another rate does not see to (an ``EcgBatch`` does).
    """

    def __init__(self, feature_extractor: EcgFeatureExtractor) -> None:
        self.feature_extractor = feature_extractor

    def __call__(self, rows: EcgBatch | Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Model inputs of one batch."""
        if isinstance(rows, Sequence):
            ecgs = [row["ecg"] for row in rows]
            peaks = [row.get("r_peaks") for row in rows]
            features = dict(self.feature_extractor(ecgs, return_tensors="pt", r_peaks=peaks))
        elif rows.decoded is None:
            features = dict(rows.features)
        else:
            features = {**extract_features(self.feature_extractor, rows.decoded), **rows.features}
        return _without_full_masks(features)


class EcgTextCollator(EcgCollator):
    """ECGs with their reports: adds ``input_ids`` and ``attention_mask``.

    Args:
        feature_extractor: The model's feature extractor.
        tokenizer: Tokeniser of the reports. An :class:`~ecg_hf.training.batches.EcgBatch` brings its tokens.
        max_length: Longest report in tokens.
        pad_to_multiple_of: Round the padded length up (8 suits tensor cores), within ``max_length``.
    """

    def __init__(
        self,
        feature_extractor: EcgFeatureExtractor,
        tokenizer: Any,
        max_length: int = 256,
        pad_to_multiple_of: int = 8,
    ) -> None:
        super().__init__(feature_extractor)
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.pad_to_multiple_of = pad_to_multiple_of

    def __call__(self, rows: EcgBatch | Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Model inputs of one batch."""
        features = super().__call__(rows)
        if not isinstance(rows, Sequence):
            if rows.texts is None:
                raise ConfigurationError("the dataset was made without a tokenizer: reports are missing")
            return {**features, **rows.texts.batch(rows.indices, self.pad_to_multiple_of)}
        reports = [row["report"] or "" for row in rows]
        encoded = tokenize_texts(self.tokenizer, reports, max_length=self.max_length, padding=False)[
            "input_ids"
        ]
        width = max(map(len, encoded))
        width = max(
            width, min(-(-width // self.pad_to_multiple_of) * self.pad_to_multiple_of, self.max_length)
        )
        padding = int(self.tokenizer.pad_token_id or 0)
        ids = torch.tensor([[*row, *[padding] * (width - len(row))] for row in encoded])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in encoded])
        return {**features, "input_ids": ids, "attention_mask": mask}
