"""``ecg-hf demo``: a page to upload a recording to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ecg_hf.cli.output import echo
from ecg_hf.errors import ConfigurationError

__all__ = ["demo_command"]


def demo_command(
    model: Annotated[
        str | None,
        typer.Argument(
            help="Model folder, Hub repository or shipped name ('ecg-hf list pretrained'): a classifier, or a model "
            "with a text side. The package's own models do what it does not."
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any that is free.")] = 7860,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="ECG_HF_SERVE_TOKEN", help="Password that the page asks for; the user is ecg-hf."
        ),
    ] = None,
    behind_proxy: Annotated[
        bool, typer.Option("--behind-proxy", help="A proxy checks who asks: any host without --token.")
    ] = False,
    max_megabytes: Annotated[float, typer.Option(min=0.001, help="Of an uploaded file.")] = 20.0,
    device: Annotated[str | None, typer.Option(help="Device; by default a GPU if there is one.")] = None,
    space: Annotated[
        Path | None,
        typer.Option(help="Show nothing: write the folder of a Space of the Hub that runs the same page."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder of --space.")] = False,
) -> None:
    """A page to upload an ECG to: picture, findings, labels of your own, what a score is due to, similar ECGs.

    Uploads are removed after fifteen minutes and when the command ends. For research only, not for diagnosis.
    """
    from ecg_hf.signal.io.extras import needed

    needed("gradio", "demo", "pages to upload to")
    if space is not None:
        from ecg_hf.demo.space import write_space

        echo(write_space(space, model, overwrite=overwrite))
        return
    from ecg_hf.serving.server import check_exposure, listen

    check_exposure(host, token=token, behind_proxy=behind_proxy)
    with listen(host, port) as bound:  # taken already? Before a model is loaded for nothing
        port = bound.getsockname()[1]
    demo = _demo(model, device)
    from ecg_hf.demo.page import run

    place = f"[{host}]" if ":" in host else host

    def ready() -> None:
        echo(f"{demo.interpreter.name} and {demo.text_model} answer on http://{place}:{port}", err=True)

    run(demo, host, port, token=token, max_bytes=int(max_megabytes * 1e6), ready=ready)


def _demo(model: str | None, device: str | None) -> Any:
    """With the model in the place it fits, or in both.

    Raises:
        EcgError: if it can't be loaded, or fits none.
    """
    from ecg_hf.cli.loading import load_config, load_pipeline
    from ecg_hf.demo.answering import Demo
    from ecg_hf.hub.fetching import resolve_model
    from ecg_hf.models.pretrained import DEFAULT_CLASSIFIER, DEFAULT_MODEL
    from ecg_hf.models.registry import get_method

    classifier, texts = DEFAULT_CLASSIFIER, DEFAULT_MODEL
    if model is not None:
        config = load_config(resolve_model(model))
        if any("Classification" in one for one in config.architectures or []):
            classifier = model
        elif get_method(config.model_type).multimodal:
            texts = model
        else:
            raise ConfigurationError(
                "this model has neither classes nor a text side to show: fine-tune a classifier with ecg-hf finetune",
                path=model,
            )
    zero_shot = load_pipeline("zero-shot-ecg-classification", texts, device=device)
    classify = load_pipeline("ecg-classification", classifier, device=device)
    name = Path(texts).name if Path(texts).is_dir() else texts
    return Demo(classify, resolve_model(classifier), zero_shot, name)
