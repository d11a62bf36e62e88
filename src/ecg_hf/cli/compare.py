"""``ecg-hf compare``: two evaluations on the same test records, paired."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ecg_hf.cli.output import echo, print_json

__all__ = ["compare_command"]


def compare_command(
    first: Annotated[Path, typer.Argument(help="results.json of an evaluation, with its scores beside it.")],
    second: Annotated[Path, typer.Argument(help="That of another model.")],
    encoder: Annotated[
        str, typer.Option(help="Encoder to compare: pretrained, or a control.")
    ] = "pretrained",
    common_records: Annotated[
        bool,
        typer.Option("--common-records", help="If the test sets differ, compare on the records they share."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Compare two evaluations: paired differences with bootstrap intervals and DeLong's test."""
    from ecg_hf.evaluation.summary import compare_results, comparison_table
    from ecg_hf.evaluation.tables import markdown_table

    rows = compare_results(first, second, encoder=encoder, common_records=common_records)
    if as_json:
        print_json([row.as_dict() for row in rows])
    else:
        echo(markdown_table(comparison_table(rows, str(first), str(second))))
