"""The page: its fields, and what happens when a button is pressed."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from typing import Any

# Before the library is loaded, which would report each start to its makers.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr

from ecg_hf.demo import fragments
from ecg_hf.demo.answering import Demo
from ecg_hf.errors import ConfigurationError, EcgError
from ecg_hf.plotting import Relevance, plot_ecg
from ecg_hf.signal import EcgRecord

__all__ = ["make_page", "run"]

_LOGGER = logging.getLogger(__name__)

LABELS = "normal ECG, atrial fibrillation, left bundle branch block, acute myocardial infarction"
USER = "ecg-hf"
"""The name to log in with, where a token is asked for."""

_KEPT_S = 900
_UPLOADS = "uploads"
_SESSIONS = 64

_CSS = """
table { border-collapse: collapse; width: 100%; margin: 0.5em 0; }
caption { text-align: left; font-weight: 600; padding: 0.3em 0; }
th, td { text-align: left; padding: 0.3em 0.7em; border-bottom: 1px solid #8886; font-weight: 400; }
thead th { font-weight: 600; }
:focus-visible { outline: 3px solid #147ddb !important; outline-offset: 2px; }
"""

_INTRODUCTION = """
# ECG demo

Upload a recording in any format that ecg-hf reads: WFDB, DICOM, EDF, SCP-ECG, XML of hospitals, Holter, watch, CSV.
It is read and answered on the computer that runs this page, and removed after about fifteen minutes.

**For research only, not for diagnosis.**
"""


def _one_line(*others: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make an error a text of one line, in the first output; the further ones become ``others``.

    An error that nobody foresaw becomes ``internal error``; the log has where it was raised, without its message,
    which may quote the upload.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapped(*values: Any) -> Any:
            try:
                return function(*values)
            except EcgError as error:
                error.path = None
                reason = str(error)
            except Exception as error:
                where = "".join(traceback.format_tb(error.__traceback__))
                _LOGGER.error("%s\n%s", type(error).__name__, where)
                reason = "internal error"
            shown = fragments.problem(reason)
            return (shown, *others) if others else shown

        return wrapped

    return decorate


_NOTHING_READ = (None, "", "", "", None, "", "")
"""What the answers to an earlier recording become where the next one can't be read."""


def make_page(demo: Demo) -> gr.Blocks:
    """The page for one set of models.

    Args:
        demo: What answers. One request at a time: models are not shared between threads.
    """
    names = demo.classify.model.config.id2label
    details = getattr(demo.classify.model.config, "label_details", None) or {}
    classes = sorted((str(details.get(one, {}).get("name", one)), one) for one in names.values())

    def answered(record: EcgRecord) -> tuple[Any, ...]:
        answer = demo.interpret(record)
        leads = f"{len(record.lead_names)} leads over {min(record.duration_s, 10.0):.0f} s"
        best = answer.findings[0].label if answer.findings else None
        return (
            fragments.summary(record, answer),
            record,
            fragments.picture(
                plot_ecg(record, title="Your recording"), f"The recording on ECG paper: {leads}."
            ),
            fragments.findings_table(answer),
            fragments.nearest_table(answer),
            best,
            "",
            "",
        )

    @_one_line(*_NOTHING_READ)
    def read(paths: list[str] | None, rate: float | None, leads: str | None, unit: str | None) -> Any:
        told = {
            "sampling_rate": rate or None,
            "lead_names": [name.strip() for name in leads.split(",")] if leads and leads.strip() else None,
            "units": unit or None,
        }
        return answered(demo.read(paths or [], told))

    @_one_line(*_NOTHING_READ)
    def sample() -> Any:
        return answered(demo.sample())

    @_one_line()
    def compare(record: EcgRecord | None, labels: str | None) -> Any:
        return fragments.similarity_table(demo.similarities(_there(record), labels or ""), demo.text_model)

    @_one_line()
    def explain(record: EcgRecord | None, label: str | None) -> Any:
        found = demo.explain(_there(record), label)
        maps = found.maps
        relevance = Relevance(
            maps.occlusion, found.patch_s, maps.gradient, found.sampling_rate, found.name, found.scale
        )
        figure = plot_ecg(found.record, layout="rows", relevance=relevance, title=found.name)
        described = (
            f"The recording with what speaks for {found.name} shaded orange, and what speaks against it blue."
        )
        return fragments.explanation_text(found) + fragments.picture(figure, described)

    with gr.Blocks(title="ECG demo", analytics_enabled=False, delete_cache=(60, _KEPT_S)) as page:
        gr.Markdown(_INTRODUCTION)
        record = gr.State(None, time_to_live=_KEPT_S)
        files = gr.File(
            label="Recording; of a WFDB record, .hea and .dat together",
            file_count="multiple",
            elem_id="upload",
        )
        with gr.Accordion("If the file does not say its rate, leads or unit", open=False), gr.Row():
            rate = gr.Number(label="Sampling rate, Hz", value=None, minimum=0)
            leads = gr.Textbox("", label="Lead names between commas: I, II, V1")
            unit = gr.Dropdown(["", "mV", "uV", "V"], value="", label="Voltage unit")
        with gr.Row():
            read_button = gr.Button("Read the recording", variant="primary", elem_id="read")
            sample_button = gr.Button("Use the sample record", elem_id="sample")
        summary = gr.HTML(elem_id="summary")
        drawn = gr.HTML(elem_id="picture")
        findings = gr.HTML(elem_id="findings")
        nearest = gr.HTML(elem_id="nearest")
        gr.Markdown("## Labels of your own")
        labels = gr.Textbox(LABELS, label="Texts between commas, in English or German", elem_id="labels")
        compare_button = gr.Button("Compare", elem_id="compare")
        similarities = gr.HTML(elem_id="similarities")
        gr.Markdown("## What a score is due to")
        label = gr.Dropdown(classes, value=None, label="Finding", elem_id="label")
        explain_button = gr.Button("Explain", elem_id="explain")
        explanation = gr.HTML(elem_id="explanation")

        answers = [summary, record, drawn, findings, nearest, label, similarities, explanation]
        # Nothing is offered to programs: ecg-hf serve is for them.
        alone: dict[str, Any] = {
            "concurrency_id": "models",
            "concurrency_limit": 1,
            "api_visibility": "private",
        }
        told = [files, rate, leads, unit]
        files.upload(read, told, answers, **alone)
        read_button.click(read, told, answers, **alone)
        sample_button.click(sample, [], answers, **alone)
        compare_button.click(compare, [record, labels], similarities, **alone)
        labels.submit(compare, [record, labels], similarities, **alone)
        explain_button.click(explain, [record, label], explanation, **alone)
    return page


def _there(record: EcgRecord | None) -> EcgRecord:
    if record is None:
        raise ConfigurationError("read a recording first")
    return record


def run(
    demo: Demo, host: str, port: int, *, token: str | None, max_bytes: int, ready: Callable[[], None]
) -> None:
    """Show the page until a signal ends the process.

    Args:
        demo: What answers.
        host: Address to listen on.
        port: A free port.
        token: Password of the user ``ecg-hf``; None for no check.
        max_bytes: Of an uploaded file.
        ready: Called once the page can be opened.

    Raises:
        ConfigurationError: if it can't be shown there.
    """
    with tempfile.TemporaryDirectory(prefix="ecg-hf-demo-") as folder, contextlib.chdir(folder):
        # Uploads are below it, and gone with it. The library tells browsers where they are: not from the root on.
        os.environ["GRADIO_TEMP_DIR"] = _UPLOADS
        page = make_page(demo)
        page.queue(max_size=_SESSIONS)
        try:
            page.launch(
                server_name=host,
                server_port=port,
                auth=None if token is None else (USER, token),
                max_file_size=max_bytes,
                prevent_thread_lock=True,
                quiet=True,
                share=False,
                show_error=False,
                ssr_mode=False,
                pwa=False,
                mcp_server=False,
                enable_monitoring=False,
                run_history=False,
                footer_links=[],
                state_session_capacity=_SESSIONS,
                theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
                css=_CSS,
            )
        except OSError as error:
            raise ConfigurationError(f"can't listen on {host}:{port}: {error}") from None
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            ready()
            threading.Event().wait()
        finally:
            page.close(verbose=False)
