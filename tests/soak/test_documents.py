"""A few seconds of the fuzzer of documents, with another seed every day."""

from __future__ import annotations

import datetime
from pathlib import Path

from tests.soak.documents import run
from tests.soak.guard import quiet

SECONDS = 8.0
FAST = (
    *("results", "prompts", "recipe", "run", "log", "front matter", "state", "index", "build report"),
    *(
        "account",
        "card",
        "arguments",
        "dataset state",
        "dataset info",
        "part",
        "embeddings",
        "scores",
        "tokens",
    ),
)


def test_documents_of_strangers(tmp_path: Path) -> None:
    seed = datetime.datetime.now(tz=datetime.UTC).date().toordinal()
    with quiet():
        outcomes, foreign = run(tmp_path, seconds=SECONDS, seed=seed, only=FAST)
    assert foreign == 0, f"seed {seed}: see the tracebacks above"
    assert all(outcomes.values()), "a kind of document was never tried"
