"""Fine-tuning in one call: a pretrained model and a labelled dataset in, a classifier's folder out."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, softmax
from transformers import AutoConfig, AutoFeatureExtractor, TrainerCallback

from ecg_hf.errors import ConfigurationError, ModelFolderError
from ecg_hf.files import sole_writer
from ecg_hf.metrics.ranking import macro_auroc
from ecg_hf.models.configuration import EcgConfig
from ecg_hf.training.arguments import EcgFineTuningArguments
from ecg_hf.training.finetuning import (
    TrainedClassifier,
    finetuning_arguments,
    logits_of,
    train_classifier,
)
from ecg_hf.training.finetuning_data import FineTuningData, Task
from ecg_hf.training.machine import device_name, package_versions
from ecg_hf.training.pretraining_data import CACHE_BYTES
from ecg_hf.training.refusals import library_refusals
from ecg_hf.training.run import decisive_arguments, decisive_fields
from ecg_hf.training.run_folder import claim_run_folder, leave_run_folder, write_json

__all__ = ["REPORT_FILE", "FineTuneResult", "HeldOut", "best_threshold", "finetune"]

logger = logging.getLogger(__name__)

REPORT_FILE = "finetune_report.json"
"""The account of a run, in its folder."""

_DECISIVE = (
    *(
        "layer_decay",
        "encoder_learning_rate",
        "stem_learning_rate",
        "stem_layers",
        "decay_all",
        "class_weights",
    ),
    *("early_stopping_patience", "metric_for_best_model", "greater_is_better", "load_best_model_at_end"),
    *("eval_strategy", "eval_steps", "dataloader_drop_last", "label_smoothing_factor"),
)


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """What a classifier says about the records of a split.

    Attributes:
        truth: bool ``(records, classes)``.
        probabilities: float64, same shape: of several labels each one's, of one label adding up to one.
        patients: Patient of every record, None where unknown.
    """

    truth: npt.NDArray[np.bool_]
    probabilities: npt.NDArray[np.float64]
    patients: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class FineTuneResult:
    """What fine-tuning did; ``finetune_report.json`` holds the same but for ``held_out``.

    Attributes:
        output_dir: Folder with the model and its feature extractor.
        model: What it started from, by the name of its folder or repository.
        from_scratch: Whether only the configuration was taken from it.
        labels_from: Column or label group.
        labels: Names of the classes, in the order of the logits.
        one_label: Whether a record has one class, not any number of labels.
        details: Class -> name in words, threshold and AUROC, as ``config.label_details``.
        fraction: Share of the labelled training records used.
        records: Labelled records, by split.
        positives: Records of each class, by split.
        left_out: Reason -> records that took no part.
        notes: What was decided about the data, in sentences.
        sources: Names of the sources the records are from.
        dataset: Folder of the dataset.
        steps: Optimiser steps of the whole run.
        best_step: Optimiser step of the weights kept.
        validation: Values of those weights on the validation split.
        test: Values on the test split; empty if there is none.
        seconds: Duration of the training of this call.
        device: Where it ran.
        processes: How many did.
        versions: Of the packages involved.
        main_process: Whether this process is the one to speak for all.
        held_out: ``validation`` and, where there is one, ``test``: truth and probabilities of every record.
    """

    output_dir: str
    model: str
    from_scratch: bool
    labels_from: str
    labels: tuple[str, ...]
    one_label: bool
    details: dict[str, dict[str, Any]]
    fraction: float
    records: dict[str, int]
    positives: dict[str, dict[str, int]]
    left_out: dict[str, int]
    notes: tuple[str, ...]
    sources: tuple[str, ...]
    dataset: str
    steps: int
    best_step: int
    validation: dict[str, float]
    test: dict[str, float]
    seconds: float
    device: str
    processes: int
    versions: dict[str, str]
    main_process: bool = True
    held_out: dict[str, HeldOut] = field(default_factory=dict, repr=False)

    def report(self) -> dict[str, Any]:
        """Everything but the scores of single records."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "held_out"}


def finetune(
    model_path: str | Path,
    dataset_path: str | Path,
    output_dir: str | Path,
    *,
    labels: str,
    train_folds: str = "",
    validation_folds: str = "",
    test_folds: str = "",
    present_only: bool = False,
    subset: str = "",
    fraction: float = 1.0,
    from_scratch: bool = False,
    model_options: Mapping[str, Any] | None = None,
    cache_inputs: bool | None = None,
    resume: bool = False,
    overwrite: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
    arguments: EcgFineTuningArguments | None = None,
    **training_options: Any,
) -> FineTuneResult:
    """Fine-tune all weights for a classification task; the epoch is chosen on validation, the test split scored once.

    The output is a model folder: ``config.json`` with class names and thresholds (those with the best F1 score on
    validation records), weights and feature extractor. ``ecg_hf.hub.document_classifier`` adds metrics with intervals
    and a card. A run that was killed goes on with ``resume`` and ends as if it had not been.

    Args:
        model_path: Folder or Hub name of a pretrained model of this package.
        dataset_path: A built dataset or an export, with any further columns, see
            :func:`ecg_hf.data.opening.open_rows`.
        output_dir: Where the classifier goes.
        labels: A column of the dataset: numbers or text for one label, lists for several; or a label group of
            :func:`ecg_hf.data.label_names`. Records without a label are left out and counted.
        train_folds: Folds to train on, such as ``"1-8"``; the dataset's column ``split`` decides if not given.
        validation_folds: Folds the epoch is chosen on. Without any, and without a validation split, part of the
            training patients is drawn.
        test_folds: Folds to score.
        present_only: Drop labels that no training record has.
        subset: One set of the Challenge's recordings.
        fraction: Share of the labelled training records to use, drawn with the seed; smaller ones are contained
            in larger ones.
        from_scratch: Take only the configuration and start from random weights: the baseline.
        model_options: Fields of the configuration, such as ``classifier_pooling``.
        cache_inputs: Keep preprocessed signals in memory. None: if they take less than 2 GB.
        resume: Continue from the newest complete checkpoint in ``output_dir``; start if there is none.
        overwrite: Throw away a run found in ``output_dir``.
        callbacks: More trainer callbacks.
        arguments: All training arguments, in place of ``training_options``; ``output_dir`` still counts.
        training_options: Fields of :class:`EcgFineTuningArguments`.

    Raises:
        EcgError: Model, dataset or options can't be used; the message says why.
    """
    folder = Path(output_dir)
    arguments = finetuning_arguments(arguments, output_dir, training_options)
    if arguments.eval_strategy == "no":
        raise ConfigurationError(
            "eval_strategy can't be no: the epoch is chosen on validation records", value="no"
        )
    config, extractor = _start(model_path, folder)
    task = Task(labels, train_folds, validation_folds, test_folds, present_only, subset)
    data = FineTuningData.open(dataset_path, task).take(fraction, arguments.seed)
    first = arguments.process_index == 0
    if first:
        for note in data.notes:
            logger.warning("%s", note)
    settings = {
        "model": _identity(model_path),
        "config": decisive_fields(config),
        "model_options": dict(model_options or {}),
        "feature_extractor": extractor.to_dict(),
        "from_scratch": from_scratch,
        "labels": labels,
        "dataset": data.digest(),
        "training": decisive_arguments(arguments, *_DECISIVE),
    }
    with sole_writer(folder) if first else nullcontext():
        if first:
            claim_run_folder(folder, settings, resume=resume, overwrite=overwrite)
        try:
            with library_refusals(training_options):
                trained = train_classifier(
                    model_path,
                    data.dataset,
                    data.splits(),
                    data.labels.names,
                    output_dir,
                    from_scratch=from_scratch,
                    model_options=model_options,
                    cache_inputs=_cached(cache_inputs, data, extractor),
                    resume=resume,
                    callbacks=callbacks,
                    arguments=arguments,
                )
        # Also what the libraries raise, such as a Hub out of reach: nothing was trained.
        except Exception:
            if first:
                leave_run_folder(folder)
            raise
        result = _finish(trained, data, model_path, dataset_path, labels, fraction, from_scratch)
        if result.main_process:
            write_json(folder / REPORT_FILE, result.report())
        trained.trainer.accelerator.wait_for_everyone()
    return result


def _start(model_path: str | Path, folder: Path) -> tuple[EcgConfig, Any]:
    """Configuration and feature extractor of the model that is fine-tuned."""
    path = Path(model_path)
    if path.is_dir() and not (path / "config.json").is_file():
        raise ModelFolderError("no config.json in this folder", path=model_path)
    if path.exists() and folder.exists() and path.samefile(folder):
        raise ConfigurationError(
            "the output is the folder of the pretrained model: choose another", path=folder
        )
    config = AutoConfig.from_pretrained(model_path, trust_remote_code=False)
    if not isinstance(config, EcgConfig):
        raise ModelFolderError(f"{config.model_type!r} is no method of this package", path=model_path)
    extractor = AutoFeatureExtractor.from_pretrained(model_path, trust_remote_code=False)
    config.check_feature_extractor(extractor)
    return config, extractor


def _identity(model_path: str | Path) -> str:
    """What the weights of a local folder are, wherever it is; else the name of the repository."""
    weights = sorted(Path(model_path).glob("*.safetensors")) if Path(model_path).is_dir() else []
    if not weights:
        return str(model_path)
    found = hashlib.sha256()
    for file in weights:
        with file.open("rb") as handle:
            found.update(hashlib.file_digest(handle, "sha256").digest())
    return found.hexdigest()


def _cached(wanted: bool | None, data: FineTuningData, extractor: Any) -> bool:
    if wanted is not None:
        return wanted
    samples = round(float(extractor.sampling_rate) * float(extractor.duration_s or 0.0))
    rows = sum(map(len, data.rows.values()))
    return samples > 0 and 4 * rows * len(extractor.lead_names or ()) * samples < CACHE_BYTES


def _finish(
    trained: TrainedClassifier,
    data: FineTuningData,
    model_path: str | Path,
    dataset_path: str | Path,
    labels: str,
    fraction: float,
    from_scratch: bool,
) -> FineTuneResult:
    """Score the weights kept, choose thresholds, save the model with them."""
    trainer = trained.trainer
    held_out: dict[str, HeldOut] = {}
    values: dict[str, dict[str, float]] = {}
    for split in ("validation", "test"):
        if split not in trained.sets:
            continue
        # predict, not evaluate: callbacks that choose the best epoch must not see the test split.
        found = trainer.predict(trained.sets[split], metric_key_prefix=split)
        logits = logits_of(found.predictions)
        if not np.isfinite(logits).all():
            raise ConfigurationError(
                "the fine-tuned model gives scores that are not finite: lower learning_rate"
            )
        held_out[split] = HeldOut(
            data.labels.matrix(data.rows[split]),
            expit(logits) if data.labels.several else softmax(logits, axis=1),
            tuple(data.patients[row] for row in data.rows[split]),
        )
        values[split] = {
            name: float(value)
            for name, value in found.metrics.items()
            if not name.endswith(("runtime", "per_second"))
        }
    details = _details(data, held_out["validation"], held_out.get("test", held_out["validation"]))
    config = trainer.accelerator.unwrap_model(trainer.model).config
    config.update({"label_details": details})
    trainer.save_model()
    arguments = trainer.args
    return FineTuneResult(
        output_dir=str(arguments.output_dir),
        model=Path(model_path).resolve().name if Path(model_path).is_dir() else str(model_path),
        from_scratch=from_scratch,
        labels_from=labels,
        labels=data.labels.names,
        one_label=not data.labels.several,
        details=details,
        fraction=fraction,
        records={split: len(rows) for split, rows in data.rows.items()},
        positives={split: data.positives(split) for split in data.rows},
        left_out=data.left_out,
        notes=data.notes,
        sources=data.sources,
        dataset=str(dataset_path),
        steps=trainer.state.global_step,
        best_step=trainer.state.best_global_step or trainer.state.global_step,
        validation=values["validation"],
        test=values.get("test", {}),
        seconds=round(trained.seconds, 3),
        device=device_name(arguments.device),
        processes=arguments.world_size,
        versions=package_versions(),
        main_process=trainer.is_world_process_zero(),
        held_out=held_out,
    )


def _details(data: FineTuningData, validation: HeldOut, reference: HeldOut) -> dict[str, dict[str, Any]]:
    words = data.labels.descriptions()
    details: dict[str, dict[str, Any]] = {}
    for column, name in enumerate(data.labels.names):
        area, defined = macro_auroc(reference.truth[:, [column]], reference.probabilities[:, [column]])
        details[name] = {
            "name": words[name],
            "threshold": best_threshold(validation.truth[:, column], validation.probabilities[:, column]),
            "reference_auroc": round(area, 4) if defined else None,
        }
    return details


def best_threshold(truth: npt.NDArray[np.bool_], probabilities: npt.NDArray[np.float64]) -> float | None:
    """Probability from which a label counts as present, with the best F1 score; the highest of equally good ones.

    It lies half-way between two records' probabilities, so that rounding can't move a record across it.

    Args:
        truth: bool ``(records,)``.
        probabilities: float64 ``(records,)``.

    Returns:
        The threshold; None where no record is positive.
    """
    if not truth.any():
        return None
    order = np.argsort(-probabilities, kind="stable")
    falling, hits = probabilities[order], np.cumsum(truth[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + truth.sum())
    last_of_equals = np.append(falling[1:] < falling[:-1], True)
    best = int(np.argmax(np.where(last_of_equals, f1, -1.0)))
    below = falling[best + 1] if best + 1 < len(falling) else 0.0
    return float((falling[best] + below) / 2)
