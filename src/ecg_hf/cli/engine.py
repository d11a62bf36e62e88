"""Options of commands that work in pieces, see :mod:`ecg_hf.engine`."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["Address", "EngineName", "NumProc", "PieceTimeout", "RecordsPerPart"]

NumProc = Annotated[int, typer.Option(min=1, help="Processes of this machine.")]
EngineName = Annotated[
    str, typer.Option("--engine", help="'local', or 'dask' for a cluster (extra 'cluster').")
]
Address = Annotated[
    str | None,
    typer.Option(help="Of the cluster: HOST:PORT of a scheduler, a scheduler file, or 'slurm'."),
]
PieceTimeout = Annotated[
    float | None,
    typer.Option(
        help="Seconds after which a piece of the cluster counts as hanging and is given to another worker."
    ),
]
RecordsPerPart = Annotated[int, typer.Option(min=1, help="Recordings in a part of an output folder.")]
