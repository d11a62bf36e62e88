"""From rows of a dataset to the tensors of a training step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ecg_hf.data.decoding import DecodedBatch
from ecg_hf.errors import ConfigurationError
from ecg_hf.processing import EcgFeatureExtractor
from ecg_hf.processing.text import tokenize_texts

if TYPE_CHECKING:
    from ecg_hf.training.batches import EcgBatch

__all__ = ["EcgCollator", "EcgTextCollator", "MixedBatch", "extract_features"]

MixedBatch = Sequence[tuple[npt.NDArray[np.int64], DecodedBatch]]
"""Groups of records and the places of each group's records in the batch."""

_MASKS = ("lead_mask", "sample_mask")


def extract_features(
    extractor: EcgFeatureExtractor, decoded: DecodedBatch | MixedBatch, *, drop_full_masks: bool = True
) -> dict[str, Tensor]:
    """Model inputs of a decoded batch, in one vectorised call.

    Args:
        extractor: The model's feature extractor.
        decoded: Signals in millivolts: of one rate, or in groups (:meth:`BatchDecoder.by_layout`) whose places
            together are those of the batch. The extractor works group by group; what a record becomes does not
            depend on which others are in the batch, unless its ``duration_s`` is None (then all get the longest's).
        drop_full_masks: Leave masks out that mask nothing: attention without a mask is faster.

    Returns:
        ``input_values`` float32 ``(batch, leads, samples)``, masks, and what else the extractor makes.
    """
    # Full masks that are not dropped are there for every batch, or batches could not be put together.
    always = True if not drop_full_masks and extractor.return_sample_mask is None else None
    common: dict[str, Any] = {"layout": "leads_first", "return_tensors": "pt", "return_sample_mask": always}
    if isinstance(decoded, DecodedBatch):
        signal = _with_missing_leads(decoded)
        ecg: Any = signal
        if decoded.is_padded:
            # Padding must not take part in normalisation: hand over the records at their own lengths.
            ecg = [row[:, :length] for row, length in zip(signal, decoded.lengths.tolist(), strict=True)]
        features = extractor(
            ecg,
            sampling_rate=decoded.sampling_rate,
            lead_names=decoded.lead_names,
            r_peaks=decoded.r_peaks,
            **common,
        )
    else:
        # The extractor takes records of any kind and stacks those that agree.
        ecgs, peaks = _as_records(decoded)
        features = extractor(ecgs, r_peaks=peaks, **common)
    return _without_full_masks(dict(features)) if drop_full_masks else dict(features)


def _as_records(groups: MixedBatch) -> tuple[list[dict[str, Any]], list[npt.NDArray[np.int64] | None]]:
    """Recordings of all groups, each with its rate and leads, and their known R peaks, in the order of the batch."""
    size = sum(len(places) for places, _ in groups)
    ecgs: list[dict[str, Any]] = [{}] * size
    peaks: list[npt.NDArray[np.int64] | None] = [None] * size
    for places, batch in groups:
        signal = _with_missing_leads(batch)
        for row, place in enumerate(places.tolist()):
            ecgs[place] = {
                "signal": signal[row],
                "sampling_rate": batch.sampling_rate,
                "lead_names": batch.lead_names,
            }
            peaks[place] = None if batch.r_peaks is None else batch.r_peaks[row]
    return ecgs, peaks


def _with_missing_leads(decoded: DecodedBatch) -> npt.NDArray[np.float32]:
    """Signals in which a missing lead is NaN, as the extractor expects it; the decoder writes zeros."""
    if decoded.lead_mask.all():
        return decoded.signal
    return np.where(decoded.lead_mask[..., None], decoded.signal, np.float32(np.nan))


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
