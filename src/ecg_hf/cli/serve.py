"""``ecg-hf serve``: answers over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ecg_hf.cli.output import echo

__all__ = ["serve_command"]


def serve_command(
    model: Annotated[
        str | None,
        typer.Argument(
            help="Model folder, Hub repository or shipped name ('ecg-hf list pretrained'); the package's own "
            "classifier if none. A model without a classifier answers /v1/embed alone."
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any that is free.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(envvar="ECG_HF_SERVE_TOKEN", help="What 'Authorization: Bearer' has to say."),
    ] = None,
    behind_proxy: Annotated[
        bool, typer.Option("--behind-proxy", help="A proxy checks who asks: any host without --token.")
    ] = False,
    max_megabytes: Annotated[float, typer.Option(min=0.001, help="Of a request.")] = 20.0,
    max_samples: Annotated[
        int, typer.Option(min=1, help="Of a recording, all leads together; more is refused.")
    ] = 1 << 23,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds until a request is given up.")] = 60.0,
    queue: Annotated[int, typer.Option(min=1, help="Requests at the same time; 429 beyond.")] = 128,
    batch_size: Annotated[int, typer.Option(min=1, help="Recordings per forward pass.")] = 16,
    device: Annotated[str | None, typer.Option(help="Device; by default a GPU if there is one.")] = None,
) -> None:
    """Answer POST /v1/predict, /v1/embed and /v1/fhir with the multipart field 'file'; /docs is a page about it.

    GET /health and /metrics are for those who run it. Uploads are not kept, and nothing of them is logged. For
    research only, not for diagnosis.
    """
    from ecg_hf.signal.io.extras import needed

    for module in ("fastapi", "uvicorn", "python_multipart"):
        needed(module, "serve", "answers over HTTP")
    from ecg_hf.serving.gate import Limits
    from ecg_hf.serving.server import check_exposure, listen, run

    check_exposure(host, token=token, behind_proxy=behind_proxy)
    limits = Limits(int(max_megabytes * 1e6), timeout, queue, batch_size, token)
    with listen(host, port) as bound:
        from ecg_hf.serving.app import make_app  # loads torch, which takes seconds

        answerer = _answerer(model, device, max_samples)
        app = make_app(answerer, limits)
        place = f"[{host}]" if ":" in host else host
        echo(f"{answerer.name} answers on http://{place}:{bound.getsockname()[1]}, see /docs", err=True)
        run(app, bound, limits)


def _answerer(model: str | None, device: str | None, max_samples: int) -> Any:
    from ecg_hf.cli.loading import load_classifier, load_config, load_model
    from ecg_hf.hub.fetching import resolve_model
    from ecg_hf.models.pretrained import DEFAULT_CLASSIFIER
    from ecg_hf.pipelines.interpretation import Interpreter
    from ecg_hf.serving.answering import Answerer

    source = resolve_model(model or DEFAULT_CLASSIFIER)
    name = Path(source).name if Path(source).is_dir() else source
    if any("Classification" in one for one in load_config(source).architectures or []):
        classifier, extractor, folder, place = load_classifier(source, device=device)
        interpreter = Interpreter(classifier, extractor, name=folder, device=place)
        return Answerer(
            classifier.base_model, extractor, name=name, interpreter=interpreter, max_samples=max_samples
        )
    encoder, extractor = load_model(source, device=device)
    return Answerer(encoder, extractor, name=name, max_samples=max_samples)
