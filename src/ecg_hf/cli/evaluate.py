"""``ecg-hf evaluate``: a model on benchmarks by a published protocol, with controls and intervals."""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecg_hf.cli.data import parse_options
from ecg_hf.cli.engine import Address, EngineName, PieceTimeout
from ecg_hf.cli.evaluate_recordings import (
    Build,
    annotated_recordings,
    benchmark_recordings,
    own_recordings,
)
from ecg_hf.cli.output import echo, print_json
from ecg_hf.errors import ConfigurationError, EcgError
from ecg_hf.files import sole_writer

if TYPE_CHECKING:
    from ecg_hf.evaluation.benchmark_data import Benchmark
    from ecg_hf.evaluation.plan import EvaluationPlan

__all__ = ["evaluate_command"]


def evaluate_command(
    model: Annotated[
        list[str],
        typer.Option(
            help="Model folder, Hub repository or name, see 'ecg-hf list pretrained'; may be repeated: the others "
            "are compared with the first."
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            help="Folder for cells, features, results and figures, or its address (s3://bucket/folder); a killed run "
            "goes on."
        ),
    ],
    benchmark: Annotated[
        str | None, typer.Option(help="One or several, comma-separated; see 'ecg-hf list benchmarks'.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Instead: a column of the --dataset that holds your own labels, one per record or lists of them. "
            "Its column 'split' says what trains, validates and tests, unless folds are given.",
        ),
    ] = None,
    data_dir: Annotated[
        list[str] | None,
        typer.Option(
            help="Folder with a source's files, built once into OUTPUT/data; SOURCE=FOLDER for several."
        ),
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            help="Built dataset instead, a folder or its address (s3://bucket/folder); may be repeated."
        ),
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="merl, merl-exact, merl-test-max, strodthoff or jepa.")
    ] = "merl-exact",
    head: Annotated[
        str,
        typer.Option(
            help="linear, attention, mlp, finetune, zero-shot, retrieval, delineation or regression; one or several, "
            "comma-separated."
        ),
    ] = "linear",
    fraction: Annotated[
        str | None,
        typer.Option(
            help="Label fractions, e.g. 0.01,0.1,1.0; the protocol's by default, of --labels all labels."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds of label subsets and heads.")] = 1,
    train_folds: Annotated[str | None, typer.Option(help="Instead of the protocol's, e.g. 1-7.")] = None,
    validation_folds: Annotated[str | None, typer.Option(help="The same for what is chosen.")] = None,
    test_folds: Annotated[str | None, typer.Option(help="The same for scoring.")] = None,
    controls: Annotated[
        str | None,
        typer.Option(
            help="Rows beside the model: untrained,handmade (by default), minirocket,supervised (slow), or none."
        ),
    ] = None,
    control_option: Annotated[
        list[str] | None,
        typer.Option(help="Setting of a control, e.g. supervised.epochs=5; may be repeated."),
    ] = None,
    solver: Annotated[
        str, typer.Option(help="Of linear heads: lbfgs (exact), published (the protocol's schedule) or auto.")
    ] = "auto",
    head_option: Annotated[
        list[str] | None, typer.Option(help="Setting of the head, e.g. epochs=20; may be repeated.")
    ] = None,
    prompts: Annotated[
        str, typer.Option(help="For zero-shot: plain, bilingual, merl (in --tables), or a JSON file.")
    ] = "plain",
    tables: Annotated[
        Path | None, typer.Option(help="Folder with MERL's published tables (splits and prompts).")
    ] = None,
    subsets: Annotated[
        str, typer.Option(help="Label subsets: published (the protocol's) or drawn (by seed).")
    ] = "published",
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", help="Option of the source that is built, NAME=VALUE."),
    ] = None,
    num_proc: Annotated[
        int,
        typer.Option(
            min=1,
            help="Processes that read records; on a CPU they also share out several models, or benchmarks of several "
            "sources.",
        ),
    ] = 1,
    engine: EngineName = "local",
    address: Address = None,
    piece_timeout: PieceTimeout = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Recordings per forward pass.")] = 64,
    pool_tokens: Annotated[
        int, typer.Option(min=1, help="For heads on tokens: mean over so many consecutive ones of a lead.")
    ] = 1,
    resamples: Annotated[int, typer.Option(min=1, help="Bootstrap resamples.")] = 1000,
    device: Annotated[str | None, typer.Option(help="Device; by default a GPU if available.")] = None,
    figures: Annotated[bool, typer.Option(help="Draw figures, PNG and SVG.")] = True,
    lead_curve: Annotated[
        bool, typer.Option("--lead-curve", help="Score test records with ever fewer leads too.")
    ] = False,
    rate_curve: Annotated[
        bool, typer.Option("--rate-curve", help="Score test records at ever lower sampling rates too.")
    ] = False,
    update_card: Annotated[
        bool, typer.Option("--update-card", help="Write the results into the model folder's card.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Evaluate models: frozen features or fine-tuning, every label fraction and seed, controls beside them.

    On published benchmarks, or on your own labels: --model A --model B --dataset MINE --labels COLUMN. Settings are
    chosen on validation records, never on test. OUTPUT gets results.json, results.csv, table.md and figures; finished
    cells are kept, so that the same command continues a killed run.
    """
    from ecg_hf.data.splits import parse_folds
    from ecg_hf.evaluation.benchmark_data import get_benchmark
    from ecg_hf.evaluation.encoders import UNTRAINED
    from ecg_hf.evaluation.evaluate import LoadedModel, check_controls, evaluate_model
    from ecg_hf.evaluation.plan import EvaluationPlan
    from ecg_hf.evaluation.protocols import get_protocol

    if (benchmark is None) == (labels is None):
        raise ConfigurationError("give either --benchmark or, for labels of your own, --labels")
    benchmarks = (
        [] if benchmark is None else [get_benchmark(name) for name in _names(benchmark, "--benchmark")]
    )
    for folds in (train_folds, validation_folds, test_folds):
        parse_folds(folds or "")
    from ecg_hf.cli.evaluate_pieces import EvaluationPieces, works_in_pieces
    from ecg_hf.cli.loading import resolve_device
    from ecg_hf.engine import Engine, absolute
    from ecg_hf.hub.fetching import resolve_model
    from ecg_hf.storage import RemoteFolder, location, working_copy

    place = resolve_device(device)
    where = Engine(
        engine,
        address=address,
        num_proc=num_proc,
        piece_timeout=piece_timeout,
        gpu=engine == "dask" and place.startswith("cuda"),
    )
    in_pieces = works_in_pieces(where, place)
    heads = _names(head, "--head")
    shares = None if labels is None else (1.0,)
    plan = EvaluationPlan(
        protocol=get_protocol(protocol),
        heads=heads,
        fractions=shares if fraction is None else _numbers(fraction),
        seeds=tuple(range(seeds)),
        solver=solver,
        head_options=parse_options(head_option or []),
        folds=(train_folds, validation_folds, test_folds),
        n_resamples=resamples,
        device=place,
        prompts=_prompts(prompts, tables) if "zero-shot" in heads else None,
        prompt_set=prompts,
        subsets=subsets,
    )
    curves = tuple(axis for axis, wanted in (("leads", lead_curve), ("rate", rate_curve)) if wanted)
    _check_heads(benchmarks, plan, curves, several=len(model) > 1)
    wanted = None if controls is None else () if controls == "none" else _names(controls, "--controls")
    chosen, notes = check_controls(wanted, plan)
    control_options = _control_options(control_option or [], chosen, place, num_proc)
    source_options = _source_options(option or [])
    names = _model_names(model)
    sources = [resolve_model(one) for one in model]
    if update_card and (len(model) > 1 or not (Path(sources[0]) / "README.md").is_file()):
        raise ConfigurationError("--update-card needs one model in a local folder with a card", path=model[0])
    # A model that can't be loaded is said before anything is built or scored, not when its turn comes.
    first = _load(sources[0], heads, place)
    peaks = [_wants_peaks(first[1]), *(_wants_peaks(_load(one, heads, place)[1]) for one in sources[1:])]

    def load_each() -> Iterator[LoadedModel]:
        for number, (name, source) in enumerate(zip(names, sources, strict=True)):
            encoder, extractor = _load(source, heads, place) if number else first
            yield LoadedModel(source, encoder, extractor, place, batch_size, pool_tokens, name)

    def say(line: str) -> None:
        echo(line, err=True)

    for note in notes:
        say(note)
    if isinstance(location(output), RemoteFolder) and where.name != "local":
        raise ConfigurationError(
            "the workers of a cluster need an output folder that all of them see", value=output
        )
    with (
        working_copy(output, last=("results.json",)) as copy,
        _nothing_left_behind(copy.folder),
        sole_writer(copy.folder),
        contextlib.redirect_stdout(sys.stderr),
    ):
        build = Build(copy.folder, source_options, num_proc, any(peaks), say)
        if labels is None:
            recordings = benchmark_recordings(benchmarks, data_dir or [], dataset or [], build)
        else:
            own, rows = own_recordings(labels, data_dir or [], dataset or [], build)
            benchmarks, recordings = [own], {own.name: rows}
        made = 0
        if in_pieces:
            made_here = list(map(os.path.abspath, build.built))
            opened = (
                made_here if labels is not None and made_here else [*map(absolute, dataset or []), *made_here]
            )
            made = EvaluationPieces(
                plan,
                os.path.abspath(copy.folder),
                tuple(opened),
                labels,
                None if tables is None else os.path.abspath(tables),
                curves,
                place,
                batch_size,
                pool_tokens,
            ).run(
                ((source, _load(source, heads, "cpu")[0]) for source in sources),
                benchmarks,
                recordings,
                where,
                untrained=UNTRAINED in chosen,
                say=say,
            )
        evaluation = evaluate_model(
            plan,
            load_each(),
            benchmarks,
            recordings,
            copy.folder,
            controls=chosen,
            control_options=control_options,
            tables=tables,
            annotated=annotated_recordings(benchmarks, data_dir or []),
            curves=curves,
            notes=notes,
            say=say,
        )
        from ecg_hf.evaluation.report import write_evaluation

        write_evaluation(copy.folder, evaluation, figures=figures)
        if update_card:
            from ecg_hf.hub.model_index import update_model_index

            say(f"results written into {update_model_index(sources[0], evaluation.results)}")
        table = (copy.folder / "table.md").read_text(encoding="utf-8")
    say(f"{evaluation.computed + made} cells computed, {evaluation.reused - made} found; results in {output}")
    if as_json:
        print_json(evaluation.results)
    else:
        echo(table)


def _load(source: str, heads: Sequence[str], device: str) -> tuple[Any, Any]:
    """A model and its feature extractor."""
    from ecg_hf.cli.loading import load_model

    encoder, extractor = load_model(source, device=device)
    for wanting in ("zero-shot", "retrieval"):
        if wanting in heads and not hasattr(encoder, "get_text_features"):
            raise ConfigurationError(f"{wanting} needs a model with a text side", path=source)
    return encoder, extractor


def _model_names(models: Sequence[str]) -> list[str]:
    """What rows call the models: their last names, or all of what was given where two would be called alike."""
    from ecg_hf.evaluation.encoders import CONTROLS
    from ecg_hf.evaluation.summary import PRETRAINED

    if len(models) == 1:
        return [PRETRAINED]
    if len(set(models)) < len(models):
        raise ConfigurationError("--model names a model twice", value=models)
    last = [Path(one).name for one in models]
    taken = (PRETRAINED, *CONTROLS)
    names = [one if last.count(name) > 1 else name for one, name in zip(models, last, strict=True)]
    return [f"./{name}" if name in taken else name for name in names]


def _names(text: str, flag: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise ConfigurationError(
            f"{flag} takes different names separated by commas, got {text!r}", value=text
        )
    return names


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(dict.fromkeys(float(part) for part in text.split(",")))
    except ValueError:
        raise ConfigurationError(
            f"--fraction takes numbers such as 0.01,0.1,1.0, got {text!r}", value=text
        ) from None


def _prompts(prompts: str, tables: Path | None) -> dict[str, str | list[str]] | None:
    from ecg_hf.evaluation.merl import merl_prompts_file
    from ecg_hf.evaluation.zero_shot import BILINGUAL_PROMPTS, load_prompts

    if prompts == "plain":
        return None
    if prompts == "bilingual":
        return BILINGUAL_PROMPTS
    if prompts == "merl":
        if tables is None:
            raise ConfigurationError("--prompts merl needs --tables, where the published prompts are")
        return load_prompts(merl_prompts_file(tables))
    return load_prompts(prompts)


def _source_options(given: list[str]) -> dict[str, Any]:
    from ecg_hf.data import build_dataset

    options = parse_options(given)
    reserved = sorted(set(inspect.signature(build_dataset).parameters) & set(options))
    if reserved:
        raise ConfigurationError(f"{reserved[0]} is not an option of a source", value=reserved)
    return options


def _control_options(
    given: list[str], controls: Sequence[str], device: str, num_proc: int
) -> dict[str, dict[str, Any]]:
    """``supervised.epochs=5`` to ``{"supervised": {"epochs": 5}}``, with devices and processes."""
    own: dict[str, dict[str, Any]] = {
        "supervised": {"device": device},
        "handmade": {"num_proc": num_proc},
        "minirocket": {"num_proc": num_proc},
    }
    options = {name: dict(own.get(name, {})) for name in controls}
    for item in given:
        name, dot, setting = item.partition(".")
        if not dot or name not in options or name == "untrained":
            raise ConfigurationError(
                f"--control-option is CONTROL.NAME=VALUE of a control used, got {item!r}", value=item
            )
        options[name] |= parse_options([setting])
    return options


def _wants_peaks(extractor: Any) -> bool:
    return bool(getattr(extractor, "wants_r_peaks", False))


@contextlib.contextmanager
def _nothing_left_behind(output: Path) -> Iterator[None]:
    """Remove a new folder again if nothing could be done; finished work is never removed."""
    existed = output.exists()
    if existed and not output.is_dir():
        raise ConfigurationError("the output must be a folder", path=output)
    try:
        yield
    except (EcgError, OSError):
        if not existed and output.is_dir():
            for folder, _, _ in sorted(os.walk(output), reverse=True):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
        raise


def _check_heads(
    benchmarks: Sequence[Benchmark], plan: EvaluationPlan, curves: Sequence[str], *, several: bool
) -> None:
    """Every benchmark can be run with every head, and with several models."""
    from ecg_hf.evaluation.tasks import KIND_TASKS

    for one in benchmarks:
        fitting = KIND_TASKS.get(one.kind)
        for head in plan.heads:
            if fitting != head and (fitting is not None or head in KIND_TASKS.values()):
                raise ConfigurationError(f"{one.name} is no benchmark for --head {head}", value=one.name)
        if several and one.kind != "multilabel":
            raise ConfigurationError(f"{one.name} takes one --model at a time", value=one.name)
    if curves and not set(plan.heads) <= {"linear", "mlp"}:
        raise ConfigurationError("curves over leads or rates are for --head linear or mlp", value=plan.heads)
