"""Embeddings of a dataset in parts, each a Parquet file made by itself, in any number of processes."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset
from transformers import AutoFeatureExtractor, AutoModel

from ecg_hf.data.row_pieces import DivisibleRows, RowPiece, open_divisible
from ecg_hf.engine import RECORDS_PER_PART, Engine, Part, absolute, divide, make_parts
from ecg_hf.errors import ConfigurationError, EcgError
from ecg_hf.evaluation.features.pooled import embed_dataset
from ecg_hf.models.shared_files import model_digest

__all__ = ["PartsReport", "embed_in_parts"]

_SCHEMA = pa.schema({"record_id": pa.string(), "split": pa.string(), "embedding": pa.list_(pa.float32())})


@dataclass(frozen=True)
class PartsReport:
    """What a call did.

    Attributes:
        records: Rows in all parts.
        parts: Files.
        reused: Files that were there already.
        counts: Records in which the feature extractor derived, repaired, cut or missed something, by code.
        errors: What was wrong with records that have no embedding, by ``record_id``.
    """

    records: int
    parts: int
    reused: int
    counts: dict[str, int]
    errors: dict[str, str]


@dataclass(frozen=True)
class _Embeddings(Part):
    model: str
    rows: RowPiece
    features: str
    batch_size: int
    device: str
    skip_errors: bool


def embed_in_parts(
    model: str | os.PathLike[str],
    dataset: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    engine: Engine | None = None,
    records_per_part: int = RECORDS_PER_PART,
    batch_size: int = 64,
    device: str = "cpu",
    features: str = "pooler_output",
    on_error: str = "raise",
    overwrite: bool = False,
    progress: bool = True,
) -> PartsReport:
    """Write ``part-00000.parquet`` ... with columns ``record_id``, ``split`` and ``embedding``.

    Rows are in the order of the dataset, of an export in that of its splits and files, and equal those of
    :func:`embed_dataset`. Parts that are there and belong to the same model, dataset and options are kept, so the
    same call continues a run that was killed.

    Args:
        model: Folder of a model with its feature extractor.
        dataset: Folder of a built dataset or of a Parquet export, or its address in an object store.
        output: Folder of the parts, or its address; workers must see all three under the same paths.
        engine: Where to work; this process by default.
        records_per_part: Rows of a file.
        batch_size: Records per forward pass.
        device: Where each process runs the model.
        features: See :func:`embed_dataset`.
        on_error: ``raise``, or ``skip``: a record that can't be embedded has an empty embedding and is named in
            ``errors``.
        overwrite: Replace parts of something else instead of refusing.
        progress: Show a bar.

    Raises:
        ConfigurationError: if the folder holds parts of something else, or another process writes them.
        FailedPieces: if parts ended their process each time.
    """
    if on_error not in ("raise", "skip"):
        raise ConfigurationError("on_error is raise or skip", value=on_error)
    whole, folder = open_divisible(os.fspath(dataset)), absolute(output)
    content = _digest(Path(model), whole, features)
    parts = [
        _Embeddings(
            number,
            (start, end),
            folder,
            f"{content}:{start}:{end}",
            os.fspath(Path(model).resolve()),
            whole.piece(start, end),
            features,
            batch_size,
            device,
            on_error == "skip",
        )
        for number, (start, end) in enumerate(divide(whole.rows, records_per_part))
    ]
    accounts, reused = make_parts(
        _embed_part, parts, folder, engine=engine, overwrite=overwrite, progress=progress
    )
    counts: Counter[str] = Counter()
    errors: dict[str, str] = {}
    for account in accounts:
        counts.update(account["counts"])
        errors.update(account["errors"])
    return PartsReport(whole.rows, len(parts), reused, dict(counts), errors)


def _digest(model: Path, dataset: DivisibleRows, features: str) -> str:
    """What the embeddings depend on: the model's files and what the dataset was built from."""
    text = f"{features}:{model_digest(model)}:{dataset.content}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@lru_cache(maxsize=1)
def _loaded(model: str, device: str) -> tuple[Any, Any]:
    encoder = AutoModel.from_pretrained(model, trust_remote_code=False).to(device).eval()
    return encoder, AutoFeatureExtractor.from_pretrained(model, trust_remote_code=False)


def _embed_part(part: _Embeddings) -> dict[str, Any]:
    """Embed the records of a part and write its file, whole or not at all."""
    stored = part.stored()  # another process may have finished it before it was lost
    if stored is not None:
        return stored
    encoder, extractor = _loaded(part.model, part.device)
    with part.rows.opened() as rows:
        return _embed_rows(part, rows, encoder, extractor)


def _embed_rows(part: _Embeddings, rows: Dataset, encoder: Any, extractor: Any) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    errors: dict[str, str] = {}

    def embed(some: Dataset) -> list[Any]:
        found = embed_dataset(
            encoder,
            extractor,
            some,
            batch_size=part.batch_size,
            features=part.features,
            progress=False,
            counts=counts,
        )
        return list(found)

    names = rows["record_id"][:]
    try:
        vectors: list[Any] = embed(rows)
    except EcgError:
        if not part.skip_errors:
            raise
        counts.clear()
        vectors = []
        for index, name in enumerate(names):
            try:
                vectors += embed(rows.select([index]))
            except EcgError as error:
                errors[name] = type(error).__name__
                vectors.append(None)
    account = {"counts": dict(counts), "errors": errors}
    columns = {"record_id": names, "split": rows["split"][:], "embedding": vectors}
    part.write([columns], _SCHEMA, account)
    return account
