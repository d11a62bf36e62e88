"""A few seconds of the server under load, and its death."""

from __future__ import annotations

from pathlib import Path

from tests.soak.serving import run

CLIENTS = 64


def test_no_request_is_lost(tmp_path: Path) -> None:
    found = run(tmp_path, seconds=20.0, count=CLIENTS)
    assert found["lost"] == 0, found
    assert found["tracebacks_in_log"] == 0
    assert set(found["answers"]) == {"200", "422"}, found
    # Every client learns of the kill by an error of its connection, and the next server answers.
    assert sum(found["clients_that_saw_the_kill"].values()) == CLIENTS, found
    assert found["status_when_started_again"] == 200
