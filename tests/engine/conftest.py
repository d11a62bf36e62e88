"""A small Dask cluster for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engine.local_cluster import LocalCluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a scheduler with two workers of one thread, in processes of their own."""
    pytest.importorskip("distributed", reason="needs the extra cluster")
    started = LocalCluster(tmp_path_factory.mktemp("dask"))
    yield started.address
    started.kill()
