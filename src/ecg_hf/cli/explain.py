"""``ecg-hf explain``: what a score of a recording is due to, drawn on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecg_hf.cli.output import echo, print_table
from ecg_hf.cli.plot import FORMATS
from ecg_hf.cli.recordings import naming_options
from ecg_hf.errors import ConfigurationError

if TYPE_CHECKING:
    from ecg_hf.pipelines.explanation import Explanation

__all__ = ["explain_command"]

_SHOWN_LEADS = 4


def explain_command(
    record: Annotated[Path, typer.Argument(help="Recording in any format that read_record reads.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Picture to write, .png or .svg.")],
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
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the maps as JSON.")] = None,
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
) -> None:
    """Draw what a model's score of a recording is due to: occlusion as shades, gradient x input along the traces.

    Orange speaks for the label, blue against it. The maps are about the model, right or wrong; for research only, not
    for diagnosis.
    """
    from ecg_hf.signal import read_record

    if output.suffix.lower() not in FORMATS:
        raise ConfigurationError("a picture is a .png or an .svg file", path=output)
    if json_file is not None and json_file.resolve() == output.resolve():
        raise ConfigurationError("the picture and the JSON need a file each", path=output)
    names = None if lead_names is None else [name.strip() for name in lead_names.split(",")]
    # Before a model is loaded: a missing file should not wait for one.
    with naming_options():
        read = read_record(record, sampling_rate=sampling_rate, lead_names=names, units=units)
    from ecg_hf.pipelines.explanation import explain

    pipe = _pipeline(model, device)
    explanation = explain(pipe, read, label, start_s=start, patch_s=stretch)
    _draw(explanation, output)
    if json_file is not None:
        from ecg_hf.files import write_whole

        json_file.parent.mkdir(parents=True, exist_ok=True)
        name = Path(pipe.model.name_or_path).name if model is None or Path(model).is_dir() else model
        content = {**explanation.as_dict(), "model": name}
        write_whole(json_file, json.dumps(content, ensure_ascii=False) + "\n")
    _show(explanation)
    echo(output)
    echo("For research only, not for diagnosis.", err=True)


def _pipeline(model: str | None, device: str | None) -> Any:
    """That of the model's classes, or of its text side if it has no classes."""
    from ecg_hf.cli.loading import load_config, load_pipeline
    from ecg_hf.hub.fetching import resolve_model
    from ecg_hf.models.pretrained import DEFAULT_CLASSIFIER
    from ecg_hf.models.registry import get_method

    name = model or DEFAULT_CLASSIFIER
    config = load_config(resolve_model(name))
    has_classes = any("Classification" in kind for kind in config.architectures or [])
    texts = not has_classes and get_method(config.model_type).multimodal
    return load_pipeline(
        "zero-shot-ecg-classification" if texts else "ecg-classification", name, device=device
    )


def _draw(explanation: Explanation, output: Path) -> None:
    from ecg_hf.plotting import Relevance, plot_ecg, save_figure

    maps, record = explanation.maps, explanation.record
    relevance = Relevance(
        maps.occlusion,
        explanation.patch_s,
        maps.gradient,
        explanation.sampling_rate,
        explanation.name,
        explanation.scale,
    )
    title = f"{record.record_id or 'recording'}: {explanation.name} {explanation.score:.2f}"
    if explanation.start_s:
        title += f", from {explanation.start_s:g} s"
    figure = plot_ecg(record, layout="rows", relevance=relevance, title=title, duration_s=record.duration_s)
    save_figure(figure, output)


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
