"""What commands that take recordings share: folders of them, and options that tell what a file does not say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecg_hf.errors import ConfigurationError, MetadataMissing, RecordNotFound
from ecg_hf.storage import RemoteFolder, location

if TYPE_CHECKING:
    from ecg_hf.pipelines.bulk_recordings import Given

__all__ = [
    "UNREADABLE",
    "BulkDataset",
    "BulkRecords",
    "bulk_given",
    "naming_options",
    "remote_folder",
    "told_options",
    "with_folders",
]

BulkRecords = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RECORD...",
        help="Recordings in any format that read_record reads, or folders of them; with a folder as --output, one "
        "folder in an object store (s3://bucket/folder).",
    ),
]
BulkDataset = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        help="Instead of recordings, with a folder as --output: a built dataset or Parquet export, or its address.",
    ),
]

UNREADABLE = 3
"""Exit code where some recording could not be read; the others are answered."""


@contextmanager
def naming_options() -> Iterator[None]:
    """Let an error about what a file does not say also name the options that say it."""
    try:
        yield
    except MetadataMissing as error:
        flags = "--sampling-rate, --lead-names and --units say it"
        raise MetadataMissing(f"{error.message} ({flags})", path=error.path, value=error.value) from None


def told_options(rate: float | None, names: list[str] | None, unit: str | None) -> dict[str, Any]:
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
    return {"sampling_rate": rate, "lead_names": names, "units": unit}


def with_folders(paths: Sequence[Path]) -> list[tuple[Path, Path]]:
    """The recordings, those of folders one by one, and the name of each below the folder given.

    Raises:
        RecordNotFound: if a folder holds none.
    """
    from ecg_hf.signal.io.paths import recordings_below

    found: list[tuple[Path, Path]] = []
    for path in paths:
        if not path.is_dir():
            found.append((path, Path(path.name.removesuffix(".hea"))))
            continue
        inside = list(recordings_below(path))
        if not inside:
            raise RecordNotFound("the folder holds no recordings", path=path)
        # WFDB records go by their names.
        shown = [file.with_suffix("") if file.suffix == ".hea" else file for file in inside]
        found += [(file, file.relative_to(path)) for file in shown]
    return found


def remote_folder(records: Sequence[str]) -> RemoteFolder | None:
    """The folder in an object store that recordings are in, if they are.

    Raises:
        ConfigurationError: if it is not the only thing named.
    """
    remote = [place for one in records if isinstance(place := location(one), RemoteFolder)]
    if remote and len(records) > 1:
        raise ConfigurationError("recordings in an object store are one folder", path=remote[0].url)
    return remote[0] if remote else None


def bulk_given(records: Sequence[str] | None, dataset: str | None, told: dict[str, Any]) -> Given:
    """What a bulk command is to work on.

    Args:
        records: Paths of recordings or folders, or the address of one folder.
        dataset: Folder of a dataset, or its address, instead.
        told: Options of ``read_record``, which a dataset has no use for.

    Raises:
        ConfigurationError: if it is not one of the two, or a dataset is told what it says itself.
        EcgError: if there is no such thing.
    """
    if (dataset is None) == (not records):
        raise ConfigurationError("name recordings or a --dataset, one of the two")
    if dataset is not None:
        if any(value is not None for value in told.values()):
            raise ConfigurationError("--sampling-rate, --lead-names and --units are for recordings")
        from ecg_hf.data.row_pieces import open_divisible

        return open_divisible(dataset)
    assert records is not None  # one of the two
    return remote_folder(records) or [path for path, _ in with_folders([Path(one) for one in records])]
