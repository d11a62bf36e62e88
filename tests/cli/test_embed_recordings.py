"""``ecg-hf embed RECORD ...``: embeddings of recordings and of their windows as Parquet."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import ecg_hf
from ecg_hf import EcgRecord
from tests.cli.test_errors import assert_one_line
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


def test_files_that_do_not_say_are_told_and_folders_taken(cli, record: Path, tmp_path: Path):
    folder, table = tmp_path / "folder", tmp_path / "e.parquet"
    (folder / "inner").mkdir(parents=True)
    for suffix in (".hea", ".dat"):
        shutil.copy(record.with_suffix(suffix), folder / "inner")
    signal = ecg_hf.read_record(record).signal
    np.save(folder / "two.npy", 1000 * signal[:2])
    (folder / "none.csv").write_text("<html>")
    told = ("--sampling-rate", 500, "--lead-names", "I,II", "--units", "uV", "--device", "cpu")
    command = ("embed", folder, "--output", table)
    assert_one_line(cli(*command, "--device", "cpu"), "none.csv")
    outcome = cli("embed", folder / "two.npy", "--output", table, *told)
    assert outcome.returncode == 0, outcome.stderr
    (vector,) = pq.read_table(table)["embedding"].to_pylist()
    two = EcgRecord(signal[:2], 500.0, ("I", "II"))
    assert vector == pytest.approx(ecg_hf.embed(two)[0].tolist(), abs=1e-4)
    assert_one_line(cli("embed", folder / "two.npy", "--output", tmp_path / "x.parquet"), "--lead-names")
    skipped = cli(*command, "--overwrite", "--on-error", "skip", "--device", "cpu", "--json")
    assert skipped.returncode == 3
    account = json.loads(skipped.stdout)
    assert (account["records"], account["embeddings"], len(account["unread"])) == (3, 1, 2)
    assert pq.read_table(table)["record_id"].to_pylist() == ["one"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--num-proc", 2), "--num-proc"),
        (("--on-error", "ignore"), "raise or skip"),
        (("--sampling-rate", 0), "rate"),
    ],
)
def test_options_that_do_nothing_or_can_not_be_are_refused(
    cli, record: Path, tmp_path: Path, options: tuple[object, ...], words: str
):
    assert_one_line(cli("embed", record, "--output", tmp_path / "e.parquet", *options), words)
