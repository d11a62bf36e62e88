"""Soak test: ``ecg-hf serve`` under many clients, bad uploads among them; then killed under load and started again.

    python -m tests.soak.serving --seconds 300 --clients 64

Each client asks again as soon as it has its answer. One request in five is an upload that no reader takes, and one in
fifty is broken off by its client after half of the body. *Lost* is a request that got no answer, or one of another
status than its kind has; one that was broken off can't be lost. Clients and server share the machine's cores, so
throughput is that of both together.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

import ecg_hf
from tests.conftest import TESTS
from tests.serving.server import BOUNDARY, Server, multipart
from tests.serving.test_serve import BAD

PATHS = ("/v1/predict", "/v1/embed", "/v1/fhir")
HEADERS = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
WAIT_S = 120.0
"""For one answer: more than any queue of the clients' takes."""


@dataclass
class Account:
    """What the clients met."""

    answers: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    broken_off: int = 0
    lost: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)


def good_bodies() -> list[bytes]:
    """The sample record, and a file of each kind of device in the repository that says enough by itself."""
    header = ecg_hf.sample_record()
    sample = [(path.name, path.read_bytes()) for path in (header, header.with_suffix(".dat"))]
    devices = [
        TESTS / "recordings" / "clinical" / name
        for name in ("schiller/sema_rest.xml", "ge_muse/muse7_250hz.xml", "apple_health/ecg_en.csv")
    ]
    return [multipart(sample, {}), *(multipart([(path.name, path.read_bytes())], {}) for path in devices)]


def bad_bodies() -> list[bytes]:
    """Uploads of the server's tests that no reader takes, but the longest: it would be most of the work."""
    return [multipart(files, fields) for name, (files, fields) in BAD.items() if name != "too long"]


def break_off(port: int, path: str, body: bytes) -> None:
    """Send half of a request and leave."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {HEADERS['Content-Type']}\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[: len(body) // 2])


def client(server: Server, account: Account, number: int, stop: threading.Event, until_refused: bool) -> None:
    """Ask until told to stop; with ``until_refused`` an end of the connection is what is waited for."""
    draw = random.Random(number)
    good, bad = good_bodies(), bad_bodies()
    while not stop.is_set():
        path = draw.choice(PATHS)
        if draw.random() < 0.02:
            try:
                break_off(server.port, path, draw.choice(good))
            except OSError as error:
                if not until_refused:
                    raise
                account.refused[type(error).__name__] += 1
                return
            with account.lock:
                account.broken_off += 1
            continue
        is_bad = draw.random() < 0.2
        started = time.perf_counter()
        try:
            reply = server.ask("POST", path, draw.choice(bad if is_bad else good), **HEADERS)
        except Exception as error:
            with account.lock:
                if until_refused:
                    account.refused[type(error).__name__] += 1
                    return
                account.lost.append(f"{path}: {type(error).__name__}")
            continue
        with account.lock:
            account.answers[reply.status] += 1
            account.seconds.append(time.perf_counter() - started)
            if reply.status != (422 if is_bad else 200) or not reply.json:
                account.lost.append(f"{path}: {reply.status} {reply.text[:100]}")


@contextmanager
def clients(server: Server, account: Account, count: int, *, until_refused: bool = False) -> Iterator[None]:
    """Clients meanwhile; all of them have their last answer at the end."""
    stop = threading.Event()
    threads = [
        threading.Thread(target=client, args=(server, account, number, stop, until_refused))
        for number in range(count)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def watch(server: Server, seconds: float, say: Callable[[str], None]) -> list[float]:
    """MiB that the server has, every second."""
    process = psutil.Process(server.process.pid)
    found: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found.append(process.memory_info().rss / 2**20)
        if len(found) % 30 == 1:
            say(f"{len(found):4d} s  {found[-1]:.0f} MiB")
        time.sleep(1.0)
    return found


def run(
    folder: Path, *, seconds: float, count: int, say: Callable[[str], None] = lambda line: None
) -> dict[str, object]:
    """Load for ``seconds``, then a kill under load and a second start at the same port; what was found."""
    account, after = Account(), Account()
    # The sample first: what is loaded once is not what the load takes.
    server = Server(folder / "first", "--port", 0, "--device", "cpu")
    second = None
    try:
        for path in PATHS:
            assert server.ask("POST", path, good_bodies()[0], **HEADERS).status == 200
        started = time.monotonic()
        with clients(server, account, count):
            memory = watch(server, seconds, say)
        elapsed = time.monotonic() - started
        with clients(server, after, count, until_refused=True):
            time.sleep(3.0)
            server.process.kill()
            server.process.wait()
        second = Server(folder / "second", "--port", server.port, "--device", "cpu")
        again = second.ask("POST", PATHS[0], good_bodies()[0], **HEADERS).status
    finally:
        server.stop()
        if second is not None:
            second.stop()
    quarter = max(1, len(memory) // 4)
    return {
        "clients": count,
        "seconds": round(elapsed, 1),
        "requests": sum(account.answers.values()) + len(account.lost),
        "answers": {str(status): number for status, number in sorted(account.answers.items())},
        "broken_off": account.broken_off,
        "lost": len(account.lost),
        "first_lost": account.lost[:3],
        "requests_per_s": round(sum(account.answers.values()) / elapsed, 2),
        "p50_s": round(float(np.percentile(account.seconds, 50)), 3),
        "p99_s": round(float(np.percentile(account.seconds, 99)), 3),
        "MiB_first_quarter": round(max(memory[:quarter])),
        "MiB_last_quarter": round(max(memory[-quarter:])),
        "tracebacks_in_log": server.log.count("Traceback"),
        "clients_that_saw_the_kill": dict(after.refused),
        "lost_after_kill": len(after.lost),
        "status_when_started_again": again,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--clients", type=int, default=64)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="serving-") as folder:
        found = run(
            Path(folder),
            seconds=options.seconds,
            count=options.clients,
            say=lambda line: print(line, file=sys.stderr, flush=True),
        )
    print(json.dumps(found))
    sys.exit(1 if found["lost"] else 0)


if __name__ == "__main__":
    main()
