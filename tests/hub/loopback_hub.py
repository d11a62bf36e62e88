"""A Hub in memory on 127.0.0.1: the endpoints ``huggingface_hub``, ``transformers`` and ``datasets`` call.

The server runs in threads of the test process; clients are processes of their own, because ``huggingface_hub`` reads
its environment when it is imported::

    with LoopbackHub() as hub:
        subprocess.run([sys.executable, "-c", script], env=hub.environment(cache, token=OWNER))

What answers here is what the real Hub answers where a client can tell: error codes and headers, hashes, LFS for large
or binary files, 401 for what a stranger must not know to exist, ranges, and validation of a card's metadata.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

OWNER = "hf_owner"
"""Token that may write to every repository."""
READER = "hf_reader"
"""Token of someone else: reads what is public, writes nothing."""

LFS_SUFFIXES = (".safetensors", ".parquet", ".arrow", ".bin")
KINDS = {"models": "model", "datasets": "dataset"}


@dataclass(frozen=True)
class Blob:
    """A file's content and how it is kept."""

    data: bytes
    lfs: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def git_oid(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.data) + self.data).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.git_oid


@dataclass
class Repo:
    """One repository: every commit's files, and the names that point to commits."""

    private: bool
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    titles: list[str] = field(default_factory=list)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, Blob], title: str) -> str:
        content = repr((sorted((p, b.etag) for p, b in files.items()), title, len(self.commits)))
        oid = hashlib.sha1(content.encode()).hexdigest()
        self.commits[oid] = files
        self.titles.append(title)
        self.branches[branch] = oid
        return oid

    def resolve(self, revision: str) -> str:
        for known in (self.branches, self.tags):
            if revision in known:
                return known[revision]
        if revision in self.commits:
            return revision
        raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class LoopbackHub:
    """The server and its repositories."""

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.lfs: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, str]] = []
        self.cuts: dict[str, int] = {}
        self.broken_uploads = 0
        self.lock = threading.RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> LoopbackHub:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Go off the air; clients get a refused connection."""
        self._server.shutdown()
        self._server.server_close()

    def environment(self, home: Path, *, token: str | None = None, offline: bool = False) -> dict[str, str]:
        """Environment of a client process with its caches below ``home``."""
        hidden = ("HF_", "HUGGING_FACE_", "HUGGINGFACE_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        return {
            **kept,
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
            # A machine busy with other tests is not a Hub that is down.
            "HF_HUB_ETAG_TIMEOUT": "120",
            "HF_HUB_DOWNLOAD_TIMEOUT": "120",
            "OMP_NUM_THREADS": "1",
            "NO_PROXY": "127.0.0.1",
            **({"HF_TOKEN": token} if token else {"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}),
            **({"HF_HUB_OFFLINE": "1"} if offline else {}),
        }

    def cut(self, suffix: str, times: int = 1) -> None:
        """Break the connection half-way through the next ``times`` downloads of files of that ending."""
        self.cuts[suffix] = times

    def seen(self, method: str, part: str) -> list[tuple[str, str, str]]:
        """Requests so far: method, path and Range header."""
        return [request for request in self.requests if request[0] == method and part in request[1]]

    def files(self, repo_id: str, revision: str = "main", kind: str = "model") -> dict[str, bytes]:
        """Content of a repository."""
        repo = self.repos[kind, repo_id]
        return {path: blob.data for path, blob in repo.commits[repo.resolve(revision)].items()}


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"
    # Headers and a small body leave in two packets, which Nagle's algorithm would hold up for 40 ms.
    wbufsize = -1
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def _answer(self) -> None:
        url = urlsplit(self.path)
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else self._chunks()
        with self.hub.lock:
            self.hub.requests.append((self.command, unquote(url.path), self.headers.get("Range", "")))
            try:
                self._route(parts, parse_qs(url.query), body)
            except Refusal as refusal:
                headers = {"X-Error-Message": refusal.message}
                if refusal.code:
                    headers["X-Error-Code"] = refusal.code
                self._json({"error": refusal.message}, refusal.status, headers)

    def _chunks(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return b""
        found = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    # Who may do what -----------------------------------------------------------------------------------------

    @property
    def _token(self) -> str | None:
        return self.headers.get("Authorization", "").removeprefix("Bearer ") or None

    def _repo(self, kind: str, repo_id: str, *, write: bool = False) -> Repo:
        repo = self.hub.repos.get((kind, repo_id))
        if repo is None or (repo.private and self._token != OWNER):
            # Strangers learn nothing: 401 before, 404 after logging in, as the Hub answers.
            status = 401 if self._token is None else 404
            raise Refusal(status, "RepoNotFound", "Repository not found")
        if write:
            self._check_writer()
        return repo

    def _check_writer(self) -> None:
        if self._token is None:
            raise Refusal(401, "", "Invalid username or password.")
        if self._token != OWNER:
            raise Refusal(403, "", "You don't have the rights to write to this repository")

    # Routes --------------------------------------------------------------------------------------------------

    def _route(self, parts: list[str], query: dict[str, list[str]], body: bytes) -> None:
        if parts[0] == "lfs":
            return self._put_lfs(parts[1], body)
        if parts[:2] == ["api", "repos"]:
            return self._create(json.loads(body))
        if parts[:2] == ["api", "validate-yaml"]:
            return self._json(validate_card(json.loads(body)["content"]))
        if parts[:2] == ["api", "whoami-v2"]:
            self._check_writer()
            return self._json({"name": "org", "type": "user", "orgs": [], "auth": {"type": "access_token"}})
        if parts[0] == "api" and len(parts) >= 4 and parts[1] in KINDS:
            return self._api(KINDS[parts[1]], f"{parts[2]}/{parts[3]}", parts[4:], query, body)
        kind = "dataset" if parts[0] == "datasets" else "model"
        rest = parts[1:] if kind == "dataset" else parts
        if len(rest) >= 5 and rest[2:5] == ["info", "lfs", "objects"]:
            return self._lfs_batch(kind, f"{rest[0]}/{rest[1].removesuffix('.git')}", json.loads(body))
        if len(rest) >= 5 and rest[2] == "resolve":
            return self._resolve(kind, f"{rest[0]}/{rest[1]}", rest[3], "/".join(rest[4:]))
        raise Refusal(404, "", f"no such page: {self.path}")

    def _api(
        self, kind: str, repo_id: str, rest: list[str], query: dict[str, list[str]], body: bytes
    ) -> None:
        action = rest[0] if rest else "revision"
        if action == "revision" and self.command == "GET":
            repo = self._repo(kind, repo_id)
            return self._info(repo, repo_id, repo.resolve(rest[1] if rest else "main"))
        if action == "refs":
            repo = self._repo(kind, repo_id)
            return self._json(
                {
                    f"{name}": [
                        {"name": n, "ref": f"refs/{what}/{n}", "targetCommit": oid}
                        for n, oid in known.items()
                    ]
                    for name, what, known in (
                        ("branches", "heads", repo.branches),
                        ("tags", "tags", repo.tags),
                    )
                }
                | {"converts": []}
            )
        if action == "commits":
            return self._json([{"id": oid} for oid in reversed(self._repo(kind, repo_id).commits)])
        if action == "tree":
            return self._tree(self._repo(kind, repo_id), rest[1], "/".join(rest[2:]), query)
        if action == "paths-info":
            return self._paths(self._repo(kind, repo_id), rest[1], body)
        repo = self._repo(kind, repo_id, write=True)
        if action == "preupload":
            return self._preupload(repo, rest[1], json.loads(body)["files"])
        if action == "commit":
            return self._commit(repo, repo_id, rest[1], body)
        if action in ("branch", "tag"):
            content = json.loads(body or b"{}")
            name = rest[1] if action == "branch" else content["tag"]
            known = repo.branches if action == "branch" else repo.tags
            if name in known:
                raise Refusal(409, "", f"Reference already exists: {name}")
            start = content.get("startingPoint", "main") if action == "branch" else rest[1]
            known[name] = repo.resolve(start)
            return self._json({})
        raise Refusal(404, "", f"no such action: {action}")

    def _create(self, asked: dict[str, Any]) -> None:
        self._check_writer()
        repo_id = f"{asked.get('organization') or 'org'}/{asked['name']}"
        kind = asked.get("type") or "model"
        private = asked.get("private") or asked.get("visibility") == "private"
        url = f"{self.hub.endpoint}/{'datasets/' if kind == 'dataset' else ''}{repo_id}"
        exists = (kind, repo_id) in self.hub.repos
        if not exists:
            repo = self.hub.repos[kind, repo_id] = Repo(bool(private))
            repo.commit(
                "main", {".gitattributes": Blob(b"*.safetensors filter=lfs\n", False)}, "initial commit"
            )
        answer = {"url": url, "name": repo_id, "id": repo_id}
        if exists:
            answer["error"] = "You already created this repo"
        self._json(answer, 409 if exists else 200)

    def _info(self, repo: Repo, repo_id: str, oid: str) -> None:
        siblings = [{"rfilename": path} for path in sorted(repo.commits[oid])]
        self._json(
            {
                "id": repo_id,
                "modelId": repo_id,
                "sha": oid,
                "private": repo.private,
                "gated": False,
                "disabled": False,
                "downloads": 0,
                "likes": 0,
                "tags": [],
                "siblings": siblings,
            }
        )

    def _tree(self, repo: Repo, revision: str, folder: str, query: dict[str, list[str]]) -> None:
        files = repo.commits[repo.resolve(revision)]
        prefix = f"{folder}/" if folder else ""
        below = {path: blob for path, blob in files.items() if path.startswith(prefix)}
        if folder and not below:
            raise Refusal(404, "EntryNotFound", f"{folder} does not exist")
        recursive = query.get("recursive", ["false"])[0].lower() in ("true", "1")
        entries: dict[str, dict[str, Any]] = {}
        for path, blob in sorted(below.items()):
            inside = path[len(prefix) :].split("/")
            for depth in range(1, len(inside)):
                name = prefix + "/".join(inside[:depth])
                if recursive or depth == 1:
                    entries[name] = {"type": "directory", "path": name, "oid": "0" * 40, "size": 0}
            if recursive or len(inside) == 1:
                entries[path] = file_entry(path, blob)
        self._json(list(entries.values()))

    def _paths(self, repo: Repo, revision: str, body: bytes) -> None:
        files = repo.commits[repo.resolve(revision)]
        text = body.decode()
        paths = json.loads(text)["paths"] if text.startswith("{") else parse_qs(text).get("paths", [])
        found = [file_entry(path, files[path]) for path in paths if path in files]
        folders = [p for p in paths if any(name.startswith(f"{p}/") for name in files)]
        found += [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in folders]
        self._json(found)

    def _preupload(self, repo: Repo, revision: str, files: list[dict[str, Any]]) -> None:
        there = repo.commits[repo.resolve(revision)]
        answers = []
        for file in files:
            mode = "lfs" if file["path"].endswith(LFS_SUFFIXES) or file["size"] > 10 << 20 else "regular"
            old = there.get(file["path"])
            oid = None if old is None else old.etag
            answers.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self._json({"files": answers})

    def _lfs_batch(self, kind: str, repo_id: str, asked: dict[str, Any]) -> None:
        self._repo(kind, repo_id, write=True)
        objects = []
        for one in asked["objects"]:
            answer = {"oid": one["oid"], "size": one["size"]}
            if one["oid"] not in self.hub.lfs:
                href = f"{self.hub.endpoint}/lfs/{one['oid']}"
                answer["actions"] = {"upload": {"href": href, "header": {}}}
            objects.append(answer)
        self._json({"transfer": "basic", "objects": objects}, kind="application/vnd.git-lfs+json")

    def _put_lfs(self, oid: str, body: bytes) -> None:
        if self.hub.broken_uploads:
            self.hub.broken_uploads -= 1
            raise Refusal(400, "", "upload broken off")
        if hashlib.sha256(body).hexdigest() != oid:
            raise Refusal(400, "", "content does not match its hash")
        self.hub.lfs[oid] = body
        self._json({})

    def _commit(self, repo: Repo, repo_id: str, revision: str, body: bytes) -> None:
        if revision not in repo.branches:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        files = dict(repo.commits[repo.branches[revision]])
        title = ""
        for line in filter(None, body.split(b"\n")):
            item = json.loads(line)
            value = item["value"]
            match item["key"]:
                case "header":
                    title = value["summary"]
                case "file":
                    files[value["path"]] = Blob(base64.b64decode(value["content"]), False)
                case "lfsFile":
                    if value["oid"] not in self.hub.lfs:
                        raise Refusal(400, "", f"{value['path']} was never uploaded")
                    files[value["path"]] = Blob(self.hub.lfs[value["oid"]], True)
                case "deletedFile":
                    files.pop(value["path"], None)
                case "deletedFolder":
                    files = {
                        p: b for p, b in files.items() if not p.startswith(value["path"].rstrip("/") + "/")
                    }
        oid = repo.commit(revision, files, title)
        url = f"{self.hub.endpoint}/{repo_id}/commit/{oid}"
        self._json({"success": True, "commitOid": oid, "commitUrl": url})

    def _resolve(self, kind: str, repo_id: str, revision: str, path: str) -> None:
        repo = self._repo(kind, repo_id)
        oid = repo.resolve(revision)
        blob = repo.commits[oid].get(path)
        if blob is None:
            raise Refusal(404, "EntryNotFound", "Entry not found")
        data = blob.data
        first, status = 0, 200
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if match and self.command == "GET":
            first = int(match[1])
            data = data[first : int(match[2]) + 1 if match[2] else None]
            status = 206
        self.send_response(status)
        self.send_header("X-Repo-Commit", oid)
        self.send_header("ETag", f'"{blob.etag}"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data)))
        if status == 206:
            total = len(blob.data)
            self.send_header("Content-Range", f"bytes {first}-{first + len(data) - 1}/{total}")
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = next((s for s, times in self.hub.cuts.items() if times and path.endswith(s)), None)
        if cut is None:
            self.wfile.write(data)
            return
        self.hub.cuts[cut] -= 1
        self.wfile.write(data[: len(data) // 2])
        self.wfile.flush()
        self.close_connection = True

    def _json(
        self,
        content: Any,
        status: int = 200,
        headers: dict[str, str] | None = None,
        kind: str = "application/json",
    ) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
        self.wfile.flush()


def file_entry(path: str, blob: Blob) -> dict[str, Any]:
    """A file in a listing."""
    entry: dict[str, Any] = {"type": "file", "path": path, "oid": blob.git_oid, "size": len(blob.data)}
    if blob.lfs:
        entry["lfs"] = {"oid": blob.sha256, "size": len(blob.data), "pointerSize": 134}
    return entry


def validate_card(content: str) -> dict[str, list[dict[str, str]]]:
    """What the Hub checks in a card's metadata, in its words."""
    errors: list[dict[str, str]] = []
    match = re.match(r"---\r?\n(.*?)\r?\n---", content, re.DOTALL)
    try:
        data = yaml.safe_load(match[1]) if match else {}
    except yaml.YAMLError as error:
        return {"errors": [{"message": str(error)}], "warnings": []}
    licence = data.get("license")
    if licence is not None and not re.fullmatch(r"[a-z0-9.\-]+", str(licence)):
        errors.append({"message": f'"license" must be one of the known identifiers, not {licence}'})
    for model in data.get("model-index") or []:
        if not model.get("name"):
            errors.append({"message": '"model-index[0].name" is required'})
        for result in model.get("results", []):
            for part, keys in (("task", ("type",)), ("dataset", ("type", "name"))):
                missing = [key for key in keys if not result.get(part, {}).get(key)]
                errors += [{"message": f'"model-index.results.{part}.{key}" is required'} for key in missing]
            for metric in result.get("metrics") or [{}]:
                if not metric.get("type") or metric.get("value") is None:
                    errors.append({"message": '"model-index.results.metrics" needs type and value'})
    emissions = data.get("co2_eq_emissions")
    if emissions is not None and not isinstance(emissions, (int, float, dict)):
        errors.append({"message": '"co2_eq_emissions" must be a number or an object'})
    return {"errors": errors, "warnings": []}
