"""``ecg-hf convert``: official checkpoints to model folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ecg_hf.cli.output import echo, print_json, print_table, quiet_libraries
from ecg_hf.errors import ConfigurationError, EcgError
from ecg_hf.storage import local_only

__all__ = ["PASS_THROUGH", "conversion_options", "convert_command"]

PASS_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True}


def conversion_options(arguments: Sequence[str], model: str) -> dict[str, int | Path]:
    """Options of the method's converter, such as ``--num-attention-heads 16``: whole numbers, or further files."""
    from ecg_hf.hub.converting import converter_options, second_files

    known, files = converter_options(model), second_files(model)
    options: dict[str, int | Path] = {}
    remaining = iter(arguments)
    for argument in remaining:
        flag, equals, value = argument.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        if not flag.startswith("--") or name not in known:
            offered = ", ".join("--" + option.replace("_", "-") for option in known) or "none"
            raise ConfigurationError(f"no such option: {argument}; {model} has: {offered}", value=argument)
        value = value if equals else next(remaining, "")
        if name in files and value:
            options[name] = local_only(value)
            continue
        if name in files:
            raise ConfigurationError(f"{flag} needs a file", value=value)
        if not value.isdecimal():
            raise ConfigurationError(f"{flag} needs a whole number, got {value!r}", value=value)
        options[name] = int(value)
    return options


def convert_command(
    context: typer.Context,
    model: Annotated[
        str | None, typer.Argument(help="Method, see --list; 'auto' recognises the file by its keys.")
    ] = None,
    source: Annotated[
        Path | None, typer.Argument(help="The authors' file: safetensors, or written by torch.save.")
    ] = None,
    target: Annotated[Path | None, typer.Argument(help="Model folder to write.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the target folder.")] = False,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="JSON of the authors' configuration: sizes that no tensor shows."),
    ] = None,
    list_files: Annotated[
        bool, typer.Option("--list", help="List what converts: files, place, licence, size, parity.")
    ] = False,
    check: Annotated[
        str | None,
        typer.Option(
            "--check",
            metavar="FOLDER",
            help="Run a converted folder on a stored recording and print its figures.",
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            "--against",
            metavar="FILE",
            help="With --check: what another machine printed with --json; exit code 1 if they disagree.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Convert the authors' weights. Only tensors are read; code in the file never runs.

    Options give what the shapes don't determine, such as --num-attention-heads 16.
    """
    if list_files:
        _list(as_json)
        return
    if check is not None:
        _nothing_else(model, context.args)
        _check(check, against, as_json)
        return
    if against is not None:
        raise ConfigurationError("--against compares what --check FOLDER prints: give both")
    if model is None or source is None or target is None:
        raise ConfigurationError(
            "convert needs a method or 'auto', the authors' file and a folder; see --list"
        )
    quiet_libraries()
    from ecg_hf.documents import read_json
    from ecg_hf.hub.converting import convert_checkpoint, recognise_checkpoint

    recognised: dict[str, str] = {}
    if model == "auto":
        model, reason = recognise_checkpoint(source)
        recognised = {"recognised_as": model, "because": reason}
        if not as_json:
            echo(f"a file of {model}: {reason}")
    options = conversion_options(context.args, model)
    sizes = None if config is None else read_json(config, dict[str, Any])
    try:
        report = convert_checkpoint(model, source, target, overwrite=overwrite, config=sizes, **options)
    except EcgError as error:
        if recognised:
            error.message = f"recognised as {model}: {error.message}"
        raise
    if as_json:
        print_json({**recognised, **asdict(report)})
    else:
        echo(report.summary())


def _list(as_json: bool) -> None:
    from ecg_hf.hub.converting import list_official_files

    rows = list_official_files()
    if as_json:
        print_json(rows)
        return
    shown = [
        {**row, "files": ", ".join(row["files"]), "size": f"{row['size_bytes'] / 1e6:,.0f} MB"}
        for row in rows
    ]
    print_table(shown, ("name", "licence", "size", "files", "repository", "parity"))


def _nothing_else(model: str | None, arguments: Sequence[str]) -> None:
    given = [*([] if model is None else [model]), *arguments]
    if given:
        raise ConfigurationError(f"--check takes a folder and nothing else, got {given[0]!r}", value=given[0])


def _check(folder: str, against: Path | None, as_json: bool) -> None:
    """Print what a folder makes of the stored recording; leave with 1 if another machine got something else."""
    from ecg_hf.cli.loading import load_classifier, load_model
    from ecg_hf.hub.probing import differences, probe_model, read_probe

    other = None if against is None else read_probe(against)
    encoder, extractor = load_model(folder, device="cpu")
    classifier = None
    if any("Classification" in name for name in encoder.config.architectures or ()):
        classifier, *_ = load_classifier(folder, device="cpu")
    report = probe_model(folder, encoder, extractor, classifier)
    told = None if other is None else differences(report, other)
    if as_json:
        print_json(dict(report) if told is None else {**report, "agrees": not told, "differences": told})
    else:
        echo(f"{report['model']}, {report['parameters']:,} parameters, on recording {report['probe'][:12]}")
        print_table(
            [
                {
                    "tensor": name,
                    "shape": " x ".join(map(str, one["shape"])),
                    "mean": f"{one['mean']:.6f}",
                    "std": f"{one['std']:.6f}",
                    "values": " ".join(f"{value:.6f}" for value in one["values"]),
                }
                for name, one in {**report["inputs"], **report["outputs"]}.items()
            ],
            ("tensor", "shape", "mean", "std", "values"),
        )
        if told is not None:
            echo("\n".join(told) or f"agrees with {against}")
    if told:
        raise typer.Exit(1)
