"""Explanations of many recordings: a picture and a JSON file each, in any number of processes."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from transformers import AutoConfig, pipeline

from ecg_hf.data.row_pieces import DivisibleRows
from ecg_hf.engine import Engine, absolute, run_pieces
from ecg_hf.errors import ConfigurationError, EcgError
from ecg_hf.files import sole_maker, write_whole
from ecg_hf.models.shared_files import model_digest
from ecg_hf.pipelines.bulk_recordings import Given, SomeRecordings, bulk_recordings
from ecg_hf.pipelines.explanation import draw_explanation, explain, task_to_explain
from ecg_hf.progress import progress_bar
from ecg_hf.signal import EcgRecord, read_record
from ecg_hf.storage import RemoteFolder, StoredObject, account_name, location

__all__ = ["ExplainedFolder", "explain_in_folder", "explanation_name"]

_NAME_LENGTH = 60
_MADE_FROM = "made_from"
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class ExplainedFolder:
    """What a call did.

    Attributes:
        records: Recordings asked about.
        explained: Those that have a picture and a JSON file.
        reused: Those of them that had them before.
        unexplained: The others, as they were given, and why: not readable, too short, too few leads ...
    """

    records: int
    explained: int
    reused: int
    unexplained: dict[str, str]


@dataclass(frozen=True)
class _Recording:
    """A recording, whose explanation is done when its JSON file is there and was made from the same."""

    given: str
    recording: SomeRecordings
    folder: str
    stem: str
    key: str
    model: str
    model_name: str
    task: str
    device: str
    label: str | None
    start_s: float
    patch_s: float
    told: tuple[tuple[str, Any], ...]

    def __str__(self) -> str:
        return self.given


class _Explanations(Protocol):
    """A folder of pictures and JSON files."""

    def held(self) -> AbstractContextManager[None]:
        """Hold the folder for one command, and remove what killed workers left."""

    def made_from(self, stems: Sequence[str]) -> dict[str, str]:
        """What explanations that are there were made from, by their stems; half written ones may be left out."""

    def write(self, stem: str, key: str) -> AbstractContextManager[Path]:
        """A folder for a picture and a JSON file, which are there afterwards."""

    def remove(self, stem: str) -> None:
        """Remove an explanation."""


def _named(records: Given) -> Iterator[tuple[str, str, SomeRecordings]]:
    """File names of explanations, what the caller calls the recordings, and these themselves."""
    if isinstance(records, RemoteFolder | DivisibleRows):
        whole = bulk_recordings(records)
        names = whole.names()
    else:
        names = [os.fspath(record) for record in records]
        # A recording is the same by whatever path it is given.
        whole = bulk_recordings([os.path.abspath(name) for name in names])
    for number, name in enumerate(names):
        stem = explanation_name(name)
        if isinstance(records, DivisibleRows):
            stem = _file_name(name, f"{records.place}:{number}")
        yield stem, name, whole.piece(number, number + 1)


def explanation_name(path: str | os.PathLike[str]) -> str:
    """File name of a recording's explanation: the recording's, and a digest of its folder and name.

    Recordings of one name in different folders have different ones, and a recording always has the same.

    Args:
        path: Of the recording, or its address; of a WFDB record with or without ``.hea``.
    """
    found = location(path)
    place = (found.url if isinstance(found, RemoteFolder) else os.path.abspath(found)).removesuffix(".hea")
    return _file_name(os.path.basename(place), place)


def _file_name(shown: str, place: str) -> str:
    safe = _UNSAFE.sub("_", shown).strip(".")[:_NAME_LENGTH]
    return f"{safe}-{hashlib.sha256(os.fsencode(place)).hexdigest()[:12]}"


def explain_in_folder(
    model: str | os.PathLike[str],
    records: Given,
    output: str | os.PathLike[str],
    *,
    label: str | None = None,
    start_s: float = 0.0,
    patch_s: float = 0.2,
    model_name: str | None = None,
    engine: Engine | None = None,
    device: str = "cpu",
    overwrite: bool = False,
    progress: bool = True,
    **told: Any,
) -> ExplainedFolder:
    """Write a picture and a JSON file per recording, named by :func:`explanation_name`.

    Those that are there and belong to the same model, label, options and recording are kept, so the same call
    continues a run that was killed. Recordings are the same while their files keep their sizes and times of change.

    Args:
        model: Folder of a classifier, or of a model with a text side, with its feature extractor.
        records: Paths of anything :func:`ecg_hf.read_record` reads, a folder in an object store with all
            recordings below it, or a dataset (:func:`ecg_hf.data.row_pieces.open_divisible`), whose explanations are
            named by ``record_id``, folder and row.
        output: Folder of the files, or its address; workers on other machines must see all paths as this one does.
        label: See :func:`ecg_hf.pipelines.explanation.explain`, as for ``start_s`` and ``patch_s``.
        start_s: Seconds into each recording at which to begin.
        patch_s: Seconds of the stretches that are laid flat.
        model_name: What the files call the model; the folder's name by default.
        engine: Where to work, a piece per recording; this process by default.
        device: Where each process runs the model.
        overwrite: Replace explanations made from something else instead of refusing.
        progress: Show a bar.
        told: Options of :func:`ecg_hf.read_record`, for files that do not describe themselves.

    Raises:
        ConfigurationError: if the label or a number can't be, if the folder holds a recording's explanation made from
            something else, or another process writes it.
        ModelFolderError: if the folder holds no model of this package.
        FailedPieces: if recordings ended their process each time.
    """
    if not (math.isfinite(patch_s) and patch_s > 0 and math.isfinite(start_s) and start_s >= 0):
        raise ConfigurationError("a stretch and where to begin are seconds", value=(patch_s, start_s))
    task = task_to_explain(AutoConfig.from_pretrained(model, trust_remote_code=False), label)
    asked = [model_digest(model), model_name, label, start_s, patch_s, told]
    content = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:32]
    folder, home = _explanations(output), Path(model).resolve()
    pieces: dict[str, _Recording] = {}
    for stem, given, own in _named(records):
        pieces.setdefault(
            stem,
            _Recording(
                given, own, absolute(output), stem, f"{content}:{own.state()}", os.fspath(home),
                model_name or home.name, task, device, label, start_s, patch_s, tuple(told.items()),
            ),
        )  # fmt: skip
    unexplained: dict[str, str] = {}
    with folder.held():
        before = folder.made_from(list(pieces))
        todo = [piece for stem, piece in pieces.items() if before.get(stem) != piece.key]
        if not overwrite:
            for piece in todo:
                if piece.stem in before:
                    raise ConfigurationError(
                        "made from another model, label or recording; --overwrite replaces it",
                        path=f"{piece.folder}/{piece.stem}.json",
                    )
        reused = len(pieces) - len(todo)
        with progress_bar(len(pieces), "explanations", "rec", initial=reused, show=progress) as bar:
            for piece, error in run_pieces(_explain_one, todo, engine):
                if error is not None:
                    unexplained[piece.given] = error
                bar.update(1)
    # In the order of the recordings, not in that in which processes came to them.
    unexplained = {one.given: unexplained[one.given] for one in todo if one.given in unexplained}
    return ExplainedFolder(len(pieces), len(pieces) - len(unexplained), reused, unexplained)


@lru_cache(maxsize=1)
def _loaded(model: str, task: str, device: str) -> Any:
    return pipeline(task, model=model, device=device, trust_remote_code=False)


def _explain_one(piece: _Recording) -> str | None:
    """Explain a recording; gives why if that can't be."""
    folder = _explanations(piece.folder)
    before = folder.made_from([piece.stem])
    if before.get(piece.stem) == piece.key:  # another process may have finished it before it was lost
        return None
    if before:
        folder.remove(piece.stem)  # of something else
    pipe = _loaded(piece.model, piece.task, piece.device)
    with piece.recording.at_hand() as at_hand:
        (item,) = at_hand.items
        try:
            if isinstance(item, EcgError):
                raise item
            record = item if isinstance(item, EcgRecord) else read_record(item, **dict(piece.told))
            explanation = explain(pipe, record, piece.label, start_s=piece.start_s, patch_s=piece.patch_s)
        except EcgError as error:
            folder.remove(piece.stem)
            error.path = None  # not as it was given; who asked knows the recording by that
            return str(error)
    said = {
        **explanation.as_dict(), "model": piece.model_name, "path": piece.given, _MADE_FROM: piece.key,
    }  # fmt: skip
    with folder.write(piece.stem, piece.key) as place:
        draw_explanation(explanation, place / f"{piece.stem}.png")
        write_whole(place / f"{piece.stem}.json", json.dumps(said, ensure_ascii=False) + "\n")
    return None


def _explanations(place: str | os.PathLike[str]) -> _Explanations:
    found = location(place)
    return _Stored(found) if isinstance(found, RemoteFolder) else _Local(found)


@dataclass(frozen=True)
class _Local:
    folder: Path

    @contextmanager
    def held(self) -> Iterator[None]:
        with sole_maker(self.folder, "explanations", "*-????????????.png", "*-????????????.json"):
            yield

    def made_from(self, stems: Sequence[str]) -> dict[str, str]:
        found = {}
        for stem in stems:
            try:
                said = json.loads((self.folder / f"{stem}.json").read_bytes())
            except OSError:
                continue
            except ValueError:
                said = None
            whole = isinstance(said, dict) and (self.folder / f"{stem}.png").is_file()
            found[stem] = str(said.get(_MADE_FROM, "")) if whole else ""
        return found

    @contextmanager
    def write(self, stem: str, key: str) -> Iterator[Path]:
        yield self.folder  # each of the two is written whole, the JSON file last

    def remove(self, stem: str) -> None:
        for suffix in ("json", "png"):
            (self.folder / f"{stem}.{suffix}").unlink(missing_ok=True)


@dataclass(frozen=True)
class _Stored:
    folder: RemoteFolder

    @contextmanager
    def held(self) -> Iterator[None]:
        yield  # stores have no locks

    def made_from(self, stems: Sequence[str]) -> dict[str, str]:
        names = [f"{stem}.{suffix}" for stem in stems for suffix in ("png", "json")]
        objects = self.folder.objects() if len(stems) > 1 else self._look_up(names)
        finished = self.folder.finished(objects, names)
        return {
            stem: str(finished[f"{stem}.json"].get(_MADE_FROM, ""))
            for stem in stems
            if {f"{stem}.png", f"{stem}.json"} <= finished.keys()
        }

    @contextmanager
    def write(self, stem: str, key: str) -> Iterator[Path]:
        with TemporaryDirectory(prefix="ecg-hf-") as place:
            yield Path(place)
            for suffix in ("png", "json"):
                name = f"{stem}.{suffix}"
                self.folder.publish(Path(place, name), name, {_MADE_FROM: key})

    def remove(self, stem: str) -> None:
        self.folder.remove([f"{stem}.json", f"{stem}.png"])

    def _look_up(self, names: Sequence[str]) -> dict[str, StoredObject]:
        return self.folder.look_up([*names, *map(account_name, names)])
