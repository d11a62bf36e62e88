"""Building: same bytes however it is run, killable, resumable, never mistaken for finished."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from ecg_hf.data import build_folder
from ecg_hf.data.building import build_dataset, load_built
from ecg_hf.data.feature import Ecg
from ecg_hf.data.report import BuildReport
from ecg_hf.data.row_pieces import open_divisible
from ecg_hf.data.schema import canonical_features
from ecg_hf.errors import ConfigurationError, DatasetBuildError


def build(folder: Path, output: Path, **options) -> BuildReport:
    return build_dataset("ptbxl", folder, output, **{"progress": False, "records_per_shard": 8, **options})


def dataset_bytes(folder: Path) -> dict[str, bytes]:
    """Everything but the report, which has timings."""
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.name != "build_report.json"}


def test_a_build_loads_as_one_dataset_in_source_order(ptbxl_folder: Path, tmp_path: Path):
    report = build(ptbxl_folder, tmp_path / "out")
    rows = datasets.load_from_disk(str(tmp_path / "out"))
    assert isinstance(rows, datasets.Dataset)
    assert rows.features == canonical_features()
    assert rows["record_id"][:] == [str(i) for i in range(1, 31)]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "build_report.json",
        *[f"data-{i:05d}-of-00004.arrow" for i in range(4)],
        "dataset_info.json",
        "state.json",
    ]
    assert (report.seen, report.kept, report.shards) == (30, 30, 4)
    assert report.splits == {"test": 3, "train": 24, "validation": 3}
    assert report.labels["NORM"] == {"test": 3, "train": 24, "validation": 3}
    assert report.patients == 20
    assert report.patients_in_two_splits == 0
    assert BuildReport.load(tmp_path / "out") == report


def test_samples_are_exact(ptbxl_folder: Path, tmp_path: Path, write_record):
    values = write_record(ptbxl_folder, "records100/00000/00007_lr", seed=77)
    build(ptbxl_folder, tmp_path / "out")
    raw = load_built(tmp_path / "out").cast_column("ecg", Ecg(decode=False))[6]["ecg"]
    assert np.array_equal(np.frombuffer(raw["samples"], "<i2").reshape(12, 200), values)


def test_bytes_do_not_depend_on_processes(ptbxl_folder: Path, tmp_path: Path):
    build(ptbxl_folder, tmp_path / "one", num_proc=1)
    build(ptbxl_folder, tmp_path / "two", num_proc=2)
    assert dataset_bytes(tmp_path / "one") == dataset_bytes(tmp_path / "two")


def test_a_finished_build_is_left_alone(ptbxl_folder: Path, tmp_path: Path):
    build(ptbxl_folder, tmp_path / "out")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
    again = build(ptbxl_folder, tmp_path / "out")
    assert again.reused
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()} == before
    rebuilt = build(ptbxl_folder, tmp_path / "out", overwrite=True)
    assert not rebuilt.reused


def test_other_options_are_not_taken_for_the_same_build(ptbxl_folder: Path, tmp_path: Path):
    build(ptbxl_folder, tmp_path / "out")
    for change in ({"records_per_shard": 9}, {"train_folds": "1-7"}):
        with pytest.raises(DatasetBuildError, match="overwrite=True"):
            build(ptbxl_folder, tmp_path / "out", **change)
    (ptbxl_folder / "records100/00000/00030_lr.hea").unlink()
    with pytest.raises(DatasetBuildError, match="overwrite=True"):
        build(ptbxl_folder, tmp_path / "out")
    assert build(ptbxl_folder, tmp_path / "out", overwrite=True).kept == 29
    assert len(load_built(tmp_path / "out")) == 29


def test_foreign_folders_are_refused(ptbxl_folder: Path, tmp_path: Path):
    foreign = tmp_path / "out"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(DatasetBuildError, match="something else"):
            build(ptbxl_folder, foreign, overwrite=overwrite)
    assert [p.name for p in foreign.iterdir()] == ["thesis.txt"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(DatasetBuildError, match="not a folder"):
        build(ptbxl_folder, tmp_path / "file")


def test_overwrite_spares_files_it_did_not_write(ptbxl_folder: Path, tmp_path: Path):
    build(ptbxl_folder, tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(DatasetBuildError, match="more than a build"):
        build(ptbxl_folder, tmp_path / "out", overwrite=True)
    assert load_built(tmp_path / "out").num_rows == 30


KILLED = """
import os, signal, sys
from pathlib import Path
from typing import Any
from ecg_hf.data import build_folder, building, shards
real = shards.build_shard
def dying(job):
    if job.number == int(sys.argv[3]):
        if sys.argv[4] == "half":
            (job.folder / shards.WORK_FOLDER / f"{job.filename}.1.tmp").write_bytes(b"half a shard")
        os.kill(int(sys.argv[5]) if len(sys.argv) > 5 else os.getpid(), signal.SIGKILL)
    return real(job)
building.build_shard = dying
if sys.argv[4] == "end":
    def dying_write(path, text, real=build_folder.write_whole, **options):
        real(path, text, **options)
        if path.name == "dataset_info.json":
            os.kill(os.getpid(), signal.SIGKILL)
    build_folder.write_whole = dying_write
building.build_dataset("ptbxl", sys.argv[1], sys.argv[2], records_per_shard=8, progress=False)
"""


@pytest.mark.parametrize(("shard", "how", "finished"), [(0, "clean", 0), (2, "half", 2), (99, "end", 4)])
def test_a_killed_build_continues_to_the_same_bytes(
    ptbxl_folder: Path, tmp_path: Path, shard: int, how: str, finished: int
):
    build(ptbxl_folder, tmp_path / "whole")
    out = tmp_path / "killed"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(ptbxl_folder), str(out), str(shard), how], check=False
    )
    assert done.returncode == -signal.SIGKILL
    with pytest.raises(FileNotFoundError):
        datasets.load_from_disk(str(out))
    with pytest.raises(DatasetBuildError, match="unfinished"):
        load_built(out)
    report = build(ptbxl_folder, out)
    assert report.shards_reused == finished
    assert dataset_bytes(out) == dataset_bytes(tmp_path / "whole")
    assert {**report.to_dict(), **_volatile()} == {
        **BuildReport.load(tmp_path / "whole").to_dict(),
        **_volatile(),
    }


def _volatile() -> dict[str, object]:
    return {"output": "", "seconds": 0, "records_per_second": 0, "shards_reused": 0}


PARALLEL = """
import sys
from ecg_hf.data import build_dataset
build_dataset("synthetic", None, sys.argv[1], records=3000, num_proc=2, records_per_shard=50, progress=False)
"""


@pytest.mark.slow
def test_kill_9_of_a_parallel_build(tmp_path: Path):
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", PARALLEL, str(out)])
    deadline = time.monotonic() + 60
    while len(list(out.glob("data-*.arrow"))) < 3:
        assert process.poll() is None, "the build ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with pytest.raises(FileNotFoundError):
        datasets.load_from_disk(str(out))
    options = {"records": 3000, "records_per_shard": 50, "progress": False}
    report = build_dataset("synthetic", None, out, num_proc=1, **options)
    assert 0 < report.shards_reused < report.shards
    build_dataset("synthetic", None, tmp_path / "whole", num_proc=2, **options)
    assert dataset_bytes(out) == dataset_bytes(tmp_path / "whole")


def test_a_damaged_shard_is_built_again(ptbxl_folder: Path, tmp_path: Path):
    build(ptbxl_folder, tmp_path / "whole")
    out = tmp_path / "killed"
    subprocess.run([sys.executable, "-c", KILLED, str(ptbxl_folder), str(out), "3", "clean"], check=False)
    with (out / "data-00001-of-00004.arrow").open("ab") as file:
        file.write(b"x")
    (out / ".building" / "00000.json").write_text("{")
    assert build(ptbxl_folder, out).shards_reused == 1
    assert dataset_bytes(out) == dataset_bytes(tmp_path / "whole")


def test_an_unfinished_build_of_something_else_is_refused(ptbxl_folder: Path, tmp_path: Path):
    out = tmp_path / "killed"
    subprocess.run([sys.executable, "-c", KILLED, str(ptbxl_folder), str(out), "2", "clean"], check=False)
    with pytest.raises(DatasetBuildError, match="unfinished build of other"):
        build(ptbxl_folder, out, train_folds="1-7")
    assert len(list(out.glob("data-*.arrow"))) == 2
    report = build(ptbxl_folder, out, train_folds="1-7", overwrite=True)
    assert report.shards_reused == 0
    assert report.dropped == {"fold_not_selected": 3}


def test_a_build_that_never_got_anywhere_is_no_obstacle(ptbxl_folder: Path, tmp_path: Path):
    out = tmp_path / "killed"
    subprocess.run([sys.executable, "-c", KILLED, str(ptbxl_folder), str(out), "0", "clean"], check=False)
    assert (out / ".building" / "plan.json").is_file()
    assert build(ptbxl_folder, out, train_folds="1-7").kept == 27


def test_two_builds_of_one_folder(ptbxl_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from filelock import FileLock

    from ecg_hf.data import build_folder

    monkeypatch.setattr(build_folder, "LOCK_PATIENCE_S", 0.1)
    (tmp_path / "out" / ".building").mkdir(parents=True)
    other = FileLock(tmp_path / "out" / ".building" / "lock")
    with other, pytest.raises(DatasetBuildError, match="another process"):
        build(ptbxl_folder, tmp_path / "out")
    assert build(ptbxl_folder, tmp_path / "out").kept == 30


def test_a_builder_that_finishes_takes_nothing_from_those_that_wait(tmp_path: Path) -> None:
    waiting: list[str] = []

    def wait() -> None:
        with build_folder.exclusive(tmp_path):
            waiting.append("its turn")

    with build_folder.exclusive(tmp_path):
        second = threading.Thread(target=wait)
        second.start()
        time.sleep(0.2)
        shutil.rmtree(tmp_path / build_folder.WORK_FOLDER)
        time.sleep(0.2)
    second.join(timeout=60)
    assert waiting == ["its turn"]


def test_unreadable_records_are_counted_not_fatal(ptbxl_folder: Path, tmp_path: Path):
    records = ptbxl_folder / "records100" / "00000"
    (records / "00003_lr.dat").write_bytes((records / "00003_lr.dat").read_bytes()[:-100])
    (records / "00004_lr.dat").unlink()
    (records / "00005_lr.hea").write_text("garbage\n")
    data = bytearray((records / "00006_lr.dat").read_bytes())
    data[100] ^= 1
    (records / "00006_lr.dat").write_bytes(data)
    report = build(ptbxl_folder, tmp_path / "out", num_proc=2)
    assert report.dropped == {
        "ChecksumMismatch": 1,
        "HeaderError": 1,
        "RecordNotFound": 1,
        "TruncatedSignal": 1,
    }
    assert report.examples["TruncatedSignal"] == ["3"]
    assert report.seen == report.kept + sum(report.dropped.values()) == 30
    assert load_built(tmp_path / "out")["record_id"][:4] == ["1", "2", "7", "8"]


def test_nothing_readable_is_an_error(ptbxl_folder: Path, tmp_path: Path):
    for path in (ptbxl_folder / "records100" / "00000").glob("*.dat"):
        path.write_bytes(b"")
    with pytest.raises(DatasetBuildError, match="not one record"):
        build(ptbxl_folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    for path in (ptbxl_folder / "records100" / "00000").glob("*.hea"):
        path.unlink()
    with pytest.raises(DatasetBuildError, match="30 file_not_there"):
        build(ptbxl_folder, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_empty_shards_are_fine(ptbxl_folder: Path, tmp_path: Path):
    for i in range(1, 9):
        (ptbxl_folder / f"records100/00000/{i:05d}_lr.dat").write_bytes(b"")
    assert build(ptbxl_folder, tmp_path / "out").kept == 22
    assert load_built(tmp_path / "out")[0]["record_id"] == "9"


def test_wrong_arguments(ptbxl_folder: Path, tmp_path: Path):
    with pytest.raises(ConfigurationError, match="no source"):
        build_dataset("ptb-xl", ptbxl_folder, tmp_path / "out")
    with pytest.raises(ConfigurationError, match="no option frequency"):
        build(ptbxl_folder, tmp_path / "out", frequency=100)
    with pytest.raises(ConfigurationError, match="positive"):
        build(ptbxl_folder, tmp_path / "out", num_proc=0)
    with pytest.raises(DatasetBuildError, match="no such folder"):
        build(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(DatasetBuildError, match="data_dir"):
        build_dataset("ptbxl", None, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_load_built_refuses_what_is_no_build(tmp_path: Path):
    with pytest.raises(DatasetBuildError, match="no such"):
        load_built(tmp_path / "nothing")
    with pytest.raises(DatasetBuildError, match="no dataset"):
        load_built(tmp_path)


def test_a_truncated_shard_is_a_typed_error(ptbxl_folder: Path, tmp_path: Path):
    build(ptbxl_folder, tmp_path / "out")
    path = tmp_path / "out" / "data-00000-of-00004.arrow"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DatasetBuildError, match="can't be opened"):
        load_built(tmp_path / "out")


def test_arrow_shards_are_plain_for_strangers(ptbxl_folder: Path, tmp_path: Path):
    build(ptbxl_folder, tmp_path / "out")
    script = (
        "import sys, datasets; d = datasets.Dataset.from_file(sys.argv[1]); "
        "assert not any(m.startswith('ecg_hf') for m in sys.modules); print(d[0]['ecg']['lead_names'][3])"
    )
    shard = tmp_path / "out" / "data-00000-of-00004.arrow"
    done = subprocess.run(
        [sys.executable, "-c", script, str(shard)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "aVR"


def test_progress_goes_to_standard_error(
    ptbxl_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    build(ptbxl_folder, tmp_path / "out", progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "ptbxl" in err
    assert "30/30" in err


def test_report_has_no_patient_text(ptbxl_folder: Path, tmp_path: Path):
    build(ptbxl_folder, tmp_path / "out")
    text = (tmp_path / "out" / "build_report.json").read_text()
    assert "sinus" not in text
    assert json.loads(text)["kept"] == 30


def test_the_content_of_a_report_is_that_of_the_dataset(tmp_path: Path) -> None:
    def content(folder: str, **options: Any) -> str:
        build_dataset("synthetic", None, tmp_path / folder, **{"records": 20, "progress": False, **options})
        return BuildReport.load(tmp_path / folder).content()

    first = content("first")
    assert content("second") == first
    assert content("in_two_files", records_per_shard=10) != first
    assert content("other", seed=1) != first
    assert content("with_peaks", detect_r_peaks=True) != first
    shutil.copytree(tmp_path / "first", tmp_path / "copy")
    copy, original = open_divisible(tmp_path / "copy"), open_divisible(tmp_path / "first")
    assert (copy.content, copy.rows) == (original.content, original.rows) == (first, 20)
