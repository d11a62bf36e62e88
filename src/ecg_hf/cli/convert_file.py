"""``ecg-hf convert-file``: recordings of any format to WFDB, with nothing of the person."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from ecg_hf.cli.output import echo, print_json, quiet_libraries
from ecg_hf.errors import ConfigurationError, EcgError, RecordNotFound
from ecg_hf.signal.io.digital import DigitalRecord
from ecg_hf.signal.io.paths import recordings_below

__all__ = ["convert_file_command"]

_ODD = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass
class _Account:
    converted: int = 0
    notes: Counter[str] = field(default_factory=Counter)
    refused: list[dict[str, str]] = field(default_factory=list)


def convert_file_command(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="A recording of any format, or a folder of them.")
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the WFDB records.")],
    keep_metadata: Annotated[
        bool,
        typer.Option("--keep-metadata", help="Write the file's name and the reader's notes as comments."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace records that are there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the account as JSON.")] = False,
) -> None:
    """Convert recordings to WFDB: signal, leads and sampling rate, and nothing of the person.

    Records are called as their files are. Of a folder, what can't be read is listed with the reason.
    """
    quiet_libraries()
    from ecg_hf.signal import read_digital

    if not os.path.exists(source) and not os.path.isfile(f"{source}.hea"):
        raise RecordNotFound("there is no such file or folder", path=source)
    account = _Account()
    is_folder = source.is_dir()
    taken: set[str] = set()
    for path in recordings_below(source) if is_folder else [source]:
        inner = path.parent.relative_to(source) if is_folder else Path()
        name = _ODD.sub("_", path.stem).strip("_") or "record"
        if str(inner / name) in taken:
            name = f"{name}_{path.suffix.removeprefix('.')}"
        taken.add(str(inner / name))
        try:
            record = read_digital(path)
            _write(record, target / inner, name, str(path.name) if keep_metadata else None, overwrite)
        except EcgError as error:
            if not is_folder:
                raise
            account.refused.append({"file": str(inner / path.name), "reason": error.message})
            continue
        account.converted += 1
        account.notes.update({note.code for note in record.notes})
    if not account.converted:
        raise EcgError(f"none of {len(account.refused)} files could be converted", path=source)
    if as_json:
        print_json({"converted": account.converted, "refused": account.refused, "notes": dict(account.notes)})
        return
    echo(f"{account.converted} converted, {len(account.refused)} refused")
    for code, count in sorted(account.notes.items()):
        echo(f"  note {code}: {count}")
    for refusal in account.refused:
        echo(f"  refused {refusal['file']}: {refusal['reason']}")


def _write(record: DigitalRecord, folder: Path, name: str, origin: str | None, overwrite: bool) -> None:
    """One WFDB record: integers as they are, millivolts that are no integers in 32 bits.

    Raises:
        ConfigurationError: if the record is there and is not to be replaced.
    """
    import wfdb

    if not overwrite and (folder / f"{name}.hea").exists():
        raise ConfigurationError("the record exists; --overwrite replaces it", path=folder / name)
    folder.mkdir(parents=True, exist_ok=True)
    count = len(record.lead_names)
    samples = record.samples
    comments: list[str] = []
    if origin is not None:
        comments = [f"file: {origin}", *(f"note: {note}" for note in record.notes)]
    told: dict[str, Any] = {
        "fs": record.sampling_rate, "units": ["mV"] * count, "sig_name": list(record.lead_names),
        "write_dir": str(folder), "comments": comments,
    }  # fmt: skip
    lowest = int(samples.min()) if samples.dtype.kind == "i" else 0
    if samples.dtype == np.int16 and (lowest > -32768 or record.invalid == -32768):
        digital, form = samples, "16"
    elif samples.dtype.kind == "i":
        digital, form = samples, "32"
    else:
        # A nanovolt a step, which float32 can't tell from its neighbours; 2 V fit.
        steps = np.rint(np.nan_to_num(samples.astype(np.float64), nan=0.0) * 1e6)
        if np.abs(steps).max() >= 2**31 - 1:
            raise ConfigurationError("amplitudes beyond 2 V can't be written", path=folder / name)
        digital = np.where(np.isnan(samples), -(2**31), steps).astype(np.int32)
        wfdb.wrsamp(
            name, d_signal=digital.T, fmt=["32"] * count, adc_gain=[1e6] * count, baseline=[0] * count, **told
        )
        return
    wfdb.wrsamp(
        name, d_signal=np.ascontiguousarray(digital.T), fmt=[form] * count, adc_gain=record.gain.tolist(),
        baseline=record.baseline.tolist(), **told,
    )  # fmt: skip
