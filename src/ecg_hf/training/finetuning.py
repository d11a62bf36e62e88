"""Fine-tuning all weights of a classifier: arguments, learning rates by layer, class weights, the epoch kept."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from datasets import Dataset
from scipy.special import softmax
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    EvalPrediction,
    PreTrainedModel,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)

from ecg_hf.errors import ConfigurationError, ModelFolderError
from ecg_hf.metrics.ranking import macro_auroc
from ecg_hf.models.configuration import EcgConfig
from ecg_hf.models.registry import get_method
from ecg_hf.nn.losses import classification_loss
from ecg_hf.training.arguments import EcgFineTuningArguments
from ecg_hf.training.base import EcgTrainer
from ecg_hf.training.checkpoints import newest_complete_checkpoint
from ecg_hf.training.collators import BatchedEcgDataset, EcgCollator
from ecg_hf.training.refusals import library_refusals

__all__ = [
    "EcgFineTuningTrainer",
    "TrainedClassifier",
    "balanced_class_weights",
    "evaluations_since_best",
    "finetuning_arguments",
    "layer_depths",
    "layerwise_groups",
    "logits_of",
    "part_groups",
    "train_classifier",
]

logger = logging.getLogger(__name__)


class EcgFineTuningTrainer(EcgTrainer):
    """Fine-tunes a classification model with layer-wise learning rates.

    Args:
        class_weights: float ``(classes,)``, see :func:`ecg_hf.nn.losses.classification_loss`; None counts all alike.
        args: For ``Trainer``, like all other arguments.
    """

    args: EcgFineTuningArguments

    def __init__(self, *args: Any, class_weights: Tensor | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.class_weights = class_weights
        if self.args.early_stopping_patience:
            self.add_callback(_EarlyStopping(self.args.early_stopping_patience))

    def is_finished(self, state: TrainerState) -> bool:
        """Whether the run that left ``state`` was at its end, by steps or by patience."""
        patience = self.args.early_stopping_patience
        waited = evaluations_since_best(state, self.args)
        return super().is_finished(state) or (patience > 0 and waited >= patience)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **kwargs: Any
    ) -> Any:
        """The model's loss, with class weights where there are any."""
        if self.class_weights is None:
            return super().compute_loss(model, inputs, return_outputs, **kwargs)
        outputs = model(**inputs)
        weights = self.class_weights.to(outputs.logits.device)
        problem_type = self.accelerator.unwrap_model(model).config.problem_type
        outputs["loss"] = classification_loss(outputs.logits, inputs["labels"], problem_type, weights)
        return (outputs["loss"], outputs) if return_outputs else outputs["loss"]

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


def evaluations_since_best(state: TrainerState, args: TrainingArguments) -> int:
    """Evaluations since the best value of the metric, from the log alone: a resumed run stops as if never cut."""
    name = f"eval_{str(args.metric_for_best_model).removeprefix('eval_')}"
    values = [row[name] for row in state.log_history if name in row]
    sign = 1.0 if args.greater_is_better else -1.0
    best, waited = -np.inf, 0
    for value in values:
        waited += 1
        if sign * value > best:
            best, waited = sign * value, 0
    return waited


class _EarlyStopping(TrainerCallback):
    """Stops after so many evaluations without a better value. The library's own forgets its count on resuming."""

    def __init__(self, patience: int) -> None:
        self._patience = patience

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Count, and stop."""
        if evaluations_since_best(state, args) >= self._patience:
            control.should_training_stop = True


def balanced_class_weights(targets: npt.NDArray[Any], classes: int) -> Tensor:
    """Weights with which rare labels count as much as common ones.

    Args:
        targets: Zeros and ones ``(records, classes)``, or class numbers ``(records,)``.
        classes: Number of classes.

    Returns:
        float32 ``(classes,)``. Of several labels: negatives over positives, the factor on the positives' loss. Of one
        label: records over classes times records of the class. 1 for classes without a record.
    """
    n = len(targets)
    if targets.ndim == 2:
        counts = targets.sum(axis=0).astype(np.float64)
        weights = (n - counts) / np.maximum(counts, 1)
        usable = (counts > 0) & (counts < n)
    else:
        counts = np.bincount(targets, minlength=classes).astype(np.float64)
        weights = n / (np.count_nonzero(counts) * np.maximum(counts, 1))
        usable = counts > 0
    return torch.as_tensor(np.where(usable, weights, 1.0), dtype=torch.float32)


def logits_of(predictions: Any) -> npt.NDArray[np.float64]:
    """Logits among what the trainer's ``predict`` returns."""
    return np.asarray(predictions[0] if isinstance(predictions, tuple) else predictions, np.float64)


def _metrics(prediction: EvalPrediction) -> dict[str, float]:
    logits, labels = logits_of(prediction.predictions), np.asarray(prediction.label_ids)
    if labels.ndim == 2:
        score, scored = macro_auroc(labels, logits)
        return {"macro_auroc": score, "labels_scored": scored}
    score, scored = macro_auroc(labels[:, None] == np.arange(logits.shape[1]), softmax(logits, axis=1))
    accuracy = float((logits.argmax(axis=1) == labels).mean())
    return {"macro_auroc": score, "labels_scored": scored, "accuracy": accuracy}


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
    splits: Mapping[str, tuple[npt.NDArray[np.integer[Any]], npt.NDArray[Any]]],
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
        splits: ``train``, ``validation`` and others -> rows of ``dataset`` and their targets: floats 0/1
            ``(rows, labels)`` where a record may have several labels, whole numbers ``(rows,)`` where it has one.
        names: Names of the labels.
        output_dir: Where checkpoints go.
        from_scratch: Take only the configuration and start from random weights: the baseline.
        model_options: Fields of the configuration, such as ``classifier_pooling``.
        cache_inputs: Keep preprocessed signals in memory.
        resume: Continue from the newest complete checkpoint.
        callbacks: More trainer callbacks.
        arguments: All training arguments, in place of ``training_options``.
        training_options: Fields of :class:`EcgFineTuningArguments`.

    Raises:
        EcgError: Model or options can't be used; the message says why.
    """
    arguments = finetuning_arguments(arguments, output_dir, training_options)
    set_seed(arguments.seed)
    config = AutoConfig.from_pretrained(model_path, trust_remote_code=False)
    known = [config.id2label[place] for place in sorted(config.id2label)]
    one_label = splits["train"][1].ndim == 1
    config.update(
        {
            **(model_options or {}),
            "label_details": None,  # of the labels it had before
            "id2label": dict(enumerate(names)),
            "label2id": {name: index for index, name in enumerate(names)},
            "problem_type": "single_label_classification" if one_label else "multi_label_classification",
        }
    )
    model_class = get_method(config.model_type).load("classification")
    model = (
        model_class(config)
        if from_scratch
        else _pretrained(model_class, model_path, config, same_labels=known == list(names))
    )
    extractor = AutoFeatureExtractor.from_pretrained(model_path, trust_remote_code=False)
    sets = {
        split: BatchedEcgDataset(
            dataset.select(rows), labels=targets, cache_with=extractor if cache_inputs else None
        )
        for split, (rows, targets) in splits.items()
        if len(rows)
    }
    weights = None
    if arguments.class_weights == "balanced":
        weights = balanced_class_weights(splits["train"][1], len(names))
    trainer = EcgFineTuningTrainer(
        model=model,
        args=arguments,
        data_collator=EcgCollator(extractor),
        train_dataset=sets["train"],
        eval_dataset=sets["validation"],
        processing_class=extractor,
        compute_metrics=_metrics,
        callbacks=list(callbacks),
        class_weights=weights,
    )
    started = time.perf_counter()
    trainer.train(resume_from_checkpoint=resume and newest_complete_checkpoint(output_dir) is not None)
    seconds = time.perf_counter() - started
    return TrainedClassifier(trainer, sets, seconds)


def _pretrained(
    model_class: type[PreTrainedModel], model_path: str | Path, config: EcgConfig, *, same_labels: bool
) -> PreTrainedModel:
    """The model with a new head, unless its file has one for the same labels in the same order.

    Raises:
        ModelFolderError: if anything but the head has another shape in the file.
    """
    model, loading = model_class.from_pretrained(
        model_path, config=config, ignore_mismatched_sizes=not same_labels, output_loading_info=True
    )
    changed = {key for key, *_ in loading["mismatched_keys"]}
    strange = sorted(key for key in changed if key.startswith(f"{model.base_model_prefix}."))
    if strange:
        raise ModelFolderError(
            f"{strange[0]} has another shape in the weights than by the configuration",
            path=model_path,
            value=strange[0],
        )
    of_file = {f"classifier.{name}" for name, _ in model.classifier.named_parameters()} - (
        changed | set(loading["missing_keys"])
    )
    if of_file and not same_labels:
        # As many labels as before, but others. The library initialises nothing that it marked as loaded.
        for parameter in model.classifier.parameters():
            parameter._is_hf_initialized = False  # type: ignore[attr-defined]
        for module in model.classifier.modules():
            model._init_weights(module)
    if not same_labels and (of_file or changed):
        logger.warning("%s: its classifier of other labels was replaced by a new one", model_path)
    return model


def finetuning_arguments(
    arguments: EcgFineTuningArguments | None, output_dir: str | Path, options: dict[str, Any]
) -> EcgFineTuningArguments:
    """The arguments of a run, given whole or by the names of their fields.

    Raises:
        ConfigurationError: if both are given, a field does not exist, or a value can't be.
    """
    if arguments is not None:
        if options:
            raise ConfigurationError(
                f"pass arguments or single options, not both ({', '.join(sorted(options))})"
            )
        arguments.output_dir = str(output_dir)
        return arguments
    unknown = sorted(set(options) - {entry.name for entry in fields(EcgFineTuningArguments)})
    if unknown:
        raise ConfigurationError(f"unknown training option: {', '.join(unknown)}", value=unknown)
    if not torch.accelerator.is_available():
        options = {"use_cpu": True, **options}  # said outright, or the library refuses bfloat16
    with library_refusals(options):
        return EcgFineTuningArguments(output_dir=str(output_dir), **options)


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
