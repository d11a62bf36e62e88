"""What commands that take recordings share: folders of them, and options that tell what a file does not say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ecg_hf.errors import MetadataMissing, RecordNotFound

__all__ = ["UNREADABLE", "naming_options", "told_options", "with_folders"]

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
