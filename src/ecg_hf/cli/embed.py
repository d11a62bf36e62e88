"""``ecg-hf embed``: one embedding per recording of a built dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ecg_hf.cli.output import print_json

__all__ = ["embed_command"]


def embed_command(
    model: Annotated[str, typer.Option(help="Model folder or Hub repository.")],
    dataset: Annotated[Path, typer.Option(help="Built dataset.")],
    output: Annotated[Path, typer.Option(help="File to write, .safetensors.")],
    batch_size: Annotated[int, typer.Option(min=1, help="Recordings per batch.")] = 64,
    device: Annotated[str | None, typer.Option(help="Device; by default a GPU if there is one.")] = None,
    features: Annotated[
        str, typer.Option(help="'pooler_output', or 'projected' for the shared space of a dual encoder.")
    ] = "pooler_output",
    overwrite: Annotated[bool, typer.Option(help="Replace the output of another model or dataset.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the account as JSON.")] = False,
) -> None:
    """Embed every recording once. Rows are in the order of the dataset; a killed run continues."""
    from ecg_hf.cli.loading import load_model
    from ecg_hf.data import load_built
    from ecg_hf.evaluation import embed_dataset

    built = load_built(dataset)
    encoder, extractor = load_model(model, device=device)
    embeddings = embed_dataset(
        encoder,
        extractor,
        built,
        batch_size=batch_size,
        features=features,
        output=output,
        overwrite=overwrite,
    )
    if as_json:
        print_json({"records": embeddings.shape[0], "dim": embeddings.shape[1], "output": str(output)})
    else:
        typer.echo(f"{embeddings.shape[0]} embeddings of {embeddings.shape[1]} numbers in {output}")
