"""All benchmarks in one run and one table; ``make benchmarks`` runs it.

    python benchmarks/run.py [--all] [--only reading --only loading] [--output benchmarks/results.md]

Each file of :data:`SCRIPTS` has ``rows(quick)``, which measures and yields rows as ``rows.py`` describes them;
``quick`` asks for what fits ten minutes on two cores altogether, ``--all`` for the rest. The table is printed and
written, with what the machine was and how busy. A benchmark that fails is a line of the report and exit code 1: the
others run.

Others answer other questions and are run by themselves: ``bench_mfu.py`` (a GPU's utilisation), ``bench_export.py``
(ONNX beside torch, for every method), ``bench_storage_faults.py`` (object stores whose connections are cut),
``bench_engines.py`` (processes of this machine and a Dask cluster: time, memory, cost of a piece),
``bench_encoders.py`` (throughput of every encoder, for docs/checkpoints.md) and ``bench_processes.py`` (whether
training depends on the number of processes).
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
import traceback
from pathlib import Path

import numpy as np
import torch

from ecg_hf.files import write_whole

SCRIPTS = (
    "reading",
    "extraction",
    "handmade",
    "loading",
    "pipelines",
    "views",
    "cardiac_views",
    "commands",
    "training_steps",
    "clear_hug",
    "ecg_jepa",
    "s4",
    "metrics",
)
FOLDER = Path(__file__).resolve().parent


def _load() -> float:
    """Processes that wanted a processor in the last minute, on average; NaN where the system does not tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")


def main() -> None:
    """Run, print and write."""
    sys.path.insert(0, str(FOLDER))
    from rows import Row, table

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--all", action="store_true", help="also what takes long")
    parser.add_argument("--only", action="append", choices=SCRIPTS, help="may be repeated")
    parser.add_argument("--output", type=Path, default=FOLDER / "results.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    chosen = list(options.only or SCRIPTS)
    loads = [_load()]
    rows: list[Row] = []
    failed: list[str] = []
    for place, name in enumerate(chosen, 1):
        try:
            for row in importlib.import_module(f"bench_{name}").rows(quick=not options.all):
                rows.append(row)
                print(f"{name}: {row.work}: {row.ours}, {row.value:.3g}", file=sys.stderr, flush=True)
        except (Exception, SystemExit):  # one benchmark must not hide the others
            traceback.print_exc()
            failed.append(name)
        loads.append(_load())
        # After each, so that a run that is stopped leaves what it has.
        write_whole(options.output, _report(table(rows), options.all, loads, failed, chosen[place:]))
    print(table(rows))
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def _report(text: str, everything: bool, loads: list[float], failed: list[str], left: list[str]) -> str:
    lines = [
        "# Benchmarks",
        "",
        f"Written by `make benchmarks` ({'all' if everything else 'the quick ones'}): do not edit. One thread, "
        "processor time; reference and ours take turns; *spread* are the quartiles over the rounds, of the ratio or, "
        "without a reference, of the figure.",
        "",
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}, "
        f"torch {torch.__version__}. Load of the machine {min(loads):.1f} to {max(loads):.1f}: {_company(loads)}.",
        "",
        text,
        "",
    ]
    if failed:
        lines.append(f"Failed: {', '.join(failed)}.")
    if left:
        lines.append(f"Not run: {', '.join(left)}.")
    return "\n".join(lines).rstrip() + "\n"


def _company(loads: list[float]) -> str:
    if any(load != load for load in loads):
        return "whether it was quiet is not known"
    # This process wants one processor itself.
    return "other work ran beside it" if max(loads) > 1.5 else "it was quiet"


if __name__ == "__main__":
    main()
