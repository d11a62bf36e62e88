"""What the page asks for: a recording from an upload, and what the models say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ecg_hf.errors import ConfigurationError
from ecg_hf.pipelines.ecg_classification import EcgClassificationPipeline
from ecg_hf.pipelines.explanation import Explanation, explain
from ecg_hf.pipelines.interpretation import Interpretation, Interpreter
from ecg_hf.pipelines.zero_shot_ecg_classification import ZeroShotEcgClassificationPipeline
from ecg_hf.serving.answering import Upload, read_upload
from ecg_hf.signal import EcgRecord, read_record

__all__ = ["MAX_LABELS", "Demo"]

MAX_FILES = 32
MAX_SAMPLES = 1 << 22
"""Most values (leads times samples) of a recording: more than ten minutes of twelve leads at 500 Hz."""

MAX_LABELS = 20
MAX_LABEL_LENGTH = 200


class Demo:
    """Answers about one recording at a time.

    Args:
        classify: Pipeline of a classifier, for findings.
        classifier_folder: Where the classifier came from: its reference ECGs are there, if it has some.
        zero_shot: Pipeline of a model with a text side, for labels of one's own.
        text_model: What the page calls that model.
    """

    def __init__(
        self,
        classify: EcgClassificationPipeline,
        classifier_folder: str,
        zero_shot: ZeroShotEcgClassificationPipeline,
        text_model: str,
    ) -> None:
        self.classify = classify
        self.interpreter = Interpreter(
            classify.model, classify.feature_extractor, name=classifier_folder, device=str(classify.device)
        )
        self.zero_shot = zero_shot
        self.text_model = text_model

    def read(self, paths: Sequence[str | Path], told: Mapping[str, Any]) -> EcgRecord:
        """The recording that was uploaded.

        Args:
            paths: The file, or the header and the signal files of one WFDB record.
            told: Options of :func:`ecg_hf.read_record`, for files that do not say.

        Raises:
            EcgError: if there is none in the files; without their path.
        """
        if not paths:
            raise ConfigurationError("choose a file first")
        if len(paths) > MAX_FILES:
            raise ConfigurationError(f"at most {MAX_FILES} files make one recording", value=len(paths))
        with ExitStack() as opened:
            uploads = []
            for path in map(Path, paths):
                # An upload is removed after a while.
                if not path.is_file():
                    raise ConfigurationError("the upload is gone: choose the file again")
                uploads.append(Upload(path.name, opened.enter_context(path.open("rb"))))
            return read_upload(uploads, {**told, "max_samples": MAX_SAMPLES})

    def sample(self) -> EcgRecord:
        """The recording that ships with the package."""
        from ecg_hf.models.pretrained import sample_record

        return read_record(sample_record())

    def interpret(self, record: EcgRecord) -> Interpretation:
        """Measurements, findings and similar reference ECGs."""
        (answer,) = self.interpreter([record])
        return answer

    def similarities(self, record: EcgRecord, labels: str) -> list[dict[str, Any]]:
        """Similarity of the recording to each of the labels between commas, the highest first.

        Raises:
            EcgError: if there are no labels, too many, or the model can't take them or the recording.
        """
        names = list(dict.fromkeys(label.strip() for label in labels.split(",") if label.strip()))
        if not names:
            raise ConfigurationError("write at least one label")
        if len(names) > MAX_LABELS or max(map(len, names)) > MAX_LABEL_LENGTH:
            raise ConfigurationError(f"at most {MAX_LABELS} labels of {MAX_LABEL_LENGTH} characters each")
        found: list[dict[str, Any]] = self.zero_shot(record, candidate_labels=names)
        return found

    def explain(self, record: EcgRecord, label: str | None) -> Explanation:
        """What the score of a class is due to; of the likeliest if none is named.

        Raises:
            EcgError: if there is no such class, or no answer to explain.
        """
        return explain(self.classify, record, label or None)
