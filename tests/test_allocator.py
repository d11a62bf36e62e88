"""Freed memory that is used again."""

import os
import subprocess
import sys

import pytest

CODE = """
import resource, sys
import numpy as np
from ecg_hf.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    np.ones(1 << 17)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 50 * (1 << 20) // 4096


def faults(*arguments: str, **environment: str) -> int:
    own = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", CODE, *arguments],
        env={**own, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="settings of glibc")
def test_freed_arrays_are_used_again() -> None:
    dask = {"MALLOC_TRIM_THRESHOLD_": "65536"}  # as its nanny starts workers
    without = faults("plain", **dask)
    if without < PAGES // 2:
        pytest.skip("large pages, or another C library")
    assert faults("kept", **dask) < without / 5
    # Whoever set thresholds is left alone.
    assert faults("kept", **dask, MALLOC_MMAP_THRESHOLD_="65536") > without / 2
