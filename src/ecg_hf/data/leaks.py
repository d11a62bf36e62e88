"""What one split of a dataset has in common with another: patients, and recordings under another name."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from ecg_hf.data.mixing import signal_keys
from ecg_hf.data.schema import SPLITS
from ecg_hf.errors import ConfigurationError

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["LeakReport", "Policy", "SharedRecords", "check_leaks"]

logger = logging.getLogger(__name__)

Policy = Literal["raise", "warn", "report"]


@dataclass(frozen=True, slots=True, eq=False)
class SharedRecords:
    """What two splits share.

    Attributes:
        first: Name of a split.
        second: Name of the other.
        shared: How many patients, or distinct recordings, are in both.
        first_rows: Rows of the first split concerned, ascending.
        second_rows: Rows of the second.
    """

    first: str
    second: str
    shared: int
    first_rows: npt.NDArray[np.intp]
    second_rows: npt.NDArray[np.intp]

    @property
    def involves_test(self) -> bool:
        """Whether records that are scored are concerned."""
        return "test" in (self.first, self.second)

    def __str__(self) -> str:
        return (
            f"{self.shared} shared by {self.first} ({len(self.first_rows)} records) and {self.second} "
            f"({len(self.second_rows)} records)"
        )


@dataclass(frozen=True, slots=True, eq=False)
class LeakReport:
    """Account of a check over the splits of a dataset.

    Attributes:
        records: Records of every split.
        patients: Pairs of splits that share patients; empty if none do.
        signals: Pairs of splits that share recordings; empty if none do.
        repeated_within: Recordings that occur again within their own split, by split; those with none are absent.
        without_patient: Records whose patient is not known, by split: nothing can be said about them.
        without_key: Records whose samples are constant where they are compared.
    """

    records: dict[str, int]
    patients: tuple[SharedRecords, ...]
    signals: tuple[SharedRecords, ...]
    repeated_within: dict[str, int]
    without_patient: dict[str, int]
    without_key: int

    @property
    def clean(self) -> bool:
        """Whether no two splits share anything that is known."""
        return not self.patients and not self.signals

    def leaking_test_rows(self) -> npt.NDArray[np.intp]:
        """Rows of the test split whose patient or recording is in another split too, ascending."""
        parts = [
            pair.first_rows if pair.first == "test" else pair.second_rows
            for pair in (*self.patients, *self.signals)
            if pair.involves_test
        ]
        return np.unique(np.concatenate(parts)) if parts else np.empty(0, dtype=np.intp)

    def as_dict(self) -> dict[str, Any]:
        """The account without row numbers, for a results file."""

        def pairs(found: tuple[SharedRecords, ...]) -> list[dict[str, Any]]:
            return [
                {
                    "splits": [one.first, one.second],
                    "shared": one.shared,
                    "records": [len(one.first_rows), len(one.second_rows)],
                }
                for one in found
            ]

        return {
            "records": self.records,
            "shared_patients": pairs(self.patients),
            "shared_signals": pairs(self.signals),
            "repeated_within": self.repeated_within,
            "without_patient": self.without_patient,
            "without_key": self.without_key,
            "leaking_test_records": len(self.leaking_test_rows()),
        }


def check_leaks(
    dataset: Dataset,
    split: Sequence[str] | npt.NDArray[np.str_] | None = None,
    *,
    patient_policy: Policy = "raise",
    signal_policy: Policy = "warn",
    column: str = "ecg",
) -> LeakReport:
    """Look for patients and recordings that two splits share.

    A patient is told by ``source`` and ``patient_id``. Recordings are compared by
    :func:`ecg_hf.data.mixing.signal_keys`: equal samples at the same rate and length, whatever the name; one that was
    resampled, cut or filtered is not recognised.

    Args:
        dataset: Built rows.
        split: Split of every row, ``""`` for rows that take no part; the dataset's ``split`` column by default.
        patient_policy: What to do if the test split shares patients with another: ``"raise"``, ``"warn"`` (through
            :mod:`logging`) or only ``"report"``. What train and validation share is never more than a warning: it
            spoils a choice, not a score.
        signal_policy: The same for recordings. Some published splits do contain a few, and removing them would be
            another benchmark: a warning by default.
        column: Name of the ECG column.

    Raises:
        ConfigurationError: if a policy says so; also for a policy or split that does not exist.
    """
    for policy in (patient_policy, signal_policy):
        if policy not in get_args(Policy):
            raise ConfigurationError(f"a policy must be raise, warn or report, got {policy!r}", value=policy)
    columns = dataset.select_columns(["source", "patient_id", "split"]).with_format("arrow")[:].to_pydict()
    assigned = np.asarray(columns["split"] if split is None else split, dtype=str)
    if assigned.shape != (len(dataset),):
        raise ConfigurationError(f"{assigned.shape} splits for {len(dataset)} records", value=assigned.shape)
    unknown = sorted(set(assigned.tolist()) - {*SPLITS, ""})
    if unknown:
        raise ConfigurationError(f"no such split: {', '.join(unknown)}", value=tuple(unknown))
    rows = {name: np.flatnonzero(assigned == name) for name in SPLITS}

    has_patient = np.array([patient is not None and patient != "" for patient in columns["patient_id"]], bool)
    people = _numbers(list(zip(columns["source"], columns["patient_id"], strict=True)))
    keys, has_key = signal_keys(dataset, column)
    taking_part = assigned != ""
    report = LeakReport(
        records={name: len(members) for name, members in rows.items()},
        patients=_shared(people, has_patient, rows),
        signals=_shared(keys, has_key, rows),
        repeated_within=_positive(
            {name: _repeated(keys[members[has_key[members]]]) for name, members in rows.items()}
        ),
        without_patient=_positive(
            {name: int((~has_patient[members]).sum()) for name, members in rows.items()}
        ),
        without_key=int((~has_key & taking_part).sum()),
    )
    _act(report.patients, "patients", patient_policy)
    _act(report.signals, "recordings", signal_policy)
    return report


def _numbers(names: Sequence[tuple[str | None, str | None]]) -> npt.NDArray[np.uint64]:
    """Equal numbers for equal names."""
    seen: dict[tuple[str | None, str | None], int] = {}
    return np.array([seen.setdefault(name, len(seen)) for name in names], dtype=np.uint64)


def _shared(
    keys: npt.NDArray[np.uint64], known: npt.NDArray[np.bool_], rows: dict[str, npt.NDArray[np.intp]]
) -> tuple[SharedRecords, ...]:
    found = []
    members = {name: chosen[known[chosen]] for name, chosen in rows.items()}
    for first, second in itertools.combinations(SPLITS, 2):
        common = np.intersect1d(keys[members[first]], keys[members[second]])
        if len(common):
            first_rows, second_rows = (
                members[name][np.isin(keys[members[name]], common)] for name in (first, second)
            )
            found.append(SharedRecords(first, second, len(common), first_rows, second_rows))
    return tuple(found)


def _repeated(keys: npt.NDArray[np.uint64]) -> int:
    return len(keys) - len(np.unique(keys))


def _positive(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}


def _act(found: tuple[SharedRecords, ...], what: str, policy: Policy) -> None:
    of_test = [pair for pair in found if pair.involves_test]
    if policy == "raise" and of_test:
        raise ConfigurationError(
            f"the test split is not apart: {what}: {'; '.join(map(str, of_test))}",
            value=sum(pair.shared for pair in of_test),
        )
    if policy != "report":
        for pair in found:
            logger.warning("%s: %s", what, pair)
