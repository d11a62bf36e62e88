"""``ecg-hf explain``: what a score of a recording is due to, drawn on it."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecg_hf.cli.engine import Address, EngineName, NumProc, PieceTimeout
from ecg_hf.cli.output import echo, print_table
from ecg_hf.cli.plot import FORMATS
from ecg_hf.cli.recordings import (
    UNREADABLE,
    BulkDataset,
    BulkRecords,
    bulk_given,
    naming_options,
    remote_folder,
    told_options,
)
from ecg_hf.errors import ConfigurationError
from ecg_hf.storage import RemoteFolder, location

if TYPE_CHECKING:
    from ecg_hf.engine import Engine
    from ecg_hf.pipelines.bulk_recordings import Given
    from ecg_hf.pipelines.explanation import Explanation

__all__ = ["explain_command"]

_SHOWN_LEADS = 4


def explain_command(
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            help="Picture of one recording, .png or .svg; or a folder, or its address, that gets a picture and a "
            "JSON file of each.",
        ),
    ],
    records: BulkRecords = None,
    dataset: BulkDataset = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Model folder, Hub repository or shipped name ('ecg-hf list pretrained'); the package's own "
            "classifier if none."
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            help="Class to explain, the likeliest by default; any text, of a model with a text side and no classes."
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the maps of one recording as JSON.")
    ] = None,
    start: Annotated[float, typer.Option(min=0.0, help="Seconds into the recording to begin at.")] = 0.0,
    stretch: Annotated[
        float, typer.Option(help="Seconds of the stretches that are laid flat in turn.")
    ] = 0.2,
    sampling_rate: Annotated[
        float | None,
        typer.Option(help="Hertz, for files that do not say: .npy, .csv, .mat without a header."),
    ] = None,
    lead_names: Annotated[
        str | None, typer.Option(help="Comma-separated names of their leads, in order: I,II,III ...")
    ] = None,
    units: Annotated[str | None, typer.Option(help="Their voltage unit: mV, uV or V.")] = None,
    device: Annotated[str | None, typer.Option(help="Device; by default a GPU if there is one.")] = None,
    num_proc: NumProc = 1,
    engine: EngineName = "local",
    address: Address = None,
    piece_timeout: PieceTimeout = None,
    overwrite: Annotated[
        bool, typer.Option(help="In a folder: replace what was made from another model, label or recording.")
    ] = False,
) -> None:
    """Draw what a model's score of a recording is due to: occlusion as shades, gradient x input along the traces.

    Orange speaks for the label, blue against it. In a folder, explanations that are there are kept; a recording that
    can't be explained is accounted for and the exit code is 3. The maps are about the model, right or wrong; for
    research only, not for diagnosis.
    """
    from ecg_hf.engine import Engine
    from ecg_hf.models.pretrained import DEFAULT_CLASSIFIER
    from ecg_hf.signal import read_record

    names = None if lead_names is None else [name.strip() for name in lead_names.split(",")]
    told = told_options(sampling_rate, names, units)
    where = Engine(engine, address=address, num_proc=num_proc, piece_timeout=piece_timeout)
    chosen = model or DEFAULT_CLASSIFIER
    named = records or []
    several = (
        dataset is not None
        or remote_folder(named) is not None
        or len(named) > 1
        or any(map(os.path.isdir, named))
    )
    place = location(output)
    is_folder = isinstance(place, RemoteFolder) or place.is_dir()
    picture = not is_folder and Path(output).suffix.lower() in FORMATS
    if is_folder or not Path(output).suffix or (several and not picture):
        if json_file is not None:
            raise ConfigurationError(
                "--json is for one recording; in a folder each has its own", path=json_file
            )
        _write_folder(
            chosen,
            bulk_given(records, dataset, told),
            output,
            label=label,
            device=device,
            start_s=start,
            patch_s=stretch,
            engine=where,
            overwrite=overwrite,
            **told,
        )
        return
    if several:
        raise ConfigurationError("several recordings need a folder as --output", path=output)
    if not named:
        raise ConfigurationError("name recordings or a --dataset, one of the two")
    if not picture:
        raise ConfigurationError("a picture is a .png or an .svg file", path=output)
    if where != Engine() or overwrite:
        raise ConfigurationError(
            "--num-proc, --engine and --overwrite need a folder as --output", path=output
        )
    if json_file is not None and json_file.resolve() == Path(output).resolve():
        raise ConfigurationError("the picture and the JSON need a file each", path=output)
    # Before a model is loaded: a missing file should not wait for one.
    with naming_options():
        read = read_record(named[0], **told)
    from ecg_hf.cli.loading import load_config, load_pipeline
    from ecg_hf.hub.fetching import resolve_model
    from ecg_hf.pipelines.explanation import draw_explanation, explain, task_to_explain

    task = task_to_explain(load_config(resolve_model(chosen)), label)
    explanation = explain(
        load_pipeline(task, chosen, device=device), read, label, start_s=start, patch_s=stretch
    )
    draw_explanation(explanation, output)
    if json_file is not None:
        from ecg_hf.files import write_whole

        json_file.parent.mkdir(parents=True, exist_ok=True)
        content = {**explanation.as_dict(), "model": _name(chosen)}
        write_whole(json_file, json.dumps(content, ensure_ascii=False) + "\n")
    _show(explanation)
    echo(output)
    echo("For research only, not for diagnosis.", err=True)


def _write_folder(
    model: str,
    records: Given,
    output: str,
    *,
    label: str | None,
    device: str | None,
    engine: Engine,
    **options: Any,
) -> None:
    from ecg_hf.cli.loading import load_config, local_classifier, local_model, piece_device
    from ecg_hf.hub.fetching import resolve_model
    from ecg_hf.pipelines.explained_folder import explain_in_folder
    from ecg_hf.pipelines.explanation import task_to_explain

    classes = task_to_explain(load_config(resolve_model(model)), label) == "ecg-classification"
    folder = local_classifier(model)[0] if classes else local_model(model)
    place = piece_device(device, engine.name)
    report = explain_in_folder(
        folder,
        records,
        output,
        label=label,
        model_name=_name(model),
        device=place,
        engine=replace(engine, gpu=place.startswith("cuda")),
        **options,
    )
    said = f"{report.explained} of {report.records} recordings explained in {output}"
    echo(said + (f", {report.reused} of them before" if report.reused else ""))
    for record, reason in report.unexplained.items():
        echo(f"{record} can't be explained: {reason}", err=True)
    echo("For research only, not for diagnosis.", err=True)
    if report.unexplained:
        raise typer.Exit(UNREADABLE)


def _name(model: str) -> str:
    """What files call a model: by the folder's name, or as it is known."""
    return Path(model).absolute().name if Path(model).is_dir() else model


def _show(explanation: Explanation) -> None:
    """The score and the leads that it is due to."""
    echo(f"{explanation.label}: {explanation.name}, score {explanation.score:.3f}")
    by_lead = sorted(
        zip(explanation.record.lead_names, explanation.maps.by_lead.tolist(), strict=True),
        key=lambda one: -one[1],
    )
    column = f"{explanation.scale} lost without it"
    print_table(
        [{"lead": lead, column: f"{lost:+.3f}"} for lead, lost in by_lead[:_SHOWN_LEADS]], ("lead", column)
    )
