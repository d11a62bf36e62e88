"""Weights by name from the authors' repositories, on a Hub in memory: converted once, kept, refused if wrong."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load, load_file, save

from ecg_hf.hub.fetching import FETCHED, list_all_pretrained
from tests.conftest import TESTS
from tests.hub.loopback_hub import Blob, LoopbackHub, Repo

FOUNDER = TESTS / "fixtures" / "ecgfounder" / "tiny_state_dict.safetensors"
HUBERT = TESTS / "fixtures" / "hubert_ecg" / "tiny_state_dict.safetensors"

FETCH = """
import json, sys, ecg_hf
from transformers import AutoModel
folder = ecg_hf.pretrained(sys.argv[1], revision=sys.argv[2] if len(sys.argv) > 2 else None)
model = AutoModel.from_pretrained(folder)
print(json.dumps({"folder": str(folder), "type": model.config.model_type,
                  "source": json.loads((folder / "source.json").read_text())}))
"""

AS_IT_IS = """
import json, sys, ecg_hf, torch
from transformers import AutoFeatureExtractor, AutoModel
repository, revision, trust = sys.argv[1], sys.argv[2], sys.argv[3] == "trust"
model = AutoModel.from_pretrained(repository, revision=revision, trust_remote_code=trust)
extractor = AutoFeatureExtractor.from_pretrained(repository, revision=revision)
print(json.dumps({"model": type(model).__name__, "extractor": type(extractor).__name__,
                  "place": model.name_or_path, "norm": model.encoder.norm.weight.tolist()}))
"""

REFUSED = """
import sys, ecg_hf
from ecg_hf.errors import EcgError
try:
    ecg_hf.pretrained(sys.argv[1])
except EcgError as error:
    print(type(error).__name__, str(error).count("\\n"), error)
"""


class Boom:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def sizes_of(fixture: Path) -> dict[str, Any]:
    """The authors' configuration, as the fixture tells it; that of a published size needs none."""
    with safe_open(fixture, "pt") as file:
        sizes: dict[str, Any] = json.loads(file.metadata()["config"])
    return sizes


def torch_file(content: object, folder: Path) -> bytes:
    path = folder / "file.pth"
    torch.save(content, path)
    return path.read_bytes()


@pytest.fixture
def founder(hub: LoopbackHub, tmp_path: Path):
    """Publish a file under ECGFounder's name; gives its commit."""

    def publish(content: object) -> str:
        repo = hub.repos.setdefault(("model", "PKUDigitalHealth/ECGFounder"), Repo(private=False))
        data = content if isinstance(content, bytes) else torch_file(content, tmp_path)
        files = {
            "12_lead_ECGFounder.pth": Blob(data, lfs=True),
            "config.json": Blob(json.dumps(sizes_of(FOUNDER)).encode(), lfs=False),
        }
        return repo.commit("main", files, "weights")

    return publish


def tensors() -> dict[str, torch.Tensor]:
    return load_file(FOUNDER)


@pytest.mark.slow
def test_fetched_once_converted_once_and_found_offline(hub: LoopbackHub, client, founder, tmp_path: Path):
    first = founder({"epoch": 3, "state_dict": tensors()})
    home = tmp_path / "home"
    said = client(FETCH, "ecgfounder", home=home)
    found = json.loads(said.stdout)
    assert found["type"] == "ecgfounder"
    assert found["source"]["commit"] == first
    assert found["source"]["sha256"][:12] in said.stderr
    assert first in said.stderr
    assert Path(found["folder"]).is_relative_to(home)
    # The same again; without the network; and another commit, by its name.
    assert json.loads(client(FETCH, "ecgfounder", home=home).stdout) == found
    assert json.loads(client(FETCH, "ecgfounder", home=home, offline=True).stdout) == found
    changed = tensors()
    name = next(key for key, value in changed.items() if value.is_floating_point())
    changed[name] = changed[name] + 1.0
    second = founder({"state_dict": changed})
    newer = json.loads(client(FETCH, "ecgfounder", home=home).stdout)
    assert newer["source"]["commit"] == second != first
    assert newer["folder"] != found["folder"]
    assert json.loads(client(FETCH, "ecgfounder", first, home=home).stdout)["folder"] == found["folder"]


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["pickled code", "missing key", "huge", "not finite", "no weights"])
def test_files_that_are_not_what_their_name_says(client, founder, tmp_path: Path, wrong: str):
    content = tensors()
    name = next(key for key, value in content.items() if value.is_floating_point())
    if wrong == "pickled code":
        founder(pickle.dumps({"state_dict": Boom(tmp_path / "was_here")}))
    elif wrong == "missing key":
        founder({"state_dict": {k: v for k, v in content.items() if k != name}})
    elif wrong == "huge":
        founder({"state_dict": {**content, name: torch.zeros(1).expand(1 << 40)}})
    elif wrong == "not finite":
        founder({"state_dict": {**content, name: torch.full_like(content[name], torch.nan)}})
    else:
        founder(b"<html>")
    said = client(REFUSED, "ecgfounder", home=tmp_path / "home").stdout
    kind, lines = said.split()[:2]
    assert kind.endswith(("Error", "Weights", "File")) or kind[0].isupper()
    assert lines == "0"
    assert not (tmp_path / "was_here").exists()
    assert not list((tmp_path / "home").rglob("source.json"))


def test_out_of_reach_is_one_line_with_the_address(client, tmp_path: Path):
    said = client(REFUSED, "ecg-fm", home=tmp_path / "home", offline=True).stdout
    assert said.startswith("ModelFolderError 0 ")
    assert "https://huggingface.co/wanglab/ecg-fm/blob/main/mimic_iv_ecg_physionet_pretrained.pt" in said
    assert "ecg-hf convert ecg-fm mimic_iv_ecg_physionet_pretrained.pt FOLDER" in said


def publish_hubert(hub: LoopbackHub, name: str) -> str:
    """A repository as its authors lay it out, with code that must not run; gives its commit."""
    repo = hub.repos.setdefault(("model", name), Repo(private=False))
    config = sizes_of(HUBERT) | {
        "model_type": "hubert_ecg",
        "auto_map": {"AutoConfig": "hubert_ecg.Boom", "AutoModel": "hubert_ecg.Boom"},
    }
    files = {
        "model.safetensors": Blob(save(load(HUBERT.read_bytes())), lfs=True),
        "config.json": Blob(json.dumps(config).encode(), lfs=False),
        "hubert_ecg.py": Blob(b"raise SystemExit('code of the repository was run')", lfs=False),
    }
    return repo.commit("main", files, "weights")


@pytest.mark.slow
@pytest.mark.parametrize("trust", ["trust", "plain"])
def test_the_authors_repository_loads_as_it_is(hub: LoopbackHub, client, tmp_path: Path, trust: str):
    name = "Edoardo-Coppola/hubert-ecg-base"
    commit = publish_hubert(hub, name)
    said = client(AS_IT_IS, name, commit, trust, home=tmp_path / "home")
    found = json.loads(said.stdout)
    assert (found["model"], found["extractor"]) == ("HubertEcgModel", "HubertEcgFeatureExtractor")
    assert found["place"] == name
    assert found["norm"] == load_file(HUBERT)["encoder.layer_norm.weight"].tolist()
    assert "CC BY-NC 4.0" in said.stderr
    assert not list((tmp_path / "home").rglob("hubert_ecg.py"))
    again = client(AS_IT_IS, name, commit, trust, home=tmp_path / "home", offline=True)
    assert json.loads(again.stdout) == found


@pytest.mark.slow
def test_a_licence_that_forbids_commercial_use_is_said_before(hub: LoopbackHub, client, tmp_path: Path):
    publish_hubert(hub, "Edoardo-Coppola/hubert-ecg-small")
    said = client(FETCH, "hubert-ecg-small", home=tmp_path / "home")
    assert json.loads(said.stdout)["type"] == "hubert-ecg"
    assert said.stderr.index("forbids commercial use") < said.stderr.index("SHA-256")


def test_the_list_has_both_kinds_and_names_are_different():
    rows = list_all_pretrained()
    names = [row["name"] for row in rows]
    assert len(set(names)) == len(names)
    assert {row["origin"] for row in rows} == {"ships", "fetched"}
    assert all(row["licence"] and row["size_bytes"] for row in rows)
    assert len(FETCHED) == len({one.name for one in FETCHED})
