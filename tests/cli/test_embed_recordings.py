"""``ecg-hf embed RECORD ...``: embeddings of recordings and of their windows as Parquet."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import ecg_hf
from tests.pipelines.conftest import make_zero_shot_folder
from tests.signal.io.test_clinical_traps import ishne

MEASURED = """
import sys
from ecg_hf.cli.main import main
from ecg_hf.signal.io import windows
windows._BLOCK_VALUES = 1 << 18  # many blocks in little time
try:
    main(sys.argv[1:])
finally:
    # Not ru_maxrss, which begins with what the parent had.
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    print(int(line.split()[1]) // 1024, file=sys.stderr)
"""


def peak_mib(*arguments: object) -> int:
    """Peak memory of the command in a process of its own."""
    command = [sys.executable, "-c", MEASURED, *map(str, arguments)]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr
    return int(outcome.stderr.split()[-1])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for the peak of a process")
def test_memory_does_not_grow_with_the_recording(tmp_path: Path):
    """An hour more of 12 leads would be 41 MiB of counts and 82 MiB of signal. Half of it is without electrodes."""
    model = make_zero_shot_folder(tmp_path / "model", tmp_path)
    peaks = {}
    for minutes in (10, 70):
        counts = np.zeros((12, 500 * 60 * minutes), dtype=np.int16)
        counts[:, : counts.shape[1] // 2 : 400] = 500
        recording, table = tmp_path / f"{minutes}.ecg", tmp_path / f"{minutes}.parquet"
        recording.write_bytes(ishne(counts, list(range(5, 17)), [2500] * 12, rate=500))
        # Fewer windows at once than the shorter recording has, so that both have full batches.
        told = ("--model", model, "--device", "cpu", "--window", 10, "--stride", 60, "--batch-size", 4)
        peaks[minutes] = peak_mib("embed", recording, *told, "--output", table)
        rows = pq.read_table(table)
        assert rows["start_s"].to_pylist() == [60.0 * k for k in range(minutes)]
        assert rows["embedding"].null_count == minutes // 2
    assert peaks[70] - peaks[10] < 40, peaks


@pytest.mark.slow
def test_recordings_and_windows_become_parquet(cli, pretrained: Path, record: Path, tmp_path: Path):
    whole, parts = tmp_path / "whole.parquet", tmp_path / "parts.parquet"
    outcome = cli("embed", record, "--model", pretrained, "--output", whole, "--device", "cpu")
    assert outcome.returncode == 0, outcome.stderr
    table = pq.read_table(whole)
    assert table.column_names == ["record_id", "start_s", "embedding"]
    assert table["record_id"].to_pylist() == ["one"]
    told = ("--model", pretrained, "--output", parts, "--device", "cpu", "--window", 4, "--stride", 2)
    outcome = cli("embed", record, record, *told)
    assert outcome.returncode == 0, outcome.stderr
    table = pq.read_table(parts)
    assert table["start_s"].to_pylist() == [0.0, 2.0, 4.0, 6.0] * 2
    assert len(set(map(len, table["embedding"].to_pylist()))) == 1
    for wrong in (told, ("--dataset", tmp_path, record, *told), (record, *told[:-4], "--stride", 2)):
        assert cli("embed", *wrong).returncode == 2


def test_without_a_model_the_shipped_encoder_embeds(cli, record: Path, tmp_path: Path):
    outcome = cli("embed", record, "--output", tmp_path / "whole.parquet", "--device", "cpu")
    assert outcome.returncode == 0, outcome.stderr
    (vector,) = pq.read_table(tmp_path / "whole.parquet")["embedding"].to_pylist()
    assert vector == pytest.approx(ecg_hf.embed(record)[0].tolist(), abs=1e-5)
