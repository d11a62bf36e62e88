"""Answers to recordings as a table: its columns, and a folder of Parquet parts made in any number of processes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from transformers import AutoFeatureExtractor

from ecg_hf.engine import RECORDS_PER_PART, Engine, Part, absolute, divide, make_parts
from ecg_hf.models.auto import AutoModelForEcgClassification
from ecg_hf.models.shared_files import model_digest
from ecg_hf.pipelines.bulk_recordings import AtHand, Given, SomeRecordings, bulk_recordings
from ecg_hf.pipelines.interpretation import MEASUREMENTS, Interpretation, Interpreter

__all__ = ["PredictedParts", "answer_columns", "answer_row", "predict_in_parts"]

_ROWS_AT_ONCE = 1024

_SCALARS = {
    "record": pa.string(),
    "start_s": pa.float64(),
    "error": pa.string(),
    "duration_s": pa.float64(),
    "sampling_rate": pa.float64(),
    "abstained": pa.string(),
    "model": pa.string(),
}


def answer_columns(labels: Sequence[str], *, windows: bool) -> dict[str, pa.DataType]:
    """Columns of a table of answers and their types: one per measurement and per label.

    Args:
        labels: Classes of the classifier.
        windows: Whether rows are windows, which have a ``start_s``.
    """
    columns = {name: kind for name, kind in _SCALARS.items() if windows or name != "start_s"}
    columns["lead_names"] = pa.string()
    return columns | dict.fromkeys([*MEASUREMENTS, *sorted(labels)], pa.float64())


def answer_row(answer: Interpretation, columns: Sequence[str]) -> list[Any]:
    """The values of an answer in the columns of :func:`answer_columns`, None where there is none."""
    values = {
        **{one.label: one.probability for one in answer.findings},
        **answer.measurements,
        **{name: getattr(answer, name) for name in _SCALARS},
        "lead_names": " ".join(answer.lead_names),
    }
    return [values.get(name) for name in columns]


@dataclass(frozen=True)
class PredictedParts:
    """What a call did.

    Attributes:
        records: Recordings asked about.
        rows: Rows in all parts: as many, or their windows.
        unread: Recordings that could not be read; their rows say why.
        parts: Files.
        reused: Files that were there already.
    """

    records: int
    rows: int
    unread: int
    parts: int
    reused: int


@dataclass(frozen=True)
class _Answers(Part):
    recordings: SomeRecordings
    model: str
    model_name: str
    device: str
    batch_size: int
    options: tuple[tuple[str, Any], ...]


def predict_in_parts(
    model: str | os.PathLike[str],
    records: Given,
    output: str | os.PathLike[str],
    *,
    model_name: str | None = None,
    engine: Engine | None = None,
    records_per_part: int = RECORDS_PER_PART,
    batch_size: int = 64,
    device: str = "cpu",
    overwrite: bool = False,
    progress: bool = True,
    **options: Any,
) -> PredictedParts:
    """Write ``part-00000.parquet`` ... with a row per recording or window and a column per measurement and label.

    Rows are in the order of the recordings, and the answers are those of
    :class:`~ecg_hf.pipelines.interpretation.Interpreter`. Parts that are there and belong to the same model,
    recordings and options are kept, so the same call continues a run that was killed. Recordings are the same while
    their files keep their sizes and times of change.

    Args:
        model: Folder of a classifier with its feature extractor.
        records: Paths of anything :func:`ecg_hf.read_record` reads; rows call them as they are given here. Or a
            folder in an object store with all recordings below it, which rows call by their addresses. Or a dataset
            (:func:`ecg_hf.data.row_pieces.open_divisible`), whose recordings go by their ``record_id``.
        output: Folder of the parts, or its address; workers on other machines must see all paths as this one does.
        model_name: What the rows call the model; the folder's name by default.
        engine: Where to work; this process by default.
        records_per_part: Recordings of a file.
        batch_size: Recordings or windows per forward pass.
        device: Where each process runs the model.
        overwrite: Replace parts of something else instead of refusing.
        progress: Show a bar.
        options: ``window_s``, ``stride_s`` and what files do not say, as
            :class:`~ecg_hf.pipelines.interpretation.Interpreter` takes them.

    Raises:
        ConfigurationError: if the folder holds parts of something else, or another process writes them.
        ModelFolderError: if the folder holds no model of this package.
        FailedPieces: if parts ended their process each time.
    """
    whole = bulk_recordings(records)

    def part(number: int, start: int, end: int) -> _Answers:
        own = whole.piece(start, end)
        return _Answers(
            number,
            (start, end),
            absolute(output),
            f"{content.hexdigest()[:32]}:{own.state()}",
            own,
            os.fspath(Path(model).resolve()),
            model_name or Path(model).resolve().name,
            device,
            batch_size,
            tuple(options.items()),
        )

    content = hashlib.sha256(f"{model_digest(model)}:{json.dumps(options, sort_keys=True)}".encode())
    parts = [part(number, *limits) for number, limits in enumerate(divide(len(whole), records_per_part))]
    accounts, reused = make_parts(
        _answer_part, parts, os.fspath(output), engine=engine, overwrite=overwrite, progress=progress
    )
    rows, unread = (sum(account[name] for account in accounts) for name in ("rows", "unread"))
    return PredictedParts(len(whole), rows, unread, len(parts), reused)


@lru_cache(maxsize=1)
def _loaded(model: str, name: str, device: str) -> Interpreter:
    classifier = AutoModelForEcgClassification.from_pretrained(model, trust_remote_code=False)
    extractor = AutoFeatureExtractor.from_pretrained(model, trust_remote_code=False)
    return Interpreter(classifier, extractor, name=name, device=device)


def _as_given(answer: Interpretation, at_hand: AtHand) -> Interpretation:
    """An answer that names the recording as the caller did, also where it says why it can't be read."""
    error = None if answer.error is None else at_hand.said(answer.error)
    return replace(answer, record=at_hand.shown(answer.record), error=error)


def _answer_part(part: _Answers) -> dict[str, Any]:
    """Answer to the recordings of a part and write its file, whole or not at all."""
    stored = part.stored()  # another process may have finished it before it was lost
    if stored is not None:
        return stored
    interpreter, options = _loaded(part.model, part.model_name, part.device), dict(part.options)
    columns = answer_columns(
        interpreter.model.config.id2label.values(), windows=options.get("window_s") is not None
    )
    account = {"rows": 0, "unread": 0}

    def tables() -> Iterator[Mapping[str, Any]]:
        with part.recordings.at_hand() as at_hand:
            answers = interpreter(at_hand.items, batch_size=part.batch_size, **options)
            while some := list(islice(answers, _ROWS_AT_ONCE)):
                named = [_as_given(one, at_hand) for one in some]
                rows = [answer_row(one, list(columns)) for one in named]
                account["rows"] += len(some)
                account["unread"] += sum(one.error is not None for one in some)
                yield dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True))

    part.write(tables(), pa.schema(list(columns.items())), account)
    return account
