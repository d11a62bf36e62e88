"""A few seconds of the fuzzer of HDF5 and Parquet, with another seed every day."""

from __future__ import annotations

import datetime
from pathlib import Path

import datasets
import pytest

from tests.soak.containers import run
from tests.soak.guard import quiet

SECONDS = 6.0


def test_containers_of_strangers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_DATASETS_CACHE", "SLEEP_TIME_ON_THREADS_SHUTDOWN"):
        monkeypatch.setattr(datasets.config, name, getattr(datasets.config, name))
    seed = datetime.datetime.now(tz=datetime.UTC).date().toordinal()
    with quiet():
        outcomes, foreign = run(tmp_path, seconds=SECONDS, seed=seed)
    assert foreign == 0, f"seed {seed}: see the tracebacks above"
    assert all(outcomes.values()), "a kind of file was never tried"
