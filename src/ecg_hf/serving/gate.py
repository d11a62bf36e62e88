"""Who may ask, how much, how long, and how many at once; and what is counted of it."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
import traceback
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import psutil
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Gate", "Limits", "Metrics"]

_LOGGER = logging.getLogger(__name__)

ANSWERS = "/v1/"
"""Paths below which the limits hold."""

_OPEN = {"/health", "/docs", "/openapi.json"}
"""Paths that tell nothing and need no token."""

_COUNTED = {"/v1/predict", "/v1/embed", "/v1/fhir", "/metrics", *_OPEN}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server accepts.

    Attributes:
        max_bytes: Of a request, all its files together.
        timeout_s: Until a request is answered, its upload included.
        queue: Requests that are received, wait or are computed at the same time; 429 beyond.
        max_batch: Recordings of a forward pass.
        token: What ``Authorization: Bearer`` has to say; None for no check.
    """

    max_bytes: int = 20_000_000
    timeout_s: float = 60.0
    queue: int = 128
    max_batch: int = 16
    token: str | None = None


@dataclass(slots=True)
class Metrics:
    """Counters since the start, as text for Prometheus."""

    requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    in_flight: int = 0

    def note(self, path: str, status: int, seconds: float) -> None:
        """Count a finished request."""
        path = path if path in _COUNTED else "other"
        self.requests[path, status] += 1
        self.seconds[path] += seconds

    def text(self, *, batches: int, recordings: int) -> str:
        """All counters, one a line."""
        lines = ["# TYPE ecg_hf_requests_total counter"]
        for (path, status), count in sorted(self.requests.items()):
            lines.append(f'ecg_hf_requests_total{{path="{path}",status="{status}"}} {count}')
        lines.append("# TYPE ecg_hf_request_seconds summary")
        for path, seconds in sorted(self.seconds.items()):
            count = sum(number for (other, _), number in self.requests.items() if other == path)
            lines.append(f'ecg_hf_request_seconds_sum{{path="{path}"}} {seconds:.6f}')
            lines.append(f'ecg_hf_request_seconds_count{{path="{path}"}} {count}')
        for name, kind, value in (
            ("batches_total", "counter", batches),
            ("recordings_total", "counter", recordings),
            ("requests_in_flight", "gauge", self.in_flight),
            ("resident_memory_bytes", "gauge", psutil.Process().memory_info().rss),
        ):
            lines += [f"# TYPE ecg_hf_{name} {kind}", f"ecg_hf_{name} {value}"]
        return "\n".join(lines) + "\n"


class Gate:
    """ASGI middleware that lets through what :class:`Limits` allow and answers everything else in one line of JSON.

    An error that nobody foresaw becomes ``internal error`` for the client; the log has where it was raised, without
    its message, which may quote the upload.
    """

    def __init__(self, app: ASGIApp, *, limits: Limits, metrics: Metrics) -> None:
        self.app = app
        self.limits = limits
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection's message."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            async with asyncio.timeout(self.limits.timeout_s):
                await self._admit(scope, receive, watched)
        except TimeoutError:
            if not status:
                text = f"no answer within {self.limits.timeout_s:g} s"
                await _refuse(503, text, scope, receive, watched)
        except Exception as error:
            where = "".join(traceback.format_tb(error.__traceback__))
            _LOGGER.error("%s at %s\n%s", type(error).__name__, scope["path"], where)
            if not status:
                await _refuse(500, "internal error", scope, receive, watched)
        finally:
            self.metrics.note(scope["path"], status, time.perf_counter() - started)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] not in _OPEN and not self._knows_token(scope):
            await self._refuse_after_upload(401, "a token is needed", scope, receive, send)
        elif not scope["path"].startswith(ANSWERS):
            await self.app(scope, receive, send)
        elif (said := _content_length(scope)) is not None and said > self.limits.max_bytes:
            await _refuse(413, self._too_long(), scope, receive, send)
        elif self.metrics.in_flight >= self.limits.queue:
            await self._refuse_after_upload(429, "too many requests, try again", scope, receive, send)
        else:
            self.metrics.in_flight += 1
            try:
                await self.app(scope, self._counting(receive), send)
            finally:
                self.metrics.in_flight -= 1

    def _knows_token(self, scope: Scope) -> bool:
        if self.limits.token is None:
            return True
        given = dict(scope["headers"]).get(b"authorization", b"")
        return hmac.compare_digest(given, f"Bearer {self.limits.token}".encode())

    def _counting(self, receive: Receive) -> Receive:
        """``receive`` that ends a request with more bytes than allowed, whatever its length was said to be."""
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.limits.max_bytes:
                raise HTTPException(413, self._too_long())
            return message

        return counted

    def _too_long(self) -> str:
        return f"a request may have {self.limits.max_bytes} bytes"

    async def _refuse_after_upload(
        self, status: int, text: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Refuse, but only once the upload is through and forgotten: many clients don't listen before."""
        seen = 0
        while True:
            message = await receive()
            seen += len(message.get("body", b""))
            if not message.get("more_body") or seen > self.limits.max_bytes:
                break
        await _refuse(status, text, scope, receive, send)


def _content_length(scope: Scope) -> int | None:
    said = dict(scope["headers"]).get(b"content-length", b"")
    return int(said) if said.isdigit() else None


async def _refuse(status: int, text: str, scope: Scope, receive: Receive, send: Send) -> None:
    headers = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "1"}}.get(status)
    await JSONResponse({"error": text}, status, headers)(scope, receive, send)
