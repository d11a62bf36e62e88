"""Explanations of many recordings: a picture and a JSON file each, in any number of processes."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from transformers import AutoConfig, pipeline

from ecg_hf.engine import Engine, run_pieces
from ecg_hf.errors import ConfigurationError, EcgError
from ecg_hf.files import TEMPORARY_SUFFIX, sole_writer, write_whole
from ecg_hf.models.shared_files import model_digest
from ecg_hf.pipelines.explanation import draw_explanation, explain, task_to_explain
from ecg_hf.pipelines.predicted_parts import state_of_files
from ecg_hf.progress import progress_bar
from ecg_hf.signal import read_record

__all__ = ["ExplainedFolder", "explain_in_folder", "explanation_name"]

_NAME_LENGTH = 60
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
    """A recording, whose explanation is done when its JSON file is there and has the key."""

    given: str
    path: str
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

    @property
    def files(self) -> tuple[Path, Path]:
        """The picture, and the JSON file, which is written last."""
        return Path(f"{self.stem}.png"), Path(f"{self.stem}.json")

    def done(self) -> bool:
        """Whether both files are there and made from the same."""
        picture, maps = self.files
        try:
            return picture.is_file() and json.loads(maps.read_bytes())["made_from"] == self.key
        except (OSError, ValueError, KeyError, TypeError):
            return False


def explanation_name(path: str | os.PathLike[str]) -> str:
    """File name of a recording's explanation: the recording's, and a digest of its folder and name.

    Recordings of one name in different folders have different ones, and a recording always has the same.

    Args:
        path: Of the recording; of a WFDB record with or without ``.hea``.
    """
    place = os.path.abspath(path).removesuffix(".hea")
    shown = _UNSAFE.sub("_", os.path.basename(place)).strip(".")[:_NAME_LENGTH]
    return f"{shown}-{hashlib.sha256(os.fsencode(place)).hexdigest()[:12]}"


def explain_in_folder(
    model: str | os.PathLike[str],
    records: Sequence[str | os.PathLike[str]],
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
        records: Paths of anything :func:`ecg_hf.read_record` reads.
        output: Folder of the files; workers on other machines must see all paths as this one does.
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
    folder, home = Path(output), Path(model).resolve()
    pieces: dict[str, _Recording] = {}
    for given in [os.fspath(record) for record in records]:
        # A worker's own working directory may be another.
        path = os.path.abspath(given)
        stem = os.path.join(folder.resolve(), explanation_name(path))
        key = f"{content}:{state_of_files([path])}"
        pieces.setdefault(
            stem,
            _Recording(
                given, path, stem, key, os.fspath(home), model_name or home.name, task, device, label, start_s,
                patch_s, tuple(told.items()),
            ),
        )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    unexplained: dict[str, str] = {}
    with sole_writer(folder / "explanations"):
        _remove_half_written(folder)
        todo = [piece for piece in pieces.values() if not piece.done()]
        if not overwrite:
            for piece in todo:
                if piece.files[1].exists():
                    raise ConfigurationError(
                        "made from another model, label or recording; --overwrite replaces it",
                        path=piece.files[1],
                    )
        reused = len(pieces) - len(todo)
        with progress_bar(len(pieces), "explanations", "rec", initial=reused, show=progress) as bar:
            for piece, error in run_pieces(_explain_one, todo, engine):
                if error is not None:
                    unexplained[piece.given] = error
                bar.update(1)
        _remove_half_written(folder)
    # In the order of the recordings, not in that in which processes came to them.
    unexplained = {one.given: unexplained[one.given] for one in todo if one.given in unexplained}
    return ExplainedFolder(len(pieces), len(pieces) - len(unexplained), reused, unexplained)


@lru_cache(maxsize=1)
def _loaded(model: str, task: str, device: str) -> Any:
    return pipeline(task, model=model, device=device, trust_remote_code=False)


def _explain_one(piece: _Recording) -> str | None:
    """Explain a recording; gives why if that can't be."""
    if piece.done():  # another process may have finished it before it was lost
        return None
    pipe, (picture, maps) = _loaded(piece.model, piece.task, piece.device), piece.files
    maps.unlink(missing_ok=True)  # of something else, as is the picture
    try:
        record = read_record(piece.path, **dict(piece.told))
        explanation = explain(pipe, record, piece.label, start_s=piece.start_s, patch_s=piece.patch_s)
    except EcgError as error:
        picture.unlink(missing_ok=True)
        error.path = None  # absolute here; who asked knows the recording by the path that was given
        return str(error)
    draw_explanation(explanation, picture)
    content = {
        **explanation.as_dict(), "model": piece.model_name, "path": piece.given, "made_from": piece.key,
    }  # fmt: skip
    write_whole(maps, json.dumps(content, ensure_ascii=False) + "\n")
    return None


def _remove_half_written(folder: Path) -> None:
    """Remove what killed processes left; one that still writes for a command that is gone only fails."""
    for suffix in ("png", "json"):
        for path in folder.glob(f".*-????????????.{suffix}.*{TEMPORARY_SUFFIX}"):
            path.unlink(missing_ok=True)
