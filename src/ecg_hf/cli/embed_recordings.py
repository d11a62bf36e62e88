"""Embeddings of recordings, or of their windows, as a Parquet file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecg_hf.errors import ConfigurationError, EcgError

if TYPE_CHECKING:
    from ecg_hf.signal import EcgRecord

__all__ = ["EmbeddedRecordings", "embed_recordings"]

_SKIP, _RAISE = "skip", "raise"


@dataclass
class EmbeddedRecordings:
    """What a call did.

    Attributes:
        records: Recordings asked for.
        embeddings: Rows that have one.
        windows_without: Windows that the model can't take, such as those of an hour without electrodes.
        unread: The recordings that have no row, as they were given, and why.
    """

    records: int
    embeddings: int = 0
    windows_without: int = 0
    unread: dict[str, str] = field(default_factory=dict)


def embed_recordings(
    model: str,
    records: Sequence[Path],
    output: Path,
    *,
    window_s: float | None,
    stride_s: float | None,
    batch_size: int,
    device: str | None,
    on_error: str,
    overwrite: bool,
    **told: Any,
) -> EmbeddedRecordings:
    """Write columns ``record_id``, ``start_s`` and ``embedding``; long recordings are never in memory as a whole.

    A window that the model can't take is a row without an embedding.

    Args:
        model: As ``--model``.
        records: Paths of anything :func:`ecg_hf.read_record` reads.
        output: The Parquet file.
        window_s: Seconds of a window; None for whole recordings.
        stride_s: Seconds from window to window; ``window_s`` if not given.
        batch_size: Recordings or windows per forward pass.
        device: Where the model runs.
        on_error: ``raise``, or ``skip`` recordings that can't be read or embedded.
        overwrite: Replace the file.
        told: Options of :func:`ecg_hf.read_record`, for files that do not describe themselves.

    Raises:
        ConfigurationError: if the file exists, or an option can't be.
        EcgError: of the first recording that can't be embedded, unless they are skipped.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from ecg_hf.cli.loading import load_model
    from ecg_hf.files import replace_file
    from ecg_hf.pipelines.ecg_feature_extraction import EcgFeatureExtractionPipeline

    if on_error not in (_RAISE, _SKIP):
        raise ConfigurationError(f"--on-error is {_RAISE} or {_SKIP}", value=on_error)
    if stride_s is not None and window_s is None:
        raise ConfigurationError("--stride needs --window", value=stride_s)
    if output.exists() and not overwrite:
        raise ConfigurationError("the output exists; --overwrite replaces it", path=output)
    encoder, extractor = load_model(model, device=device)
    embed = EcgFeatureExtractionPipeline(model=encoder, feature_extractor=extractor, device=encoder.device)
    schema = pa.schema(
        {"record_id": pa.string(), "start_s": pa.float64(), "embedding": pa.list_(pa.float32())}
    )
    account = EmbeddedRecordings(len(records))
    unread = account.unread if on_error == _SKIP else None
    parts = _parts(records, window_s, stride_s, told, unread)
    output.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(output) as file, pq.ParquetWriter(file, schema) as writer:
        while batch := list(islice(parts, batch_size)):
            vectors = embed(
                [part for _, _, part in batch],
                batch_size=len(batch),
                on_error=_RAISE if window_s is None and unread is None else _SKIP,
            )
            rows = [
                (path, start, part, vector)
                for (path, start, part), vector in zip(batch, vectors, strict=True)
            ]
            if window_s is None:
                for path, _, _, vector in rows:
                    if not vector:
                        account.unread[str(path)] = "the model can't take it"
                rows = [row for row in rows if row[-1]]
            columns = {
                "record_id": [part.record_id or path.stem for path, _, part, _ in rows],
                "start_s": [start for _, start, _, _ in rows],
                "embedding": [vector or None for *_, vector in rows],
            }
            writer.write_table(pa.Table.from_pydict(columns, schema=schema))
            found = sum(bool(vector) for *_, vector in rows)
            account.embeddings += found
            account.windows_without += len(rows) - found
    return account


def _parts(
    records: Sequence[Path],
    window_s: float | None,
    stride_s: float | None,
    told: dict[str, Any],
    unread: dict[str, str] | None,
) -> Iterator[tuple[Path, float, EcgRecord]]:
    """Recordings or their windows; those that can't be read go to ``unread``, if there is one."""
    from ecg_hf.signal import iter_windows, read_record

    for path in records:
        try:
            if window_s is None:
                yield path, 0.0, read_record(path, **told)
                continue
            stride = window_s if stride_s is None else stride_s
            for start_s, window in iter_windows(path, window_s, stride, **told):
                yield path, start_s, window
        except EcgError as error:
            if unread is None:
                raise
            unread[str(path)] = str(error)
