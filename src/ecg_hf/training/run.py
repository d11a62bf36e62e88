"""Pretraining in one call: built datasets in, a model folder out."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer, TrainerCallback, TrainingArguments, set_seed

from ecg_hf.errors import ConfigurationError
from ecg_hf.files import sole_writer
from ecg_hf.models.registry import MethodSpec
from ecg_hf.nn.terms import TermHead
from ecg_hf.processing import EcgProcessor
from ecg_hf.processing.terms import TermVocabulary, make_term_vocabulary
from ecg_hf.training.arguments import EcgPreTrainingArguments
from ecg_hf.training.checkpoints import newest_complete_checkpoint
from ecg_hf.training.collators import EcgCollator, EcgTextCollator
from ecg_hf.training.machine import device_name, package_versions, peak_memory_bytes
from ecg_hf.training.pretraining_data import BuiltData, PretrainingData, StreamedData
from ecg_hf.training.recipe import Recipe
from ecg_hf.training.refusals import library_refusals
from ecg_hf.training.run_folder import claim_run_folder, leave_run_folder, write_json
from ecg_hf.training.settings import REPORT_FILE, RunSettings, precision_of, resolve_settings
from ecg_hf.training.trainer import EcgPreTrainer
from ecg_hf.training.vocabulary import make_tokenizer

__all__ = ["LAST_FILES", "PretrainResult", "decisive_arguments", "decisive_fields", "pretrain"]

logger = logging.getLogger(__name__)

LAST_FILES = ("trainer_state.json", REPORT_FILE)
"""What says that a checkpoint, or a run, is complete."""

# Training arguments a result depends on; batch sizes enter as their product.
_DECISIVE = (
    *("learning_rate", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm", "optim"),
    *("lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "num_train_epochs", "max_steps"),
    *("seed", "data_seed", "bf16", "fp16"),
)


@dataclass(frozen=True, slots=True)
class PretrainResult:
    """What a run did; ``pretrain_report.json`` in its folder holds the same.

    Attributes:
        output_dir: Folder with model, feature extractor, tokenizer and logs.
        model: Name of the method.
        parameters: Parameters of the model.
        records: Records used, by split, and left out, by reason.
        datasets: The same for each dataset: its source, fingerprint, records used by split, records that another
            dataset has too (by reason).
        resumed_from: Step this call continued from, 0 for a fresh start.
        steps: Optimiser steps of the whole run.
        seconds: Duration of the training of this call.
        records_per_second: Training records seen per second in this call.
        peak_memory_bytes: Largest memory: of the accelerator, or of the process where there is none.
        train: Last logged training values.
        evaluation: Values on the validation split after training; empty if there is none.
        device: Where it ran.
        processes: How many did.
        versions: Of the packages involved.
        main_process: Whether this process is the one to speak for all.
    """

    output_dir: str
    model: str
    parameters: int
    records: dict[str, int]
    resumed_from: int
    steps: int
    seconds: float
    records_per_second: float
    peak_memory_bytes: int
    train: dict[str, float]
    evaluation: dict[str, float]
    device: str
    processes: int
    versions: dict[str, str]
    main_process: bool = True
    datasets: list[dict[str, Any]] = field(default_factory=list)

    def summary(self) -> str:
        """Two lines for a reader."""
        values = {key: value for key, value in {**self.train, **self.evaluation}.items() if "loss" in key}
        losses = ", ".join(f"{key} {value:.4g}" for key, value in values.items())
        resumed = f" (resumed at {self.resumed_from})" if self.resumed_from else ""
        return (
            f"{self.model}, {self.parameters:,} parameters: {self.steps} steps{resumed} on {self.records['train']:,} "
            f"records in {self.seconds:.0f} s, {self.records_per_second:.0f} records/s; model in {self.output_dir}\n"
            f"{losses}"
        )


def pretrain(
    model_name: str,
    dataset_path: str | Path | Sequence[str | Path],
    output_dir: str | Path,
    *,
    size: str | None = None,
    recipe: str | Path | Recipe | None = None,
    model_options: Mapping[str, Any] | None = None,
    extractor_options: Mapping[str, Any] | None = None,
    text_model: str | None = None,
    teacher: str | Path | None = None,
    max_records: int | None = None,
    cache_inputs: bool | None = None,
    cache_dir: str | Path | None = None,
    streaming: bool = False,
    sampling_weights: Sequence[float] | None = None,
    shuffle_buffer: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
    before_start: Callable[[RunSettings, EcgPreTrainingArguments], None] | None = None,
    **training_options: Any,
) -> PretrainResult:
    """Pretrain a method on the training split of one or several built datasets.

    Several datasets are mixed record by record: rates, lengths and leads may differ, batches are drawn from all.
    What one of them has in common with another is left out of one, and counted: see
    :func:`ecg_hf.data.load_mixed`. Their validation splits together are the validation split.

    **Determinism.** The same seed and settings give the same bytes of ``model.safetensors`` on the same machine,
    interrupted or not: same processor, threads, processes and library versions. Elsewhere sums run in another order:
    1, 2 and 4 processes agree to about 1e-6 in the first losses, and rounding grows as training goes on
    (``benchmarks/bench_processes.py``). On GPUs some backward passes (attention kernels, gathers and scatters, cuDNN
    convolutions) add with atomics or choose their algorithm by timing, so bytes may differ from run to run;
    ``full_determinism=True`` asks PyTorch for deterministic kernels, at some cost in speed, and raises where there is
    none. A streamed run also depends on the number of processes, because each reads its own files.

    Args:
        model_name: Method, see ``ecg_hf.models.registry.METHODS``.
        dataset_path: Folder made by :func:`ecg_hf.data.build_dataset`, or its address, or several. Their order
            decides the order of the rows, hence of the batches: a run is resumed with the datasets in the same order.
        output_dir: Folder of the run.
        size: Preset of the method; the recipe's, or the smallest, if not given.
        recipe: Name or path of a recipe; arguments given here take precedence over it.
        model_options: Fields of the method's configuration; ``variant`` names several, over the recipe's.
        extractor_options: Fields of its feature extractor; rate, leads and duration follow from the configuration.
        text_model: Folder or Hub name of a pretrained text tower with its tokenizer. If neither this nor the
            recipe names one, a small tower is trained from scratch on a vocabulary made of the training reports.
        teacher: Folder of the model to learn from, for methods that learn from another run (ECG-Distil from an
            ECG-Beat, HeartLang from its vocabulary).
        max_records: Use only so many training records: the first ones; of several datasets, of each the first
            ones, in proportion to its training records.
        cache_inputs: Keep all preprocessed signals in memory. None: if they take less than 2 GB.
        cache_dir: Keep them in this folder too, for the next run on the same records.
        streaming: Stream the training records from Parquet: ``dataset_path`` names folders made by
            :func:`ecg_hf.data.export_parquet`. Every process reads its own files, see
            :class:`ecg_hf.data.streaming.RowStream`.
        sampling_weights: Share of each streamed dataset in the training records; by default those of their sizes.
        shuffle_buffer: Records of each streamed dataset a process draws from at random (2000).
        resume: Continue the run in ``output_dir`` from its newest complete checkpoint; start it if there is none.
        overwrite: Throw away a run found in ``output_dir``.
        callbacks: More trainer callbacks.
        before_start: Called once the run's folder is claimed, before the model is built, such as
            :func:`ecg_hf.planning.headroom.warn_if_too_large`.
        training_options: Fields of :class:`EcgPreTrainingArguments`. On GPUs with bfloat16, ``bf16`` is on unless
            a precision is chosen; with validation records, evaluation runs after every epoch unless told otherwise.

    Raises:
        EcgError: The dataset, the folder or the options can't be used; the message says why.
    """
    asked = resolve_settings(
        model_name,
        size=size,
        recipe=recipe,
        model_options=model_options,
        extractor_options=extractor_options,
        text_model=text_model,
        training_options=training_options,
    )
    method, text_model = asked.method, asked.text_model
    if teacher is not None:
        kind = method.load("config")
        asked.model_options.update(kind.fields_of_teacher(AutoConfig.from_pretrained(teacher)))
    preset = method.load("config").preset(asked.size, **asked.model_options)
    needs_report = bool(getattr(preset, "needs_reports", method.multimodal))
    paths = [dataset_path] if isinstance(dataset_path, (str, Path)) else list(dataset_path)
    data = _data(
        paths,
        needs_report,
        max_records,
        cache_inputs,
        cache_dir,
        streaming=streaming,
        weights=sampling_weights,
        buffer=shuffle_buffer,
    )
    arguments = _arguments(output_dir, asked.training, data.records["validation"] > 0)
    tokenizer, terms, options = None, None, asked.model_options
    if needs_report and hasattr(preset, "num_terms"):
        terms = _terms(preset, data)
        tokenizer = terms.tokenizer
        options = {**options, "num_terms": len(terms.words), "vocab_size": len(tokenizer)}
    elif needs_report:
        tokenizer, options = _tokenizer(asked, data)
    config = method.load("config").preset(asked.size, **options)
    extractor = method.feature_extractor_for(config, pretraining=True, **asked.extractor_options)

    folder = Path(output_dir)
    settings = {
        "model": method.name,
        "config": decisive_fields(config),
        "feature_extractor": extractor.to_dict(),
        "text_model": text_model,
        **({} if teacher is None else {"teacher": str(teacher)}),
        "dataset": data.settings(arguments),
        "training": decisive_arguments(arguments, "exact_accumulation"),
    }
    first = arguments.process_index == 0
    with sole_writer(folder) if first else nullcontext():
        if first:
            if before_start is not None:
                before_start(asked, arguments)
            claim_run_folder(folder, settings, resume=resume, overwrite=overwrite)
        checkpoint = newest_complete_checkpoint(folder) if resume else None
        try:
            with library_refusals(asked.training):
                set_seed(arguments.seed)
                kind = method.load("pretraining")
                model = kind(config) if text_model is None else kind.from_text_model(text_model, config)
                if terms is not None:
                    _give_terms(model, terms)
                if teacher is not None:
                    model.load_teacher(teacher)
                elif getattr(model, "teacher", None) is not None and hasattr(model, "load_teacher"):
                    logger.warning("no teacher is named: it has random weights, from which nothing is learnt")
                trainer = _trainer(method, model, arguments, data, extractor, tokenizer, callbacks)
                return _train(trainer, method, data, checkpoint)
        # Also what the libraries raise, such as a Hub out of reach: nothing was trained.
        except Exception:
            if first:
                leave_run_folder(folder)
            raise


def _trainer(
    method: MethodSpec,
    model: Any,
    arguments: EcgPreTrainingArguments,
    data: PretrainingData,
    extractor: Any,
    tokenizer: Any,
    callbacks: Sequence[TrainerCallback],
) -> EcgPreTrainer:
    """The method's trainer over the records of a run."""
    max_text_length = getattr(model.config, "max_text_length", 256)
    collator = EcgCollator(extractor)
    if tokenizer is not None:
        collator = EcgTextCollator(extractor, tokenizer, max_text_length)
    asks_for_patients = "patient_ids" in inspect.signature(model.forward).parameters
    train_set, validation_set = data.datasets(
        arguments, extractor, tokenizer, max_text_length, with_patients=asks_for_patients
    )
    if model.config.target_inputs:
        without_targets = dict.fromkeys(model.config.target_inputs, False)
        extractor = type(extractor).from_dict({**extractor.to_dict(), **without_targets})
    trainer: EcgPreTrainer = method.load("trainer")(
        model=model,
        args=arguments,
        data_collator=collator,
        train_dataset=train_set,
        eval_dataset=validation_set,
        processing_class=extractor if tokenizer is None else EcgProcessor(extractor, tokenizer),
        callbacks=list(callbacks),
    )
    return trainer


def _train(
    trainer: EcgPreTrainer, method: MethodSpec, data: PretrainingData, checkpoint: Path | None
) -> PretrainResult:
    """Train from a checkpoint or the start, save the model, and leave the account in its folder."""
    arguments = trainer.args
    started = time.perf_counter()
    trainer.train(resume_from_checkpoint=checkpoint is not None)
    seconds = time.perf_counter() - started
    train_log = [row for row in trainer.state.log_history if "loss" in row]
    evaluation = _evaluation(trainer) if trainer.eval_dataset is not None else {}
    trainer.save_model()

    resumed_from = 0 if checkpoint is None else int(checkpoint.name.rpartition("-")[2])
    seen = (trainer.state.global_step - resumed_from) * _records_per_step(arguments)
    result = PretrainResult(
        output_dir=str(arguments.output_dir),
        model=method.name,
        parameters=trainer.accelerator.unwrap_model(trainer.model).num_parameters(),
        records=data.records,
        resumed_from=resumed_from,
        steps=trainer.state.global_step,
        seconds=round(seconds, 3),
        records_per_second=round(seen / seconds, 2),
        peak_memory_bytes=peak_memory_bytes(arguments.device),
        train=dict(train_log[-1]) if train_log else {},
        evaluation=evaluation,
        device=device_name(arguments.device),
        processes=arguments.world_size,
        versions=package_versions(),
        main_process=trainer.is_world_process_zero(),
        datasets=data.account,
    )
    if trainer.is_world_process_zero():
        write_json(Path(arguments.output_dir) / REPORT_FILE, asdict(result))
    trainer.accelerator.wait_for_everyone()
    return result


def _data(
    paths: Sequence[str | Path],
    needs_report: bool,
    max_records: int | None,
    cache_inputs: bool | None,
    cache_dir: str | Path | None,
    *,
    streaming: bool,
    weights: Sequence[float] | None,
    buffer: int | None,
) -> PretrainingData:
    """The records of a run; options of one way of reading are refused with the other."""
    if not streaming:
        for name, given in (("sampling_weights", weights), ("shuffle_buffer", buffer)):
            if given is not None:
                raise ConfigurationError(f"{name} is for streamed datasets only: add streaming", value=given)
        return BuiltData(
            paths,
            needs_report=needs_report,
            max_records=max_records,
            cache_inputs=cache_inputs,
            cache_dir=cache_dir,
        )
    if max_records is not None or cache_inputs or cache_dir is not None:
        raise ConfigurationError("max_records, cache_inputs and cache_dir are not for streamed datasets")
    return StreamedData(paths, needs_report=needs_report, weights=weights, buffer_size=buffer)


def _evaluation(trainer: EcgPreTrainer) -> dict[str, float]:
    """Values of the evaluation after the last step, run now unless the last epoch's is that one."""
    for row in reversed(trainer.state.log_history):
        if row["step"] == trainer.state.global_step and "eval_loss" in row:
            return {name: value for name, value in row.items() if name.startswith("eval_")}
    values: dict[str, float] = trainer.evaluate()
    return values


def _arguments(
    output_dir: str | Path, given: Mapping[str, Any], has_validation: bool
) -> EcgPreTrainingArguments:
    options = dict(given)
    on_gpu = torch.cuda.is_available() and not options.get("use_cpu", False)
    able = on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
    if precision_of(options, bf16_by_default=able) == "bf16":
        options["bf16"] = True
    if not torch.accelerator.is_available():
        options.setdefault("use_cpu", True)  # said outright, or the library refuses bfloat16
    if has_validation:
        options.setdefault("eval_strategy", "epoch")
    elif options.get("eval_strategy", "no") != "no":
        raise ConfigurationError(
            "eval_strategy asks for evaluation, but the dataset has no validation records"
        )
    unknown = sorted(set(options) - {field.name for field in fields(EcgPreTrainingArguments)})
    if unknown:
        raise ConfigurationError(f"unknown training option: {', '.join(unknown)}", value=unknown)
    with library_refusals(given):
        return EcgPreTrainingArguments(output_dir=str(output_dir), **options)


def _terms(config: Any, data: PretrainingData) -> TermVocabulary:
    """Terms of the training reports."""
    reports, patients = data.reports()
    return make_term_vocabulary(
        reports, min_reports=config.min_reports, max_length=config.max_text_length, patients=patients
    )


def _give_terms(model: torch.nn.Module, terms: TermVocabulary) -> None:
    """Hand the vocabulary to every term head of a model."""
    words, idf = torch.from_numpy(terms.words), torch.from_numpy(terms.idf)
    for module in model.modules():
        if isinstance(module, TermHead):
            module.set_vocabulary(words, idf, torch.from_numpy(terms.frequency))


def _tokenizer(asked: RunSettings, data: PretrainingData) -> tuple[Any, dict[str, Any]]:
    """The tokenizer, and model options that agree with it."""
    options = asked.model_options
    if asked.text_model is not None:
        tokenizer = AutoTokenizer.from_pretrained(asked.text_model)
    else:
        preset = asked.method.load("config").preset(asked.size, **options)
        reports, patients = data.reports()
        tokenizer = make_tokenizer(
            reports,
            vocab_size=preset.text_config.vocab_size,
            max_length=preset.max_text_length,
            patients=patients,
        )
        text_config = preset.text_config.to_diff_dict()
        text_config.update(
            model_type=preset.text_config.model_type,
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
        )
        options = {**options, "text_config": text_config}
    special = sorted({tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id} - {None})
    agreeing = {"text_mask_token_id": tokenizer.mask_token_id, "text_special_token_ids": special}
    # Only methods that hide words need to know them.
    known = {name: value for name, value in agreeing.items() if hasattr(asked.method.load("config"), name)}
    return tokenizer, {**known, **options}


def _records_per_step(arguments: TrainingArguments) -> int:
    return int(
        arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size
    )


def decisive_fields(config: Any) -> dict[str, Any]:
    """Fields of a configuration a run's result depends on."""
    ignored = ("transformers_version", "_name_or_path", "architectures", "dtype")
    return {key: value for key, value in config.to_dict().items() if key not in ignored}


def decisive_arguments(arguments: TrainingArguments, *more: str) -> dict[str, Any]:
    """Training arguments a run's result depends on.

    Args:
        arguments: All arguments.
        more: Fields beyond those of every run.
    """
    values = {name: getattr(arguments, name) for name in (*_DECISIVE, *more)}
    values = {name: getattr(value, "value", value) for name, value in values.items()}
    return {**values, "records_per_step": _records_per_step(arguments)}
