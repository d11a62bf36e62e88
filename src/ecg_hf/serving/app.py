"""The application: its paths, and how its errors look."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal, cast

from fastapi import FastAPI, File, Form, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from ecg_hf.serving.answering import Answer, Answerer, Job, Task, Upload
from ecg_hf.serving.batching import Batcher
from ecg_hf.serving.gate import Gate, Limits, Metrics

__all__ = ["make_app"]

_MAX_FILES = 32

_DESCRIPTION = """Findings, embeddings and FHIR resources of ECG recordings. For research only, not for diagnosis.

`file` is a recording in any format that `ecg_hf.read_record` takes; of a WFDB record give the header and its signal
files, as several parts named `file`. `sampling_rate`, `lead_names` and `units` are for files that do not say.
"""

Files = Annotated[list[UploadFile], File(max_length=_MAX_FILES, description="The recording.")]
Rate = Annotated[float | None, Form(description="Hertz, for files that do not say.")]
Leads = Annotated[str | None, Form(description="Comma-separated lead names, for files that do not say.")]
Units = Annotated[str | None, Form(description="mV, uV or V, for files that do not say.")]
Version = Annotated[Literal["R5", "R4B"], Form(description="FHIR release.")]


def make_app(answerer: Answerer, limits: Limits) -> ASGIApp:
    """The server's ASGI application.

    Args:
        answerer: What answers.
        limits: What is accepted.
    """
    import ecg_hf

    batcher: Batcher[Job, Answer] = Batcher(answerer, max_batch=limits.max_batch)
    metrics = Metrics()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with batcher.running():
            yield

    app = FastAPI(
        title="ecg-hf",
        version=ecg_hf.__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
    )

    async def answer(
        task: Task,
        files: list[UploadFile],
        told: dict[str, Any],
        version: str = "R5",
        media_type: str = "application/json",
    ) -> JSONResponse:
        uploads = tuple(Upload(_base_name(file.filename), cast(Any, file.file)) for file in files)
        found = await batcher(Job(task, uploads, told, version))
        return JSONResponse(found.body, found.status, media_type=media_type)

    @app.post("/v1/embed", summary="The embedding of a recording")
    async def embed(
        file: Files, sampling_rate: Rate = None, lead_names: Leads = None, units: Units = None
    ) -> JSONResponse:
        return await answer("embed", file, _told(sampling_rate, lead_names, units))

    if answerer.interpreter is not None:

        @app.post(
            "/v1/predict", summary="Heart rate, intervals and findings, as ecg-hf predict --json says them"
        )
        async def predict(
            file: Files, sampling_rate: Rate = None, lead_names: Leads = None, units: Units = None
        ) -> JSONResponse:
            return await answer("predict", file, _told(sampling_rate, lead_names, units))

        @app.post(
            "/v1/fhir", summary="A Bundle of the recording (Observation) and its findings (DiagnosticReport)"
        )
        async def fhir(
            file: Files,
            version: Version = "R5",
            sampling_rate: Rate = None,
            lead_names: Leads = None,
            units: Units = None,
        ) -> JSONResponse:
            told = _told(sampling_rate, lead_names, units)
            return await answer("fhir", file, told, version, "application/fhir+json")

    @app.get("/health", summary="Whether the server answers, and with which model")
    async def health() -> dict[str, str]:
        return {"status": "ok", "model": answerer.name}

    @app.get("/metrics", summary="Counters for Prometheus", response_class=PlainTextResponse)
    async def show_metrics() -> str:
        return metrics.text(batches=batcher.batches, recordings=batcher.items)

    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    return Gate(app, limits=limits, metrics=metrics)


def _told(sampling_rate: float | None, lead_names: str | None, units: str | None) -> dict[str, Any]:
    names = None if lead_names is None else [name.strip() for name in lead_names.split(",")]
    return {"sampling_rate": sampling_rate, "lead_names": names, "units": units}


def _base_name(name: str | None) -> str:
    """A file's name without folders, those of Windows included."""
    return (name or "").replace("\\", "/").rpartition("/")[2] or "file"


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """What is wrong with which field; the library's own answer would repeat its content."""
    assert isinstance(error, RequestValidationError)
    wrong = [f"{one['loc'][-1]}: {one['msg']}" for one in error.errors()]
    return JSONResponse({"error": "; ".join(wrong)}, 422)
