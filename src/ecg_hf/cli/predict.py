"""``ecg-hf predict``: what can be said of recordings."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecg_hf.cli.engine import Address, EngineName, NumProc, PieceTimeout, RecordsPerPart
from ecg_hf.cli.output import echo, print_json, print_json_array, print_table
from ecg_hf.cli.over_time import Course, clock
from ecg_hf.cli.plot import FORMATS as PICTURES
from ecg_hf.cli.recordings import (
    UNREADABLE,
    BulkDataset,
    BulkRecords,
    bulk_given,
    remote_folder,
    told_options,
    with_folders,
)
from ecg_hf.cli.zero_shot import answer_labels
from ecg_hf.errors import ConfigurationError, ModelFolderError

if TYPE_CHECKING:
    from ecg_hf.engine import Engine
    from ecg_hf.pipelines.bulk_recordings import Given
    from ecg_hf.pipelines.interpretation import Interpretation, Interpreter
    from ecg_hf.signal import EcgRecord

__all__ = ["predict_command"]

_SHOWN_FINDINGS = 5

_MEASURED = {
    "heart_rate_bpm": "heart rate {:.0f}/min",
    "pr_ms": "PR {:.0f} ms",
    "qrs_ms": "QRS {:.0f} ms",
    "qt_ms": "QT {:.0f} ms",
    "qtc_ms": "QTc {:.0f} ms",
}


def predict_command(
    records: BulkRecords = None,
    dataset: BulkDataset = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Model folder, Hub repository or shipped name ('ecg-hf list pretrained'); the package's own if none."
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="Comma-separated names or prompts for a zero-shot answer; none for a classifier."),
    ] = None,
    template: Annotated[str, typer.Option(help="Prompt made of each label, '{}' stands for it.")] = "{}",
    softmax: Annotated[
        bool, typer.Option(help="Scores that add up to 1 over the labels, not cosines.")
    ] = False,
    top_k: Annotated[int | None, typer.Option(min=1, help="Only the best labels.")] = None,
    sampling_rate: Annotated[
        float | None,
        typer.Option(help="Hertz, for files that do not say: .npy, .csv, .mat without a header."),
    ] = None,
    lead_names: Annotated[
        str | None, typer.Option(help="Comma-separated names of their leads, in order: I,II,III ...")
    ] = None,
    units: Annotated[str | None, typer.Option(help="Their voltage unit: mV, uV or V.")] = None,
    window: Annotated[
        float | None, typer.Option(help="Seconds of a window: an answer for each window of a recording.")
    ] = None,
    stride: Annotated[
        float | None, typer.Option(help="Seconds from window to window; as --window by default.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Device; by default a GPU if there is one.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON array, one object per recording or window.")
    ] = False,
    csv_file: Annotated[
        Path | None,
        typer.Option(
            "--csv", help="Also write a table: one row per recording or window, one column per label."
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            help="Instead of answers, a folder of Parquet parts with the columns of --csv, or its address."
        ),
    ] = None,
    num_proc: NumProc = 1,
    engine: EngineName = "local",
    address: Address = None,
    piece_timeout: PieceTimeout = None,
    records_per_part: RecordsPerPart = 1024,
    overwrite: Annotated[
        bool, typer.Option(help="With --output: replace parts of another model or of other recordings.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Also draw each recording, or with --window its scores over time: a .png or .svg file for one, a "
            "folder for several."
        ),
    ] = None,
) -> None:
    """Heart rate, intervals and findings of recordings; with --labels, zero-shot scores.

    Findings are a classifier's classes with probabilities. With --window, recordings of any length are read block by
    block and every window is answered. A recording that can't be read is accounted for and the exit code is 3. For
    research only, not for diagnosis.
    """
    names = None if lead_names is None else [name.strip() for name in lead_names.split(",")]
    told = told_options(sampling_rate, names, units)
    lengths: dict[str, Any] = {"window_s": window, "stride_s": stride}
    if stride is not None and window is None:
        raise ConfigurationError("--stride needs --window", value=stride)
    if csv_file is not None and csv_file.is_dir():
        raise ConfigurationError("--csv writes a file, and this is a folder", path=csv_file)
    from ecg_hf.engine import Engine

    where = Engine(engine, address=address, num_proc=num_proc, piece_timeout=piece_timeout)
    if output is None and (where != Engine() or overwrite):
        raise ConfigurationError("--num-proc, --engine and --overwrite need --output")
    if output is not None:
        if labels is not None or softmax or csv_file is not None or plot is not None or top_k is not None:
            raise ConfigurationError(
                "--output writes all findings of a classifier: no --labels, --softmax, --top-k, --csv or --plot"
            )
        _write_parts(
            model,
            bulk_given(records, dataset, told),
            output,
            engine=where,
            device=device,
            records_per_part=records_per_part,
            overwrite=overwrite,
            as_json=as_json,
            **lengths,
            **told,
        )
        return
    if dataset is not None or remote_folder(records or []) is not None:
        raise ConfigurationError("a dataset, or recordings in an object store, need --output", path=dataset)
    if not records:
        raise ConfigurationError("name a RECORD, or a --dataset and an --output")
    found = with_folders([Path(one) for one in records])
    pictures = {} if plot is None else _pictures(dict(found), plot)
    if labels is not None:
        if csv_file is not None or (plot is not None and window is None):
            raise ConfigurationError("--csv, and --plot without --window, are for findings, not for --labels")
        options = {
            "candidate_labels": [label.strip() for label in labels.split(",") if label.strip()],
            "hypothesis_template": template,
            "function_to_apply": "softmax" if softmax else "none",
        }
        if not options["candidate_labels"]:
            raise ConfigurationError("--labels names no label", value=labels)
        answer_labels(
            [path for path, _ in found],
            told=told,
            lengths=lengths,
            model=model,
            options=options,
            top_k=top_k,
            device=device,
            as_json=as_json,
            pictures=pictures,
        )
        return
    if softmax:
        raise ModelFolderError(
            "--softmax belongs to --labels; a classifier applies its own function", path=model
        )
    interpreter = _interpreter(model, device)
    unread = 0

    def written() -> Iterator[Interpretation]:
        nonlocal unread
        with _table(csv_file, interpreter, windows=window is not None) as write:
            for answer in _answers(interpreter, [path for path, _ in found], told, lengths, pictures):
                write(answer)
                unread += answer.error is not None
                yield answer

    if as_json:
        print_json_array(answer.as_dict() for answer in written())
    else:
        last = ""
        for answer in written():
            _show(
                answer, top_k or _SHOWN_FINDINGS, is_next=answer.start_s is not None and answer.record == last
            )
            last = answer.record
        echo("For research only, not for diagnosis.", err=True)
    if unread:
        raise typer.Exit(UNREADABLE)


def _write_parts(
    model: str | None,
    records: Given,
    output: str,
    *,
    device: str | None,
    engine: Engine,
    as_json: bool,
    **options: Any,
) -> None:
    from ecg_hf.cli.loading import local_classifier, piece_device
    from ecg_hf.models.pretrained import DEFAULT_CLASSIFIER
    from ecg_hf.pipelines.predicted_parts import predict_in_parts

    folder, name = local_classifier(model or DEFAULT_CLASSIFIER)
    place = piece_device(device, engine.name)
    engine = replace(engine, gpu=place.startswith("cuda"))
    report = predict_in_parts(
        folder, records, output, model_name=name, device=place, engine=engine, **options
    )
    if as_json:
        print_json({**asdict(report), "output": output})
    else:
        said = f"{report.rows} rows of {report.records} recordings in {report.parts} files in {output}"
        said += f", {report.reused} of them there already" if report.reused else ""
        said += f"; {report.unread} recordings can't be read" if report.unread else ""
        echo(said)
        echo("For research only, not for diagnosis.", err=True)
    if report.unread:
        raise typer.Exit(UNREADABLE)


def _pictures(records: Mapping[Path, Path], plot: Path) -> dict[Path, Path]:
    """The picture of each recording: the file named, or one in the folder named, in subfolders as the recordings are.

    Raises:
        ConfigurationError: if several recordings are to be in one file, or the file is no picture.
    """
    if plot.suffix and not plot.is_dir():
        if len(records) > 1:
            raise ConfigurationError("several recordings need a folder to be drawn in", path=plot)
        if plot.suffix.lower() not in PICTURES:
            raise ConfigurationError("a picture is a .png or an .svg file", path=plot)
        return dict.fromkeys(records, plot)
    taken: Counter[Path] = Counter()
    pictures = {}
    for path, name in records.items():
        taken[name] += 1
        again = "" if taken[name] == 1 else f"_{taken[name]}"
        pictures[path] = plot / name.with_name(f"{name.name}{again}.png")
    return pictures


def _interpreter(model: str | None, device: str | None) -> Interpreter:
    from ecg_hf.cli.loading import load_classifier
    from ecg_hf.models.pretrained import DEFAULT_CLASSIFIER
    from ecg_hf.pipelines.interpretation import Interpreter

    classifier, extractor, name, place = load_classifier(model or DEFAULT_CLASSIFIER, device=device)
    return Interpreter(classifier, extractor, name=name, device=place)


def _answers(
    interpreter: Interpreter,
    records: Sequence[Path],
    told: dict[str, Any],
    lengths: dict[str, Any],
    pictures: Mapping[Path, Path],
) -> Iterator[Interpretation]:
    """Answers as they come, and pictures of recordings that are finished."""
    from ecg_hf.progress import progress_bar

    with progress_bar(len(records), "recordings", "rec", show=len(records) > 1) as bar:
        if lengths["window_s"] is None:
            for path, (record, answer) in zip(records, interpreter.read(records, **told), strict=True):
                if record is not None and path in pictures:
                    _draw(record, answer, pictures[path])
                bar.update(1)
                yield answer
            return
        for path in records:
            course = Course(lengths["window_s"])
            for answer in interpreter([path], **lengths, **told):
                if answer.start_s is not None:
                    scores = {one.name: one.probability for one in answer.findings}
                    course.add(answer.start_s, scores, answer.measurements.get("heart_rate_bpm"))
                yield answer
            if path in pictures:
                course.draw(pictures[path], path.name)
            bar.update(1)


def _draw(record: EcgRecord, answer: Interpretation, path: Path) -> None:
    from ecg_hf.plotting import plot_ecg, save_figure

    rate = answer.measurements.get("heart_rate_bpm")
    parts = [Path(answer.record).name.removesuffix(".hea"), "" if rate is None else f"{rate:.0f}/min"]
    parts += [
        f"{one.name} {one.probability:.0%}"
        for one in answer.findings
        if one.positive and one.probability >= 0.5
    ][:3]
    path.parent.mkdir(parents=True, exist_ok=True)
    figure = plot_ecg(
        record.signal, record.sampling_rate, record.lead_names, title=", ".join(filter(None, parts))
    )
    save_figure(figure, path)


def _show(answer: Interpretation, count: int, *, is_next: bool) -> None:
    """One answer for a reader; a window's takes one line, below the name of its recording."""
    if not is_next:
        echo(answer.record)
    if answer.error:
        echo(f"  can't be read: {answer.error}")
    elif answer.start_s is not None:
        _show_window(answer, count)
    else:
        _show_recording(answer, count)


def _show_window(answer: Interpretation, count: int) -> None:
    rate = answer.measurements.get("heart_rate_bpm")
    found = [f"{one.label} {one.probability:.2f}" + " *" * one.positive for one in answer.findings[:count]]
    said = f"no findings: {answer.abstained}" if answer.abstained else ", ".join(found)
    echo(f"  {clock(answer.start_s or 0.0):>10}  {'' if rate is None else f'{rate:.0f}/min':>7}  {said}")


def _show_recording(answer: Interpretation, count: int) -> None:
    shown = [
        _MEASURED[name].format(value) for name, value in answer.measurements.items() if value is not None
    ]
    count_of_leads = len(answer.lead_names)
    leads = f"{count_of_leads} lead{'s' * (count_of_leads != 1)}, {answer.duration_s:.1f} s, "
    leads += f"{answer.sampling_rate:g} Hz"
    echo(f"  {leads}; {', '.join(shown) or 'nothing could be measured'}")
    if answer.abstained:
        echo(f"  no findings: {answer.abstained}")
        return
    rows = [
        {
            "label": one.label,
            "name": one.name,
            "probability": f"{one.probability:.2f}" + (" *" if one.positive else ""),
            "reference AUROC": "" if one.reference_auroc is None else f"{one.reference_auroc:.3f}",
        }
        for one in answer.findings[:count]
    ]
    print_table(rows, ("label", "name", "probability", "reference AUROC"))
    for near in answer.nearest:
        echo(f"  like {near['record_id']} ({near['similarity']:.2f}): {', '.join(near['labels'])}")


@contextmanager
def _table(
    path: Path | None, interpreter: Interpreter, *, windows: bool
) -> Iterator[Callable[[Interpretation], None]]:
    """What writes an answer as a row of a table: one column per measurement and per label."""
    if path is None:
        yield lambda answer: None
        return
    from ecg_hf.files import replace_file
    from ecg_hf.pipelines.predicted_parts import answer_columns, answer_row

    columns = list(answer_columns(interpreter.model.config.id2label.values(), windows=windows))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(path) as binary:
        text = io.TextIOWrapper(binary, encoding="utf-8", newline="")
        table = csv.writer(text, lineterminator="\n")
        table.writerow(columns)

        def write(answer: Interpretation) -> None:
            row = answer_row(answer, columns)
            table.writerow(["" if value is None else value for value in row])

        yield write
        text.detach()
