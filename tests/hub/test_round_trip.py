"""Every registered model, extractor and pipeline, through the Hub and back: not one bit may change."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ecg_hf.auto_map import SHIM_FILE, SHIM_LINE
from ecg_hf.models.registry import METHODS
from tests.hub.conftest import WITHOUT_PACKAGE, Client, Pushed, last_json
from tests.hub.loopback_hub import LoopbackHub

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cache of the clients that have the package."""
    return tmp_path_factory.mktemp("client")


@pytest.fixture(scope="module")
def loaded(pushed: Pushed, client: Client, hub: LoopbackHub, home: Path) -> dict[str, Any]:
    """What a clean process that imports the package finds; its first big download breaks off half-way."""
    hub.cut("model.safetensors")
    methods = json.dumps(pushed.methods)
    return last_json(client("tests.hub.round_trip", "load", pushed.store, methods, home=home))


def assert_all_zero(found: dict[str, Any], methods: dict[str, bool]) -> None:
    differences = found["differences"]
    for name, multimodal in methods.items():
        texts = {"processor", "text"} if multimodal else set()
        for repo in (f"org/{name}", f"org/{name}-pieces"):
            assert set(differences[repo]) == {"extractor", "model", "weights", *texts}
        assert set(differences[f"org/{name}-classifier"]) == {"pipeline"}
        assert (f"org/{name}-zero-shot" in differences) is multimodal
    wrong = {
        (repo, part): value
        for repo, parts in differences.items()
        for part, value in parts.items()
        if value != 0.0
    }
    assert not wrong
    assert all(name.startswith("ecg_hf.models.") for name in found["classes"].values())


def test_package_imported(loaded: dict[str, Any], pushed: Pushed) -> None:
    assert set(pushed.methods) == set(METHODS)
    assert_all_zero(loaded, pushed.methods)
    # Its own classes win: no line of any repository was run.
    assert loaded["remote"] == []


def test_download_that_broke_off_is_taken_up_where_it_stopped(
    loaded: dict[str, Any], hub: LoopbackHub
) -> None:
    ranges = [request[2] for request in hub.seen("GET", "model.safetensors") if request[2]]
    assert ranges
    assert all(re.fullmatch(r"bytes=[1-9]\d*-.*", one) for one in ranges)
    assert hub.cuts["model.safetensors"] == 0


def test_package_installed_but_not_imported(pushed: Pushed, client: Client, tmp_path: Path) -> None:
    methods = json.dumps(pushed.methods)
    found = last_json(client("tests.hub.round_trip", "load", pushed.store, methods, "trust", home=tmp_path))
    assert_all_zero(found, pushed.methods)
    modules = {name.rpartition(".")[2] for name in found["remote"] if name.count(".") >= 4}
    assert modules == {"ecg_hf_shim"}


def test_offline_from_the_cache(
    loaded: dict[str, Any], pushed: Pushed, client: Client, home: Path, hub: LoopbackHub
) -> None:
    """The same answers from what was downloaded, without one request."""
    before = len(hub.requests)
    multimodal = {name: texts for name, texts in pushed.methods.items() if texts} or pushed.methods
    found = last_json(
        client("tests.hub.round_trip", "load", pushed.store, json.dumps(multimodal), home=home, offline=True)
    )
    assert_all_zero(found, multimodal)
    assert len(hub.requests) == before


ABSENT = """
import json
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoProcessor, pipeline

def message(load, repo, **options):
    try:
        load(repo, **options)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "loaded"

said = {}
for name, multimodal in json.loads(sys.argv[1]).items():
    loaders = {"model": AutoModel, "extractor": AutoFeatureExtractor}
    if multimodal:
        loaders["processor"] = AutoProcessor
    for part, loader in loaders.items():
        said[f"{name} {part}"] = message(loader.from_pretrained, f"org/{name}", trust_remote_code=True)
    task = lambda repo, **options: pipeline("ecg-classification", model=repo, **options)
    said[f"{name} pipeline"] = message(task, f"org/{name}-classifier", trust_remote_code=True)
    said[f"{name} untrusted"] = message(AutoModel.from_pretrained, f"org/{name}", trust_remote_code=False)
print(json.dumps(said))
"""


def test_package_absent(pushed: Pushed, client: Client, tmp_path: Path) -> None:
    found = last_json(client(WITHOUT_PACKAGE + ABSENT, json.dumps(pushed.methods), home=tmp_path))
    for what, message in found.items():
        if what.endswith("untrusted"):
            assert "trust_remote_code=True" in message, what
        else:
            # pip takes underscore and hyphen for the same.
            assert re.match(r"ImportError: .*Run `pip install ecg[_-]hf`", message), (what, message)
    assert len(found) >= 4 * len(METHODS)


def test_repositories_hold_what_they_should(pushed: Pushed, hub: LoopbackHub) -> None:
    for name, multimodal in pushed.methods.items():
        files = hub.files(f"org/{name}")
        texts = {"processor_config.json", "tokenizer.json", "tokenizer_config.json"} if multimodal else set()
        assert set(files) == {
            *(".gitattributes", "README.md", "config.json", "model.safetensors", "preprocessor_config.json"),
            *(SHIM_FILE, *texts),
        }
        assert files[SHIM_FILE].decode() == SHIM_LINE
        assert SHIM_LINE.count("\n") == 1
        auto_map = json.loads(files["config.json"])["auto_map"]
        pretraining = {"AutoModelForPreTraining"} if METHODS[name].pretrainable else set()
        assert set(auto_map) == {"AutoConfig", "AutoModel", "AutoModelForAudioClassification"} | pretraining
        card = files["README.md"].decode()
        assert f'from_pretrained("org/{name}")' in card
        assert "path/to/this/folder" not in card
        # One commit: nobody ever sees half a model. And nothing about this machine.
        assert len(hub.repos["model", f"org/{name}"].titles) == 2
        for path, content in files.items():
            assert str(pushed.store).encode() not in content, path
