"""Fine-tuning a pretrained encoder on the labels of a built dataset."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from datasets import Dataset
from sklearn.metrics import roc_auc_score
from torch import nn
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    EarlyStoppingCallback,
    EvalPrediction,
    PreTrainedModel,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from ecg_hf.data import load_built
from ecg_hf.data.labels import label_matrix, label_names
from ecg_hf.errors import ConfigurationError, ModelFolderError
from ecg_hf.models.registry import get_method
from ecg_hf.training.arguments import check_training_arguments
from ecg_hf.training.base import EcgTrainer
from ecg_hf.training.checkpoints import newest_complete_checkpoint
from ecg_hf.training.collators import BatchedEcgDataset, EcgCollator
from ecg_hf.training.run_folder import write_json

__all__ = [
    "EcgFineTuningArguments",
    "EcgFineTuningTrainer",
    "FineTuneResult",
    "TrainedClassifier",
    "finetune",
    "layer_depths",
    "layerwise_groups",
    "macro_auroc",
    "part_groups",
    "train_classifier",
]

REPORT_FILE = "finetune_report.json"


@dataclass
class EcgFineTuningArguments(TrainingArguments):
    """``TrainingArguments`` for multi-label fine-tuning: keep the epoch with the best validation macro AUROC.

    Args:
        layer_decay: Factor on the learning rate for each layer away from the head; 1 trains all alike.
        early_stopping_patience: Evaluations without a better macro AUROC before training stops; 0 never stops.
        encoder_learning_rate: Rate of the encoder; then ``learning_rate`` is the head's alone, and ``layer_decay``
            must be 1.
        stem_learning_rate: Rate of what comes before the encoder's first layer; the encoder's by default.
        stem_layers: First layers of the encoder that learn at the stem's rate.
        decay_all: Weight decay on biases and norms too, as plain AdamW over ``model.parameters()``.
    """

    learning_rate: float = field(default=1e-4, metadata={"help": "Peak learning rate, of the head."})
    weight_decay: float = field(default=0.05, metadata={"help": "Weight decay of AdamW, matrices only."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Learning-rate schedule."})
    warmup_steps: float = field(default=0.1, metadata={"help": "Warm-up: steps, or below 1 a share of all."})
    num_train_epochs: float = field(default=30.0, metadata={"help": "Epochs at most."})
    eval_strategy: str = field(default="epoch", metadata={"help": "When to evaluate."})
    save_strategy: str = field(default="epoch", metadata={"help": "When to save."})
    save_total_limit: int | None = field(default=1, metadata={"help": "Checkpoints to keep beside the best."})
    load_best_model_at_end: bool = field(
        default=True, metadata={"help": "End with the best epoch's weights."}
    )
    metric_for_best_model: str | None = field(default="macro_auroc", metadata={"help": "What is best."})
    greater_is_better: bool | None = field(default=True, metadata={"help": "Whether more of it is better."})
    label_names: list[str] | None = field(default_factory=lambda: ["labels"], metadata={"help": "Targets."})
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Keep False: batches are ready-made."}
    )
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "Hide losses that are not finite."})
    layer_decay: float = field(default=0.75, metadata={"help": "Learning-rate factor per layer, 1 for none."})
    early_stopping_patience: int = field(default=10, metadata={"help": "Evaluations to wait, 0 for ever."})
    encoder_learning_rate: float | None = field(
        default=None, metadata={"help": "Rate of the encoder, apart from the head's."}
    )
    stem_learning_rate: float | None = field(
        default=None, metadata={"help": "Rate before the encoder's first layer; the encoder's by default."}
    )
    stem_layers: int = field(default=0, metadata={"help": "First layers at the stem's rate."})
    decay_all: bool = field(default=False, metadata={"help": "Weight decay on biases and norms too."})

    def __post_init__(self) -> None:
        """Check values."""
        if not 0.0 < self.layer_decay <= 1.0:
            raise ConfigurationError("layer_decay must be in (0, 1]", value=self.layer_decay)
        parts = self.encoder_learning_rate is not None
        if not parts and (self.stem_learning_rate is not None or self.stem_layers):
            raise ConfigurationError("a rate of the stem needs encoder_learning_rate")
        if parts and self.layer_decay != 1.0:
            raise ConfigurationError(
                "rates come from encoder_learning_rate or from layer_decay, not from both: set layer_decay=1",
                value=self.layer_decay,
            )
        if (
            self.stem_layers < 0
            or min(self.encoder_learning_rate or 0.0, self.stem_learning_rate or 0.0) < 0.0
        ):
            raise ConfigurationError("learning rates and stem_layers can't be negative")
        check_training_arguments(self)
        super().__post_init__()
        if self.device.type == "cpu":
            self.dataloader_pin_memory = False


class EcgFineTuningTrainer(EcgTrainer):
    """Fine-tunes a classification model with layer-wise learning rates."""

    args: EcgFineTuningArguments

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """One group per layer, or part of the model, and kind of parameter."""
        args = self.args
        sizes = {name: parameter.ndim for name, parameter in model.named_parameters()}
        matrices = {name for name in self.get_decay_parameter_names(model) if sizes[name] > 1}
        decaying = set(sizes) if args.decay_all else matrices
        if args.encoder_learning_rate is None:
            return layerwise_groups(model, args.learning_rate, args.layer_decay, args.weight_decay, decaying)
        encoder, stem = args.encoder_learning_rate, args.stem_learning_rate
        rates = {"head": args.learning_rate, "encoder": encoder, "stem": encoder if stem is None else stem}
        return part_groups(cast(PreTrainedModel, model), rates, args.stem_layers, args.weight_decay, decaying)


@dataclass(frozen=True, slots=True)
class FineTuneResult:
    """What fine-tuning did; ``finetune_report.json`` holds the same.

    Attributes:
        output_dir: Folder with the model and its feature extractor.
        task: Label group.
        labels: Names of the labels, in the order of the logits.
        fraction: Share of the labelled training records used.
        records: Labelled records, by split.
        positives: Positive records per label in the test split.
        best_step: Optimiser step of the weights kept.
        validation: Values of those weights on the validation split.
        test: Values on the test split; empty if there is none.
        seconds: Duration of the training.
    """

    output_dir: str
    task: str
    labels: tuple[str, ...]
    fraction: float
    records: dict[str, int]
    positives: dict[str, int]
    best_step: int
    validation: dict[str, float]
    test: dict[str, float]
    seconds: float


def macro_auroc(labels: npt.NDArray[Any], scores: npt.NDArray[Any]) -> tuple[float, int]:
    """Mean area under the ROC curve over the labels that have positives and negatives, and how many have.

    Args:
        labels: 0/1 ``(records, labels)``.
        scores: Same shape.
    """
    defined = [column for column in range(labels.shape[1]) if 0 < labels[:, column].sum() < len(labels)]
    if not defined:
        return float("nan"), 0
    return float(np.mean([roc_auc_score(labels[:, column], scores[:, column]) for column in defined])), len(
        defined
    )


def _metrics(prediction: EvalPrediction) -> dict[str, float]:
    logits = (
        prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions
    )
    score, labels = macro_auroc(np.asarray(prediction.label_ids), np.asarray(logits))
    return {"macro_auroc": score, "labels_scored": labels}


@dataclass(frozen=True, slots=True, eq=False)
class TrainedClassifier:
    """A trainer after training, with the best epoch's weights in its model.

    Attributes:
        trainer: The trainer.
        sets: Datasets by split, those without rows absent.
        seconds: Duration of the training.
    """

    trainer: EcgFineTuningTrainer
    sets: dict[str, BatchedEcgDataset]
    seconds: float


def train_classifier(
    model_path: str | Path,
    dataset: Dataset,
    splits: Mapping[str, tuple[npt.NDArray[np.integer[Any]], npt.NDArray[np.float32]]],
    names: Sequence[str],
    output_dir: str | Path,
    *,
    from_scratch: bool = False,
    model_options: Mapping[str, Any] | None = None,
    cache_inputs: bool = False,
    resume: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
    arguments: EcgFineTuningArguments | None = None,
    **training_options: Any,
) -> TrainedClassifier:
    """Fine-tune all weights on given rows and targets; the epoch is chosen on ``validation``.

    Args:
        model_path: Folder or Hub name of a pretrained model of this package.
        dataset: Built rows.
        splits: ``train``, ``validation`` and others -> rows of ``dataset`` and targets 0/1 ``(rows, labels)``.
        names: Names of the labels.
        output_dir: Where checkpoints go.
        from_scratch: See :func:`finetune`; likewise for the remaining arguments.
        model_options: Fields of the configuration.
        cache_inputs: Keep preprocessed signals in memory.
        resume: Continue from the newest complete checkpoint.
        callbacks: More trainer callbacks.
        arguments: All training arguments, in place of ``training_options``.
        training_options: Fields of :class:`EcgFineTuningArguments`.

    Raises:
        EcgError: Model or options can't be used; the message says why.
    """
    arguments = _arguments(arguments, output_dir, training_options)
    set_seed(arguments.seed)
    config = AutoConfig.from_pretrained(model_path)
    config.update(
        {
            **(model_options or {}),
            "id2label": dict(enumerate(names)),
            "label2id": {name: index for index, name in enumerate(names)},
            "problem_type": "multi_label_classification",
        }
    )
    model_class = get_method(config.model_type).load("classification")
    model = model_class(config) if from_scratch else model_class.from_pretrained(model_path, config=config)
    extractor = AutoFeatureExtractor.from_pretrained(model_path)
    sets = {
        split: BatchedEcgDataset(
            dataset.select(rows), labels=targets, cache_with=extractor if cache_inputs else None
        )
        for split, (rows, targets) in splits.items()
        if len(rows)
    }
    stopping = arguments.early_stopping_patience
    trainer = EcgFineTuningTrainer(
        model=model,
        args=arguments,
        data_collator=EcgCollator(extractor),
        train_dataset=sets["train"],
        eval_dataset=sets["validation"],
        processing_class=extractor,
        compute_metrics=_metrics,
        callbacks=[*([EarlyStoppingCallback(stopping)] if stopping else []), *callbacks],
    )
    started = time.perf_counter()
    trainer.train(resume_from_checkpoint=resume and newest_complete_checkpoint(output_dir) is not None)
    seconds = time.perf_counter() - started
    return TrainedClassifier(trainer, sets, seconds)


def finetune(
    model_path: str | Path,
    dataset_path: str | Path,
    output_dir: str | Path,
    *,
    task: str = "super",
    fraction: float = 1.0,
    from_scratch: bool = False,
    model_options: Mapping[str, Any] | None = None,
    cache_inputs: bool = False,
    resume: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
    arguments: EcgFineTuningArguments | None = None,
    **training_options: Any,
) -> FineTuneResult:
    """Fine-tune all weights for a multi-label task; the epoch is chosen on validation, the test split scored once.

    Args:
        model_path: Folder or Hub name of a pretrained model of this package.
        dataset_path: Folder made by :func:`ecg_hf.data.build_dataset`, labelled with SCP codes.
        output_dir: Where the classifier goes.
        task: Label group, see :func:`ecg_hf.data.labels.label_names`. Records without a label of it are left out.
        fraction: Share of the labelled training records to use, drawn with the seed; smaller ones are contained
            in larger ones.
        from_scratch: Take only the configuration and start from random weights: the baseline.
        model_options: Fields of the configuration, such as ``classifier_pooling``.
        cache_inputs: Keep preprocessed signals in memory.
        resume: Continue from the newest complete checkpoint in ``output_dir``; start if there is none.
        callbacks: More trainer callbacks.
        arguments: All training arguments, in place of ``training_options``; ``output_dir`` still counts.
        training_options: Fields of :class:`EcgFineTuningArguments`.

    Raises:
        EcgError: Model, dataset or options can't be used; the message says why.
    """
    if not 0.0 < fraction <= 1.0:
        raise ConfigurationError("fraction must be in (0, 1]", value=fraction)
    names = label_names(task)
    if Path(model_path).is_dir() and not (Path(model_path) / "config.json").is_file():
        raise ModelFolderError("no config.json in this folder", path=model_path)
    arguments = _arguments(arguments, output_dir, training_options)

    dataset = load_built(dataset_path)
    splits = {split: _labelled(dataset, split, task) for split in ("train", "validation", "test")}
    rows, targets = splits["train"]
    order = np.random.RandomState(arguments.seed).permutation(len(rows))
    chosen = np.sort(order[: max(1, round(fraction * len(rows)))])
    splits["train"] = rows[chosen], targets[chosen]
    for split in ("train", "validation"):
        if not len(splits[split][0]):
            raise ConfigurationError(f"no {split} records with a label of {task!r}", path=dataset_path)
    if macro_auroc(splits["validation"][1], splits["validation"][1])[1] == 0:
        raise ConfigurationError(f"no label of {task!r} occurs in the validation split", path=dataset_path)

    trained = train_classifier(
        model_path,
        dataset,
        splits,
        names,
        output_dir,
        from_scratch=from_scratch,
        model_options=model_options,
        cache_inputs=cache_inputs,
        resume=resume,
        callbacks=callbacks,
        arguments=arguments,
    )
    trainer, sets = trained.trainer, trained.sets
    result = FineTuneResult(
        output_dir=str(output_dir),
        task=task,
        labels=names,
        fraction=fraction,
        records={split: len(rows) for split, (rows, _) in splits.items()},
        positives=dict(zip(names, splits["test"][1].sum(0).astype(int).tolist(), strict=True)),
        best_step=trainer.state.best_global_step or trainer.state.global_step,
        validation=trainer.evaluate(),
        test=_score(trainer, sets["test"]) if "test" in sets else {},
        seconds=round(trained.seconds, 3),
    )
    trainer.save_model()
    if trainer.is_world_process_zero():
        write_json(Path(output_dir) / REPORT_FILE, asdict(result))
    return result


def _score(trainer: EcgFineTuningTrainer, dataset: BatchedEcgDataset) -> dict[str, float]:
    # predict, not evaluate: callbacks that choose the best epoch must not see the test split.
    return dict(trainer.predict(dataset, metric_key_prefix="test").metrics)


def _arguments(
    arguments: EcgFineTuningArguments | None, output_dir: str | Path, options: dict[str, Any]
) -> EcgFineTuningArguments:
    if arguments is not None:
        if options:
            raise ConfigurationError(
                f"pass arguments or single options, not both ({', '.join(sorted(options))})"
            )
        arguments.output_dir = str(output_dir)
        return arguments
    try:
        return EcgFineTuningArguments(output_dir=str(output_dir), **options)
    except TypeError as error:
        raise ConfigurationError(f"unknown training option: {error}") from None


def _labelled(
    dataset: Dataset, split: str, task: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Rows of a split that have a label of the task, and their targets."""
    rows = np.flatnonzero(np.asarray(dataset["split"][:]) == split)
    codes = dataset["labels"][:]
    matrix, has_label = label_matrix([codes[row] for row in rows], task)
    return rows[has_label], matrix[has_label].astype(np.float32)


def layer_depths(model: nn.Module) -> dict[str, int]:
    """Depth of every parameter: 0 before the first layer, i for layer i, one more than the layers behind them.

    The layers are those the model names, see :attr:`ecg_hf.models.modeling.EcgPreTrainedModel.encoder_layers`; what
    is defined before them (patch tokeniser, positions) is at depth 0, what is defined after them (final norm, head)
    behind the last layer.

    Raises:
        ConfigurationError: if the model names no layers.
    """
    # A wrapper, such as that of adapters or of distributed training, has the model somewhere inside.
    found = (getattr(module, "encoder_layers", None) for module in model.modules())
    layers = next((layers for layers in found if isinstance(layers, nn.ModuleList)), None)
    prefix = next((name for name, module in model.named_modules() if module is layers), None)
    if layers is None or prefix is None:
        raise ConfigurationError(
            f"layer_decay: {type(model).__name__} names no encoder_layers; use 1 to train all parameters alike"
        )
    depths, behind = {}, False
    for name, _ in model.named_parameters():
        if name.startswith(f"{prefix}."):
            behind = True
            depths[name] = 1 + int(name[len(prefix) + 1 :].split(".", 1)[0])
        else:
            depths[name] = len(layers) + 1 if behind else 0
    return depths


def layerwise_groups(
    model: nn.Module, learning_rate: float, decay: float, weight_decay: float, decaying: set[str]
) -> list[dict[str, Any]]:
    """Optimiser groups with the learning rate multiplied by ``decay`` for each layer away from the head.

    Args:
        model: Model to train.
        learning_rate: Rate of the head.
        decay: Factor per layer, in (0, 1].
        weight_decay: Of the parameters in ``decaying``.
        decaying: Names of the parameters with weight decay.

    Raises:
        ConfigurationError: if ``decay`` is below 1 and the model names no layers.
    """
    depths = layer_depths(model) if decay < 1.0 else dict.fromkeys(dict(model.named_parameters()), 0)
    deepest = max(depths.values())
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = depths[name], name in decaying
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": learning_rate * decay ** (deepest - depth),
            "weight_decay": weight_decay if decays else 0.0,
        }
        for (depth, decays), parameters in groups.items()
    ]


def part_groups(
    model: PreTrainedModel,
    rates: Mapping[str, float],
    stem_layers: int,
    weight_decay: float,
    decaying: set[str],
) -> list[dict[str, Any]]:
    """Optimiser groups with one learning rate each for the head, the encoder and its stem.

    The head is what the classifier adds to the pretrained model; the stem is what comes before the encoder's first
    layer.

    Args:
        model: Model to train.
        rates: Of ``"head"``, ``"encoder"`` and ``"stem"``.
        stem_layers: First layers that belong to the stem.
        weight_decay: Of the parameters in ``decaying``.
        decaying: Names of the parameters with weight decay.

    Raises:
        ConfigurationError: if the model names no layers.
    """
    depths = layer_depths(model)
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        part = "stem" if depths[name] <= stem_layers else "encoder"
        if not name.startswith(f"{model.base_model_prefix}."):
            part = "head"
        groups.setdefault((part, name in decaying), []).append(parameter)
    return [
        {"params": parameters, "lr": rates[part], "weight_decay": weight_decay if decays else 0.0}
        for (part, decays), parameters in groups.items()
    ]
