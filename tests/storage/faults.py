"""A server of the S3 protocol on this machine, and a proxy before it that cuts connections and throttles."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

BUCKET = "bucket"
_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_THROTTLED = (
    b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_SLOW_DOWN), _SLOW_DOWN)
)


@dataclass
class FaultyProxy:
    """Passes bytes to a server, and sometimes does not.

    Attributes:
        target: Port of the server.
        cuts: Share of connections that are cut after some bytes, in either direction.
        longest: Most bytes before a cut.
        throttled: Share of connections that are answered with 503.
        seed: Of the draws.
        count: Faults so far, by kind.
    """

    target: int
    cuts: float = 0.0
    longest: int = 200_000
    throttled: float = 0.0
    seed: int = 0
    count: dict[str, int] = field(default_factory=lambda: {"connections": 0, "cut": 0, "throttled": 0})

    def __post_init__(self) -> None:
        self._draws = random.Random(self.seed)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                self.count["connections"] += 1
                draw = self._draws.random()
                if draw < self.throttled:
                    self.count["throttled"] += 1
                    threading.Thread(target=self._throttle, args=(client,), daemon=True).start()
                    continue
                left = [self._draws.randrange(self.longest)] if draw < self.throttled + self.cuts else None
                server = socket.create_connection(("127.0.0.1", self.target))
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=(one, other, left), daemon=True).start()

    def _throttle(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            client.recv(1 << 16)
            client.sendall(_THROTTLED)

    def _pass(self, one: socket.socket, other: socket.socket, left: list[int] | None) -> None:
        with contextlib.suppress(OSError):
            while content := one.recv(1 << 14):
                if left is not None:
                    if len(content) >= left[0]:
                        other.sendall(content[: left[0]])
                        self.count["cut"] += left[0] >= 0
                        left[0] = -1
                        break
                    left[0] -= len(content)
                other.sendall(content)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextlib.contextmanager
def s3_server() -> Iterator[int]:
    """Port of a server with an empty bucket."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").disabled = True
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield server.get_host_and_port()[1]
    finally:
        server.stop()


@contextlib.contextmanager
def endpoint(port: int) -> Iterator[None]:
    """Let fsspec find its S3 at a port of this machine, with credentials for nothing."""
    from s3fs import S3FileSystem

    values = {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    S3FileSystem.clear_instance_cache()
    try:
        yield
    finally:
        S3FileSystem.clear_instance_cache()
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
