"""Exported models at work: recordings in, answers out, with NumPy and onnxruntime. torch is never imported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import numpy as np
import numpy.typing as npt

from ecg_hf.documents import Count, read_json
from ecg_hf.errors import ConfigurationError, LeadError, ModelFolderError, SignalError
from ecg_hf.models.registry import METHODS
from ecg_hf.processing import EcgFeatureExtractor
from ecg_hf.signal import EcgRecord, read_record
from ecg_hf.signal.io.extras import needed

__all__ = ["EXPORT_FILE", "MODEL_FILES", "PREPROCESSING_FILE", "ExportFacts", "OnnxModel", "prepare"]

MODEL_FILES = {"onnx": "model.onnx", "torch": "model.pt2"}
PREPROCESSING_FILE = "preprocessing.json"
EXPORT_FILE = "export.json"

Array = npt.NDArray[Any]


class Checked(TypedDict):
    """How an export was compared with its model: on ``inputs`` made of ``recordings``."""

    recordings: Count
    inputs: Count
    batches: list[Count]
    largest_difference: dict[str, float]
    largest_value: dict[str, float]


class ExportFacts(TypedDict):
    """``export.json``: what was exported, and what was checked."""

    format: Literal["onnx", "torch"]
    method: str
    model_class: str
    head: Literal["none", "classification", "projection"]
    inputs: dict[str, list[int | str]]
    outputs: list[str]
    labels: NotRequired[list[str]]
    function: NotRequired[Literal["sigmoid", "softmax", "none"]]
    min_leads: Count
    checked: Checked
    versions: dict[str, str]


class OnnxModel:
    """A folder that ``ecg-hf export --format onnx`` wrote.

    Args:
        folder: The folder.
        threads: Threads of onnxruntime; its own choice if not given.

    Attributes:
        facts: Content of ``export.json``.
        extractor: Makes the model's inputs, as arrays.

    Raises:
        ModelFolderError: if the folder is not such an export.
        LibraryMissing: without onnxruntime.

    Example:
        >>> model = OnnxModel("exported")
        >>> model("00001_hr")["logits"].shape
        (1, 71)
        >>> model.scores(["00001_hr"])[0][0]
        {'label': 'SR', 'score': 0.977}
    """

    def __init__(self, folder: str | Path, *, threads: int | None = None) -> None:
        folder = Path(folder)
        self.facts: ExportFacts = read_json(folder / EXPORT_FILE, ExportFacts, error=ModelFolderError)
        if self.facts["format"] != "onnx":
            raise ModelFolderError(f"exported for {self.facts['format']}, not for ONNX", path=folder)
        self.extractor = _read_extractor(folder)
        model = folder / MODEL_FILES["onnx"]
        if not model.is_file():
            raise ModelFolderError("no such file", path=model)
        onnxruntime = needed("onnxruntime", "export", "exported models")
        options = onnxruntime.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(
                str(model), options, providers=["CPUExecutionProvider"]
            )
        # It raises classes of its own, without a common base.
        except Exception as error:
            raise ModelFolderError(f"onnxruntime can't load it: {_first_line(error)}", path=model) from None

    def __call__(
        self, records: str | Path | EcgRecord | Sequence[str | Path | EcgRecord], *, batch_size: int = 64
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Outputs for one recording or several.

        Args:
            records: Paths of anything :func:`ecg_hf.read_record` reads, or records.
            batch_size: Recordings per pass.

        Returns:
            Each output by its name, float32 ``(records, ...)``: ``last_hidden_state`` and ``pooler_output``,
            ``logits`` or ``ecg_embeds``.

        Raises:
            EcgError: if a recording can't be read or the model can't take it.
        """
        return self._outputs(records, batch_size)

    def run(self, inputs: dict[str, Array]) -> dict[str, npt.NDArray[np.float32]]:
        """Outputs for prepared inputs, by name."""
        names = self.facts["outputs"]
        return dict(zip(names, self._session.run(names, inputs), strict=True))

    def scores(
        self, records: str | Path | EcgRecord | Sequence[str | Path | EcgRecord], *, batch_size: int = 64
    ) -> list[list[dict[str, Any]]]:
        """What ``pipeline("ecg-classification")`` says of each recording: ``{"label", "score"}`` by falling score.

        Raises:
            ConfigurationError: if the export has no classes.
            LeadError: if a recording has too few leads for findings.
            EcgError: if a recording can't be read or the model can't take it.
        """
        labels = self.facts.get("labels")
        if labels is None:
            raise ConfigurationError(f"exported with --head {self.facts['head']}: it has no classes to score")
        logits = self._outputs(records, batch_size, self.facts["min_leads"])["logits"].astype(np.float64)
        function = self.facts.get("function", "none")
        if function == "sigmoid":
            logits = 1.0 / (1.0 + np.exp(-logits))
        elif function == "softmax":
            logits = np.exp(logits - logits.max(-1, keepdims=True))
            logits /= logits.sum(-1, keepdims=True)
        answers = [
            [{"label": label, "score": score} for label, score in zip(labels, row, strict=True)]
            for row in logits.tolist()
        ]
        return [sorted(answer, key=lambda entry: -entry["score"]) for answer in answers]

    def _outputs(
        self,
        records: str | Path | EcgRecord | Sequence[str | Path | EcgRecord],
        batch_size: int,
        min_leads: int = 0,
    ) -> dict[str, npt.NDArray[np.float32]]:
        several = [records] if isinstance(records, str | Path | EcgRecord) else list(records)
        if not several:
            raise SignalError("there is no recording")
        parts = []
        for start in range(0, len(several), batch_size):
            chosen = several[start : start + batch_size]
            batch = [one if isinstance(one, EcgRecord) else read_record(one) for one in chosen]
            inputs = prepare(self.extractor, batch, tuple(self.facts["inputs"]))
            leads = inputs["lead_mask"].sum(axis=1)
            if leads.min() < min_leads:
                number = start + int(leads.argmin())
                raise LeadError(
                    f"findings need at least {min_leads} leads, record {number} has {leads.min()}"
                )
            parts.append(self.run(inputs))
        return {name: np.concatenate([part[name] for part in parts]) for name in self.facts["outputs"]}


def prepare(
    extractor: EcgFeatureExtractor, records: Sequence[EcgRecord], names: Sequence[str]
) -> dict[str, Array]:
    """Inputs of an exported model: ``names`` of what the extractor makes, ``sample_mask`` always."""
    features = extractor(list(records), return_tensors="np", return_sample_mask=True)
    missing = sorted(set(names) - set(features))
    if missing:
        raise ModelFolderError(f"{type(extractor).__name__} makes no {missing[0]}, which the model reads")
    return {name: np.ascontiguousarray(features[name]) for name in names}


def _read_extractor(folder: Path) -> EcgFeatureExtractor:
    """The extractor that ``preprocessing.json`` describes, by this package's classes alone."""
    path = folder / PREPROCESSING_FILE
    options = read_json(path, dict[str, Any], error=ModelFolderError)
    kind = options.get("feature_extractor_type")
    for spec in METHODS.values():
        if spec.class_name("feature_extractor") == kind:
            extractor: EcgFeatureExtractor = spec.load("feature_extractor").from_dict(options)
            return extractor
    if kind != EcgFeatureExtractor.__name__:
        raise ModelFolderError("names no feature extractor of this package", path=path, value=kind)
    return EcgFeatureExtractor.from_dict(options)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
