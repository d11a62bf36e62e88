"""``ecg-hf data``: download, build and check datasets."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecg_hf.cli.commands import Commands
from ecg_hf.cli.engine import Address, EngineName, NumProc, PieceTimeout
from ecg_hf.cli.output import echo, print_json
from ecg_hf.errors import ConfigurationError

if TYPE_CHECKING:
    from ecg_hf.data import BuildReport

__all__ = ["app"]

app = Commands(
    help="Download recordings, build datasets from them, check what was built.", no_args_is_help=True
)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]


def parse_options(options: list[str]) -> dict[str, Any]:
    """``["rate=500", "split=record"]`` to ``{"rate": 500, "split": "record"}``; values are JSON if possible.

    Raises:
        ConfigurationError: if an option has no ``=``.
    """
    parsed: dict[str, Any] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or not name:
            raise ConfigurationError(f"options are NAME=VALUE, got {option!r}", value=option)
        try:
            parsed[name.replace("-", "_")] = json.loads(value)
        except (ValueError, RecursionError):
            parsed[name.replace("-", "_")] = value
    return parsed


def _print_report(report: BuildReport, as_json: bool) -> None:
    if as_json:
        print_json({**report.to_dict(), "reused": report.reused})
    else:
        echo(report.summary())


@app.command("build")
def build_command(
    source: Annotated[str, typer.Argument(help="A source, see 'ecg-hf list datasets'.")],
    output: Annotated[
        str,
        typer.Option(
            help="Folder to build, or its address (s3://bucket/folder); loads with datasets.load_from_disk."
        ),
    ],
    data_dir: Annotated[
        str | None, typer.Option(help="Folder with the source's files, or its address (s3://bucket/folder).")
    ] = None,
    num_proc: NumProc = 1,
    engine: EngineName = "local",
    address: Address = None,
    piece_timeout: PieceTimeout = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", help="Option of the source, NAME=VALUE; may be repeated."),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace another or an older build.")] = False,
    detect_r_peaks: Annotated[
        bool, typer.Option("--detect-r-peaks", help="Store R peaks, for models that cut beats.")
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Build only part I of N, for 'ecg-hf data merge'."),
    ] = None,
    records_per_shard: Annotated[
        int, typer.Option(min=1, help="Recordings per file; parts are made of whole files.")
    ] = 1000,
    as_json: JsonFlag = False,
) -> None:
    """Build a dataset from recordings. A killed build continues where it stopped.

    On many machines: --engine dask. Without a cluster, in a Slurm array 1-4: --shard $SLURM_ARRAY_TASK_ID/4 --output
    part-$SLURM_ARRAY_TASK_ID.
    """
    from ecg_hf.data import build_dataset
    from ecg_hf.engine import Engine

    options = parse_options(option or [])
    reserved = sorted(set(inspect.signature(build_dataset).parameters) & set(options))
    if reserved:
        raise ConfigurationError(f"{reserved[0]} is not an option of a source", value=reserved)
    report = build_dataset(
        source,
        data_dir,
        output,
        engine=Engine(engine, address=address, num_proc=num_proc, piece_timeout=piece_timeout),
        overwrite=overwrite,
        detect_r_peaks=detect_r_peaks,
        shard=shard,
        records_per_shard=records_per_shard,
        **options,
    )
    _print_report(report, as_json)


@app.command("merge")
def merge_command(
    parts: Annotated[list[Path], typer.Argument(help="All parts, built with 'data build --shard I/N'.")],
    output: Annotated[Path, typer.Option(help="Folder of the dataset.")],
    overwrite: Annotated[bool, typer.Option(help="Replace another or an older build.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Join parts into the dataset one machine would have built. A killed merge continues where it stopped."""
    from ecg_hf.data import merge_parts

    _print_report(merge_parts(parts, output, overwrite=overwrite), as_json)


@app.command("export")
def export_command(
    dataset: Annotated[
        str, typer.Argument(help="A built dataset: a folder, or its address (s3://bucket/folder).")
    ],
    output: Annotated[str, typer.Option(help="Folder to write, or its address.")],
    rows_per_file: Annotated[int, typer.Option(min=1, help="Recordings per file.")] = 1000,
    as_json: JsonFlag = False,
) -> None:
    """Write a built dataset as Parquet, for 'pretrain --streaming' and the Hub. A killed export continues."""
    from dataclasses import asdict

    from ecg_hf.data import export_parquet

    export = export_parquet(dataset, output, rows_per_file=rows_per_file)
    if as_json:
        print_json(asdict(export))
    else:
        rows = ", ".join(
            f"{split} {count:,} in {export.files[split]} files" for split, count in export.rows.items()
        )
        echo(f"{export.output}: {rows} ({export.bytes / 1e6:,.1f} MB)")


@app.command("download")
def download_command(
    source: Annotated[str, typer.Argument(help="A source, see 'ecg-hf list datasets'.")],
    data_dir: Annotated[Path, typer.Option(help="Folder to download into.")],
    base_url: Annotated[
        str | None, typer.Option(help="Where to download from, instead of PhysioNet.")
    ] = None,
    version: Annotated[
        str | None,
        typer.Option("--version", help="Version of the PhysioNet project; by default that of the source."),
    ] = None,
    subset: Annotated[
        list[str] | None,
        typer.Option(help="A selection the source defines, or patterns of paths; may be repeated."),
    ] = None,
    num_workers: Annotated[int, typer.Option(min=1, help="Parallel transfers.")] = 4,
    as_json: JsonFlag = False,
) -> None:
    """Download a source from PhysioNet, verified against its SHA256SUMS. A killed download continues."""
    from dataclasses import asdict

    from ecg_hf.data.downloading import download_source

    # A single word may name a selection; anything with a wildcard, or given with others, is a pattern.
    patterns = subset or []
    named = patterns[0] if len(patterns) == 1 and not set("*?[/.") & set(patterns[0]) else None
    report = download_source(
        source,
        data_dir,
        version=version,
        base_url=base_url,
        subset=named or patterns or None,
        num_workers=num_workers,
    )
    if as_json:
        print_json(asdict(report))
    else:
        echo(str(report))


@app.command("check")
def check_command(
    dataset: Annotated[Path, typer.Argument(help="A built dataset.")],
    as_json: JsonFlag = False,
) -> None:
    """Check a built dataset: splits, patients in more than one split, what the build dropped."""
    from dataclasses import asdict

    from ecg_hf.data import check_patient_leak, load_built
    from ecg_hf.data.report import BuildReport

    built = load_built(dataset)
    leak = check_patient_leak(built, strict=False)
    report = BuildReport.load(dataset)
    if as_json:
        print_json({"records": len(built), "patient_leak": asdict(leak), "build": report.to_dict()})
    else:
        echo(report.summary())
        known = f"{leak.distinct_patients} patients" if leak.distinct_patients else "patients not known"
        unseen = ", in which leaks can't be detected" if leak.unknown_patients else ""
        echo(
            f"{known}; in more than one split: {leak.patients} patients, {leak.records} recordings; "
            f"without a patient identifier: {leak.unknown_patients} recordings{unseen}"
        )
    if leak.patients:
        raise typer.Exit(1)
