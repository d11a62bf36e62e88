"""Full fine-tuning as a head: the test scores of a benchmark's own rows and labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.heads.base import learnable_classes
from ecg_hf.metrics.ranking import FloatArray

if TYPE_CHECKING:
    from datasets import Dataset

    from ecg_hf.evaluation.benchmark_data import BenchmarkData
    from ecg_hf.evaluation.heads.schedules import Schedule
    from ecg_hf.evaluation.protocols import Protocol

__all__ = ["FineTunedScores", "finetune_scores", "finetune_settings"]

OWN = {"output_dir", "seed", "resume_from_checkpoint", "disable_tqdm", "report_to"}
GROUPS = {"encoder_learning_rate", "stem_learning_rate", "stem_layers", "layer_decay"}


@dataclass(frozen=True, slots=True, eq=False)
class FineTunedScores:
    """What a fine-tuned model says about the test records.

    Attributes:
        scores: float64 ``(test records, classes)`` log-odds, in the order of ``data.rows("test")``; 0 for the classes
            in ``unfitted``.
        class_names: Names of the classes.
        unfitted: Class name -> why it could not be learnt.
        validation_auroc: Macro AUROC of the weights kept, on validation.
        best_step: Optimiser step of these weights.
        seconds: Duration of the training.
    """

    scores: FloatArray
    class_names: tuple[str, ...]
    unfitted: dict[str, str]
    validation_auroc: float
    best_step: int
    seconds: float

    @property
    def probabilities(self) -> FloatArray:
        """``sigmoid(scores)``; NaN for the classes that could not be learnt."""
        learnt = np.array([name not in self.unfitted for name in self.class_names])
        return np.asarray(np.where(learnt, expit(self.scores), np.nan))


def finetune_scores(
    model_path: str | Path,
    dataset: Dataset,
    data: BenchmarkData,
    output_dir: str | Path,
    *,
    train_rows: npt.ArrayLike | None = None,
    from_scratch: bool = False,
    model_options: Mapping[str, Any] | None = None,
    cache_inputs: bool = False,
    resume: bool = False,
    **training_options: Any,
) -> FineTunedScores:
    """Fine-tune all weights on a benchmark's training rows; the epoch is chosen on validation, test scored once.

    Args:
        model_path: Folder or Hub name of a pretrained model of this package.
        dataset: Built rows, as ``data`` was made from.
        data: Labels and splits.
        output_dir: Where the classifier and its checkpoints go.
        train_rows: Rows of ``dataset`` to train on, for label fractions; all training rows by default.
        from_scratch: Take only the configuration and start from random weights: the baseline.
        model_options: Fields of the configuration, such as ``classifier_pooling``.
        cache_inputs: Keep preprocessed signals in memory.
        resume: Continue from the newest complete checkpoint in ``output_dir``.
        training_options: Fields of :class:`ecg_hf.training.EcgFineTuningArguments`: ``layer_decay`` (learning rates
            per layer), ``learning_rate``, ``num_train_epochs``, ``seed``, ...

    Raises:
        ConfigurationError: if rows or options do not fit, or no class can be learnt.
    """
    from ecg_hf.training.finetuning import train_classifier

    if len(dataset) != len(data.labels):
        raise ConfigurationError(f"{len(data.labels)} labels for {len(dataset)} records", value=len(dataset))
    train = data.rows("train") if train_rows is None else np.asarray(train_rows, dtype=np.intp)
    if not np.isin(train, data.rows("train")).all():
        raise ConfigurationError("train_rows must be rows of the training split")
    chosen = {"train": train, "validation": data.rows("validation"), "test": data.rows("test")}
    targets = data.labels.astype(np.float32)
    fitted, unfitted = learnable_classes(
        targets[train], np.ones((len(train), targets.shape[1]), dtype=bool), data.class_names
    )
    trained = train_classifier(
        model_path,
        dataset,
        {split: (rows, targets[rows]) for split, rows in chosen.items()},
        data.class_names,
        output_dir,
        from_scratch=from_scratch,
        model_options=model_options,
        cache_inputs=cache_inputs,
        resume=resume,
        **training_options,
    )
    validation = trained.trainer.evaluate()
    # predict, not evaluate: callbacks that choose the best epoch must not see the test split.
    logits = trained.trainer.predict(trained.sets["test"], metric_key_prefix="test").predictions
    logits = logits[0] if isinstance(logits, tuple) else logits
    scores = np.where(fitted, np.asarray(logits, dtype=np.float64), 0.0)
    if not np.isfinite(scores).all():
        raise ConfigurationError("the fine-tuned model gives scores that are not finite")
    trained.trainer.save_model()
    return FineTunedScores(
        scores=scores,
        class_names=data.class_names,
        unfitted=unfitted,
        validation_auroc=float(validation["eval_macro_auroc"]),
        best_step=trained.trainer.state.best_global_step or trained.trainer.state.global_step,
        seconds=trained.seconds,
    )


def finetune_settings(
    protocol: Protocol, given: Mapping[str, Any], model_type: str | None = None
) -> dict[str, Any]:
    """Training options: the protocol's schedule where it has one, then what was asked for.

    Args:
        protocol: How a benchmark is evaluated.
        given: Options asked for; ``epochs`` stands for ``num_train_epochs``.
        model_type: Of the model, where the published parameter groups depend on it.

    Raises:
        ConfigurationError: for an option that the evaluation decides.
    """
    schedule = protocol.schedules.get("finetune")
    options = {} if schedule is None else _published_options(schedule, model_type)
    given = {("num_train_epochs" if name == "epochs" else name): value for name, value in given.items()}
    own = sorted(OWN & set(given))
    if own:
        raise ConfigurationError(f"{own[0]} is decided by the evaluation", value=own[0])
    if "layer_decay" in given:
        # Asked for in place of the published groups: rates come from one or the other.
        options = {name: value for name, value in options.items() if name not in GROUPS}
    return {**options, **given}


def _published_options(schedule: Schedule, model_type: str | None) -> dict[str, Any]:
    """A published schedule as training options, none of our own defaults in between."""
    # Below 1 the trainer takes a warm-up for a share of all steps.
    warmup: float = schedule.warmup_iterations or schedule.warmup_epochs / schedule.epochs
    options: dict[str, Any] = {
        "learning_rate": schedule.learning_rate,
        "weight_decay": schedule.weight_decay,
        "decay_all": True,
        "adam_beta1": schedule.betas[0],
        "adam_beta2": schedule.betas[1],
        "max_grad_norm": 0.0,
        "per_device_train_batch_size": schedule.batch_size,
        "num_train_epochs": schedule.epochs,
        "early_stopping_patience": 0,
        "warmup_steps": warmup,
        "layer_decay": 1.0,
    }
    if schedule.decay == "cosine" and schedule.minimum:
        options["lr_scheduler_type"] = "cosine_with_min_lr"
        options["lr_scheduler_kwargs"] = {"min_lr": schedule.minimum}
    elif schedule.decay == "cosine":
        options["lr_scheduler_type"] = "cosine"
    else:
        options["lr_scheduler_type"] = "constant_with_warmup" if warmup else "constant"
    if schedule.encoder_learning_rate is not None:
        options["encoder_learning_rate"] = schedule.encoder_learning_rate
        options["stem_learning_rate"] = schedule.stem_learning_rate
        options["stem_layers"] = schedule.stem_layers.get(model_type or "", 0)
    return options
