"""Embeddings of a built dataset in parts, each a Parquet file made by itself, in any number of processes."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset
from transformers import AutoFeatureExtractor, AutoModel
from transformers.utils.logging import tqdm

from ecg_hf.data import load_built
from ecg_hf.engine import Engine, run_pieces
from ecg_hf.errors import ConfigurationError, EcgError
from ecg_hf.evaluation.features.pooled import embed_dataset
from ecg_hf.files import replace_file, sole_writer

__all__ = ["RECORDS_PER_PART", "PartsReport", "embed_in_parts"]

RECORDS_PER_PART = 1024
_KEY = b"ecg_hf_key"
_ACCOUNT = b"ecg_hf_account"


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
class _Part:
    number: int
    model: str
    dataset: str
    rows: tuple[int, int]
    output: str
    key: str
    features: str
    batch_size: int
    device: str
    skip_errors: bool

    @property
    def path(self) -> Path:
        return Path(self.output) / f"part-{self.number:05d}.parquet"

    def __str__(self) -> str:
        return f"{self.path.name} (records {self.rows[0]} to {self.rows[1] - 1})"


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

    Rows are in the order of the dataset and equal those of :func:`embed_dataset`. Parts that are there and belong to
    the same model, dataset and options are kept, so the same call continues a run that was killed.

    Args:
        model: Folder of a model with its feature extractor.
        dataset: Folder of a built dataset.
        output: Folder of the parts; workers on other machines must see all three under the same paths.
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
    if records_per_part < 1:
        raise ConfigurationError("a part has at least one record", value=records_per_part)
    rows, folder = len(load_built(Path(dataset))), Path(output)
    content = _digest(Path(model), Path(dataset), features)
    parts = [
        _Part(
            number,
            os.fspath(Path(model).resolve()),
            os.fspath(Path(dataset).resolve()),
            (start, min(start + records_per_part, rows)),
            os.fspath(folder.resolve()),
            f"{content}:{start}:{min(start + records_per_part, rows)}",
            features,
            batch_size,
            device,
            on_error == "skip",
        )
        for number, start in enumerate(range(0, rows, records_per_part))
    ]
    folder.mkdir(parents=True, exist_ok=True)
    with sole_writer(folder / "parts"):
        wanted = {part.path.name for part in parts}
        kept = {part.number: stored for part in parts if (stored := _stored(part)) is not None}
        others = [path for path in sorted(folder.glob("part-*.parquet")) if path.name not in wanted]
        others += [part.path for part in parts if part.path.exists() and part.number not in kept]
        if others and not overwrite:
            raise ConfigurationError(
                "holds the embeddings of another model, dataset or division; --overwrite replaces them",
                path=others[0],
            )
        for path in others:
            path.unlink()
        todo = [part for part in parts if part.number not in kept]
        done = dict(kept)
        with tqdm(total=len(parts), initial=len(kept), unit="part", disable=not progress) as bar:
            for part, account in run_pieces(_embed_part, todo, engine):
                done[part.number] = account
                bar.update()
    counts: Counter[str] = Counter()
    errors: dict[str, str] = {}
    for number in sorted(done):
        counts.update(done[number]["counts"])
        errors.update(done[number]["errors"])
    return PartsReport(rows, len(parts), len(kept), dict(counts), errors)


def _digest(model: Path, dataset: Path, features: str) -> str:
    """What the embeddings depend on: files of the model and of the dataset."""
    digest = hashlib.sha256(features.encode())
    for file in (
        model / "config.json",
        model / "preprocessor_config.json",
        model / "model.safetensors",
        dataset / "build_report.json",
    ):
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()[:32]


def _stored(part: _Part) -> dict[str, Any] | None:
    """The account of a part that is there already."""
    try:
        metadata = pq.read_metadata(part.path).metadata or {}
    except (OSError, pa.ArrowInvalid):
        return None
    if metadata.get(_KEY, b"").decode() != part.key:
        return None
    account: dict[str, Any] = json.loads(metadata[_ACCOUNT])
    return account


@lru_cache(maxsize=1)
def _loaded(model: str, device: str) -> tuple[Any, Any]:
    encoder = AutoModel.from_pretrained(model, trust_remote_code=False).to(device).eval()
    return encoder, AutoFeatureExtractor.from_pretrained(model, trust_remote_code=False)


@lru_cache(maxsize=1)
def _rows(dataset: str) -> Dataset:
    return load_built(Path(dataset))


def _embed_part(part: _Part) -> dict[str, Any]:
    """Embed the records of a part and write its file, whole or not at all."""
    stored = _stored(part)  # another process may have finished it before it was lost
    if stored is not None:
        return stored
    encoder, extractor = _loaded(part.model, part.device)
    rows = _rows(part.dataset).select(range(*part.rows))
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
    schema = pa.schema(
        {"record_id": pa.string(), "split": pa.string(), "embedding": pa.list_(pa.float32())},
        metadata={_KEY: part.key.encode(), _ACCOUNT: json.dumps(account, sort_keys=True).encode()},
    )
    table = pa.Table.from_pydict(
        {"record_id": names, "split": rows["split"][:], "embedding": vectors}, schema=schema
    )
    with replace_file(part.path) as file:
        pq.write_table(table, file)
    return account
