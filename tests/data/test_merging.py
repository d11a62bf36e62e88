"""Parts built on several machines: merged, they are the dataset of one machine, or they are refused."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ecg_hf.data import build_dataset, load_built, merge_parts
from ecg_hf.data.parts import Part, parse_part
from ecg_hf.data.report import BuildReport
from ecg_hf.errors import ConfigurationError, DatasetBuildError

SMALL = {"progress": False, "records_per_shard": 8}
RUN = ("output", "seconds", "records_per_second", "shards_reused")

BuildPart = Callable[..., Path]


def files(folder: Path) -> dict[str, bytes]:
    """Every file and its bytes; of the report, what is not about the run."""
    content = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    report = json.loads(content["build_report.json"])
    content["build_report.json"] = json.dumps({k: v for k, v in report.items() if k not in RUN}).encode()
    return content


@pytest.fixture
def build_part(ptbxl_folder: Path, tmp_path: Path) -> BuildPart:
    def build(shard: str | None, name: str | None = None, **options) -> Path:
        folder = tmp_path / (name or f"part {shard}".replace("/", " of "))
        build_dataset("ptbxl", ptbxl_folder, folder, shard=shard, **{**SMALL, **options})
        return folder

    return build


@pytest.mark.parametrize("count", [1, 3, 6])
def test_merged_parts_are_the_dataset_of_one_machine(
    build_part: BuildPart, ptbxl_folder: Path, tmp_path: Path, count: int
):
    (ptbxl_folder / "records100/00000/00003_lr.dat").write_bytes(b"short")  # dropped while reading
    (ptbxl_folder / "records100/00000/00030_lr.hea").unlink()  # dropped from the listing
    whole = build_part(None, "whole", detect_r_peaks=True)
    parts = [build_part(f"{i}/{count}", detect_r_peaks=True) for i in range(count, 0, -1)]
    report = merge_parts(parts, tmp_path / "merged", progress=False)
    assert files(tmp_path / "merged") == files(whole)
    assert report.dropped == {"TruncatedSignal": 1, "file_not_there": 1}
    kept = [json.loads((part / "part.json").read_text())["report"]["kept"] for part in parts]
    assert sum(kept) == report.kept == 28
    assert load_built(tmp_path / "merged")["split"][:] == load_built(whole)["split"][:]


def test_splits_by_shuffled_patients_do_not_depend_on_parts(tmp_path: Path):
    options = {"records": 60, "progress": False, "records_per_shard": 16}
    build_dataset("synthetic", None, tmp_path / "whole", **options)
    for i in (1, 2, 3):
        build_dataset("synthetic", None, tmp_path / str(i), shard=f"{i}/3", **options)
    merge_parts([tmp_path / "2", tmp_path / "3", tmp_path / "1"], tmp_path / "merged", progress=False)
    assert files(tmp_path / "merged") == files(tmp_path / "whole")
    assert set(load_built(tmp_path / "merged")["split"][:]) == {"train", "validation", "test"}


def test_shards_are_dealt_out_once_and_evenly():
    for total in (0, 1, 5, 17):
        for count in (1, 2, 4, 20):
            ranges = [Part(i, count).shards(total) for i in range(1, count + 1)]
            assert [number for numbers in ranges for number in numbers] == list(range(total))
            assert max(map(len, ranges)) - min(map(len, ranges)) <= 1


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/4/2", "-1/4", "", "1/0"])
def test_shards_that_are_none(text: str):
    with pytest.raises(ConfigurationError, match="I/N"):
        parse_part(text)


def test_a_part_is_no_dataset(build_part: BuildPart):
    part = build_part("1/2")
    assert sorted(path.name for path in part.iterdir()) == [
        *(f"data-{i:05d}-of-00004.arrow" for i in (0, 1)),
        "part.json",
    ]
    with pytest.raises(DatasetBuildError, match="one part of a dataset: merge"):
        load_built(part)
    before = {path: path.stat().st_mtime_ns for path in part.iterdir()}
    build_part("1/2")
    assert {path: path.stat().st_mtime_ns for path in part.iterdir()} == before
    for shard in ("2/2", "1/3", None):
        with pytest.raises(DatasetBuildError, match="holds part 1/2 of this dataset"):
            build_part(shard, part.name)
    build_part(None, part.name, overwrite=True)
    assert len(load_built(part)) == 30
    with pytest.raises(DatasetBuildError, match="holds the whole of this dataset, not part 1/2"):
        build_part("1/2", part.name)


def test_parts_that_do_not_belong_together(build_part: BuildPart, ptbxl_folder: Path, tmp_path: Path):
    one, two = build_part("1/2"), build_part("2/2")
    out = tmp_path / "merged"

    def refused(words: str, *parts: Path) -> None:
        with pytest.raises(DatasetBuildError, match=words) as caught:
            merge_parts(parts, out, progress=False)
        assert "\n" not in str(caught.value)
        assert not out.exists()

    refused("parts are missing: 2/2", one)
    refused("part 1/2 is also in", one, two, one)
    shutil.copytree(one, tmp_path / "copy")
    refused("part 1/2 is also in", one, tmp_path / "copy")
    refused("part 3/3, but .* is part 1/2", one, build_part("3/3"))
    refused("option train_folds '1-7', there '1-8'", one, build_part("2/2", "folds", train_folds="1-7"))
    refused("no such folder", one, tmp_path / "nowhere")
    refused("no part of a dataset", one, ptbxl_folder)
    refused("a whole dataset", one, build_part(None, "whole"))
    build_dataset("synthetic", None, tmp_path / "other", shard="2/2", records=20, **SMALL)
    refused("source synthetic, there ptbxl", one, tmp_path / "other")
    (ptbxl_folder / "records100/00000/00001_lr.hea").unlink()
    refused("did not see the same tables and files", one, build_part("2/2", "fewer files"))
    (two / "part.json").write_text("{")
    refused("not a JSON file", one, two)
    with pytest.raises(ConfigurationError, match="no part"):
        merge_parts([], out)


def test_outputs_that_are_taken(build_part: BuildPart, tmp_path: Path):
    parts = [build_part("1/2"), build_part("2/2")]
    with pytest.raises(DatasetBuildError, match="one of the parts"):
        merge_parts(parts, parts[0], progress=False)
    with pytest.raises(DatasetBuildError, match="finished build of other data"):
        merge_parts(parts, build_part("1/2", "another", train_folds="1-7"), progress=False)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(DatasetBuildError, match="something else"):
        merge_parts(parts, tmp_path / "mine", progress=False, overwrite=True)
    taken = build_part(None, "taken", train_folds="1-7")
    with pytest.raises(DatasetBuildError, match="overwrite=True"):
        merge_parts(parts, taken, progress=False)
    assert merge_parts(parts, taken, progress=False, overwrite=True).options["train_folds"] == "1-8"
    assert merge_parts(parts, taken, progress=False).reused


def test_a_file_that_changed_on_the_way(build_part: BuildPart, tmp_path: Path):
    parts = [build_part("1/2"), build_part("2/2")]
    file = parts[1] / "data-00003-of-00004.arrow"
    good = file.read_bytes()
    file.write_bytes(good[:-10] + b"\1" + good[-9:])
    with pytest.raises(DatasetBuildError, match=r"00003-of-00004\.arrow.*part 2/2.*build that part again"):
        merge_parts(parts, tmp_path / "merged", progress=False)
    with pytest.raises(DatasetBuildError, match="unfinished"):
        load_built(tmp_path / "merged")
    file.unlink()
    with pytest.raises(DatasetBuildError, match="can't be read"):
        merge_parts(parts, tmp_path / "merged", progress=False)
    file.write_bytes(good)
    assert merge_parts(parts, tmp_path / "merged", progress=False).shards_reused == 3
    assert files(tmp_path / "merged") == files(build_part(None, "whole"))


def test_parts_are_copied_where_they_cannot_be_linked(
    build_part: BuildPart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    parts = [build_part("1/2"), build_part("2/2")]
    merge_parts(parts, tmp_path / "linked", progress=False)

    def elsewhere(*_: object) -> None:
        raise OSError(18, "cross-device link")

    monkeypatch.setattr("os.link", elsewhere)
    merge_parts(parts, tmp_path / "copied", progress=False)
    assert files(tmp_path / "copied") == files(tmp_path / "linked")
    name = "data-00000-of-00004.arrow"
    assert (tmp_path / "linked" / name).samefile(parts[0] / name)
    assert not (tmp_path / "copied" / name).samefile(parts[0] / name)


KILLED = """
import os, signal, sys
from ecg_hf.data import build_folder, merge_parts, merging, shards
where, out, *parts = sys.argv[1:]
def dying(real, when):
    def call(*arguments, **options):
        if when(*arguments) and where[-1] == "<":
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*arguments, **options)
        if when(*arguments):
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return call
if where.startswith("shard"):
    merging.remember_shard = dying(merging.remember_shard, lambda job, *_: job.number == 2)
else:
    build_folder.write_whole = dying(build_folder.write_whole, lambda path, _: path.name == where[:-1])
merge_parts(parts, out, progress=False)
"""


@pytest.mark.slow
@pytest.mark.parametrize("where", ["shard<", "shard>", "build_report.json>", "state.json<"])
def test_a_killed_merge_continues(build_part: BuildPart, tmp_path: Path, where: str):
    parts = [build_part("1/2"), build_part("2/2")]
    out = tmp_path / "merged"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, where, str(out), *map(str, parts)], check=False, timeout=120
    )
    assert done.returncode == -signal.SIGKILL
    with pytest.raises(DatasetBuildError, match="unfinished"):
        load_built(out)
    report = merge_parts(parts, out, progress=False)
    assert report.shards_reused == {"shard<": 2, "shard>": 3}.get(where, 4)
    whole = build_part(None, "whole")
    assert files(out) == files(whole)
    assert BuildReport.load(out).kept == 30


def test_a_part_whose_records_are_all_bad(build_part: BuildPart, ptbxl_folder: Path, tmp_path: Path):
    for i in range(1, 17):
        (ptbxl_folder / f"records100/00000/{i:05d}_lr.dat").write_bytes(b"")
    parts = [build_part("1/2"), build_part("2/2")]
    assert merge_parts(parts, tmp_path / "merged", progress=False).kept == 14
    assert files(tmp_path / "merged") == files(build_part(None, "whole"))
    for i in range(17, 31):
        (ptbxl_folder / f"records100/00000/{i:05d}_lr.dat").write_bytes(b"")
    parts[1] = build_part("2/2", "second")
    with pytest.raises(DatasetBuildError, match="not one record"):
        merge_parts(parts, tmp_path / "none", progress=False)
    assert not (tmp_path / "none").exists()
