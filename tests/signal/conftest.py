"""Builds format-16 records whose header and signal file can be spoilt one field at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from ecg_hf.signal import STANDARD_LEADS, EcgRecord


def codes(record: EcgRecord) -> set[str]:
    """Codes of a record's notes."""
    return {note.code for note in record.notes}


def ecg_like(leads: int = 12, samples: int = 5000, rate: float = 500.0, seed: int = 0) -> np.ndarray:
    """Digital (leads, samples) int16 at 1000 per mV: beats at 75 per minute; limb leads obey Einthoven."""
    generator = np.random.default_rng(seed)
    time = np.arange(samples) / rate
    beat = np.exp(-0.5 * ((time % 0.8 - 0.4) / 0.012) ** 2)
    weights = np.linspace(-1.2, 1.4, leads) if leads > 2 else np.array([0.6, 1.0])[:leads]
    rows = 2 * np.round(500 * (np.outer(weights, beat) + 0.01 * generator.standard_normal((leads, samples))))
    if leads >= 6:
        one, two = 2 * np.round(300 * beat), 2 * np.round(500 * beat)
        rows[:6] = [one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2]
    return rows.astype(np.int16)


@dataclass
class RecordFiles:
    """A record on disk, written line by line so that any of it can be wrong."""

    folder: Path
    digital: np.ndarray
    names: tuple[str, ...] = STANDARD_LEADS
    gain: str = "1000.0(0)/mV"
    form: str = "16"
    record_line: str | None = None
    file_name: str = "r0.dat"
    comments: tuple[str, ...] = ()
    checksums: bool = True
    tail: str = "{name}"

    def lines(self) -> list[str]:
        leads, samples = self.digital.shape
        lines = [self.record_line or f"r0 {leads} 500 {samples}"]
        for row, name in zip(self.digital, self.names, strict=True):
            checksum = int(row.astype(np.int64).sum()) & 0xFFFF if self.checksums else None
            fields = [self.file_name, self.form, self.gain, "16", "0", str(int(row[0]))]
            if checksum is not None:
                signed = checksum - 65536 if checksum > 32767 else checksum
                fields += [str(signed), "0", self.tail.format(name=name)]
            lines.append(" ".join(fields).rstrip())
        return lines + [f"#{comment}" for comment in self.comments]

    def write(self, header: bytes | None = None, data: bytes | None = None) -> str:
        content = ("\n".join(self.lines()) + "\n").encode("latin-1") if header is None else header
        (self.folder / "r0.hea").write_bytes(content)
        (self.folder / "r0.dat").write_bytes(self.digital.T.astype("<i2").tobytes() if data is None else data)
        return str(self.folder / "r0")


@pytest.fixture
def make_record(tmp_path: Path) -> Callable[..., RecordFiles]:
    def make(digital: np.ndarray | None = None, **fields: object) -> RecordFiles:
        digital = ecg_like() if digital is None else digital
        if "names" not in fields and digital.shape[0] != 12:
            fields["names"] = tuple(STANDARD_LEADS[: digital.shape[0]])
        return RecordFiles(tmp_path, digital, **fields)  # type: ignore[arg-type]

    return make
