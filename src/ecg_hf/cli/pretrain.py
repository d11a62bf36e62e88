"""``ecg-hf pretrain``: pretrain a registered method on one or several built datasets."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from ecg_hf.cli.output import echo, print_json, quiet_libraries
from ecg_hf.errors import ConfigurationError

if TYPE_CHECKING:
    from transformers import TrainerCallback

__all__ = ["PASS_THROUGH", "parse_overrides", "pretrain_command"]

PASS_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True}

# Options of several commands that train, or plan training.
Method = Annotated[str, typer.Option(help="A method, see 'ecg-hf list models'.")]
Size = Annotated[str | None, typer.Option(help="Preset; the recipe's or the smallest if not given.")]
Variant = Annotated[str | None, typer.Option(help="An ablation of the method, if it has any.")]
TextModel = Annotated[
    str | None, typer.Option(help="Pretrained BERT-like text tower; by default a small one from scratch.")
]
Normalization = Annotated[
    str | None, typer.Option(help="How signals are normalised, instead of the method's own way.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue from the newest complete checkpoint.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Throw away a run found in the output.")]


def parse_overrides(
    arguments: list[str], model: str, arguments_class: type | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sort ``--kebab-name value`` pairs into training arguments and fields of the model's configuration.

    Args:
        arguments: What the command line had beyond its own options.
        model: Name of the method, for the fields of its configuration.
        arguments_class: Training arguments; those of pretraining if not given.

    Returns:
        Training arguments and configuration fields, only those that were given.

    Raises:
        ConfigurationError: if an option is neither, lacks its value, or has one that does not parse.
    """
    import json

    from transformers import HfArgumentParser

    from ecg_hf.models.registry import get_method
    from ecg_hf.training import EcgPreTrainingArguments

    class Parser(HfArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise ConfigurationError(message)

    parser = Parser(arguments_class or EcgPreTrainingArguments, add_help=False, allow_abbrev=False)
    for action in parser._actions:
        action.default = argparse.SUPPRESS
        action.required = False
    namespace, rest = parser.parse_known_args(arguments)
    config_fields = {field.name for field in dataclasses.fields(get_method(model).load("config"))}
    overrides: dict[str, Any] = {}
    remaining = iter(rest)
    for option in remaining:
        flag, equals, value = option.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        if not flag.startswith("--") or name not in config_fields:
            raise ConfigurationError(f"no such option: {option}", value=option)
        if not equals:
            value = next(remaining, "")
            if not value or value.startswith("--"):
                raise ConfigurationError(f"{flag} needs a value", value=option)
        try:
            overrides[name] = json.loads(value)
        except (ValueError, RecursionError):
            overrides[name] = {"True": True, "False": False}.get(value, value)
    return vars(namespace), overrides


def pretrain_command(
    context: typer.Context,
    model: Method,
    dataset: Annotated[
        list[str],
        typer.Option(
            help="Built dataset, a folder or its address (s3://bucket/folder); its 'train' rows train, "
            "'validation' rows evaluate. Repeat to mix several: rates, lengths and leads may differ; records two of "
            "them share are used once, and counted."
        ),
    ],
    output: Annotated[
        str, typer.Option(help="Folder for checkpoints and the final model, or its address (s3://bucket/x).")
    ],
    size: Size = None,
    max_steps: Annotated[
        int | None, typer.Option(help="Optimiser steps; else --num-train-epochs counts.")
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="A recipe of the package, or a YAML file.")] = None,
    variant: Variant = None,
    text_model: TextModel = None,
    teacher: Annotated[
        Path | None,
        typer.Option(help="Folder of the run to learn from: ECG-Distil's ECG-Beat, HeartLang's vocabulary."),
    ] = None,
    normalization: Normalization = None,
    max_records: Annotated[int | None, typer.Option(min=1, help="Use only so many training records.")] = None,
    cache_dir: Annotated[
        Path | None,
        typer.Option(
            help="Keep prepared signals, measurements included, in this folder: the next run on the same records "
            "begins at once."
        ),
    ] = None,
    streaming: Annotated[
        bool, typer.Option("--streaming", help="Stream from Parquet, as 'ecg-hf data export' writes it.")
    ] = False,
    sampling_weight: Annotated[
        list[float] | None,
        typer.Option(help="Share of a streamed dataset in the training records, one for each --dataset."),
    ] = None,
    shuffle_buffer: Annotated[
        int | None, typer.Option(min=1, help="Streamed records to draw from at random (2000).")
    ] = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    probe: Annotated[
        str | None,
        typer.Option(
            metavar="BENCHMARK[:DATASET]",
            help="Probe the encoder while it trains, on labels of training folds; DATASET is a built one, by default "
            "one that is trained on.",
        ),
    ] = None,
    probe_steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Steps between probes; by default a tenth of the run, more where that would slow it down.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the account as JSON.")] = False,
) -> None:
    """Pretrain. Any training argument and any field of the model's configuration is an option too.

    Examples: --learning-rate 1e-3 --per-device-train-batch-size 128 --bf16 --patch-size 25 --mask-ratio 0.5.
    Several processes: torchrun --nproc_per_node N -m ecg_hf.cli pretrain ...
    """
    training, options = parse_overrides(context.args, model)
    quiet_libraries()
    from ecg_hf.hub.card_callback import ModelCardCallback
    from ecg_hf.planning.headroom import warn_if_too_large
    from ecg_hf.storage import RemoteFolder, location, working_copy
    from ecg_hf.training.publishing import PublishCheckpoints
    from ecg_hf.training.run import LAST_FILES, pretrain
    from ecg_hf.training.run_folder import write_json
    from ecg_hf.training.settings import REPORT_FILE

    if max_steps is not None:
        training["max_steps"] = max_steps
    if variant is not None:
        options["variant"] = variant
    callbacks: list[TrainerCallback] = [ModelCardCallback(dataset), *_probes(probe, probe_steps, dataset)]
    # The trainer prints its log lines on standard output, which belongs to the answer.
    training.setdefault("disable_tqdm", False)
    remote = isinstance(location(output), RemoteFolder)
    if remote and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigurationError("several processes need an output folder that all of them see", value=output)
    with contextlib.redirect_stdout(sys.stderr), working_copy(output, last=LAST_FILES) as copy:
        if remote:
            callbacks.append(PublishCheckpoints(copy))
        result = pretrain(
            model,
            dataset,
            copy.folder,
            size=size,
            recipe=recipe,
            model_options=options,
            extractor_options={} if normalization is None else {"normalization": normalization},
            text_model=text_model,
            teacher=teacher,
            max_records=max_records,
            cache_dir=cache_dir,
            streaming=streaming,
            sampling_weights=sampling_weight or None,
            shuffle_buffer=shuffle_buffer,
            resume=resume,
            overwrite=overwrite,
            callbacks=callbacks,
            before_start=warn_if_too_large,
            **training,
        )
        if remote:
            result = dataclasses.replace(result, output_dir=output)
            write_json(copy.folder / REPORT_FILE, dataclasses.asdict(result))
    if not result.main_process:
        return
    if as_json:
        print_json(dataclasses.asdict(result))
    else:
        echo(result.summary())


def _probes(text: str | None, every: int | None, datasets: list[str]) -> list[TrainerCallback]:
    """The probe asked for, if any: built before anything is written, so that a wrong name costs nothing."""
    if text is None:
        if every is not None:
            raise ConfigurationError("--probe-steps belongs to --probe", value=every)
        return []
    from ecg_hf.evaluation.online_probe import OnlineProbe

    return [OnlineProbe.from_text(text, datasets, every)]
