"""Embeddings of recordings in one line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby, islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from ecg_hf.errors import SignalError
from ecg_hf.signal import EcgRecord, read_records

__all__ = ["embed"]


@lru_cache(maxsize=2)
def _load(source: str, device: str) -> tuple[Any, Any]:
    from transformers import AutoFeatureExtractor, AutoModel

    import ecg_hf.models.auto  # noqa: F401  (registers the methods)

    return AutoModel.from_pretrained(source).eval().to(device), AutoFeatureExtractor.from_pretrained(source)


def _read(several: Sequence[str | Path | EcgRecord]) -> Iterator[EcgRecord]:
    """The recordings; runs of paths are read ahead, while the model is at work on those before."""
    for in_memory, some in groupby(several, key=lambda one: isinstance(one, EcgRecord)):
        part = list(some)
        yield from cast(list[EcgRecord], part) if in_memory else read_records(cast(list[str | Path], part))


def embed(
    records: str | Path | EcgRecord | Sequence[str | Path | EcgRecord],
    model: Any = None,
    *,
    batch_size: int = 64,
    device: str = "cpu",
) -> npt.NDArray[np.float32]:
    """Embeddings of recordings by a frozen encoder.

    Args:
        records: One recording or several: paths of anything :func:`ecg_hf.read_record` reads, or records.
        model: Folder or Hub repository of a model, or the name of one that ships; the package's own encoder if not
            given.
        batch_size: Recordings per forward pass.
        device: Where the model runs.

    Returns:
        float32 ``(records, dim)``, also for a single recording.

    Raises:
        EcgError: if a recording can't be read or the model can't take it.

    Example:
        >>> ecg_hf.embed("records100/00000/00001_lr").shape
        (1, 768)
    """
    from ecg_hf.hub.fetching import resolve_model
    from ecg_hf.models.pretrained import DEFAULT_MODEL

    several = [records] if isinstance(records, (str, Path, EcgRecord)) else list(records)
    if not several:
        raise SignalError("there is no recording to embed")
    encoder, extractor = _load(resolve_model(model or DEFAULT_MODEL), device)
    parts = []
    recordings = _read(several)
    while batch := list(islice(recordings, batch_size)):
        inputs = extractor(batch, return_tensors="pt").to(device)
        with torch.inference_mode():
            parts.append(encoder(**inputs).pooler_output.float().cpu().numpy())
    return np.concatenate(parts)
