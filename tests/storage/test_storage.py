"""Addresses, accounts, retries and working copies, in fsspec's memory."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from ecg_hf.errors import EcgError, LibraryMissing, StorageError, UnsafePath
from ecg_hf.storage import ACCOUNTS, RemoteFolder, local_folder, local_only, location, working_copy
from ecg_hf.storage import trying as trying_module
from ecg_hf.storage.objects import is_plain


@pytest.fixture(autouse=True)
def memory(empty_store: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch) -> MemoryFileSystem:
    monkeypatch.setattr(trying_module, "_PAUSE_S", 0.0)
    return empty_store


def remote(url: str = "memory://store/folder") -> RemoteFolder:
    found = location(url)
    assert isinstance(found, RemoteFolder)
    return found


def publish(folder: RemoteFolder, tmp_path: Path, name: str, content: bytes, **account: object) -> None:
    file = tmp_path / "content"
    file.write_bytes(content)
    folder.publish(file, name, account)


@pytest.mark.parametrize("text", ["here", "/a/b", "C", "file:///a/b", Path("x")])
def test_local_paths_stay_paths(text: str | Path):
    assert location(text) == Path(str(text).removeprefix("file://"))


@pytest.mark.parametrize(
    "url", ["s3://b/x", "gs://b", "abfs://box@account.dfs.core.windows.net/x", "hf://datasets/a/b"]
)
def test_addresses_are_folders(url: str):
    assert location(f"{url}/") == RemoteFolder(url)


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:SECRET@bucket/x",
        "s3://SECRET@bucket/x",
        "s3://bucket/x?X-Amz-Signature=SECRET",
        "abfs://SECRET:x@account/x",
        "http://SECRET/x",
        "simplecache::s3://SECRET/x",
        "s3:/SECRET/x",
        "s3://SECRET/../x",
        "s3://",
        "s3://b//SECRET",
    ],
)
def test_what_is_refused_is_not_repeated(url: str):
    with pytest.raises(UnsafePath) as refused:
        location(url)
    assert "SECRET" not in str(refused.value)
    assert "SECRET" not in repr(vars(refused.value))


@pytest.mark.parametrize("name", ["../x", "a/../x", "/x", "a//b", ".", "a\\b", "C:/x", "a\0b", ""])
def test_names_that_leave_a_folder_are_none(name: str):
    assert not is_plain(name)
    with pytest.raises(UnsafePath):
        remote().read(name)


def test_a_listing_leaves_out_what_no_file_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    listed = {
        f"/store/folder/{name}": {"size": 1, "type": "file"} for name in ("good", "../bad", "a/../../bad")
    }
    monkeypatch.setattr(MemoryFileSystem, "find", lambda *_, **__: listed)
    assert list(remote().objects()) == ["good"]


def test_what_is_published_is_finished_and_comes_back(tmp_path: Path):
    publish(remote(), tmp_path, "data/x", b"content", said=1)
    objects = remote().objects()
    assert list(objects) == [f"{ACCOUNTS}/data/x.json", "data/x"]
    assert remote().finished(objects, ["data/x", "other"]) == {"data/x": {"said": 1}}
    assert (local_folder("memory://store/folder") / "data/x").read_bytes() == b"content"


def test_an_object_without_an_account_is_not_finished(memory: MemoryFileSystem):
    memory.pipe_file("/store/folder/x", b"content")
    assert remote().finished(remote().objects(), ["x"]) == {}


@pytest.mark.parametrize("content", [b"cont", b"CONTENT"])
def test_an_object_that_differs_from_its_account_is_refused(
    memory: MemoryFileSystem, tmp_path: Path, content: bytes
):
    publish(remote(), tmp_path, "x", b"content")
    memory.pipe_file("/store/folder/x", content)
    assert remote().finished(remote().objects(), ["x"]) == {}
    with pytest.raises(StorageError, match="differs from its account"):
        remote().mirror()
    assert not any(path.is_file() for path in (tmp_path / "cache").rglob("*"))


def test_a_mirror_follows_its_objects(memory: MemoryFileSystem):
    memory.pipe_file("/store/folder/x", b"one")
    first = remote().mirror()
    assert remote().mirror() == first
    memory.pipe_file("/store/folder/x", b"two")
    assert (remote().mirror() / "x").read_bytes() == b"two"
    assert (first / "x").read_bytes() == b"one"


def test_an_upload_that_is_cut_short_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def half(self: MemoryFileSystem, local: str, path: str, **_: object) -> None:
        self.pipe_file(path, Path(local).read_bytes()[:3])

    monkeypatch.setattr(MemoryFileSystem, "put_file", half)
    with pytest.raises(StorageError, match="wrote 7 bytes and the store holds 3"):
        publish(remote(), tmp_path, "x", b"content")
    assert remote().finished(remote().objects(), ["x"]) == {}


def test_trouble_is_tried_again_and_then_said_without_secrets(
    memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
):
    memory.pipe_file("/store/folder/x", b"content")
    read, failures = MemoryFileSystem.cat_file, [2]

    def failing(self: MemoryFileSystem, *given: object, **named: object) -> bytes:
        failures[0] -= 1
        if failures[0] >= 0:
            raise OSError("503 at https://key:SECRET@host/x?Signature=SECRET")
        return read(self, *given, **named)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", failing)
    assert remote().read("x") == b"content"
    failures[0] = 100
    with pytest.raises(StorageError, match="failed 4 times: 503 at") as refused:
        remote().read("x")
    assert failures[0] == 96
    assert "SECRET" not in str(refused.value)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch):
    def missing(*_: object, **__: object) -> None:
        raise ImportError

    monkeypatch.setattr(fsspec, "filesystem", missing)
    for url, library in (("s3://b/x", "s3fs"), ("gs://b/x", "gcsfs"), ("abfs://b/x", "adlfs")):
        with pytest.raises(LibraryMissing, match=library):
            remote(url).objects()


def test_some_outputs_are_local_only():
    with pytest.raises(UnsafePath, match="no address"):
        local_only("memory://store/x")


def test_a_working_copy_publishes_what_changed(memory: MemoryFileSystem):
    order: list[str] = []
    put = RemoteFolder.publish

    def noting(self: RemoteFolder, file: Path, name: str, *given: object) -> None:
        order.append(name)
        put(self, file, name, *given)

    def removing(self: RemoteFolder, names: list[str]) -> None:
        order.extend(f"-{name}" for name in names)
        remove(self, names)

    remove = RemoteFolder.remove
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RemoteFolder, "publish", noting)
        patch.setattr(RemoteFolder, "remove", removing)
        with working_copy("memory://store/folder", last=["a_last"]) as copy:
            for name in ("a/x", "a/a_last", "a_last", "b", "c/a_last", "c/x", ".lock"):
                (copy.folder / name).parent.mkdir(parents=True, exist_ok=True)
                (copy.folder / name).write_text(name)
            copy.publish()
            (copy.folder / "b").unlink()
            shutil.rmtree(copy.folder / "a")
            (copy.folder / "c/a_last").unlink()
            (copy.folder / "c/x").write_text("changed")
    # What describes the folder comes first, and what says that it is complete last.
    first = ["b", "a/x", "c/x", "a_last", "a/a_last", "c/a_last"]
    # "c" is not complete before it changes; "a" and "b" are there until what is new is.
    assert order == [*first, "-c/a_last", "c/x", "-a/a_last", "-a/x", "-b"]
    names = {name for name in remote().objects() if not name.startswith(ACCOUNTS)}
    assert names == {"a_last", "c/x"}


def test_a_working_copy_leaves_what_is_being_written(memory: MemoryFileSystem):
    def names() -> set[str]:
        return {name for name in remote().objects() if not name.startswith(ACCOUNTS)}

    def in_b(name: str) -> bool:
        return name.startswith("b/")

    with working_copy("memory://store/folder") as copy:
        for name in ("a/x", "b/x"):
            (copy.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (copy.folder / name).write_text(name)
        copy.publish(leave=in_b)
        assert names() == {"a/x"}
        copy.publish()
        assert names() == {"a/x", "b/x"}
        (copy.folder / "b/x").unlink()
        (copy.folder / "a/x").unlink()
        copy.publish(leave=in_b)
        assert names() == {"b/x"}
    assert names() == set()


def test_a_working_copy_leaves_out_what_is_half_written(memory: MemoryFileSystem, tmp_path: Path):
    publish(remote(), tmp_path, "whole", b"content")
    publish(remote(), tmp_path, "half", b"content")
    memory.pipe_file("/store/folder/half", b"con")
    with contextlib.suppress(EcgError), working_copy("memory://store/folder") as copy:
        assert [path.name for path in copy.folder.iterdir()] == ["whole"]
        (copy.folder / "more").write_text("kept")
        raise EcgError("the work failed")
    assert "more" in remote().objects()


def test_accounts_say_nothing_of_the_machine(memory: MemoryFileSystem, tmp_path: Path):
    publish(remote(), tmp_path, "x", b"content", said=1)
    said = json.loads(memory.cat_file(f"/store/folder/{ACCOUNTS}/x.json"))
    assert said.keys() == {"size", "tag", "sha256", "account"}
    assert str(tmp_path) not in json.dumps(said)
