"""``ecg-hf predict``: scores of recordings by a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecg_hf.cli.output import echo, print_json, print_table
from ecg_hf.errors import ConfigurationError, MetadataMissing, ModelFolderError

if TYPE_CHECKING:
    from ecg_hf.signal import EcgRecord

__all__ = ["predict_command"]


def predict_command(
    records: Annotated[list[Path], typer.Argument(help="Recordings in any format that read_record reads.")],
    model: Annotated[str, typer.Option(help="Model folder or Hub repository.")],
    labels: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated names or prompts for zero-shot scores; leave out for a classifier."
        ),
    ] = None,
    template: Annotated[
        str, typer.Option(help="Template of the prompts; '{}' is replaced by each label.")
    ] = "{}",
    softmax: Annotated[
        bool, typer.Option(help="Scores that add up to 1 over the labels, not cosines.")
    ] = False,
    top_k: Annotated[int | None, typer.Option(min=1, help="Show only this many of the best labels.")] = None,
    sampling_rate: Annotated[
        float | None,
        typer.Option(help="Hertz, for files that don't state it: .npy, .csv, .mat without a header."),
    ] = None,
    lead_names: Annotated[
        str | None, typer.Option(help="Comma-separated names of their leads, in order: I,II,III ...")
    ] = None,
    units: Annotated[str | None, typer.Option(help="Their voltage unit: mV, uV or V.")] = None,
    device: Annotated[str | None, typer.Option(help="Device; by default a GPU if available.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON array, one object per recording.")
    ] = False,
) -> None:
    """Score recordings: zero-shot for --labels, or with a fine-tuned classifier's own classes."""
    candidates = None
    if labels is not None:
        candidates = [label.strip() for label in labels.split(",") if label.strip()]
        if not candidates:
            raise ConfigurationError("--labels names no label", value=labels)
    told = {
        "sampling_rate": sampling_rate,
        "lead_names": None if lead_names is None else [name.strip() for name in lead_names.split(",")],
        "unit": units,
    }
    results = _predict(model, _read(records, told), candidates, template, softmax, top_k, device)
    if as_json:
        print_json([{"record": str(r), "scores": s} for r, s in zip(records, results, strict=True)])
        return
    for record, scores in zip(records, results, strict=True):
        echo(str(record))
        rows = [{"label": s["label"], "score": f"{s['score']:+.4f}"} for s in scores]
        print_table(rows, ("label", "score"))


def _read(records: list[Path], told: dict[str, Any]) -> list[EcgRecord]:
    """The recordings. Read before the model is loaded, so that a missing file fails at once."""
    from ecg_hf.signal import read_record

    try:
        return [read_record(record, **told) for record in records]
    except MetadataMissing as error:
        flags = "--sampling-rate, --lead-names and --units say it"
        raise MetadataMissing(f"{error.message} ({flags})", path=error.path, value=error.value) from None


def _predict(
    model: str,
    signals: list[EcgRecord],
    candidates: list[str] | None,
    template: str,
    softmax: bool,
    top_k: int | None,
    device: str | None,
) -> list[list[dict[str, Any]]]:
    from ecg_hf.cli.loading import load_pipeline

    task = "ecg-classification" if candidates is None else "zero-shot-ecg-classification"
    pipe = load_pipeline(task, model, device=device)
    options: dict[str, Any] = {"top_k": top_k}
    if candidates is not None:
        options |= {"candidate_labels": candidates, "hypothesis_template": template}
        options["function_to_apply"] = "softmax" if softmax else "none"
    elif softmax:
        raise ModelFolderError(
            "--softmax belongs to --labels; a classifier applies its own function", path=model
        )
    results: list[list[dict[str, Any]]] = pipe(signals, **options)
    return results
