"""``ecg-hf predict``: what can be said of recordings."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecg_hf.cli.output import echo, print_json, print_table, quiet_libraries
from ecg_hf.cli.plot import FORMATS as PICTURES
from ecg_hf.errors import ConfigurationError, EcgError, MetadataMissing, ModelFolderError, RecordNotFound

if TYPE_CHECKING:
    from ecg_hf.pipelines.interpretation import Interpretation
    from ecg_hf.signal import EcgRecord

__all__ = ["predict_command"]

UNREADABLE = 3
"""Exit code where some recording could not be read; the others are answered."""

_SHOWN_FINDINGS = 5
_MEASURED = {
    "heart_rate_bpm": "heart rate {:.0f}/min",
    "pr_ms": "PR {:.0f} ms",
    "qrs_ms": "QRS {:.0f} ms",
    "qt_ms": "QT {:.0f} ms",
    "qtc_ms": "QTc {:.0f} ms",
}


def predict_command(
    records: Annotated[
        list[Path],
        typer.Argument(
            metavar="RECORD...", help="Recordings in any format that read_record reads, or folders of them."
        ),
    ],
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
    device: Annotated[str | None, typer.Option(help="Device; by default a GPU if there is one.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON array, one object per recording.")
    ] = False,
    csv_file: Annotated[
        Path | None,
        typer.Option("--csv", help="Also write a table: one row per recording, one column per label."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Also draw each recording: a .png or .svg file for one, a folder for several."),
    ] = None,
) -> None:
    """Heart rate, intervals and findings of recordings; with --labels, zero-shot scores.

    Findings are a classifier's classes with probabilities. A recording that can't be read is accounted for and the
    exit code is 3. For research only, not for diagnosis.
    """
    told = _checked(
        sampling_rate, None if lead_names is None else [name.strip() for name in lead_names.split(",")], units
    )
    if labels is not None:
        if csv_file is not None or plot is not None:
            raise ConfigurationError("--csv and --plot are for findings, not for --labels")
        _zero_shot(
            list(_with_folders(records)), told, model, labels, template, softmax, top_k, device, as_json
        )
        return
    if softmax:
        raise ModelFolderError(
            "--softmax belongs to --labels; a classifier applies its own function", path=model
        )
    found = _with_folders(records)
    if csv_file is not None and csv_file.is_dir():
        raise ConfigurationError("--csv writes a file, and this is a folder", path=csv_file)
    answers, labels_of_model = _interpret(
        list(found), told, model, device, {} if plot is None else _pictures(found, plot)
    )
    if csv_file is not None:
        _write_csv(csv_file, answers, labels_of_model)
    if as_json:
        print_json([answer.as_dict() for answer in answers])
    else:
        for answer in answers:
            _show(answer, top_k or _SHOWN_FINDINGS)
        echo("For research only, not for diagnosis.", err=True)
    if any(answer.error for answer in answers):
        raise typer.Exit(UNREADABLE)


def _checked(rate: float | None, names: list[str] | None, unit: str | None) -> dict[str, Any]:
    """Options of ``read_record``; what no recording can have is refused here, not counted as unreadable recordings.

    Raises:
        EcgError: for an impossible rate, an unknown unit, or a lead that is named twice or not at all.
    """
    from ecg_hf.signal.leads import normalize_lead_names
    from ecg_hf.signal.record import checked_sampling_rate
    from ecg_hf.signal.units import millivolts_per_unit

    if rate is not None:
        checked_sampling_rate(rate)
    if unit is not None:
        millivolts_per_unit(unit)
    if names is not None:
        normalize_lead_names(names)
    return {"sampling_rate": rate, "lead_names": names, "unit": unit}


def _with_folders(paths: Sequence[Path]) -> dict[Path, Path]:
    """The recordings, those of folders one by one, and the name of each below the folder given.

    Raises:
        RecordNotFound: if a folder holds none.
    """
    from ecg_hf.signal.io.paths import recordings_below

    found: dict[Path, Path] = {}
    for path in paths:
        if not path.is_dir():
            found[path] = Path(path.name.removesuffix(".hea"))
            continue
        inside = list(recordings_below(path))
        if not inside:
            raise RecordNotFound("the folder holds no recordings", path=path)
        # WFDB records go by their names.
        shown = [file.with_suffix("") if file.suffix == ".hea" else file for file in inside]
        found |= {file: file.relative_to(path) for file in shown}
    return found


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


def _interpret(
    records: Sequence[Path],
    told: dict[str, Any],
    model: str | None,
    device: str | None,
    pictures: Mapping[Path, Path],
) -> tuple[list[Interpretation], list[str]]:
    """An answer for each recording, and the labels of the classifier; draws the pictures on the way."""
    from ecg_hf.cli.loading import load_classifier
    from ecg_hf.evaluation.progress import progress_bar
    from ecg_hf.models.pretrained import DEFAULT_CLASSIFIER
    from ecg_hf.pipelines.interpretation import Interpreter

    classifier, extractor, name, place = load_classifier(model or DEFAULT_CLASSIFIER, device=device)
    interpreter = Interpreter(classifier, extractor, name=name, device=place)
    answers = []
    with progress_bar(len(records), "recordings", "rec", show=len(records) > 1) as bar:
        for path, (record, answer) in zip(records, interpreter.read(records, **told), strict=True):
            if record is not None and path in pictures:
                _draw(record, answer, pictures[path])
            answers.append(answer)
            bar.update(1)
    return answers, list(classifier.config.id2label.values())


def _draw(record: EcgRecord, answer: Interpretation, path: Path) -> None:
    from ecg_hf.plotting import plot_ecg, save_figure

    rate = answer.measurements.get("heart_rate_bpm")
    parts = [Path(answer.record).name.removesuffix(".hea"), "" if rate is None else f"{rate:.0f}/min"]
    parts += [f"{one.name} {one.probability:.0%}" for one in answer.findings if one.positive][:3]
    path.parent.mkdir(parents=True, exist_ok=True)
    figure = plot_ecg(
        record.signal, record.sampling_rate, record.lead_names, title=", ".join(filter(None, parts))
    )
    save_figure(figure, path)


def _show(answer: Interpretation, count: int) -> None:
    echo(answer.record)
    if answer.error:
        echo(f"  can't be read: {answer.error}")
        return
    shown = [
        _MEASURED[name].format(value) for name, value in answer.measurements.items() if value is not None
    ]
    leads = f"{len(answer.lead_names)} leads, {answer.duration_s:.1f} s, {answer.sampling_rate:g} Hz"
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


def _write_csv(path: Path, answers: Sequence[Interpretation], labels: Sequence[str]) -> None:
    from ecg_hf.files import replace_file
    from ecg_hf.pipelines.interpretation import MEASUREMENTS

    scalars = ("record", "error", "duration_s", "sampling_rate", "abstained", "model")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(path) as binary:
        lines: list[str] = []
        table = csv.writer(_Lines(lines), lineterminator="\n")
        table.writerow([*scalars, "lead_names", *MEASUREMENTS, *labels])
        for answer in answers:
            scores = {one.label: one.probability for one in answer.findings}
            row = [getattr(answer, name) for name in scalars] + [" ".join(answer.lead_names)]
            row += [answer.measurements.get(name) for name in MEASUREMENTS]
            row += [scores.get(name) for name in labels]
            table.writerow(["" if value is None else value for value in row])
        binary.write("".join(lines).encode("utf-8"))


class _Lines:
    """Collects what a CSV writer writes."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    def write(self, text: str) -> None:
        self._lines.append(text)


def _zero_shot(
    records: Sequence[Path],
    told: dict[str, Any],
    model: str | None,
    labels: str,
    template: str,
    softmax: bool,
    top_k: int | None,
    device: str | None,
    as_json: bool,
) -> None:
    candidates = [label.strip() for label in labels.split(",") if label.strip()]
    if not candidates:
        raise ConfigurationError("--labels names no label", value=labels)
    signals = _read(records, told)
    quiet_libraries()
    from ecg_hf.cli.loading import load_pipeline
    from ecg_hf.models.pretrained import DEFAULT_MODEL

    pipe = load_pipeline("zero-shot-ecg-classification", model or DEFAULT_MODEL, device=device)
    results = pipe(
        signals,
        candidate_labels=candidates,
        hypothesis_template=template,
        function_to_apply="softmax" if softmax else "none",
        top_k=top_k,
    )
    if as_json:
        print_json([{"record": str(r), "scores": s} for r, s in zip(records, results, strict=True)])
        return
    for record, scores in zip(records, results, strict=True):
        echo(str(record))
        rows = [{"label": s["label"], "score": f"{s['score']:+.4f}"} for s in scores]
        print_table(rows, ("label", "score"))


def _read(records: Sequence[Path], told: dict[str, Any]) -> list[EcgRecord]:
    """The recordings, before a model is loaded: a missing file should not wait for one."""
    from ecg_hf.signal import read_record

    try:
        return [read_record(record, **told) for record in records]
    except EcgError as error:
        raise with_flags(error) from None


def with_flags(error: EcgError) -> EcgError:
    """The error; one about missing metadata also names the options that tell them."""
    if not isinstance(error, MetadataMissing):
        return error
    flags = "--sampling-rate, --lead-names and --units say it"
    return MetadataMissing(f"{error.message} ({flags})", path=error.path, value=error.value)
