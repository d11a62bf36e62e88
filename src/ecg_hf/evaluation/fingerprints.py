"""What an embedding depends on, as digests: weights, preprocessing, recordings.

A cached embedding is only ever reused for the model, the preprocessing and the recordings it was computed
from. All three digests are taken over content, never over names or times, so a folder renamed keeps its
cache and a folder rewritten loses it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import nn

__all__ = ["fingerprint_dataset", "fingerprint_model", "fingerprint_preprocessing"]

# What `transformers` writes into a configuration and no computation depends on.
VOLATILE = frozenset({"_name_or_path", "transformers_version", "_commit_hash", "auto_map", "architectures"})
ROWS_AT_ONCE = 512


def fingerprint_model(model: nn.Module) -> str:
    """Digest of a model's class, configuration and every parameter and buffer (names, types, shapes, bytes)."""
    import torch

    digest = hashlib.sha256(type(model).__name__.encode())
    config: Any = getattr(model, "config", None)
    digest.update(_canonical(config.to_dict() if hasattr(config, "to_dict") else {}))
    with torch.no_grad():
        for name, tensor in sorted(model.state_dict().items()):
            digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
            data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(data.numpy())
    return digest.hexdigest()


def fingerprint_preprocessing(feature_extractor: Any) -> str:
    """Digest of a feature extractor's class and every setting it would save."""
    digest = hashlib.sha256(type(feature_extractor).__name__.encode())
    settings = feature_extractor.to_dict() if hasattr(feature_extractor, "to_dict") else {}
    digest.update(_canonical(settings))
    return digest.hexdigest()


def fingerprint_dataset(
    dataset: Dataset | Sequence[Any], column: str = "ecg", *, r_peaks: bool = False
) -> str:
    """Digest of the recordings in order: stored samples and everything needed to decode them.

    Only the ECG column counts, and known R peaks if asked for: labels may be corrected without embedding again.

    Args:
        dataset: A dataset with an ``Ecg`` column, or a sequence of :class:`~ecg_hf.signal.EcgRecord` or of
            decoded dictionaries.
        column: Name of the column.
        r_peaks: Whether the column ``r_peaks`` counts too, if there is one.
    """
    # 1 GB/s on one core: seconds for PTB-XL, against minutes for an encoder.
    digest = hashlib.blake2b(digest_size=32)
    if hasattr(dataset, "with_format"):
        table: Any = dataset
        digest.update(repr(table.features[column]).encode())
        stored = table.select_columns([column]).with_format("arrow")
        for start in range(0, len(stored), ROWS_AT_ONCE):
            _add_storage(digest, stored[start : start + ROWS_AT_ONCE].column(column))
        if r_peaks and "r_peaks" in table.features:
            digest.update(json.dumps(table["r_peaks"][:]).encode())
    else:
        for record in dataset:
            _add_record(digest, record)
    digest.update(str(len(dataset)).encode())
    return digest.hexdigest()


def _add_storage(digest: Any, column: Any) -> None:
    for chunk in column.chunks:
        fields = {chunk.type.field(i).name: chunk.field(i) for i in range(chunk.type.num_fields)}
        # The null mask of the struct is not part of its fields.
        digest.update(np.ascontiguousarray(chunk.is_null().to_numpy(zero_copy_only=False)))
        for value in fields.pop("samples"):
            buffer = value.as_buffer()
            digest.update(b"null" if buffer is None else f"{buffer.size}:".encode())
            if buffer is not None:
                digest.update(buffer)
        for name in sorted(fields):
            digest.update(name.encode())
            for value in fields[name].to_pylist():
                digest.update(json.dumps(value).encode())


def _add_record(digest: Any, record: Any) -> None:
    part = (
        record
        if isinstance(record, Mapping)
        else {"signal": record.signal, "sampling_rate": record.sampling_rate, "lead_names": record.lead_names}
    )
    signal = np.ascontiguousarray(part["signal"], dtype=np.float32)
    header = [list(signal.shape), float(part["sampling_rate"]), list(part["lead_names"])]
    digest.update(json.dumps(header).encode())
    digest.update(signal)


def _canonical(settings: Mapping[str, Any]) -> bytes:
    kept = {name: value for name, value in settings.items() if name not in VOLATILE}
    return json.dumps(kept, sort_keys=True, default=str).encode()
