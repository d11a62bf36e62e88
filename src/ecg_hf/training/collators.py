"""From rows of a dataset to the tensors of a training step."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from torch import Tensor

from ecg_hf import __version__
from ecg_hf.data.decoding import BatchDecoder, DecodedBatch
from ecg_hf.errors import ConfigurationError
from ecg_hf.files import temporary_name
from ecg_hf.processing import EcgFeatureExtractor
from ecg_hf.processing.text import tokenize_texts

__all__ = [
    "BatchedEcgDataset",
    "EcgBatch",
    "EcgCollator",
    "EcgTextCollator",
    "MixedBatch",
    "TokenisedTexts",
    "extract_features",
    "patient_ids",
]

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


def patient_ids(decoder: BatchDecoder, indices: Sequence[int]) -> Tensor:
    """Numbers of the patients of rows: the same for the same patient of one source, in every batch and process.

    Args:
        decoder: Of rows with ``source`` and ``patient_id``.
        indices: Which rows.

    Returns:
        int64 ``(rows,)``; -1 where the patient is not known.
    """
    names = zip(decoder.texts(indices, "source"), decoder.texts(indices, "patient_id"), strict=True)
    return torch.tensor([_patient_id(source, patient) if patient else -1 for source, patient in names])


def _patient_id(source: str, patient: str) -> int:
    # 63 bits: never negative, and no two of a million patients alike.
    return (
        int.from_bytes(hashlib.blake2b(f"{source}\0{patient}".encode(), digest_size=8).digest(), "big") >> 1
    )


class EcgCollator:
    """ECGs alone: ``input_values`` and the masks that mask something.

    Args:
        feature_extractor: The model's feature extractor.

    Takes an :class:`~ecg_hf.training.collators.EcgBatch` (fast) or a list of canonical rows, decoded by the
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
        tokenizer: Tokeniser of the reports. An :class:`~ecg_hf.training.collators.EcgBatch` brings its tokens.
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


_CHUNK = 512  # records decoded or texts tokenised at once while filling a cache


class TokenisedTexts:
    """Token ids of many texts, tokenised once and kept as one flat array.

    Args:
        tokenizer: A ``transformers`` tokenizer.
        texts: The texts.
        max_length: Longest one in tokens; longer ones are cut.
    """

    def __init__(self, tokenizer: Any, texts: Sequence[str], max_length: int) -> None:
        self.pad_token_id = int(tokenizer.pad_token_id or 0)
        self.max_length = max_length
        parts: list[npt.NDArray[np.int32]] = []
        lengths: list[int] = []
        for start in range(0, len(texts), _CHUNK):
            chunk = list(texts[start : start + _CHUNK])
            ids = tokenize_texts(tokenizer, chunk, max_length=max_length, padding=False)["input_ids"]
            parts.extend(np.asarray(row, np.int32) for row in ids)
            lengths.extend(len(row) for row in ids)
        self._flat = np.concatenate(parts) if parts else np.zeros(0, np.int32)
        self._offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def batch(self, indices: Sequence[int], pad_to_multiple_of: int = 1) -> dict[str, Tensor]:
        """``input_ids`` and ``attention_mask``, int64 ``(batch, longest)``, padded on the right.

        Args:
            indices: Which texts.
            pad_to_multiple_of: Round the length up, within ``max_length``.
        """
        chosen = np.asarray(indices)
        lengths = self._offsets[chosen + 1] - self._offsets[chosen]
        width = int(lengths.max())
        width = max(width, min(-(-width // pad_to_multiple_of) * pad_to_multiple_of, self.max_length))
        columns = np.arange(width)
        mask = columns < lengths[:, None]
        places = np.minimum(self._offsets[chosen][:, None] + columns, len(self._flat) - 1)
        ids = np.where(mask, self._flat[places], self.pad_token_id)
        return {
            "input_ids": torch.from_numpy(ids.astype(np.int64)),
            "attention_mask": torch.from_numpy(mask.astype(np.int64)),
        }


@dataclass(frozen=True, slots=True, eq=False)
class EcgBatch:
    """What :class:`BatchedEcgDataset` hands to a collator.

    Attributes:
        decoded: The signals in millivolts, if they still have to go through the feature extractor: one array, or
            groups where the dataset has recordings of several rates.
        features: Finished model inputs (cached signals, labels, numbers of patients).
        indices: Rows of the dataset.
        texts: Where to find the rows' tokens, for multimodal training.
    """

    decoded: DecodedBatch | MixedBatch | None
    features: dict[str, Tensor]
    indices: list[int]
    texts: TokenisedTexts | None = None


class BatchedEcgDataset(torch.utils.data.Dataset[EcgBatch]):
    """A built dataset for training: whole batches at a time.

    A PyTorch data loader passes all indices of a batch to ``__getitems__`` where a dataset has it; here that
    is one vectorised decode of the memory-mapped file. Works with any sampler and with worker processes.
    Rates, lengths and leads may differ between rows: those that agree are decoded together.

    Args:
        dataset: Canonical rows, see :mod:`ecg_hf.data.schema`.
        tokenizer: Tokenise ``report`` once, up front; needed by :class:`~ecg_hf.training.collators.EcgTextCollator`.
        max_text_length: Longest report in tokens.
        labels: Delivered as ``labels``: floats ``(rows, labels)`` as float32, class numbers ``(rows,)`` as int64.
        with_patients: Deliver ``patient_ids``, see :func:`patient_ids`.
        cache_with: Run all signals through this extractor now and keep its output in memory: no decoding or
            extraction per step afterwards. Worth it for small sets seen many times.
        cache_dtype: Type of the cache. float16 halves it and rounds to about 3 decimal digits.
        cache_dir: Also keep the cache in this folder, as a file named by records and extractor, which the next run on
            the same records maps into memory instead of preparing them again.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        tokenizer: Any = None,
        max_text_length: int = 256,
        labels: npt.NDArray[np.floating[Any]] | npt.NDArray[np.integer[Any]] | None = None,
        with_patients: bool = False,
        cache_with: EcgFeatureExtractor | None = None,
        cache_dtype: torch.dtype = torch.float32,
        cache_dir: str | Path | None = None,
    ) -> None:
        self.decoder = BatchDecoder(dataset)
        self.with_patients = with_patients
        self.texts = None
        if tokenizer is not None:
            self.texts = TokenisedTexts(tokenizer, self.decoder.reports(), max_text_length)
        self.labels = None
        if labels is not None:
            given = np.asarray(labels)
            wanted = np.float32 if given.ndim > 1 or given.dtype.kind == "f" else np.int64
            self.labels = torch.as_tensor(given.astype(wanted))
        if self.labels is not None and len(self.labels) != len(dataset):
            raise ConfigurationError(f"{len(self.labels)} rows of labels for {len(dataset)} records")
        self._cache: dict[str, Tensor] | None = None
        if cache_with is not None:
            self._cache = self._kept_cache(dataset, cache_with, cache_dtype, cache_dir)

    def _decode(self, indices: Sequence[int]) -> DecodedBatch | MixedBatch:
        # Decided by the dataset, not by the batch: a record must not take another path because of its neighbours.
        if not self.decoder.has_one_rate:
            return self.decoder.by_layout(indices)
        # Padded to the longest, one recording of half an hour would make a gigabyte of a batch of 10 s.
        return self.decoder(indices) if self.decoder.has_one_length else self.decoder.by_length(indices)

    def _kept_cache(
        self,
        dataset: Dataset,
        extractor: EcgFeatureExtractor,
        dtype: torch.dtype,
        folder: str | Path | None,
    ) -> dict[str, Tensor]:
        """The cache, from the folder if it is there already."""
        if folder is None:
            return self._fill_cache(extractor, dtype)
        what = [__version__, dataset._fingerprint, extractor.to_dict(), str(dtype)]
        identity = json.dumps(what, sort_keys=True)
        digest = hashlib.sha256(identity.encode()).hexdigest()[:24]
        path = Path(folder) / f"inputs-{digest}.safetensors"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = temporary_name(path)
            save_file(self._fill_cache(extractor, dtype), partial)
            os.replace(partial, path)
        inputs: dict[str, Tensor] = load_file(path)
        return inputs

    def _fill_cache(self, extractor: EcgFeatureExtractor, dtype: torch.dtype) -> dict[str, Tensor]:
        cache: dict[str, Tensor] = {}
        size = len(self.decoder)
        for start in range(0, size, _CHUNK):
            rows = range(start, min(start + _CHUNK, size))
            for name, values in extract_features(
                extractor, self._decode(rows), drop_full_masks=False
            ).items():
                if name not in cache:
                    # Masks are stored in a byte per sample; the signals they go with take four per lead.
                    kind = torch.bool if name == "sample_mask" else values.dtype
                    kind = dtype if values.is_floating_point() else kind
                    cache[name] = torch.empty((size, *values.shape[1:]), dtype=kind)
                elif values.shape[1:] != cache[name].shape[1:]:
                    raise ConfigurationError(
                        "only signals of one length can be cached: give the extractor a duration_s"
                    )
                cache[name][start : rows.stop] = values
        if "sample_mask" in cache and bool(cache["sample_mask"].all()):
            del cache["sample_mask"]
        return cache

    def __len__(self) -> int:
        return len(self.decoder)

    def __getitem__(self, index: int) -> EcgBatch:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> EcgBatch:
        """Rows ``indices`` as one batch."""
        features: dict[str, Tensor] = {}
        if self.labels is not None:
            features["labels"] = self.labels[indices]
        if self.with_patients:
            features["patient_ids"] = patient_ids(self.decoder, indices)
        if self._cache is None:
            return EcgBatch(self._decode(indices), features, indices, self.texts)
        for name, values in self._cache.items():
            rows = values[indices]
            features[name] = rows.float() if rows.is_floating_point() else rows.long()
        return EcgBatch(None, features, indices, self.texts)
