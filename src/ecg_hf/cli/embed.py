"""``ecg-hf embed``: one embedding per recording of a dataset."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

import typer

from ecg_hf.cli.engine import Address, EngineName, NumProc, PieceTimeout, RecordsPerPart
from ecg_hf.cli.output import echo, print_json
from ecg_hf.cli.recordings import UNREADABLE, naming_options, told_options, with_folders
from ecg_hf.models.pretrained import DEFAULT_MODEL

if TYPE_CHECKING:
    from ecg_hf.evaluation import PartsReport

__all__ = ["embed_command"]


def embed_command(
    output: Annotated[
        str,
        typer.Option(
            help="File to write: .safetensors, or .parquet for recordings. A name without suffix is a folder of "
            "Parquet parts of a --dataset, in an object store too (s3://bucket/folder)."
        ),
    ],
    records: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RECORD...", help="Recordings of any format or folders of them, instead of --dataset."
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(help="Model folder, Hub repository or shipped name ('ecg-hf list pretrained').")
    ] = DEFAULT_MODEL,
    dataset: Annotated[
        str | None,
        typer.Option(help="Built dataset or Parquet export: a folder, or its address (s3://bucket/folder)."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Recordings per batch.")] = 64,
    device: Annotated[str | None, typer.Option(help="Device; by default a GPU if available.")] = None,
    features: Annotated[
        str,
        typer.Option(
            help="'pooler_output', 'projected' for the shared space of a dual encoder, or 'tokens' for all tokens as "
            "float16."
        ),
    ] = "pooler_output",
    pool_tokens: Annotated[
        int, typer.Option(min=1, help="With 'tokens': average this many consecutive tokens of a lead.")
    ] = 1,
    window: Annotated[
        float | None, typer.Option(help="Seconds of a window: one embedding per window of a recording.")
    ] = None,
    stride: Annotated[
        float | None, typer.Option(help="Seconds from window to window; as --window by default.")
    ] = None,
    sampling_rate: Annotated[
        float | None,
        typer.Option(help="Hertz, for recordings that do not say: .npy, .csv, .mat without a header."),
    ] = None,
    lead_names: Annotated[
        str | None, typer.Option(help="Comma-separated names of their leads, in order: I,II,III ...")
    ] = None,
    units: Annotated[str | None, typer.Option(help="Their voltage unit: mV, uV or V.")] = None,
    num_proc: NumProc = 1,
    engine: EngineName = "local",
    address: Address = None,
    piece_timeout: PieceTimeout = None,
    records_per_part: RecordsPerPart = 1024,
    on_error: Annotated[
        str,
        typer.Option(
            help="Of recordings, or with an output folder: 'raise', or 'skip' those that can't be embedded."
        ),
    ] = "raise",
    overwrite: Annotated[bool, typer.Option(help="Replace the output of another model or dataset.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Embed every recording once. Rows are in the order of the dataset; a killed run continues."""
    from ecg_hf.cli.loading import load_model, local_model, piece_device
    from ecg_hf.data.opening import open_rows
    from ecg_hf.engine import Engine
    from ecg_hf.errors import ConfigurationError
    from ecg_hf.evaluation import embed_dataset, embed_in_parts, embed_tokens
    from ecg_hf.storage import local_folder, local_only

    if pool_tokens > 1 and features != "tokens":
        raise ConfigurationError("--pool-tokens needs --features tokens", value=pool_tokens)
    if (dataset is None) == (not records):
        raise ConfigurationError("name recordings or a --dataset, one of the two")
    where = Engine(engine, address=address, num_proc=num_proc, piece_timeout=piece_timeout)
    names = None if lead_names is None else [name.strip() for name in lead_names.split(",")]
    told = told_options(sampling_rate, names, units)
    suffix = PurePosixPath(output).suffix
    if records:
        if where != Engine():
            raise ConfigurationError("--num-proc and --engine are for a --dataset")
        if features != "pooler_output" or suffix != ".parquet":
            raise ConfigurationError("recordings give a .parquet file of pooler_output", value=output)
        from ecg_hf.cli.embed_recordings import embed_recordings

        with naming_options():
            done = embed_recordings(
                model,
                [path for path, _ in with_folders(records)],
                local_only(output),
                window_s=window,
                stride_s=stride,
                batch_size=batch_size,
                device=device,
                on_error=on_error,
                overwrite=overwrite,
                **told,
            )
        if as_json:
            print_json({**asdict(done), "output": output})
        else:
            missing = done.windows_without
            without = f"; {missing} windows hold no signal and have none" if missing else ""
            echo(f"{done.embeddings} embeddings of {done.records} recordings in {output}{without}")
        for name, reason in done.unread.items():
            echo(f"{name} can't be embedded: {reason}", err=True)
        if done.unread:
            raise typer.Exit(UNREADABLE)
        return
    if window is not None or stride is not None or any(value is not None for value in told.values()):
        raise ConfigurationError(
            "--window, --stride, --sampling-rate, --lead-names and --units are for recordings"
        )
    assert dataset is not None  # one of the two, as was looked at above
    if not suffix and features != "tokens":
        place = piece_device(device, engine)
        report = embed_in_parts(
            local_model(model),
            dataset,
            output,
            engine=replace(where, gpu=place.startswith("cuda")),
            records_per_part=records_per_part,
            batch_size=batch_size,
            device=place,
            features=features,
            on_error=on_error,
            overwrite=overwrite,
        )
        if as_json:
            print_json({**asdict(report), "output": output})
        else:
            echo(_said(report, output))
        return
    if where != Engine() or on_error != "raise":
        raise ConfigurationError(
            "--num-proc, --engine and --on-error need an output folder: a name without suffix",
            value=output,
        )
    file = local_only(output)
    built = open_rows(local_folder(dataset))
    encoder, extractor = load_model(model, device=device)
    if features == "tokens":
        tokens = embed_tokens(
            encoder,
            extractor,
            built,
            batch_size=batch_size,
            pool_tokens=pool_tokens,
            output=file,
            overwrite=overwrite,
        )
        rows, count, dim = tokens.shape
        if as_json:
            print_json({"records": rows, "tokens": count, "dim": dim, "output": output})
        else:
            echo(f"{rows} records of {count} tokens of {dim} numbers in {output}")
        return
    counts: Counter[str] = Counter()
    embeddings = embed_dataset(
        encoder,
        extractor,
        built,
        batch_size=batch_size,
        features=features,
        output=file,
        overwrite=overwrite,
        counts=counts,
    )
    if as_json:
        account = {"records": embeddings.shape[0], "dim": embeddings.shape[1], "output": output}
        print_json({**account, "preparation": dict(counts)})
    else:
        echo(f"{embeddings.shape[0]} embeddings of {embeddings.shape[1]} numbers in {output}")


def _said(report: PartsReport, output: str) -> str:
    said = f"{report.records} embeddings in {report.parts} files in {output}"
    if report.reused:
        said += f", {report.reused} of them there already"
    if report.errors:
        first = ", ".join(f"{name} ({error})" for name, error in list(report.errors.items())[:3])
        said += f"; {len(report.errors)} recordings have none: {first}"
    return said
