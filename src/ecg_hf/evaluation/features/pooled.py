"""Embed once: one pass of a frozen encoder over a dataset, kept as float32 rows.

Every frozen protocol (probe, zero-shot, retrieval, maps) reads these rows; none runs the encoder again.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from transformers.utils import logging

from ecg_hf.errors import ConfigurationError, NonFiniteSignal, SamplingRateError
from ecg_hf.evaluation.cache import fingerprint_dataset, fingerprint_model, fingerprint_preprocessing
from ecg_hf.files import sole_writer, temporary_name
from ecg_hf.processing import EcgFeatureExtractor
from ecg_hf.progress import progress_bar

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from torch import nn

__all__ = ["embed_dataset", "read_embeddings", "write_embeddings"]

Embeddings = npt.NDArray[np.float32]

Encoded = TypeVar("Encoded", bound=Sized)

PROJECTED = "projected"
OTHER_CONTENT = "file holds embeddings of another model, preprocessing or dataset (overwrite to replace it)"

logger = logging.get_logger(__name__)

_COUNTS = "preparation"
# Notes of the feature extractor after which an embedding is not that of the recording as it was made.
_WORTH_SAYING = (
    "nan_interpolated", "nan_zeroed", "lead_beyond_repair", "cropped", "lead_substituted", "amplitude_implausible"
)  # fmt: skip

# Records per part file: a kill costs at most this much work.
PART_RECORDS = 4096


def check_fit(model: Any, feature_extractor: Any) -> None:
    """Refuse a feature extractor that does not make what the model takes.

    Raises:
        ConfigurationError: if rate, leads or length differ.
    """
    check = getattr(getattr(model, "config", None), "check_feature_extractor", None)
    if check is not None and isinstance(feature_extractor, EcgFeatureExtractor):
        check(feature_extractor)


def embed_dataset(
    model: nn.Module,
    feature_extractor: Any,
    dataset: Dataset | Sequence[Any],
    *,
    batch_size: int = 64,
    device: str | torch.device | None = None,
    features: str = "pooler_output",
    column: str = "ecg",
    output: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: bool = True,
    counts: Counter[str] | None = None,
) -> Embeddings:
    """Embeddings of every record, in the order of ``dataset``.

    The model runs in inference mode without dropout; its training mode and device are put back. Decoding and
    preprocessing of the next batch overlap with the forward pass.

    Args:
        model: Encoder whose output has ``features``.
        feature_extractor: The model's own; turns recordings into named tensors, of which those the model's
            ``forward`` takes are passed on.
        dataset: Dataset with an ``Ecg`` column (cast or not), or a sequence of ``EcgRecord`` or decoded
            dictionaries.
        batch_size: Records per forward pass.
        device: Where to run; the model's own device by default.
        features: What to keep: a field of the model's output, ``pooler_output`` for probes; or ``projected``, the
            result of a dual encoder's ``get_ecg_features``, which zero-shot compares with text.
        column: Name of the ECG column.
        output: File to write (see :func:`write_embeddings`). Work in progress is kept beside it, so that the
            same call continues after a kill; a finished file of the same model, preprocessing and recordings
            is returned as it is.
        cache_dir: Folder where the file is named by its content key instead; for repeated evaluations.
        overwrite: Replace an ``output`` file that belongs to something else instead of refusing.
        progress: Show a progress bar.
        counts: Filled with the number of records in which the feature extractor derived, repaired, cut or missed
            something, by code (see :class:`~ecg_hf.processing.ProcessingReport`).

    Returns:
        float32 ``(records, dim)``.

    Raises:
        ConfigurationError: if the feature extractor does not fit the model, there is nothing to embed, the output
            lacks ``features``, or ``output`` exists and belongs to something else, or another process is writing it.
        NonFiniteSignal: if a record's embedding is not finite.
    """
    n = len(dataset)
    if n == 0:
        raise ConfigurationError("there are no records to embed")
    if batch_size < 1:
        raise ConfigurationError(f"batch_size must be at least 1, got {batch_size}", value=batch_size)
    if output is not None and cache_dir is not None:
        raise ConfigurationError("give either an output file or a cache folder, not both")
    check_fit(model, feature_extractor)
    counts = Counter() if counts is None else counts
    path: Path | None = None
    metadata: dict[str, str] = {}
    if output is not None or cache_dir is not None:
        metadata = content_metadata(model, feature_extractor, dataset, column, features=features)
        path = content_path(output, cache_dir, metadata["key"])
        if path.is_file():
            found, stored = _read(path)
            if stored.get("key") == metadata["key"] and len(found) == n:
                counts.update(_stored_counts(stored))
                return found
            if not overwrite and output is not None:
                raise ConfigurationError(OTHER_CONTENT, path=path)

    read = _reader(model, features)
    with nullcontext() if path is None else sole_writer(path):
        parts = _Parts(path, metadata.get("key", ""), n)
        result = _embed_rest(
            model, feature_extractor, dataset, read, parts, n, column, batch_size, device, progress, counts
        )
        if path is not None:
            write_embeddings(path, result, {**metadata, _COUNTS: json.dumps(counts, sort_keys=True)})
            parts.remove()
    return result


def _embed_rest(
    model: nn.Module,
    feature_extractor: Any,
    dataset: Dataset | Sequence[Any],
    read: Callable[[dict[str, torch.Tensor]], Embeddings],
    parts: _Parts,
    n: int,
    column: str,
    batch_size: int,
    device: str | torch.device | None,
    progress: bool,
    counts: Counter[str],
) -> Embeddings:
    """Rows that earlier calls left, and all others; ``counts`` of them."""
    rows = parts.resume(counts)
    fresh: Counter[str] = Counter()
    done = sum(len(part) for part in rows)
    pending: list[Embeddings] = []
    with (
        evaluating(model, device) as target,
        progress_bar(n, "embedding", "record", initial=done, show=progress) as bar,
    ):
        for embeddings in encode_batches(
            read, feature_extractor, dataset, column=column, batch_size=batch_size, device=target, start=done,
            counts=fresh,
        ):  # fmt: skip
            _check_finite(embeddings, done, dataset)
            pending.append(embeddings)
            done += len(embeddings)
            bar.update(len(embeddings))
            if done == n or sum(len(part) for part in pending) >= PART_RECORDS:
                rows.append(np.concatenate(pending))
                pending = []
                parts.write(rows[-1], done, fresh)
                counts.update(fresh)
                fresh.clear()
    return np.concatenate(rows)


def write_embeddings(
    path: str | os.PathLike[str], embeddings: npt.ArrayLike, metadata: Mapping[str, str] | None = None
) -> None:
    """Write ``embeddings`` (records, dim) float32 to a safetensors file, atomically.

    Args:
        path: File to create or replace; it is never seen half written.
        embeddings: Real ``(records, dim)``.
        metadata: Strings stored in the header, e.g. digests of model and data.

    Raises:
        ConfigurationError: if the array is not two-dimensional.
    """
    array = np.ascontiguousarray(embeddings, dtype=np.float32)
    if array.ndim != 2:
        raise ConfigurationError(f"embeddings must be (records, dim), got {array.shape}", value=array.shape)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = temporary_name(path)
    try:
        save_file({"embeddings": array}, partial, metadata={**(metadata or {}), "format": "np"})
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_embeddings(path: str | os.PathLike[str]) -> Embeddings:
    """Read what :func:`write_embeddings` wrote.

    Returns:
        float32 ``(records, dim)``.

    Raises:
        ConfigurationError: if the file is absent or holds no embeddings.
    """
    return _read(Path(path))[0]


def _read(path: Path) -> tuple[Embeddings, dict[str, str]]:
    try:
        with safe_open(path, framework="np") as file:
            found, metadata = file.get_tensor("embeddings"), dict(file.metadata() or {})
    # NumPy has no word for some types a file may name.
    except (OSError, SafetensorError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise ConfigurationError("not a readable file of embeddings", path=path) from error
    if found.ndim != 2 or found.dtype != np.float32:
        raise ConfigurationError(
            f"embeddings must be float32 (records, dim), got {found.dtype} {found.shape}", path=path
        )
    return found, metadata


def content_metadata(
    model: nn.Module,
    feature_extractor: Any,
    dataset: Dataset | Sequence[Any],
    column: str,
    **settings: object,
) -> dict[str, str]:
    """What features depend on: digests of model, preprocessing and recordings, ``settings``, and their ``key``."""
    metadata = {
        "model": fingerprint_model(model),
        "preprocessing": fingerprint_preprocessing(feature_extractor),
        "data": fingerprint_dataset(dataset, column, r_peaks=_wants_r_peaks(feature_extractor)),
        "records": str(len(dataset)),
        **{name: str(value) for name, value in settings.items()},
    }
    text = "\n".join(f"{name}={value}" for name, value in sorted(metadata.items()))
    return {**metadata, "key": hashlib.sha256(text.encode()).hexdigest()[:40]}


def content_path(
    output: str | os.PathLike[str] | None, cache_dir: str | os.PathLike[str] | None, key: str
) -> Path:
    """The file asked for, or the one named by ``key`` in the cache folder.

    Raises:
        ConfigurationError: if it is a folder.
    """
    path = Path(output) if output is not None else Path(cache_dir or ".") / f"{key}.safetensors"
    if path.is_dir():
        raise ConfigurationError("the output is a folder, not a file", path=path)
    return path


class _Parts:
    """Work in progress: part files beside the output, each holding consecutive rows.

    A part is named by the first row it does not hold and carries the key of the whole; parts of another key,
    or behind a gap, are ignored and removed.
    """

    def __init__(self, path: Path | None, key: str, n: int) -> None:
        self.folder = None if path is None else path.with_name(f"{path.name}.parts")
        self.key = key
        self.n = n

    def resume(self, counts: Counter[str]) -> list[Embeddings]:
        if self.folder is None or not self.folder.is_dir():
            return []
        rows: list[Embeddings] = []
        reached = 0
        for file in sorted(self.folder.glob("rows-*.safetensors")):
            try:
                part, metadata = _read(file)
            except ConfigurationError:
                part, metadata = np.empty((0, 0), np.float32), {}
            fits = metadata.get("key") == self.key and metadata.get("first") == str(reached)
            if fits and reached + len(part) <= self.n:
                rows.append(part)
                reached += len(part)
                counts.update(_stored_counts(metadata))
            else:
                file.unlink()
        return rows

    def write(self, part: Embeddings, stop: int, counts: Counter[str]) -> None:
        if self.folder is not None:
            metadata = {"key": self.key, "first": str(stop - len(part)), _COUNTS: json.dumps(counts)}
            write_embeddings(self.folder / f"rows-{stop:010d}.safetensors", part, metadata)

    def remove(self) -> None:
        if self.folder is not None and self.folder.is_dir():
            for file in self.folder.glob("*rows-*"):
                file.unlink()
            self.folder.rmdir()


@contextmanager
def evaluating(model: nn.Module, device: str | torch.device | None) -> Iterator[torch.device]:
    """Evaluation mode on ``device``, both undone afterwards."""
    import torch

    first = next(model.parameters(), None)
    home = torch.device("cpu") if first is None else first.device
    target = home if device is None else torch.device(device)
    training = {name: module.training for name, module in model.named_modules()}
    model.eval()
    if target != home:
        model.to(target)
    try:
        yield target
    finally:
        if target != home:
            model.to(home)
        for name, module in model.named_modules():
            module.training = training[name]


def encode_batches(
    read: Callable[[dict[str, torch.Tensor]], Encoded],
    feature_extractor: Any,
    dataset: Dataset | Sequence[Any],
    *,
    column: str,
    batch_size: int,
    device: torch.device,
    start: int = 0,
    counts: Counter[str] | None = None,
) -> Iterator[Encoded]:
    """``read`` of every batch in order, from record ``start`` on; one thread prepares the next batch meanwhile.

    ``read`` gets the feature extractor's tensors on ``device`` and runs in inference mode. What preparing did to the
    records is added to ``counts``, batch by batch, and what a reader of results should know is said at the end.
    """
    import torch

    fetch = _fetcher(dataset, column, r_peaks=_wants_r_peaks(feature_extractor))
    batches = [range(i, min(i + batch_size, len(dataset))) for i in range(start, len(dataset), batch_size)]

    with_report = {"return_report": True} if isinstance(feature_extractor, EcgFeatureExtractor) else {}
    total: Counter[str] = Counter()

    def prepare(rows: range) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
        inputs = feature_extractor(**fetch(rows), return_tensors="pt", **with_report)
        tensors = {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor)}
        return tensors, inputs["report"].counts if with_report else {}

    with ThreadPoolExecutor(max_workers=1) as pool:
        upcoming = pool.submit(prepare, batches[0]) if batches else None
        for position, rows in enumerate(batches):
            assert upcoming is not None
            prepared, notes = upcoming.result()
            total.update(notes)
            if counts is not None:
                counts.update(notes)
            inputs = {name: value.to(device) for name, value in prepared.items()}
            more = position + 1 < len(batches)
            upcoming = pool.submit(prepare, batches[position + 1]) if more else None
            # Entered per batch: a generator must not leave its consumer in inference mode.
            with torch.inference_mode():
                encoded = read(inputs)
            if len(encoded) != len(rows):
                raise ConfigurationError(
                    f"the model gave {len(encoded)} rows for {len(rows)} records", value=len(encoded)
                )
            yield encoded
    said = [f"{total[code]} {code}" for code in _WORTH_SAYING if total[code]]
    if said:
        logger.warning(f"Of {len(dataset) - start} recordings: {', '.join(said)}.")


def _stored_counts(metadata: Mapping[str, str]) -> dict[str, int]:
    """What a file says its preparation did; nothing for files that do not say."""
    try:
        found = json.loads(metadata.get(_COUNTS, "{}"))
    except ValueError:
        return {}
    return {str(code): int(count) for code, count in found.items()} if isinstance(found, dict) else {}


def _reader(model: nn.Module, features: str) -> Callable[[dict[str, torch.Tensor]], Embeddings]:
    """What :func:`embed_dataset` keeps of a batch: one vector per record."""
    function = getattr(model, "get_ecg_features", None) if features == PROJECTED else model
    if function is None:
        raise ConfigurationError(f"{type(model).__name__} is no dual encoder: it has no get_ecg_features")
    names = accepted_arguments(function if features == PROJECTED else model.forward)

    def read(inputs: dict[str, torch.Tensor]) -> Embeddings:
        result = function(**accepted(inputs, names))
        kept = result if features == PROJECTED else output_field(result, features)
        embeddings: Embeddings = kept.float().cpu().numpy()
        if embeddings.ndim != 2:
            raise ConfigurationError(
                f"model gave {features} of shape {embeddings.shape}, one vector per record is wanted",
                value=embeddings.shape,
            )
        return embeddings

    return read


def output_field(result: Any, features: str) -> torch.Tensor:
    """The field ``features`` of a model's output.

    Raises:
        ConfigurationError: if it has none.
    """
    value = result.get(features) if isinstance(result, Mapping) else getattr(result, features, None)
    if value is None:
        raise ConfigurationError(f"the model's output has no {features!r}", value=features)
    tensor: torch.Tensor = value
    return tensor


def accepted_arguments(function: Callable[..., Any]) -> frozenset[str] | None:
    """Names a model's function takes; None if it takes any."""
    parameters = inspect.signature(function).parameters.values()
    named = frozenset(
        p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "self"
    )
    return named or None


def accepted(inputs: Mapping[str, torch.Tensor], names: frozenset[str] | None) -> dict[str, torch.Tensor]:
    """Those of ``inputs`` a function with these arguments takes."""
    return {name: value for name, value in inputs.items() if names is None or name in names}


def _wants_r_peaks(feature_extractor: Any) -> bool:
    return bool(getattr(feature_extractor, "wants_r_peaks", False))


def _fetcher(dataset: Dataset | Sequence[Any], column: str, *, r_peaks: bool) -> Any:
    """Rows as keyword arguments of a feature extractor's call; with known R peaks if it wants them."""
    if not hasattr(dataset, "with_format"):
        return lambda rows: {"ecg": [dataset[i] for i in rows]}

    from ecg_hf.data.decoding import BatchDecoder

    decoder = BatchDecoder(dataset, column)

    def fetch(rows: range) -> dict[str, Any]:
        if decoder.has_one_rate and decoder.has_one_length:
            batch = decoder(rows)
            if batch.lead_mask.all():
                known = {"r_peaks": batch.r_peaks} if r_peaks else {}
                rate, names = batch.sampling_rate, batch.lead_names
                return {"ecg": batch.signal, "sampling_rate": rate, "lead_names": names, **known}
        try:
            groups = decoder.by_length(rows)
        except SamplingRateError:
            # Rows of different rates: each is resampled by the feature extractor, from its own rate. Peaks are left
            # to detection: stored ones are samples of the stored rate, which a decoded row may no longer have.
            return {"ecg": [dataset[i][column] for i in rows]}
        # Missing leads must reach the model as such, not as zeros somebody measured; lengths are the records' own.
        ragged: list[dict[str, Any]] = [{}] * len(rows)
        peaks: list[Any] = [None] * len(rows)
        for places, batch in groups:
            for row, place in enumerate(places.tolist()):
                there = batch.lead_mask[row]
                names = tuple(name for name, ok in zip(batch.lead_names, there, strict=True) if ok)
                rate = batch.sampling_rate
                ragged[place] = {
                    "signal": batch.signal[row, there],
                    "sampling_rate": rate,
                    "lead_names": names,
                }
                peaks[place] = None if batch.r_peaks is None else batch.r_peaks[row]
        return {"ecg": ragged, "r_peaks": peaks} if r_peaks else {"ecg": ragged}

    return fetch


def _check_finite(embeddings: Embeddings, first: int, dataset: Dataset | Sequence[Any]) -> None:
    bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if len(bad):
        row = first + int(bad[0])
        raise NonFiniteSignal(f"embedding of record {row} is not finite", value=row)
