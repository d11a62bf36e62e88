"""``ecg-hf quickstart``: what a shipped model says of a real recording, then the road from recordings to a model."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ecg_hf.cli.output import echo, quiet_libraries
from ecg_hf.cli.predict import predict_command

__all__ = ["quickstart_command"]

ASKED = "left bundle branch block,right bundle branch block,atrial fibrillation,normal ECG"
"""What the sample record is compared with; any words will do."""


class Corpus(StrEnum):
    """Where the recordings come from."""

    synthetic = "synthetic"
    ptbxl = "ptbxl"


def quickstart_command(
    output: Annotated[Path, typer.Option(help="Folder for everything the run writes.")],
    skip_training: Annotated[
        bool, typer.Option("--skip-training", help="Stop after what the shipped models say, in seconds.")
    ] = False,
    dataset: Annotated[
        Corpus, typer.Option(help="Recordings to train on: embedded synthetic ones, or PTB-XL.")
    ] = Corpus.synthetic,
    data_dir: Annotated[Path | None, typer.Option(help="Folder with the unpacked PTB-XL.")] = None,
    model: Annotated[str, typer.Option(help="A method to train, see 'ecg-hf list models'.")] = "cg-dmer",
    max_steps: Annotated[int | None, typer.Option(min=1, help="Pretraining steps.")] = None,
    num_proc: Annotated[int, typer.Option(min=1, help="Processes reading records.")] = 2,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.")] = 0,
) -> None:
    """Interpret the sample record with the shipped models, then train one: data, pretraining, probe, card, report.

    The first half takes seconds: measurements, findings, a picture, zero-shot answers, an embedding. The second
    takes minutes: build data, pretrain, embed, probe beside the untrained encoder, zero-shot, card, reload, report.
    """
    quiet_libraries()
    if skip_training:
        _first_look(output)
        return
    from ecg_hf.quickstart.run import check_choice, run_quickstart

    check_choice(dataset.value, data_dir, model)
    _first_look(output)
    echo("\nNow a model of your own, trained from nothing (--skip-training leaves this out).", err=True)
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


def _first_look(folder: Path) -> None:
    """The three things a user does with a shipped model, each as it is typed, and its answer."""
    from ecg_hf.models.pretrained import sample_record
    from ecg_hf.pipelines.embedding import embed

    folder.mkdir(parents=True, exist_ok=True)
    record, picture = sample_record(), folder / "sample_ecg.png"
    echo(
        "The sample record is PTB-XL 2940 (CC BY 4.0): left bundle branch block, sinus rhythm. The models that ship "
        "have never seen it.\n"
    )
    echo(f"$ ecg-hf predict {record} --plot {picture}")
    predict_command([str(record)], plot=picture)
    echo(f'\n$ ecg-hf predict {record} --labels "{ASKED}"')
    predict_command([str(record)], labels=ASKED)
    echo("\n>>> ecg_hf.embed(ecg_hf.sample_record())")
    vectors = embed(record)
    echo(f"float32 {vectors.shape}: {', '.join(f'{value:.3f}' for value in vectors[0, :4])}, ...")
    echo(f"\nOpen {picture}: the recording on ECG paper with its findings.")
