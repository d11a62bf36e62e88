"""``ecg-hf predict --labels``: similarity of recordings to texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecg_hf.cli.output import echo, print_json_array, print_table, quiet_libraries
from ecg_hf.cli.over_time import Course, clock
from ecg_hf.cli.recordings import naming_options

if TYPE_CHECKING:
    from ecg_hf.signal import EcgRecord

__all__ = ["answer_labels"]

_WINDOWS_AT_ONCE = 64


def answer_labels(
    records: Sequence[Path],
    *,
    told: dict[str, Any],
    lengths: dict[str, Any],
    model: str | None,
    options: dict[str, Any],
    top_k: int | None,
    device: str | None,
    as_json: bool,
    pictures: Mapping[Path, Path],
) -> None:
    """Print the scores of recordings or their windows, and draw those of windows.

    Args:
        records: Paths.
        told: What :func:`ecg_hf.read_record` is told about files that do not say it.
        lengths: ``window_s`` and ``stride_s``.
        model: Folder, repository or shipped name.
        options: Of the pipeline: labels, template, function.
        top_k: Labels printed.
        device: Where the model runs.
        as_json: Print JSON.
        pictures: Where the picture of each goes, of those that are drawn.

    Raises:
        EcgError: if a recording can't be read or the model has no text side.
    """
    window_s = lengths["window_s"]
    # Before a model is loaded: a missing file should not wait for one.
    signals = _read(records, told) if window_s is None else _opened(records, told, window_s)
    quiet_libraries()
    from ecg_hf.cli.loading import load_pipeline
    from ecg_hf.models.pretrained import DEFAULT_MODEL

    pipe = load_pipeline("zero-shot-ecg-classification", model or DEFAULT_MODEL, device=device)
    if window_s is None:
        found = ([{"result": scores}] for scores in pipe(signals, **options))
    else:
        told = {**told, "unit": told["units"]}
        del told["units"]
        # A stretch without electrodes has windows that the model can't take: they have no scores.
        told["on_error"] = "skip"
        found = pipe(iter(signals), batch_size=_WINDOWS_AT_ONCE, **lengths, **told, **options)
    entries = _entries(records, found, window_s, pictures, is_share=options["function_to_apply"] == "softmax")
    if as_json:
        print_json_array({**entry, "scores": entry["scores"][:top_k]} for entry in entries)
        return
    last = ""
    for entry in entries:
        _show(entry, entry["scores"][:top_k], is_next="start_s" in entry and entry["record"] == last)
        last = entry["record"]


def _entries(
    records: Sequence[Path],
    found: Any,
    window_s: float | None,
    pictures: Mapping[Path, Path],
    *,
    is_share: bool,
) -> Iterator[dict[str, Any]]:
    """One per recording or window; pictures are drawn of recordings that are finished."""
    for record, windows in zip(records, found, strict=True):
        course = None if window_s is None else Course(window_s, limits=(0.0, 1.0) if is_share else None)
        if hasattr(windows, "error"):
            raise windows.error
        for window in windows:
            scores = window.pop("result")
            if course is not None:
                course.add(window["start_s"], {one["label"]: one["score"] for one in scores})
            yield {"record": str(record), **window, "scores": scores}
        if course is not None and record in pictures:
            course.draw(pictures[record], record.name)


def _show(entry: dict[str, Any], scores: Sequence[dict[str, Any]], *, is_next: bool) -> None:
    if not is_next:
        echo(entry["record"])
    if "start_s" in entry:
        shown = ", ".join(f"{one['label']} {one['score']:+.4f}" for one in scores) or "no scores"
        echo(f"  {clock(entry['start_s']):>10}  {shown}")
    else:
        rows = [{"label": one["label"], "score": f"{one['score']:+.4f}"} for one in scores]
        print_table(rows, ("label", "score"))


def _read(records: Sequence[Path], told: dict[str, Any]) -> Sequence[EcgRecord]:
    from ecg_hf.signal import read_record

    with naming_options():
        return [read_record(record, **told) for record in records]


def _opened(records: Sequence[Path], told: dict[str, Any], window_s: float) -> Sequence[str]:
    """Their paths, after each was opened once."""
    from ecg_hf.signal import iter_windows

    with naming_options():
        for record in records:
            iter_windows(record, window_s, window_s, **told)
    return [str(record) for record in records]
