"""The CG-DMER that ships, shared as people will look for it: org/cg-dmer, loaded back with its zero-shot answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.conftest import Client
from tests.hub.loopback_hub import OWNER, LoopbackHub

pytestmark = pytest.mark.slow

ASK = """
import json, sys, ecg_hf
from transformers import AutoModel, pipeline
source = sys.argv[1] if len(sys.argv) > 1 else str(ecg_hf.pretrained("cg-dmer-ptbxl"))
model = AutoModel.from_pretrained(source)
labels = ["left bundle branch block", "normal ECG", "Vorhofflimmern"]
answer = pipeline("zero-shot-ecg-classification", model=source)(str(ecg_hf.sample_record()), candidate_labels=labels)
vector = ecg_hf.embed(ecg_hf.sample_record(), model=source)[0]
print(json.dumps({"type": type(model).__name__, "best": answer[0]["label"], "scores": [a["score"] for a in answer],
                  "vector": vector.tolist(), "parameters": model.num_parameters()}))
"""


@pytest.fixture
def nobody_else(hub: LoopbackHub) -> Iterator[None]:
    """The repository's name, which the round trip of all methods uses too, for this test alone."""
    before = hub.repos.pop(("model", "org/cg-dmer"), None)
    yield
    hub.repos.pop(("model", "org/cg-dmer"), None)
    if before is not None:
        hub.repos["model", "org/cg-dmer"] = before


@pytest.mark.usefixtures("nobody_else")
def test_org_cg_dmer_is_the_shipped_model(client: Client, tmp_path: Path) -> None:
    here = json.loads(client(ASK, home=tmp_path / "here").stdout.splitlines()[-1])
    client(
        *("ecg_hf.cli", "push", "cg-dmer-ptbxl", "org/cg-dmer"),
        home=tmp_path / "writer",
        token=OWNER,
    )
    there = json.loads(client(ASK, "org/cg-dmer", home=tmp_path / "there").stdout.splitlines()[-1])
    assert there == here
    assert here["type"] == "CgDmerModel"
    assert here["best"] == "left bundle branch block"
    assert len(here["vector"]) == 480
