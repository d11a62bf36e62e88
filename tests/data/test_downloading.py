"""Downloads from a loopback server: resuming, checksums, refusals."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ecg_hf.data import downloading
from ecg_hf.data.downloading import download_source
from ecg_hf.errors import ConfigurationError, DownloadError, EcgError, UnsafePath
from ecg_hf.files import sole_writer

FILES = {
    "RECORDS": b"records100/1\n",
    "records100/1.dat": bytes(range(256)) * 4000,
    "records100/1.hea": b"1 12 100 1000\n",
    "records500/1.dat": b"high" * 10,
    "ptbxl_database.csv": b"ecg_id\n1\n",
    "sub folder/ü.txt": b"quoted",
}


class Server(ThreadingHTTPServer):
    """Serves FILES below /ptb-xl/1.0.3/, with faults on demand."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {f"/ptb-xl/1.0.3/{name}": data for name, data in FILES.items()}
        self.requests: list[tuple[str, str | None]] = []
        self.ranges = True
        self.cut_after: int | None = None
        self.cuts = 0
        self.status: int | None = None
        self.list_files()

    def list_files(self, extra: str = "") -> None:
        lines = [
            f"{hashlib.sha256(data).hexdigest()} {name.removeprefix('/ptb-xl/1.0.3/')}"
            for name, data in self.files.items()
            if not name.endswith("SHA256SUMS.txt")
        ]
        self.files["/ptb-xl/1.0.3/SHA256SUMS.txt"] = ("\n".join(lines) + "\n" + extra).encode()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        from urllib.parse import unquote

        server, path = self.server, unquote(self.path)
        asked = self.headers.get("Range")
        server.requests.append((path, asked))
        if server.status is not None and not path.endswith("SHA256SUMS.txt"):
            self.send_error(server.status)
            return
        if path not in server.files:
            self.send_error(404)
            return
        data, start = server.files[path], 0
        if asked and server.ranges:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(data):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        body = data[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.cut_after is not None and len(body) > server.cut_after and server.cuts:
            server.cuts -= 1
            self.wfile.write(body[: server.cut_after])
            self.wfile.flush()
            self.connection.close()
            return
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(downloading, "BACKOFF_S", 0.001)
    running = Server()
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


def fetch(server: Server, folder: Path, **options: object) -> downloading.DownloadReport:
    return download_source("ptbxl", folder, base_url=server.url, progress=False, **options)


def on_disk(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_everything_is_fetched_and_then_left_alone(server: Server, tmp_path: Path):
    report = fetch(server, tmp_path)
    files = on_disk(tmp_path)
    del files["SHA256SUMS.txt"]
    assert files == FILES
    assert (report.files, report.downloaded, report.bytes) == (6, 6, sum(map(len, FILES.values())))
    before = len(server.requests)
    again = fetch(server, tmp_path)
    assert (again.downloaded, again.already_there) == (0, 6)
    assert len(server.requests) == before + 1


def test_a_cut_connection_is_continued_where_it_ended(server: Server, tmp_path: Path):
    server.cut_after, server.cuts = 300_000, 2
    report = fetch(server, tmp_path)
    assert on_disk(tmp_path)["records100/1.dat"] == FILES["records100/1.dat"]
    ranges = [asked for path, asked in server.requests if path.endswith("1.dat") and "100" in path]
    assert ranges == [None, "bytes=300000-", "bytes=600000-"]
    assert report.downloaded == 6


def test_an_interrupted_run_is_continued_by_the_next(server: Server, tmp_path: Path):
    server.cut_after, server.cuts = 400_000, 100
    server.files["/ptb-xl/1.0.3/records100/1.dat"] = FILES["records100/1.dat"]
    downloading_attempts = downloading.ATTEMPTS
    try:
        downloading.ATTEMPTS = 1
        with pytest.raises(DownloadError, match="can't be fetched"):
            fetch(server, tmp_path)
    finally:
        downloading.ATTEMPTS = downloading_attempts
    assert not (tmp_path / "records100/1.dat").exists()
    assert (tmp_path / "records100/1.dat.part").stat().st_size == 400_000
    server.cuts = 0
    server.requests.clear()
    fetch(server, tmp_path)
    assert (tmp_path / "records100/1.dat").read_bytes() == FILES["records100/1.dat"]
    assert ("/ptb-xl/1.0.3/records100/1.dat", "bytes=400000-") in server.requests
    assert not list(tmp_path.rglob("*.part"))


def test_a_server_without_ranges_is_asked_from_the_start(server: Server, tmp_path: Path):
    server.ranges = False
    server.cut_after, server.cuts = 300_000, 1
    fetch(server, tmp_path)
    assert (tmp_path / "records100/1.dat").read_bytes() == FILES["records100/1.dat"]


def test_a_wrong_checksum_leaves_nothing_that_looks_whole(server: Server, tmp_path: Path):
    server.files["/ptb-xl/1.0.3/records100/1.dat"] = b"tampered"
    with pytest.raises(DownloadError, match="checksum") as caught:
        fetch(server, tmp_path)
    assert caught.value.path == "records100/1.dat"
    assert not (tmp_path / "records100/1.dat").exists()
    assert not (tmp_path / "records100/1.dat.part").exists()


def test_a_stale_part_of_other_content_is_replaced(server: Server, tmp_path: Path):
    part = tmp_path / "records100" / "1.dat.part"
    part.parent.mkdir()
    part.write_bytes(b"\xff" * 1000)
    fetch(server, tmp_path)
    assert (tmp_path / "records100/1.dat").read_bytes() == FILES["records100/1.dat"]
    part.write_bytes(b"\xff" * 2_000_000)
    (tmp_path / "records100/1.dat").unlink()
    fetch(server, tmp_path)
    assert (tmp_path / "records100/1.dat").read_bytes() == FILES["records100/1.dat"]


def test_a_damaged_file_is_fetched_again(server: Server, tmp_path: Path):
    fetch(server, tmp_path)
    (tmp_path / "RECORDS").write_bytes(b"damaged")
    assert fetch(server, tmp_path).downloaded == 1
    assert (tmp_path / "RECORDS").read_bytes() == FILES["RECORDS"]


@pytest.mark.parametrize(
    "path", ["../x", "/etc/passwd", "a/../../x", "..\\x", "C:/x", "records100/..", "file://x", "x.part"]
)
def test_paths_that_leave_the_folder_are_refused(server: Server, tmp_path: Path, path: str):
    server.list_files(extra=f"{'0' * 64} {path}\n")
    with pytest.raises(UnsafePath):
        fetch(server, tmp_path / "data")
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["SHA256SUMS.txt.part"]


def test_a_link_inside_the_folder_is_not_followed_outside(server: Server, tmp_path: Path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "records100").symlink_to(tmp_path / "outside", target_is_directory=True)
    with pytest.raises(UnsafePath):
        fetch(server, tmp_path / "data")
    assert not any((tmp_path / "outside").iterdir())


@pytest.mark.parametrize("listing", [b"no checksum here\n", b"\xff\xfe\x00"])
def test_a_listing_that_is_none(server: Server, tmp_path: Path, listing: bytes):
    server.files["/ptb-xl/1.0.3/SHA256SUMS.txt"] = listing
    with pytest.raises(DownloadError, match="list of checksums"):
        fetch(server, tmp_path)


def test_subsets(server: Server, tmp_path: Path):
    fetch(server, tmp_path / "a", subset="100")
    assert set(on_disk(tmp_path / "a")) == {
        "SHA256SUMS.txt",
        "RECORDS",
        "ptbxl_database.csv",
        "records100/1.dat",
        "records100/1.hea",
    }
    fetch(server, tmp_path / "b", subset=["records500/*"])
    assert set(on_disk(tmp_path / "b")) == {"SHA256SUMS.txt", "records500/1.dat"}
    with pytest.raises(DownloadError, match="no file"):
        fetch(server, tmp_path / "c", subset=["nothing*"])
    with pytest.raises(ConfigurationError, match="it has: 100, 500"):
        fetch(server, tmp_path / "d", subset="250")


@pytest.mark.parametrize(("status", "tries"), [(404, 1), (403, 1), (503, downloading.ATTEMPTS)])
def test_errors_of_the_server(server: Server, tmp_path: Path, status: int, tries: int):
    server.status = status
    with pytest.raises(DownloadError, match=f"HTTP status {status}"):
        fetch(server, tmp_path, subset=["RECORDS"])
    assert len([r for r in server.requests if r[0].endswith("RECORDS")]) == tries


def test_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(downloading, "BACKOFF_S", 0.001)
    with pytest.raises(DownloadError, match="SHA256SUMS"):
        download_source("ptbxl", tmp_path, base_url="http://127.0.0.1:9/", progress=False)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("some-slug", {}),
        ("wfdb_folder", {"version": "1.0"}),
        ("../x", {"version": "1.0"}),
        ("ludb", {"version": "../.."}),
        ("ptbxl", {"base_url": "file:///etc/"}),
    ],
)
def test_what_can_not_be_asked_for(tmp_path: Path, name: str, options: dict):
    with pytest.raises(ConfigurationError) as caught:
        download_source(name, tmp_path, progress=False, **options)
    assert isinstance(caught.value, EcgError)


def test_any_open_project_by_slug(server: Server, tmp_path: Path):
    server.files = {k.replace("/ptb-xl/1.0.3/", "/ludb/1.0.1/"): v for k, v in server.files.items()}
    report = download_source(
        "ludb", tmp_path, version="1.0.1", base_url=server.url, progress=False, num_workers=1
    )
    assert report.downloaded == 6


def test_links_in_the_folder_lead_nobody_outside(server: Server, tmp_path: Path):
    folder, outside = tmp_path / "data", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    victims = [tmp_path / "victim", tmp_path / "other"]
    for victim in victims:
        victim.write_text("precious")
    (folder / "RECORDS.part").symlink_to(victims[0])
    os.link(victims[1], folder / "ptbxl_database.csv.part")
    (folder / "SHA256SUMS.txt.part").symlink_to(victims[0])
    fetch(server, folder, subset=["RECORDS", "*.csv"])
    assert [victim.read_text() for victim in victims] == ["precious"] * 2
    assert (folder / "RECORDS").read_bytes() == FILES["RECORDS"]
    assert not (folder / "RECORDS").is_symlink()
    assert (folder / "ptbxl_database.csv").stat().st_nlink == 1
    (folder / "records100").symlink_to(outside)
    (folder / "sub folder").symlink_to(outside / "not" / "there")
    for subset in (["records100/*"], ["sub folder/*"]):
        with pytest.raises(UnsafePath, match="link"):
            fetch(server, folder, subset=subset)
    assert not any(outside.iterdir())


def test_an_endless_list_of_checksums_is_not_kept(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(downloading, "MAX_LISTING_BYTES", 100_000)
    server.files["/ptb-xl/1.0.3/SHA256SUMS.txt"] = b"x" * 5_000_000
    with pytest.raises(DownloadError, match="implausibly long"):
        fetch(server, tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == 0


@pytest.mark.parametrize(
    ("old", "new", "one_server", "message"),
    [
        ("https://a/x", "http://a/x", False, "unprotected"),
        ("https://a/x", "ftp://a/x", False, "unprotected"),
        ("http://a/x", "file:///etc/passwd", False, "unprotected"),
        ("https://a/x", "https://b/x", True, "another server"),
        ("https://a/x", "https://b/x", False, ""),
        ("https://a/x", "https://a/y", True, ""),
        ("http://a/x", "https://a/y", True, ""),
    ],
)
def test_redirects(old: str, new: str, one_server: bool, message: str):
    from urllib.request import Request

    redirects = downloading._Redirects(one_server)
    if message:
        with pytest.raises(DownloadError, match=message):
            redirects.redirect_request(Request(old), None, 302, "", {}, new)
    else:
        request = redirects.redirect_request(Request(old), None, 302, "", {}, new)
        assert request is not None
        assert request.full_url == new


def test_one_download_per_folder(server: Server, tmp_path: Path):
    with sole_writer(tmp_path, inside=True):
        with pytest.raises(ConfigurationError, match="another process"):
            fetch(server, tmp_path)
        with pytest.raises(ConfigurationError, match="another process"):
            downloading.download_files(server.url, tmp_path, {"a": "0" * 64}, progress=False)
    assert not any(tmp_path.iterdir())
    assert not server.requests
