"""``ecg-hf embed``: one embedding per recording of a built dataset."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from ecg_hf.cli.output import echo, print_json

__all__ = ["embed_command"]


def embed_command(
    model: Annotated[str, typer.Option(help="Model folder or Hub repository.")],
    dataset: Annotated[Path, typer.Option(help="Built dataset.")],
    output: Annotated[Path, typer.Option(help="File to write, .safetensors.")],
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
    overwrite: Annotated[bool, typer.Option(help="Replace the output of another model or dataset.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Embed every recording once. Rows are in the order of the dataset; a killed run continues."""
    from ecg_hf.cli.loading import load_model
    from ecg_hf.data import load_built
    from ecg_hf.errors import ConfigurationError
    from ecg_hf.evaluation import embed_dataset, embed_tokens

    if pool_tokens > 1 and features != "tokens":
        raise ConfigurationError("--pool-tokens needs --features tokens", value=pool_tokens)
    built = load_built(dataset)
    encoder, extractor = load_model(model, device=device)
    if features == "tokens":
        tokens = embed_tokens(
            encoder,
            extractor,
            built,
            batch_size=batch_size,
            pool_tokens=pool_tokens,
            output=output,
            overwrite=overwrite,
        )
        records, count, dim = tokens.shape
        if as_json:
            print_json({"records": records, "tokens": count, "dim": dim, "output": str(output)})
        else:
            echo(f"{records} records of {count} tokens of {dim} numbers in {output}")
        return
    counts: Counter[str] = Counter()
    embeddings = embed_dataset(
        encoder,
        extractor,
        built,
        batch_size=batch_size,
        features=features,
        output=output,
        overwrite=overwrite,
        counts=counts,
    )
    if as_json:
        account = {"records": embeddings.shape[0], "dim": embeddings.shape[1], "output": str(output)}
        print_json({**account, "preparation": dict(counts)})
    else:
        echo(f"{embeddings.shape[0]} embeddings of {embeddings.shape[1]} numbers in {output}")
