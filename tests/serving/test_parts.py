"""The parts of the server by themselves, with no model and no socket."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from typing import Any

import pytest

from ecg_hf.errors import ConfigurationError
from ecg_hf.serving.batching import Batcher
from ecg_hf.serving.gate import Gate, Limits, Metrics
from ecg_hf.serving.server import check_exposure
from tests.cli.conftest import run_command

HIDDEN = "Zwiebelthaler"


def run_gate(app: Any, limits: Limits, body: bytes = b"", path: str = "/v1/x") -> tuple[int, dict[str, str]]:
    """Status and JSON of one request."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    metrics = Metrics()
    scope = {"type": "http", "path": path, "headers": [], "method": "POST"}
    asyncio.run(Gate(app, limits=limits, metrics=metrics)(scope, receive, send))
    assert metrics.in_flight == 0
    return sent[0]["status"], json.loads(sent[1]["body"])


def test_an_error_that_nobody_foresaw_quotes_nothing(caplog: pytest.LogCaptureFixture):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError(f"/data/{HIDDEN}")

    with caplog.at_level(logging.ERROR):
        assert run_gate(app, Limits()) == (500, {"error": "internal error"})
    assert "RuntimeError" in caplog.text
    assert "test_parts.py" in caplog.text
    assert HIDDEN not in caplog.text


def test_time_is_limited():
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(60)

    status, body = run_gate(app, Limits(timeout_s=0.01))
    assert (status, list(body)) == (503, ["error"])


def test_batches_gather_while_one_is_computed():
    seen: list[list[int]] = []

    def square(items: Sequence[int]) -> list[int]:
        seen.append(list(items))
        if 3 in items:
            raise ValueError("three")
        return [item * item for item in items]

    async def ask() -> list[Any]:
        batcher = Batcher(square, max_batch=4)
        async with batcher.running():
            answers = await asyncio.gather(*map(batcher, range(10)), return_exceptions=True)
        return answers

    answers = asyncio.run(ask())
    assert [one for one in answers if not isinstance(one, Exception)] == [0, 1, 4, 16, 25, 36, 49, 64, 81]
    assert isinstance(answers[3], ValueError)
    assert max(map(len, seen)) == 4
    # The batch with the three was computed again, one by one.
    assert [one for one in seen if 3 in one] == [[0, 1, 2, 3], [3]]


def test_who_left_is_not_answered():
    seen: list[int] = []

    def note(items: Sequence[int]) -> Sequence[int]:
        seen.extend(items)
        return items

    async def ask() -> None:
        batcher = Batcher(note, max_batch=4)
        waiting = asyncio.create_task(batcher(1))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
        async with batcher.running():
            await batcher(2)

    asyncio.run(ask())
    assert seen == [2]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "example.org", ""])
def test_other_hosts_need_somebody_who_checks(host: str):
    with pytest.raises(ConfigurationError, match="--token"):
        check_exposure(host, token=None, behind_proxy=False)
    check_exposure(host, token="secret", behind_proxy=False)
    check_exposure(host, token=None, behind_proxy=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_nobody(host: str):
    check_exposure(host, token=None, behind_proxy=False)


@pytest.mark.parametrize("token", ["", " ", "two words", "ö", "a\n"])
def test_what_is_no_token_is_refused(token: str):
    with pytest.raises(ConfigurationError, match="token"):
        check_exposure("127.0.0.1", token=token, behind_proxy=False)


def test_the_command_refuses_in_one_line():
    outcome = run_command("serve", "--host", "0.0.0.0")
    assert outcome.returncode == 2
    assert outcome.stderr.count("\n") == 1
    assert "--behind-proxy" in outcome.stderr
