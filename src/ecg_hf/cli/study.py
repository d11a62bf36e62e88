"""``ecg-hf study``: many methods pretrained and evaluated alike."""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecg_hf.cli.commands import Commands
from ecg_hf.cli.engine import Address, EngineName, NumProc, PieceTimeout
from ecg_hf.cli.output import echo, print_json, print_table, quiet_libraries
from ecg_hf.errors import ConfigurationError

if TYPE_CHECKING:
    from ecg_hf.engine import Engine
    from ecg_hf.studies import Study

__all__ = ["app"]

app = Commands(help="Pretrain and evaluate many methods alike: one file in, one table out.")


@app.command("run")
def run_command(
    study: Annotated[
        str, typer.Argument(help="A study of the package ('ecg-hf study list'), or a YAML file.")
    ],
    output: Annotated[str, typer.Option(help="Folder of the study, or its address; keeps every cell.")],
    data_dir: Annotated[
        list[str] | None,
        typer.Option(help="SOURCE=DIR: recordings to build from, a folder or an address; may be repeated."),
    ] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(help="SOURCE=BUILT: a built dataset or its address; may be repeated.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(help="Equal for every method: processor minutes (10min) or records seen (100000rec)."),
    ] = None,
    num_proc: NumProc = 1,
    engine: EngineName = "local",
    address: Address = None,
    piece_timeout: PieceTimeout = None,
    resume: Annotated[bool, typer.Option(help="Continue the study that OUTPUT holds.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be run, and run nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Run a study. OUTPUT gets table.md, results.json and a figure per benchmark; finished cells are kept."""
    from ecg_hf.engine import Engine, absolute
    from ecg_hf.storage import RemoteFolder, location, working_copy
    from ecg_hf.studies import load_study, run_study
    from ecg_hf.studies.study import Budget

    plan = load_study(study)
    wanted = Budget.parse(budget) if budget is not None else plan.budget
    if dry_run:
        _say_plan(plan, wanted, num_proc, as_json=as_json)
        return
    where = Engine(engine, address=address, num_proc=num_proc, piece_timeout=piece_timeout)
    if where.name != "local" and isinstance(location(output), RemoteFolder):
        raise ConfigurationError(
            "the workers of a cluster need an output folder that all of them see", value=output
        )
    quiet_libraries()
    given = {name: absolute(place) for name, place in _pairs(dataset or [], "--dataset").items()}
    sources = _pairs(data_dir or [], "--data-dir")
    with contextlib.redirect_stdout(sys.stderr), working_copy(output, last=("done.json",)) as copy:

        def under_way(name: str) -> bool:
            cell = re.match(r"cells/[^/]+/", name)
            return cell is not None and not (copy.folder / cell[0] / "done.json").is_file()

        built = given | _build(plan, sources, given, copy.folder, where)
        results = run_study(
            study,
            copy.folder,
            built,
            budget=budget,
            engine=where,
            resume=resume,
            say=lambda line: echo(line, err=True),
            after_cell=lambda: copy.publish(leave=under_way),
        )
        table = (copy.folder / "table.md").read_text(encoding="utf-8")
    if as_json:
        print_json(results)
    else:
        echo(table)


@app.command("list")
def list_command(as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False) -> None:
    """Studies that come with the package."""
    from ecg_hf.studies import list_studies, load_study

    rows = [
        {"name": name, "rows": len(study.arms), "benchmarks": len(study.benchmarks), "title": study.title}
        for name in list_studies()
        for study in (load_study(name),)
    ]
    if as_json:
        print_json(rows)
    else:
        print_table(
            [{k: str(v) for k, v in row.items()} for row in rows], ("name", "rows", "benchmarks", "title")
        )


@app.command("show")
def show_command(
    output: Annotated[Path, typer.Argument(help="Folder of a study.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """The table of a study, or how far it is."""
    from ecg_hf.documents import read_json

    if not (output / "study.json").is_file():
        raise ConfigurationError("not the folder of a study: it has no study.json", path=output)
    if (output / "results.json").is_file():
        if as_json:
            print_json(read_json(output / "results.json", dict[str, Any]))
        else:
            echo((output / "table.md").read_text(encoding="utf-8"))
        return
    done = sorted(path.parent.name for path in (output / "cells").glob("*/done.json"))
    begun = sorted({path.name for path in (output / "cells").glob("*")} - set(done))
    if as_json:
        print_json({"done": done, "begun": begun})
    else:
        echo(f"done: {', '.join(done) or 'none'}; begun: {', '.join(begun) or 'none'}")


def _pairs(given: list[str], flag: str) -> dict[str, str]:
    found = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not (name and equals and value) or name in found:
            raise ConfigurationError(f"{flag} is SOURCE=FOLDER, each source once, got {item!r}", value=item)
        found[name] = value
    return found


def _build(
    study: Study, data_dirs: dict[str, str], built: dict[str, str], output: Path, engine: Engine
) -> dict[str, str]:
    """Datasets built from recordings, into the study's folder; R peaks for the methods that ask for them."""
    from ecg_hf.data import build_dataset
    from ecg_hf.engine import absolute

    found = {}
    for source in study.sources:
        if source not in built and (source in data_dirs or source == "synthetic"):
            folder = output / "data" / source
            report = build_dataset(source, data_dirs.get(source), folder, engine=engine, detect_r_peaks=True)
            echo(report.summary(), err=True)
            found[source] = absolute(folder)
    return found


def _say_plan(study: Study, budget: Any, num_proc: int, *, as_json: bool) -> None:
    rows = [
        {
            "row": arm.label,
            "method": arm.method,
            "variant": arm.variant,
            "cells": len(study.seeds),
        }
        for arm in study.arms
    ]
    cells = len(study.seeds) * len(study.arms)
    hours = None if budget is None or budget.minutes is None else cells * budget.minutes / 60 / num_proc
    if as_json:
        print_json({"study": study.name, "rows": rows, "cells": cells, "pretraining_hours": hours})
        return
    print_table([{k: str(v) for k, v in row.items()} for row in rows], ("row", "method", "variant", "cells"))
    said = f"{cells} cells; {len(study.benchmarks)} benchmarks: {', '.join(study.benchmarks)}"
    if hours is not None:
        said += f"; {hours:.1f} h of pretraining in {num_proc} processes, evaluation apart"
    elif budget is not None:
        said += f"; {budget.records:,} records each"
    else:
        said += (
            "; each method by its recipe: 'ecg-hf plan' says how long one takes, --budget makes them equal"
        )
    echo(said)
