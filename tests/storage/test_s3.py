"""The protocol of S3, with connections that are cut and a server that throttles."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ecg_hf.errors import StorageError
from ecg_hf.storage import RemoteFolder, location
from ecg_hf.storage import trying as trying_module

pytest.importorskip("s3fs", reason="needs s3fs (extra cluster)")
pytest.importorskip("moto.server", reason="needs moto[s3], flask and flask-cors")

from tests.storage.faults import BUCKET, FaultyProxy, endpoint, s3_server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    import fsspec

    with s3_server() as port:
        with endpoint(port):
            fsspec.filesystem("s3").mkdir(BUCKET)
        yield port


def folder(name: str) -> RemoteFolder:
    found = location(f"s3://{BUCKET}/{name}")
    assert isinstance(found, RemoteFolder)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_what_comes_through_faults_is_what_was_sent(server: int, seed: int, tmp_path: Path):
    proxy = FaultyProxy(server, cuts=0.3, throttled=0.1, longest=100_000, seed=seed)
    contents = {f"deep/{number}": bytes([number]) * 40_000 * number for number in range(6)}
    try:
        with endpoint(proxy.port):
            for name, content in contents.items():
                (tmp_path / "file").write_bytes(content)
                folder(f"run{seed}").publish(tmp_path / "file", name, {"name": name})
            objects = folder(f"run{seed}").objects()
            assert folder(f"run{seed}").finished(objects, contents) == {
                name: {"name": name} for name in contents
            }
            with folder(f"run{seed}").fetched([objects[name] for name in contents]) as place:
                assert {name: (place / name).read_bytes() for name in contents} == contents
    finally:
        proxy.close()
    assert proxy.count["cut"] + proxy.count["throttled"] > 0


def test_a_server_that_only_throttles_ends_with_one_line(server: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trying_module, "ATTEMPTS", 1)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    proxy = FaultyProxy(server, throttled=1.0)
    with endpoint(proxy.port), pytest.raises(StorageError, match="the store failed 1 times") as refused:
        folder("none").objects()
    proxy.close()
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)


def test_no_bucket_is_said(server: int):
    with endpoint(server), pytest.raises(StorageError, match="no such bucket"):
        location("s3://another-bucket/x").objects()
