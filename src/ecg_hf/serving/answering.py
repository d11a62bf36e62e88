"""From uploaded files to answers, a batch at a time."""

from __future__ import annotations

import io
import re
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import torch

from ecg_hf.errors import ConfigurationError, EcgError
from ecg_hf.fhir import record_to_fhir, scores_to_fhir
from ecg_hf.pipelines.interpretation import Interpretation, Interpreter
from ecg_hf.signal import EcgRecord, read_record

__all__ = ["Answer", "Answerer", "Job", "Task", "Upload", "read_upload"]

Task = Literal["predict", "embed", "fhir"]

_PLAIN_NAME = re.compile(r"\w[\w.-]{0,99}", re.ASCII)
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Upload:
    """One uploaded file: the name that its sender gave it, without folders, and its content."""

    name: str
    content: BinaryIO


@dataclass(frozen=True, slots=True)
class Job:
    """What one request asks for.

    Attributes:
        task: What to do.
        files: The file, or the header and the signal files of one WFDB record.
        told: Options of :func:`ecg_hf.read_record`, for files that do not describe themselves.
        version: FHIR release, for ``fhir``.
    """

    task: Task
    files: tuple[Upload, ...]
    told: Mapping[str, Any] = field(default_factory=dict)
    version: str = "R5"


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and JSON body of a response."""

    status: int
    body: dict[str, Any]


class Answerer:
    """Answers jobs with one model; a recording that can't be read spoils no other of its batch.

    Args:
        encoder: Base model.
        extractor: Its feature extractor.
        name: What answers call the model.
        interpreter: For findings; None for a model without a classifier, which only embeds.
        max_samples: Most values (leads times samples) of a recording.
    """

    def __init__(
        self,
        encoder: Any,
        extractor: Any,
        *,
        name: str,
        interpreter: Interpreter | None = None,
        max_samples: int = 1 << 23,
    ) -> None:
        self.encoder = encoder.eval()
        self.extractor = extractor
        self.name = name
        self.interpreter = interpreter
        self.max_samples = max_samples

    def __call__(self, jobs: Sequence[Job]) -> list[Answer]:
        """Answers in the order of the jobs: 200, or 422 with the reason in ``error``."""
        read = [self._read(job) for job in jobs]
        records = {place: one for place, one in enumerate(read) if isinstance(one, EcgRecord)}
        embedded = self._embed({p: one for p, one in records.items() if jobs[p].task == "embed"})
        interpreted = self._interpret({p: one for p, one in records.items() if jobs[p].task != "embed"})
        answers = []
        for place, job in enumerate(jobs):
            found: Any = read[place] if isinstance(read[place], EcgError) else embedded.get(place)
            if place in interpreted:
                answers.append(self._interpreted(job, records[place], interpreted[place]))
            elif isinstance(found, EcgError):
                answers.append(self._unreadable(job, found))
            else:
                body = _described(job, records[place], self.name)
                answers.append(Answer(200, {**body, "embedding": found.tolist()}))
        return answers

    def _read(self, job: Job) -> EcgRecord | EcgError:
        try:
            return read_upload(job.files, {**job.told, "max_samples": self.max_samples})
        except EcgError as error:
            return error

    def _interpret(self, records: Mapping[int, EcgRecord]) -> dict[int, Interpretation]:
        if not records or self.interpreter is None:
            return {}
        return dict(zip(records, self.interpreter(list(records.values())), strict=True))

    def _interpreted(self, job: Job, record: EcgRecord, answer: Interpretation) -> Answer:
        answer = replace(answer, record=_shown(job))
        if job.task == "predict":
            return Answer(200, answer.as_dict())
        try:
            resources = [record_to_fhir(record, job.version), scores_to_fhir(answer, job.version)]
        except EcgError as error:
            return Answer(422, {"error": str(error)})
        entries = [{"fullUrl": f"urn:uuid:{uuid.uuid4()}", "resource": resource} for resource in resources]
        return Answer(200, {"resourceType": "Bundle", "type": "collection", "entry": entries})

    def _unreadable(self, job: Job, error: EcgError) -> Answer:
        if job.task == "predict":
            return Answer(422, Interpretation(_shown(job), error=str(error), model=self.name).as_dict())
        return Answer(422, {"record": _shown(job), "error": str(error)})

    def _embed(self, records: Mapping[int, EcgRecord]) -> dict[int, npt.NDArray[np.float32] | EcgError]:
        if not records:
            return {}
        try:
            inputs = self.extractor(list(records.values()), return_tensors="pt").to(self.encoder.device)
        except EcgError as error:
            if len(records) == 1:
                return dict.fromkeys(records, error)
            found: dict[int, Any] = {}
            for place, record in records.items():
                found.update(self._embed({place: record}))
            return found
        with torch.inference_mode():
            pooled = self.encoder(**inputs).pooler_output.float().cpu().numpy()
        return dict(zip(records, pooled, strict=True))


def read_upload(files: Sequence[Upload], told: Mapping[str, Any]) -> EcgRecord:
    """The recording in what somebody sent.

    Args:
        files: The file, or the header and the signal files of one WFDB record.
        told: Options of :func:`ecg_hf.read_record`.

    Raises:
        EcgError: if there is none in it; without a path, since our temporary folders are nobody's business.
    """
    try:
        if len(files) > 1:
            return _read_together(files, told)
        content = io.BytesIO(files[0].content.read())
        content.name = files[0].name
        return read_record(content, **told)
    except EcgError as error:
        error.path = None
        raise


def _shown(job: Job) -> str:
    return job.files[0].name[:_LONGEST_NAME]


def _described(job: Job, record: EcgRecord, model: str) -> dict[str, Any]:
    """What ``predict`` says too of the recording that was read."""
    return {
        "record": _shown(job),
        "error": None,
        "duration_s": record.duration_s,
        "sampling_rate": record.sampling_rate,
        "lead_names": record.lead_names,
        "notes": list(dict.fromkeys(str(note) for note in record.notes)),
        "model": model,
    }


def _read_together(files: Sequence[Upload], told: Mapping[str, Any]) -> EcgRecord:
    """One WFDB record of several files, in a folder that nothing in them can leave.

    Raises:
        EcgError: if they are none.
    """
    names = [file.name for file in files]
    headers = [name for name in names if name.endswith(".hea")]
    if not headers or len(set(names)) < len(names) or not all(map(_PLAIN_NAME.fullmatch, names)):
        raise ConfigurationError(
            "several files are one WFDB record: its header (.hea) first, and the files it names, under plain names"
        )
    with tempfile.TemporaryDirectory(prefix="ecg-hf-") as folder:
        for file in files:
            Path(folder, file.name).write_bytes(file.content.read())
        return read_record(Path(folder, headers[0]), root=folder, **told)
