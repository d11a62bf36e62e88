"""``ecg-hf card``: write or rewrite the card of a model folder, for instance with new results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ecg_hf.cli.output import echo, print_json, quiet_libraries

__all__ = ["card_command"]


def card_command(
    model: Annotated[Path, typer.Argument(help="Model folder.")],
    results: Annotated[
        Path | None, typer.Option(help="A results.json of 'ecg-hf evaluate' or of the quickstart.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Title of the card.")] = None,
    repo: Annotated[
        str | None, typer.Option(help="Repository name in the examples; 'ecg-hf push' fills it in.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Name of the training data.")] = None,
    data_licence: Annotated[str | None, typer.Option(help="Licence of the training data.")] = None,
    weights_licence: Annotated[
        str | None, typer.Option(help="Licence of the weights, if they are not the method's own.")
    ] = None,
    synthetic: Annotated[
        bool | None,
        typer.Option("--synthetic/--not-synthetic", help="Whether the training data are simulated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the card's metadata as JSON.")] = False,
) -> None:
    """Write README.md: the method, its data and preprocessing, the training run, results with intervals, limits.

    Options not given are taken from the last card and from the report of the training run in the folder. Text added
    by hand is not kept.
    """
    quiet_libraries()
    from huggingface_hub import ModelCard

    from ecg_hf.evaluation.results import read_results
    from ecg_hf.files import sole_writer
    from ecg_hf.hub.card import write_model_card
    from ecg_hf.hub.card_context import card_context_of
    from ecg_hf.hub.model_folder import CARD_FILE, open_model_folder
    from ecg_hf.hub.model_index import results_in_card

    # Read first: a missing file should not wait for a model to load.
    content: dict[str, Any] | None = None if results is None else dict(read_results(results))
    opened = open_model_folder(model)
    context = card_context_of(
        model,
        model_name=name,
        repo=repo,
        dataset=dataset,
        data_licence=data_licence,
        weights_licence=weights_licence,
        synthetic=synthetic,
        results=content,
    )
    with sole_writer(model / CARD_FILE):
        path = write_model_card(
            model, opened.model, opened.feature_extractor, context, keep=results_in_card(model)
        )
    if as_json:
        print_json({"card": str(path), "metadata": ModelCard.load(path).data.to_dict()})
    else:
        echo(str(path))
