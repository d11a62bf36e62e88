"""Builds on a Dask cluster: the bytes of one process."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecg_hf.data import build_dataset
from ecg_hf.engine import Engine


def files(folder: Path) -> dict[str, bytes]:
    """The files of a build, without its report, which says how long it took."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "build_report.json"}


@pytest.mark.slow
def test_a_build_has_the_bytes_of_one_process(cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)  # which is not the workers'
    engine = Engine("dask", address=cluster)
    options = {"records": 100, "records_per_shard": 20, "progress": False}
    build_dataset("synthetic", None, "here", **options)
    report = build_dataset("synthetic", None, "cluster", engine=engine, **options)
    assert report.shards == 5
    assert files(tmp_path / "cluster") == files(tmp_path / "here")
