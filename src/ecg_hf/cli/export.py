"""``ecg-hf export``: a model for other runtimes."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ecg_hf.cli.output import echo, print_json, print_table
from ecg_hf.errors import RecordNotFound

__all__ = ["export_command"]


class Format(StrEnum):
    """What is written."""

    onnx = "onnx"
    torch = "torch"


class Head(StrEnum):
    """What the graph gives."""

    none = "none"
    classification = "classification"
    projection = "projection"


def export_command(
    model: Annotated[
        str, typer.Argument(help="Model folder, Hub repository or shipped name ('ecg-hf list pretrained').")
    ],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")],
    format: Annotated[
        Format, typer.Option(help="onnx: model.onnx; torch: model.pt2, for torch.export.load.")
    ] = Format.onnx,
    head: Annotated[
        Head | None,
        typer.Option(
            help="none: last_hidden_state and pooler_output; classification: logits; projection: ecg_embeds, to "
            "compare with texts. By default the classifier, if there is one."
        ),
    ] = None,
    check: Annotated[
        list[Path] | None,
        typer.Option(help="Recording or folder of them to check on too; can be given several times."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print export.json.")] = False,
) -> None:
    """Export a model with its preprocessing, checked on real recordings before anything is written.

    ecg_hf.runtime.OnnxModel answers from recordings with it, without torch. Needs the extra 'export'. ExecuTorch is
    not offered: its tools are tied to their own releases of torchao; model.pt2 is what they start from.
    """
    from ecg_hf.cli.loading import load_classifier, load_config, load_model
    from ecg_hf.export import export_model
    from ecg_hf.hub.fetching import resolve_model
    from ecg_hf.signal.io.paths import recordings_below

    records: list[Path] = []
    for path in check or []:
        inside = list(recordings_below(path)) if path.is_dir() else [path]
        if not inside:
            raise RecordNotFound("the folder holds no recordings", path=path)
        records += inside
    architectures = load_config(resolve_model(model)).architectures or []
    wanted = None if head is None else head.value
    if wanted == "classification" or (
        wanted is None and any("Classification" in name for name in architectures)
    ):
        network, extractor, _, _ = load_classifier(model, device="cpu")
    else:
        network, extractor = load_model(model, device="cpu")
    facts = export_model(
        network,
        extractor,
        output,
        format=format.value,
        head=wanted,
        records=records,
        overwrite=overwrite,
    )
    if as_json:
        print_json(facts)
        return
    checked = facts["checked"]
    echo(f"{facts['model_class']} in {output}, compared on {checked['inputs']} inputs of real recordings:")
    print_table(
        [
            {
                "output": name,
                "largest difference": f"{checked['largest_difference'][name]:.1e}",
                "largest value": f"{checked['largest_value'][name]:.3g}",
            }
            for name in facts["outputs"]
        ],
        ("output", "largest difference", "largest value"),
    )
