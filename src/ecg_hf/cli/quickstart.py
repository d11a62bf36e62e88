"""``ecg-hf quickstart``: the whole workflow, from recordings to a reloaded, evaluated model."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ecg_hf.cli.output import echo, quiet_libraries

__all__ = ["quickstart_command"]


class Corpus(StrEnum):
    """Where the recordings come from."""

    synthetic = "synthetic"
    ptbxl = "ptbxl"


def quickstart_command(
    output: Annotated[Path, typer.Option(help="Folder for everything the run writes.")],
    dataset: Annotated[
        Corpus, typer.Option(help="Recordings: embedded synthetic ones, or PTB-XL.")
    ] = Corpus.synthetic,
    data_dir: Annotated[Path | None, typer.Option(help="Folder with the unpacked PTB-XL.")] = None,
    model: Annotated[str, typer.Option(help="A method, see 'ecg-hf list models'.")] = "cg-dmer",
    max_steps: Annotated[int | None, typer.Option(min=1, help="Pretraining steps.")] = None,
    num_proc: Annotated[int, typer.Option(min=1, help="Processes reading records.")] = 2,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.")] = 0,
) -> None:
    """Build data, pretrain, embed, probe beside the untrained encoder, zero-shot, card, reload, report."""
    quiet_libraries()
    from ecg_hf.quickstart.run import run_quickstart

    run_quickstart(
        output,
        dataset=dataset.value,
        data_dir=data_dir,
        model=model,
        max_steps=max_steps,
        num_proc=num_proc,
        seed=seed,
        say=lambda line: echo(line, err=True),
    )
    echo(str(output / "report.html"))
