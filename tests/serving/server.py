"""A server in a process of its own, and a client for it."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BOUNDARY = "ecg-hf-boundary"
SECONDS = 240
"""Until a start is given up: the machine may be busy."""


@dataclass
class Reply:
    status: int
    text: str
    kind: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def multipart(files: list[tuple[str, bytes]], fields: dict[str, str], name: str = "file") -> bytes:
    parts = []
    for file, content in files:
        head = f'Content-Disposition: form-data; name="{name}"; filename="{file}"\r\n\r\n'
        parts.append(f"--{BOUNDARY}\r\n{head}".encode() + content + b"\r\n")
    for field, value in fields.items():
        head = f'Content-Disposition: form-data; name="{field}"\r\n\r\n'
        parts.append(f"--{BOUNDARY}\r\n{head}{value}\r\n".encode())
    return b"".join([*parts, f"--{BOUNDARY}--\r\n".encode()])


class Server:
    """``ecg-hf serve`` with options; ``log`` is all it writes."""

    def __init__(self, folder: Path, *options: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log_file = folder / "log.txt"
        with self.log_file.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ecg_hf.cli", "serve", *map(str, options)],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
            )
        self.port = self._port()

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def _port(self) -> int:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            if "answers on http://127.0.0.1:" in self.log:
                port = int(self.log.partition("127.0.0.1:")[2].partition(",")[0])
                try:
                    http.client.HTTPConnection("127.0.0.1", port, timeout=5).connect()
                    return port
                except OSError:
                    pass
            time.sleep(0.1)
        self.stop()
        raise AssertionError(f"no server: {self.log}")

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return Reply(response.status, response.read().decode(), response.headers.get("content-type", ""))
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, **headers)

    def post(self, path: str, files: list[tuple[str, bytes]], token: str = "", **fields: str) -> Reply:
        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return self.ask("POST", path, multipart(files, fields), **headers)

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
