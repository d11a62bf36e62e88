"""Label groups: from codes to the targets of benchmark tasks; PTB-XL's here, others in ``label_groups``."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt

from ecg_hf.data.label_groups import OTHER_TASKS
from ecg_hf.errors import ConfigurationError

__all__ = ["LABEL_TASKS", "ScpStatement", "label_matrix", "label_names", "scp_statements", "unknown_codes"]

LABEL_TASKS = ("super", "sub", "form", "rhythm", "diag", "all")
"""Groups of PTB-XL's labels: 5 superclasses, 23 subclasses, 19 form, 12 rhythm, 44 diagnostic, all 71 statements."""

SUPERCLASSES = {
    "NORM": "normal ECG",
    "MI": "myocardial infarction",
    "STTC": "ST/T change",
    "CD": "conduction disturbance",
    "HYP": "hypertrophy",
}
"""PTB-XL's diagnostic superclasses, in words."""


@dataclass(frozen=True, slots=True)
class ScpStatement:
    """One of the 71 statements PTB-XL uses.

    Attributes:
        code: SCP-ECG acronym as in ``scp_codes``.
        description: English text.
        diagnostic: Whether it is a diagnosis.
        form: Whether it describes the form of the curve.
        rhythm: Whether it describes the rhythm.
        superclass: Diagnostic superclass, empty for others.
        subclass: Diagnostic subclass, empty for others (official spelling: ``_AVB``, ``ISC_``, ``NST_``).
    """

    code: str
    description: str
    diagnostic: bool
    form: bool
    rhythm: bool
    superclass: str
    subclass: str


@cache
def scp_statements() -> dict[str, ScpStatement]:
    """All statements by code, in the official order."""
    text = files("ecg_hf.data").joinpath("scp_statements.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {
        row["code"]: ScpStatement(
            code=row["code"],
            description=row["description"],
            diagnostic=row["diagnostic"] == "1",
            form=row["form"] == "1",
            rhythm=row["rhythm"] == "1",
            superclass=row["superclass"],
            subclass=row["subclass"],
        )
        for row in rows
    }


@cache
def _targets(task: str) -> dict[str, str]:
    """Code -> label of a task, for the codes that count in it."""
    statements = scp_statements().values()
    if task == "super":
        return {s.code: s.superclass for s in statements if s.superclass}
    if task == "sub":
        return {s.code: s.subclass for s in statements if s.subclass}
    if task == "form":
        return {s.code: s.code for s in statements if s.form}
    if task == "rhythm":
        return {s.code: s.code for s in statements if s.rhythm}
    if task == "diag":
        return {s.code: s.code for s in statements if s.diagnostic}
    if task == "all":
        return {s.code: s.code for s in statements}
    if task in OTHER_TASKS:
        return OTHER_TASKS[task]
    known = ", ".join((*LABEL_TASKS, *OTHER_TASKS))
    raise ConfigurationError(f"task must be one of {known}, got {task!r}", value=task)


@cache
def label_names(task: str) -> tuple[str, ...]:
    """Labels of a task, in the order of the columns of :func:`label_matrix`.

    Superclasses come in the customary order NORM, MI, STTC, CD, HYP; every other task in the order in which the
    official ``scp_statements.csv`` names its labels first. Published label files use other orders and spellings
    (``AVB`` for ``_AVB``): select columns by name.

    Args:
        task: ``"super"``, ``"sub"``, ``"form"``, ``"rhythm"``, ``"diag"``, ``"all"``, or a task of another source:
            ``"cpsc2018"``, ``"csn"``, ``"challenge2021"``, ``"ludb-rhythm"``, ``"ludb-conduction"``,
            ``"ludb-hypertrophy"``.

    Raises:
        ConfigurationError: for any other task.
    """
    names = tuple(dict.fromkeys(_targets(task).values()))
    return tuple(SUPERCLASSES) if task == "super" else names


def label_matrix(
    codes: Iterable[Sequence[str]], task: str
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.bool_]]:
    """Targets of some recordings.

    A code counts whatever its likelihood, by equality (``AFIB`` says nothing about ``AF``); codes of other groups and
    unknown codes do not count (see :func:`unknown_codes`).

    Args:
        codes: Codes of each recording, as in the ``labels`` column.
        task: One of :data:`LABEL_TASKS`, or a task of another source (see :func:`label_names`).

    Returns:
        int8 ``(recordings, labels)`` of zeros and ones in the order of :func:`label_names`, and bool
        ``(recordings,)`` that is False for recordings without any label of the group, which the published
        benchmarks leave out.
    """
    targets = _targets(task)
    position = {name: i for i, name in enumerate(label_names(task))}
    records = list(codes)
    matrix = np.zeros((len(records), len(position)), np.int8)
    for row, record in enumerate(records):
        for code in record:
            if code in targets:
                matrix[row, position[targets[code]]] = 1
    return matrix, matrix.max(axis=1, initial=0) > 0


def unknown_codes(codes: Iterable[Sequence[str]]) -> dict[str, int]:
    """How many recordings carry each code that is not a PTB-XL statement."""
    known = scp_statements()
    counts: dict[str, int] = {}
    for record in codes:
        for code in set(record) - known.keys():
            counts[code] = counts.get(code, 0) + 1
    return dict(sorted(counts.items()))
