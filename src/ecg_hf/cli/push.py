"""``ecg-hf push``: share a model folder or a built dataset on the Hub."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ecg_hf.cli.output import echo, print_json, quiet_libraries
from ecg_hf.errors import ConfigurationError, ModelFolderError

__all__ = ["push_command"]


def push_command(
    folder: Annotated[Path, typer.Argument(help="Model folder, or a dataset of 'ecg-hf data build'.")],
    repo_id: Annotated[str, typer.Argument(help="Repository: owner/name.")],
    private: Annotated[
        bool | None,
        typer.Option(
            "--private/--public", help="Visibility of a new repository; by default the owner's setting."
        ),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch to push to, created if needed; 'main' by default.")
    ] = None,
    tag: Annotated[str | None, typer.Option(help="Tag for the commit, such as v1.0.")] = None,
    data_licence: Annotated[
        str | None, typer.Option(help="Licence of a dataset whose source does not state one.")
    ] = None,
    drop_column: Annotated[
        list[str] | None, typer.Option(help="Column of a dataset to leave out, such as report. Repeatable.")
    ] = None,
    non_commercial: Annotated[
        bool,
        typer.Option(
            "--non-commercial",
            help="Share converted weights whose licence allows that for non-commercial ends only.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be pushed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Share on the Hub: a model with preprocessing and card, or a dataset anyone can load.

    Log in first (hf auth login). If a push is interrupted, run the same command again; what has arrived is not sent
    twice.
    """
    if not folder.exists():
        from ecg_hf.hub.fetching import resolve_model

        folder = Path(resolve_model(folder))
    if not folder.is_dir():
        raise ModelFolderError("no such folder", path=folder)
    is_model = (folder / "config.json").is_file()
    if is_model and (data_licence is not None or drop_column):
        raise ConfigurationError("--data-licence and --drop-column are for datasets", path=folder)
    if not is_model and non_commercial:
        raise ConfigurationError("--non-commercial is for converted weights", path=folder)
    if not is_model and not (folder / "dataset_info.json").is_file():
        raise ModelFolderError(
            "neither a model folder (config.json) nor a built dataset (dataset_info.json)", path=folder
        )
    quiet_libraries(transfers=sys.stderr.isatty())
    import datasets

    from ecg_hf.hub.dataset_push import push_dataset
    from ecg_hf.hub.push import push_model

    datasets.logging.set_verbosity_error()  # it warns that a small dataset is one file
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    if is_model:
        report = push_model(
            folder,
            repo_id,
            private=private,
            revision=revision,
            tag=tag,
            non_commercial=non_commercial,
            dry_run=dry_run,
        )
    else:
        report = push_dataset(
            folder,
            repo_id,
            private=private,
            revision=revision,
            tag=tag,
            licence=data_licence,
            drop_columns=drop_column or (),
            dry_run=dry_run,
        )
    if as_json:
        print_json(asdict(report))
    else:
        echo(report.summary())
