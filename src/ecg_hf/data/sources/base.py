"""What a source of recordings must provide to be built into a dataset."""

from __future__ import annotations

import copy
import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar, TypedDict

import numpy as np

from ecg_hf.data.report import Tally
from ecg_hf.data.schema import Entry, SourceRow
from ecg_hf.data.splits import FoldSelection
from ecg_hf.errors import ConfigurationError, DatasetBuildError, EcgError
from ecg_hf.signal.io.digital import DigitalRecord
from ecg_hf.signal.io.reading import read_digital
from ecg_hf.storage import RemoteFolder

__all__ = ["Dropped", "PhysioNetProject", "Plan", "Source", "SourceInfo", "is_plain_relative"]


@dataclass(frozen=True, slots=True)
class PhysioNetProject:
    """Where a source is published on PhysioNet.

    Attributes:
        slug: Name of the project in its address.
        version: Version this source was written for.
        subsets: Named selections of files (patterns as in a shell), for downloads of a part.
    """

    slug: str
    version: str
    subsets: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """Description of a source, as listings and documentation show it.

    Attributes:
        name: Name to pass to :func:`ecg_hf.data.build_dataset`.
        title: One line for a listing.
        expects: What must be on disk.
        labels: Vocabulary of the ``labels`` column.
        drops: Which recordings are left out, and why.
        licence: Licence of the data.
        options: Option name -> one line.
        physionet: Where it can be downloaded, if it can.
        needs_data_dir: Whether recordings must be on disk.
    """

    name: str
    title: str
    expects: str
    labels: str
    drops: str
    licence: str
    options: dict[str, str]
    physionet: PhysioNetProject | None = None
    needs_data_dir: bool = True


@dataclass(frozen=True, slots=True)
class Dropped:
    """A recording that was left out, and why."""

    record_id: str
    reason: str


@dataclass(slots=True)
class Plan:
    """Recordings a source will read, in order.

    Attributes:
        entries: What to read.
        tally: Recordings left out already, from the listing alone.
    """

    entries: list[Entry] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)


class Source(ABC):
    """A kind of dataset on disk.

    A subclass says in :attr:`info` what it expects to find, what it leaves out and why; takes its options as
    keyword arguments; lists recordings from tables (:meth:`plan`, once, in the main process) and reads them
    (:meth:`read`, in worker processes). Instances hold paths and options only and travel by pickle.

    Args:
        data_dir: Folder with the files, ``None`` for sources that need none.

    Raises:
        DatasetBuildError: if ``data_dir`` is missing.
    """

    info: ClassVar[SourceInfo]

    #: Where the files are if not on disk; set while the recordings are listed, see :mod:`.fetching`.
    remote: RemoteFolder | None = None

    #: Leave out recordings whose valid samples all have one value.
    drops_constant: ClassVar[bool] = False

    def __init__(self, data_dir: Path | None) -> None:
        if self.info.needs_data_dir:
            if data_dir is None:
                raise DatasetBuildError(
                    f"source {self.info.name!r} needs the folder its files are in (data_dir)"
                )
            if not Path(data_dir).is_dir():
                raise DatasetBuildError("no such folder", path=data_dir)
        self._data_dir = None if data_dir is None else Path(data_dir)

    @property
    def data_dir(self) -> Path:
        """The folder with the files."""
        if self._data_dir is None:
            raise DatasetBuildError(f"source {self.info.name!r} has no data folder")
        return self._data_dir

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """The options in force, plain data; part of the dataset's fingerprint."""

    @abstractmethod
    def plan(self) -> Plan:
        """List the recordings.

        Raises:
            DatasetBuildError: if the folder does not hold what the source expects.
        """

    @classmethod
    def reads_to_plan(cls, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Patterns, as in a shell, of the files whose content :meth:`plan` reads; of others it needs the names."""
        return ("*",)

    def file_of(self, entry: Entry) -> str:
        """The file that holds a recording, or the name of a WFDB record, relative to the data folder."""
        return entry.path

    def at(self, data_dir: Path) -> Source:
        """The same source reading from another folder."""
        other = copy.copy(self)
        other._data_dir = data_dir
        return other

    def piece(self, entries: Sequence[Entry]) -> Source:
        """What reads some recordings, in a process that reads no others."""
        return self

    def read(self, entry: Entry) -> SourceRow | Dropped:
        """Read one recording.

        Raises:
            EcgError: if it can't be read; the builder counts it as dropped.
        """
        return self.check(entry, self.read_samples(entry))

    def read_many(self, entries: Sequence[Entry]) -> Iterator[SourceRow | Dropped]:
        """Read recordings; one that can't be read becomes a :class:`Dropped` with the error's class as reason."""
        for entry in entries:
            try:
                yield self.read(entry)
            except EcgError as error:
                yield Dropped(entry.record_id, type(error).__name__)
            except OSError as error:
                yield Dropped(entry.record_id, type(error).__name__)

    def read_samples(self, entry: Entry) -> DigitalRecord:
        """The samples of a WFDB record below the data folder, which its path can't leave."""
        return read_digital(self.data_dir / entry.path, root=self.data_dir)

    def check(self, entry: Entry, ecg: DigitalRecord) -> SourceRow | Dropped:
        """Rules on the samples that every source shares."""
        codes = tuple(note.code for note in ecg.notes)
        if is_constant(ecg):
            if self.drops_constant:
                return Dropped(entry.record_id, "constant_signal")
            codes = (*codes, "all_flat")
        return SourceRow(replace(entry, notes=(*entry.notes, *codes)) if codes else entry, ecg)

    @classmethod
    def create(cls, data_dir: Path | None, options: dict[str, Any]) -> Source:
        """An instance, with a clear error for options it does not have."""
        known = cls.parameters()
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise ConfigurationError(
                f"source {cls.info.name!r} has no option {', '.join(unknown)} (it has: {', '.join(known) or 'none'})",
                value=unknown,
            )
        for name, value in options.items():
            default = known[name].default
            # Options come from command lines, where anything can stand in the place of a number.
            if isinstance(default, bool):
                if not isinstance(value, bool):
                    raise ConfigurationError(
                        f"option {name} must be true or false, got {value!r}", value=value
                    )
            elif isinstance(default, int | float) and (
                isinstance(value, bool) or not isinstance(value, Real)
            ):
                raise ConfigurationError(f"option {name} must be a number, got {value!r}", value=value)
        return cls(data_dir, **options)

    @classmethod
    def parameters(cls) -> dict[str, inspect.Parameter]:
        """Keyword arguments by name, with those of the base classes where ``**folds`` passes them on."""
        found: dict[str, inspect.Parameter] = {}
        for base in cls.__mro__:
            if "__init__" in vars(base):
                parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
                found.update({one.name: one for one in parameters if one.kind is one.KEYWORD_ONLY})
                if all(one.kind is not one.VAR_KEYWORD for one in parameters):
                    break
        return found


class FoldOptions(TypedDict, total=False):
    """Arguments of :class:`HashedSource`, which its subclasses take as well."""

    seed: int
    train_folds: str
    validation_folds: str
    test_folds: str


FOLD_OPTIONS = {
    "seed": "seed of the folds (42)",
    "train_folds": "folds to train on (1-8)",
    "validation_folds": "folds to validate on (9)",
    "test_folds": "folds to test on (10)",
}
"""What :class:`FoldOptions` mean, for :class:`SourceInfo`."""


class HashedSource(Source):
    """A source whose splits are drawn by a hash of the patient or, where unknown, of the recording.

    Args:
        data_dir: Folder with the files.
        seed: Seed of the folds.
        train_folds: Folds (of ten) to train on.
        validation_folds: Folds to validate on.
        test_folds: Folds to test on.

    Raises:
        ConfigurationError: if folds are not of the form ``1-7,9`` or a fold is in two splits.
    """

    def __init__(
        self,
        data_dir: Path | None,
        *,
        seed: int = 42,
        train_folds: str = "1-8",
        validation_folds: str = "9",
        test_folds: str = "10",
    ) -> None:
        super().__init__(data_dir)
        self.seed = int(seed)
        self.folds = FoldSelection(train_folds, validation_folds, test_folds)

    def options(self) -> dict[str, Any]:
        """The options in force."""
        return {
            "seed": self.seed,
            "train_folds": self.folds.train,
            "validation_folds": self.folds.validation,
            "test_folds": self.folds.test,
        }


def is_constant(ecg: DigitalRecord) -> bool:
    """Whether every lead is one value throughout (invalid samples aside)."""
    samples = ecg.samples
    if ecg.invalid is not None and bool((samples == ecg.invalid).any()):
        samples = np.where(samples == ecg.invalid, np.nan, samples.astype(np.float64))
    if samples.dtype.kind == "f":
        spread = np.fmax.reduce(samples, axis=1) - np.fmin.reduce(samples, axis=1)
        return not bool((spread > 0).any())
    # A real recording differs within its first samples: look there before reading all of it.
    if bool((samples[:, 1:17] != samples[:, :1]).any()):
        return False
    return not bool((samples != samples[:, :1]).any())


def is_plain_relative(path: str) -> bool:
    """Whether a path from a table is relative and does not climb; links are looked at when it is opened."""
    parts = path.split("/")
    return (
        bool(path)
        and "\\" not in path
        and ":" not in path
        and "\0" not in path
        and not (path.startswith("/") or ".." in parts)
    )
