"""The report of a build: what was read, kept, dropped and repaired, and how fast."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ecg_hf.documents import read_json
from ecg_hf.errors import DatasetBuildError
from ecg_hf.escaping import printable

__all__ = ["REPORT_FILE", "BuildReport", "Tally", "add_up"]

REPORT_FILE = "build_report.json"

EXAMPLES_PER_REASON = 20
_OF_THE_RUN = ("output", "seconds", "records_per_second", "shards_reused")
"""What a report says of its run and place, and not of the dataset."""


@dataclass(slots=True)
class Tally:
    """Counts over some recordings; tallies of parts add up to the tally of the whole.

    Attributes:
        kept: Recordings written.
        dropped: Recordings left out, by reason (an error class such as ``TruncatedSignal``, or a rule of the source).
        examples: Names of some recordings left out, by reason.
        notes: Recordings with a note, by its code (assumptions and repairs; a recording may have several).
        repaired: Recordings with at least one note.
        splits: Recordings kept per split.
        labels: Recordings per label and split: ``{"AFIB": {"train": 12}}``.
    """

    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)
    repaired: int = 0
    splits: Counter[str] = field(default_factory=Counter)
    labels: dict[str, Counter[str]] = field(default_factory=dict)

    def drop(self, record_id: str, reason: str) -> None:
        """Count a recording left out."""
        self.dropped[reason] += 1
        examples = self.examples.setdefault(reason, [])
        if len(examples) < EXAMPLES_PER_REASON:
            examples.append(record_id)

    def keep(self, split: str, labels: tuple[str, ...], notes: set[str]) -> None:
        """Count a recording written."""
        self.kept += 1
        self.splits[split] += 1
        self.notes.update(notes)
        self.repaired += bool(notes)
        for label in set(labels):
            self.labels.setdefault(label, Counter())[split] += 1

    def add(self, other: Tally) -> None:
        """Add the counts of another part."""
        self.kept += other.kept
        self.repaired += other.repaired
        self.dropped.update(other.dropped)
        self.notes.update(other.notes)
        self.splits.update(other.splits)
        for reason, names in other.examples.items():
            mine = self.examples.setdefault(reason, [])
            mine.extend(names[: EXAMPLES_PER_REASON - len(mine)])
        for label, counts in other.labels.items():
            self.labels.setdefault(label, Counter()).update(counts)

    def reasons(self) -> str:
        """Why recordings were left out, for an error message."""
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.dropped.items()))
        if not reasons:
            return "the source lists no records"
        return f"{sum(self.dropped.values())} records dropped ({reasons})"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, keys sorted, the same for equal counts."""
        return {
            "kept": self.kept,
            "dropped": dict(sorted(self.dropped.items())),
            "examples": dict(sorted(self.examples.items())),
            "notes": dict(sorted(self.notes.items())),
            "repaired": self.repaired,
            "splits": dict(sorted(self.splits.items())),
            "labels": {label: dict(sorted(c.items())) for label, c in sorted(self.labels.items())},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Tally:
        """The tally :meth:`to_dict` described."""
        return cls(
            kept=int(data["kept"]),
            dropped=Counter(data["dropped"]),
            examples={reason: list(names) for reason, names in data["examples"].items()},
            notes=Counter(data["notes"]),
            repaired=int(data["repaired"]),
            splits=Counter(data["splits"]),
            labels={label: Counter(counts) for label, counts in data["labels"].items()},
        )


def add_up(tallies: Iterable[Tally]) -> Tally:
    """The tally of the whole, of those of its parts in order."""
    total = Tally()
    for tally in tallies:
        total.add(tally)
    return total


@dataclass(frozen=True, slots=True)
class BuildReport:
    """Report of one finished build, kept as ``build_report.json`` beside the dataset.

    Attributes:
        source: Name of the source.
        options: Options of the source, resolved.
        output: The dataset folder, as given.
        seen: Recordings the source lists.
        kept: Recordings in the dataset.
        dropped: Recordings left out, by reason; ``seen == kept + sum(dropped)``.
        examples: Names of some recordings left out, by reason.
        notes: Recordings with a note, by its code.
        repaired: Recordings with at least one note.
        splits: Recordings per split.
        labels: Recordings per label and split.
        patients: Distinct patients the source identifies; 0 if it identifies none.
        patients_in_two_splits: Patients with recordings in more than one split.
        shards: Arrow files written.
        shards_reused: Of these, how many an earlier, interrupted run had finished.
        bytes: Size of the Arrow files.
        seconds: Duration of this run; of a merged dataset, of the runs of all parts together.
        records_per_second: Recordings read in this run per second.
        fingerprint: Identifies source, options and listing; equal fingerprints give equal bytes.
        versions: Versions of the packages that wrote it.
        without_patient: Recordings whose patient is unknown, and may therefore be in several splits.
        part: ``"2/4"`` for the second of four parts of a dataset, ``""`` for a dataset.
        shard_rows: Recordings in each Arrow file, in order.
        reused: Whether the folder was already finished and left unchanged.
    """

    source: str
    options: dict[str, Any]
    output: str
    seen: int
    kept: int
    dropped: dict[str, int]
    examples: dict[str, list[str]]
    notes: dict[str, int]
    repaired: int
    splits: dict[str, int]
    labels: dict[str, dict[str, int]]
    patients: int
    patients_in_two_splits: int
    shards: int
    shards_reused: int
    bytes: int
    seconds: float
    records_per_second: float
    fingerprint: str
    versions: dict[str, str]
    without_patient: int = 0
    part: str = ""
    shard_rows: list[int] = field(default_factory=list)
    reused: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        data = asdict(self)
        del data["reused"]
        return data

    def content(self) -> str:
        """Identifies the dataset: the same for a copy of it, and for another build of the same recordings."""
        described = {key: value for key, value in self.to_dict().items() if key not in _OF_THE_RUN}
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()

    @classmethod
    def load(cls, folder: str | Path) -> BuildReport:
        """The report of a finished build.

        Raises:
            DatasetBuildError: if the folder has none, or it can't be understood.
        """
        path = Path(folder) / REPORT_FILE
        if not path.is_file():
            raise DatasetBuildError("the folder holds no finished build (no build report)", path=folder)
        report: BuildReport = read_json(path, cls, error=DatasetBuildError)
        return report

    def patients_summary(self) -> str:
        """One sentence on patients and splits that claims only what is known."""
        unknown = (
            f"the patient of {self.without_patient:,} of {self.kept:,} recordings is not known, so that person may "
            "be in several splits"
        )
        if not self.patients:
            return f"patients are not known, so one person may be in several splits{self._way_out()}"
        apart = f"{self.patients:,} patients, each in one split only"
        if self.patients_in_two_splits:
            apart = (
                f"{self.patients_in_two_splits:,} of {self.patients:,} patients are in more than one split"
            )
        return f"{apart}; {unknown}" if self.without_patient else apart

    def _way_out(self) -> str:
        if self.source != "wfdb_folder" or "patients" in self.options:
            return ""
        return "; where each folder holds one person, build with -o patients=folder"

    def summary(self) -> str:
        """A few lines for a person."""
        name = printable(f"{self.source}, part {self.part}" if self.part else self.source)
        lines = [f"{name}: kept {self.kept:,} of {self.seen:,} records ({self.bytes / 1e6:,.1f} MB)"]
        lines += [f"  dropped {count:,}: {printable(reason)}" for reason, count in self.dropped.items()]
        lines += [f"  noted {count:,}: {printable(code)}" for code, count in self.notes.items()]
        if self.splits:
            lines.append("  " + ", ".join(f"{split} {count:,}" for split, count in self.splits.items()))
        if self.kept:
            lines.append(f"  {self.patients_summary()}")
        if self.part and not self.seen:
            lines.append(
                "  no file of the dataset falls to this part: ask for fewer parts, or for smaller files with "
                "--records-per-shard (records_per_shard)"
            )
        if self.reused:
            lines.append("  already exists and is unchanged; nothing was read")
        else:
            lines.append(f"  {self.seconds:.1f} s, {self.records_per_second:,.0f} records/s")
        return "\n".join(lines)
