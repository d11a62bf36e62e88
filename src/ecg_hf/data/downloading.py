"""Downloading published recordings from PhysioNet: resumable, checked against the published checksums."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from tqdm.auto import tqdm  # type: ignore[import-untyped]

from ecg_hf.data.sources import SOURCES
from ecg_hf.data.sources.base import is_plain_relative
from ecg_hf.errors import ConfigurationError, DownloadError, UnsafePath
from ecg_hf.files import sole_writer

__all__ = ["PHYSIONET", "DownloadReport", "download_files", "download_source"]

PHYSIONET = "https://physionet.org/files/"
CHECKSUMS = "SHA256SUMS.txt"

ATTEMPTS = 5
BACKOFF_S = 1.0
TIMEOUT_S = 60.0
CHUNK_BYTES = 1 << 18
MAX_LISTING_BYTES = 1 << 30

_LINE = re.compile(r"^([0-9a-fA-F]{64})[ \t]+\*?(.+)$")
_SLUG = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")

# Responses that retrying can't change.
_FINAL = {400, 401, 403, 404, 405, 410, 451}


@dataclass(frozen=True, slots=True)
class DownloadReport:
    """Report of a download.

    Attributes:
        folder: Where the files are.
        files: Files of the selection.
        downloaded: Of these, fetched now.
        already_there: Of these, found complete and correct.
        bytes: Bytes received now.
        seconds: Duration.
    """

    folder: str
    files: int
    downloaded: int
    already_there: int
    bytes: int
    seconds: float


def download_source(
    name: str,
    data_dir: str | Path,
    *,
    version: str | None = None,
    base_url: str | None = None,
    subset: str | Sequence[str] | None = None,
    num_workers: int = 4,
    progress: bool = True,
) -> DownloadReport:
    """Fetch a source from PhysioNet.

    The published ``SHA256SUMS.txt`` lists the files. Each file is received into ``<name>.part`` and renamed once its
    checksum is right, so an interrupted download never leaves a file that looks whole; the next call continues
    where it stopped and fetches nothing twice.

    Args:
        name: A source (``"ptbxl"``, ``"mimic_iv_ecg"``) or the slug of any open PhysioNet project, to be built as
            ``"wfdb_folder"``.
        data_dir: Folder to fill.
        version: Version of the project; known for sources, needed for slugs.
        base_url: Server to fetch from instead of PhysioNet: the folder that holds ``<slug>/<version>/``.
        subset: Name of a selection the source knows (``"100"`` and ``"500"`` for PTB-XL) or shell patterns of
            paths. Everything by default.
        num_workers: Files fetched at a time.
        progress: Show a progress bar on standard error.

    Raises:
        ConfigurationError: for a version or subset that is missing or unknown, or if another process downloads into
            the folder.
        DownloadError: if a file can't be fetched, or does not match its published checksum; also if the server
            sends us from https to an unprotected address, or to another server for the checksums.
        UnsafePath: if the listing names a path outside the folder. Nothing is fetched then.
    """
    slug, version, patterns = _resolve(name, version, subset)
    root = f"{(base_url or PHYSIONET).rstrip('/')}/{slug}/{version}/"
    _check_address(root)
    folder = Path(data_dir)
    with sole_writer(folder, inside=True):
        listing = _fetch_listing(root, folder)
        wanted = {path: digest for path, digest in listing.items() if _matches(path, patterns)}
        if not wanted:
            raise DownloadError(f"no file of {slug} {version} matches {', '.join(patterns)}")
        return _fetch_all(root, folder, wanted, slug, num_workers, progress)


def download_files(
    root: str,
    data_dir: str | Path,
    files: Mapping[str, str],
    *,
    title: str = "",
    num_workers: int = 4,
    progress: bool = True,
) -> DownloadReport:
    """Fetch files whose checksums are known, as :func:`download_source` does: resumable, never half written.

    Args:
        root: Address the paths are relative to, with a slash at its end.
        data_dir: Folder to fill.
        files: Path -> SHA-256 in hexadecimal.
        title: Word for the progress bar.
        num_workers: Files fetched at a time.
        progress: Show a progress bar on standard error.

    Raises:
        ConfigurationError: if ``root`` is not a web address, or another process downloads into the folder.
        DownloadError: if a file can't be fetched, or does not match its checksum.
        UnsafePath: if a path leaves the folder.
    """
    _check_address(root)
    for path in files:
        if not is_plain_relative(path):
            raise UnsafePath("a file to fetch lies outside the folder", path=path)
    folder = Path(data_dir)
    with sole_writer(folder, inside=True):
        return _fetch_all(root, folder, files, title, num_workers, progress)


def _fetch_all(
    root: str, folder: Path, files: Mapping[str, str], title: str, num_workers: int, progress: bool
) -> DownloadReport:
    started = time.perf_counter()
    received = there = total = 0
    with (
        tqdm(total=len(files), unit="file", desc=title, disable=not progress) as bar,
        ThreadPoolExecutor(max(1, num_workers)) as pool,
    ):
        futures = [pool.submit(_fetch, root, folder, path, digest) for path, digest in files.items()]
        try:
            for future in futures:
                size = future.result()
                received += size is not None
                there += size is None
                total += size or 0
                bar.update()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return DownloadReport(
        str(folder), len(files), received, there, total, round(time.perf_counter() - started, 3)
    )


def _check_address(root: str) -> None:
    if urlsplit(root).scheme not in ("http", "https"):
        raise ConfigurationError(f"base_url must begin with http:// or https://, got {root!r}", value=root)


def _resolve(
    name: str, version: str | None, subset: str | Sequence[str] | None
) -> tuple[str, str, tuple[str, ...]]:
    """Slug, version and patterns of what was asked for."""
    project = SOURCES[name].info.physionet if name in SOURCES else None
    if name in SOURCES and project is None:
        raise ConfigurationError(
            f"source {name!r} is not one download; give the slug of a PhysioNet project", value=name
        )
    slug = name if project is None else project.slug
    version = version or (None if project is None else project.version)
    if version is None:
        raise ConfigurationError(f"which version of {slug!r}? Say it with --version (version=)", value=name)
    for part in (slug, version):
        if not _SLUG.match(part) or ".." in part:
            raise ConfigurationError(f"{part!r} is not a name of a PhysioNet project or version", value=part)
    if subset is None:
        return slug, version, ("*",)
    if not isinstance(subset, str):
        return slug, version, tuple(subset)
    named = {} if project is None else project.subsets
    if subset not in named:
        raise ConfigurationError(
            f"{name!r} has no subset {subset!r} (it has: {', '.join(named) or 'none'}); patterns of paths, such as "
            "'*.csv', are given as a list",
            value=subset,
        )
    return slug, version, named[subset]


def _matches(path: str, patterns: Sequence[str]) -> bool:
    # A pattern without a slash is about files of the top folder; "*" alone is everything.
    return any(
        pattern == "*" or (("/" in pattern or "/" not in path) and fnmatchcase(path, pattern))
        for pattern in patterns
    )


def _fetch_listing(root: str, folder: Path) -> dict[str, str]:
    """Paths and checksums of the published files, every path checked before anything is fetched."""
    # Always fetched again: an old listing would make a new release look corrupt.
    part = folder / f"{CHECKSUMS}.part"
    part.unlink(missing_ok=True)
    _retry(lambda: _receive(root + CHECKSUMS, part, CHECKSUMS, limit=MAX_LISTING_BYTES), CHECKSUMS)
    listing: dict[str, str] = {}
    with part.open(encoding="utf-8", errors="strict") as file:
        try:
            for line in file:
                if not line.strip():
                    continue
                match = _LINE.match(line.rstrip("\r\n"))
                if match is None:
                    raise DownloadError("the list of checksums has an invalid line", path=CHECKSUMS)
                path = match[2].removeprefix("./")
                if not is_plain_relative(path) or path.endswith(("/", ".part")):
                    raise UnsafePath("the list of checksums names a path outside the folder", path=path)
                listing[path] = match[1].lower()
        except UnicodeDecodeError:
            raise DownloadError("the list of checksums is not text", path=CHECKSUMS) from None
    part.replace(folder / CHECKSUMS)
    listing.pop(CHECKSUMS, None)
    return listing


def _fetch(root: str, folder: Path, path: str, digest: str) -> int | None:
    """Fetch one file unless it exists; bytes received, ``None`` if it existed."""
    target = folder / path
    # Before creating any folder, which behind a link would be outside.
    if not target.parent.resolve().is_relative_to(folder.resolve()):
        raise UnsafePath("a link leads out of the data folder", path=path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return _fetch_to(target, root, path, digest)
    except OSError as error:
        raise DownloadError(f"the file can't be written ({type(error).__name__})", path=path) from None


def _fetch_to(target: Path, root: str, path: str, digest: str) -> int | None:
    if target.is_file() and _sha256(target) == digest:
        return None
    part = target.with_name(f"{target.name}.part")
    received = _retry(lambda: _receive(root + quote(path), part, path), path)
    if _sha256(part) != digest:
        # The part may be a leftover of another release: try once more from the start.
        part.unlink()
        received += _retry(lambda: _receive(root + quote(path), part, path), path)
        if _sha256(part) != digest:
            part.unlink()
            raise DownloadError("the file does not match its published checksum; nothing was kept", path=path)
    part.replace(target)
    return received


def _retry(attempt: Callable[[], int], path: str) -> int:
    """Try until it works, waiting longer each time."""
    reason = ""
    for number in range(ATTEMPTS):
        if number:
            time.sleep(BACKOFF_S * 2 ** (number - 1))
        try:
            return attempt()
        except HTTPError as error:
            reason = f"HTTP status {error.code}"
            if error.code in _FINAL:
                break
        except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
            reason = type(error).__name__ if not isinstance(error, URLError) else str(error.reason)
        except OSError as error:
            raise DownloadError(f"the file can't be written ({type(error).__name__})", path=path) from None
    raise DownloadError(f"the file can't be fetched ({reason})", path=path)


class _Redirects(HTTPRedirectHandler):
    """Follows redirects, but never from https to an unencrypted address.

    Args:
        one_server: Also refuse redirects to another server, for the checksums, on which every other check relies.
    """

    def __init__(self, one_server: bool) -> None:
        self.one_server = one_server

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        """The next request, or a refusal."""
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if new.scheme not in ("http", "https") or (old.scheme == "https" and new.scheme != "https"):
            raise DownloadError(
                f"the server redirects to an unprotected address ({new.scheme}://{new.netloc})"
            )
        if self.one_server and old.hostname != new.hostname:
            raise DownloadError(f"the list of checksums is redirected to another server ({new.hostname})")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _received(part: Path) -> int:
    """Bytes already received of a file; anything but a regular file without links is removed."""
    try:
        status = os.lstat(part)
    except FileNotFoundError:
        return 0
    if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
        return status.st_size
    # A symbolic or hard link: writing would change its target.
    part.unlink()
    return 0


def _receive(url: str, part: Path, path: str, *, limit: int | None = None) -> int:
    """Fetch what is missing of a file; bytes received.

    Args:
        url: Its address.
        part: Where to receive it.
        path: Its name in errors.
        limit: Most bytes to take, for the list of checksums.

    Raises:
        HTTPException: if the connection ended before the announced size was received.
        DownloadError: if the file exceeds ``limit``, or the server redirects to a refused address.
    """
    have = _received(part)
    request = Request(url, headers={"User-Agent": "ecg-hf", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = build_opener(_Redirects(limit is not None)).open(request, timeout=TIMEOUT_S)
    except HTTPError as error:
        if error.code == 416 and have:
            # The server has nothing beyond what we hold: it is complete, or of another file. The checksum decides.
            return 0
        raise
    with response:
        append = response.status == 206 and _starts_at(response.headers) == have
        if have and response.status == 206 and not append:
            raise DownloadError("the server sent another range than was asked for", path=path)
        expected = response.headers.get("Content-Length")
        received = _copy(response, part, append, limit)
    if expected is not None and expected.isdigit() and received < int(expected):
        raise HTTPException("connection ended early")
    return received


def _copy(response: HTTPResponse, part: Path, append: bool, limit: int | None) -> int:
    received = 0
    if not append:
        part.unlink(missing_ok=True)
    flags = os.O_APPEND if append else os.O_CREAT | os.O_EXCL
    flags |= os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(part, flags, 0o666), "ab" if append else "wb") as file:
        while block := response.read(CHUNK_BYTES):
            received += len(block)
            if limit is not None and received > limit:
                file.truncate(0)
                raise DownloadError("the list of checksums is implausibly long", path=CHECKSUMS)
            file.write(block)
    return received


def _starts_at(headers: HTTPMessage) -> int | None:
    match = re.match(r"bytes (\d+)-", headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
