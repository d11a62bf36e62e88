"""``ecg-hf plot``: a recording on ECG paper, or the losses of a run, as a picture."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecg_hf.cli.output import echo
from ecg_hf.cli.recordings import naming_options
from ecg_hf.errors import ConfigurationError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_command"]

FORMATS = (".png", ".svg")


class Layout(StrEnum):
    """How leads are arranged."""

    grid = "3x4"
    rows = "rows"


def plot_command(
    record: Annotated[
        Path,
        typer.Argument(
            help="Recording in any format that read_record reads; or the folder of a run, whose losses are drawn."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Picture to write, .png or .svg.")],
    leads: Annotated[str | None, typer.Option(help="Comma-separated leads to draw; all by default.")] = None,
    start: Annotated[float, typer.Option(min=0.0, help="Seconds into the recording to begin at.")] = 0.0,
    seconds: Annotated[float, typer.Option(help="Seconds to draw at most.")] = 10.0,
    layout: Annotated[
        Layout | None,
        typer.Option(
            help="3x4, the usual print, or rows; by default the first if it has a place for every lead."
        ),
    ] = None,
    title: Annotated[
        str | None, typer.Option(help="Stands above the traces; by default the record's identifier.")
    ] = None,
    sampling_rate: Annotated[
        float | None,
        typer.Option(help="Hertz, for files that do not say: .npy, .csv, .mat without a header."),
    ] = None,
    lead_names: Annotated[
        str | None, typer.Option(help="Comma-separated names of their leads, in order: I,II,III ...")
    ] = None,
    units: Annotated[str | None, typer.Option(help="Their voltage unit: mV, uV or V.")] = None,
) -> None:
    """Draw a recording on millimetre paper, 25 mm/s and 10 mm/mV, or the curves of a training run."""
    from ecg_hf.plotting import save_figure

    if output.suffix.lower() not in FORMATS:
        raise ConfigurationError("a picture is a .png or an .svg file", path=output)
    if record.is_dir() or record.suffix == ".jsonl":
        figure = _curves(record, title or "")
    else:
        told = (sampling_rate, _names(lead_names, "--lead-names"), units)
        figure = _paper(record, told, _names(leads, "--leads"), layout, title, start, seconds)
    echo(save_figure(figure, output))


def _names(text: str | None, flag: str) -> list[str] | None:
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise ConfigurationError(f"{flag} takes names separated by commas, got {text!r}", value=text)
    return names


def _paper(
    path: Path,
    told: tuple[float | None, list[str] | None, str | None],
    leads: list[str] | None,
    layout: Layout | None,
    title: str | None,
    start: float,
    seconds: float,
) -> Figure:
    from ecg_hf.plotting import plot_ecg
    from ecg_hf.signal import read_record

    rate, names, unit = told
    with naming_options():
        record = read_record(path, sampling_rate=rate, lead_names=names, units=unit, leads=leads)
    return plot_ecg(
        record,
        layout=None if layout is None else layout.value,
        title=title,
        start_s=start,
        duration_s=seconds,
    )


def _curves(run: Path, title: str) -> Figure:
    from ecg_hf.plotting import plot_losses
    from ecg_hf.training import read_training_log

    return plot_losses(read_training_log(run), title=title)
