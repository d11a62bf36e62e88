"""Small datasets on disk, in the layouts the sources expect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

LEADS = ("I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6")
MIMIC_LEADS = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")

WriteRecord = Callable[..., np.ndarray]


@pytest.fixture
def write_record() -> WriteRecord:
    """Writes one WFDB record (format 16) by hand and returns its integers ``(leads, samples)``."""

    def write(
        root: Path,
        name: str,
        *,
        samples: int = 200,
        rate: int = 100,
        gain: str = "1000.0(0)/mV",
        leads: Sequence[str] = LEADS,
        seed: int = 0,
        values: np.ndarray | None = None,
        comments: Sequence[str] = (),
        extension: str = "dat",
    ) -> np.ndarray:
        if values is None:
            values = np.random.default_rng(seed).integers(-900, 900, (len(leads), samples)).astype(np.int16)
        path = root / f"{name}.hea"
        path.parent.mkdir(parents=True, exist_ok=True)
        file = f"{path.stem}.{extension}"
        (path.parent / file).write_bytes(np.ascontiguousarray(values.T).astype("<i2").tobytes())
        lines = [f"{path.stem} {len(leads)} {rate} {values.shape[1]}"]
        for row, lead in zip(values, leads, strict=True):
            total = int(row.astype(np.int64).sum()) & 0xFFFF
            lines.append(f"{file} 16 {gain} 16 0 {row[0]} {total} 0 {lead}")
        path.write_text("\n".join([*lines, *comments]) + "\n", encoding="utf-8")
        return values

    return write


PTBXL_HEADER = "ecg_id,patient_id,age,sex,report,scp_codes,strat_fold,filename_lr,filename_hr"


@pytest.fixture
def ptbxl_folder(tmp_path: Path, write_record: WriteRecord) -> Path:
    """Thirty PTB-XL rows over ten folds, 100 Hz, 20 patients."""
    root = tmp_path / "ptbxl"
    lines = [PTBXL_HEADER]
    for i in range(1, 31):
        name = f"records100/00000/{i:05d}_lr"
        write_record(root, name, seed=i)
        fold = (i % 20) % 10 + 1
        lines.append(
            f"{i},{i % 20}.0,{30 + i}.0,{i % 2},sinus rhythm nr {i},"
            f"\"{{'NORM': 100.0, 'SR': 0.0}}\",{fold},{name},x/{i}"
        )
    (root / "ptbxl_database.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root
