"""Branches, tags, private repositories, and pushes that break off."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.hub.conftest import Client, last_json
from tests.hub.loopback_hub import OWNER, READER, LoopbackHub

pytestmark = pytest.mark.slow

SESSION = """
import contextlib, io, json, os, sys
from pathlib import Path
import torch
import ecg_hf
from ecg_hf.cli.main import main
from transformers import AutoModel
from transformers.utils import logging

logging.set_verbosity_error()
folder = Path(sys.argv[1])

def command(*words):
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(word) for word in words])
        except SystemExit as stop:
            code = stop.code
    return code, out.getvalue(), err.getvalue()

def save(seed):
    torch.manual_seed(seed)
    config = ecg_hf.EcgCpcConfig.preset("micro")
    ecg_hf.EcgCpcForPreTraining(config).save_pretrained(folder)
    ecg_hf.EcgCpcFeatureExtractor(sampling_rate=config.sampling_rate).save_pretrained(folder)

def weight(repo, **options):
    model = AutoModel.from_pretrained(repo, **options)
    return float(sum(parameter.double().sum() for parameter in model.parameters()))

def as_stranger(token, *words):
    mine = os.environ.pop("HF_TOKEN")
    if token:
        os.environ["HF_TOKEN"] = token
    try:
        return command(*words)
    finally:
        os.environ["HF_TOKEN"] = mine

said = {}
save(1)
said["dry"] = command("push", folder, "org/x", "--dry-run", "--json")
said["broken"] = command("push", folder, "org/x")
said["first"] = command("push", folder, "org/x", "--tag", "v1.0", "--json")
one = weight(folder)
save(2)
two = weight(folder)
from huggingface_hub import HfApi
for name in ("processor_config.json", "model-00001-of-00002.safetensors", "notes.md"):
    HfApi().upload_file(path_or_fileobj=b"{}", path_in_repo=name, repo_id="org/x")
said["second"] = command("push", folder, "org/x", "--tag", "v2.0")
save(3)
three = weight(folder)
said["branch"] = command("push", folder, "org/x", "--revision", "experiment", "--json")
said["taken"] = command("push", folder, "org/x", "--tag", "v1.0")
said["public"] = command("push", folder, "org/x", "--private")
said["private"] = command("push", folder, "org/secret", "--private", "--json")
said["again"] = command("push", folder, "org/secret", "--private", "--json")
said["weights"] = {
    "local": [one, two, three],
    "v1.0": weight("org/x", revision="v1.0"),
    "v2.0": weight("org/x", revision="v2.0"),
    "main": weight("org/x"),
    "experiment": weight("org/x", revision="experiment"),
    "secret": weight("org/secret"),
}
said["anonymous push"] = as_stranger(None, "push", folder, "org/new")
said["stranger's push"] = as_stranger(sys.argv[2], "push", folder, "org/x")
said["stranger's secret"] = as_stranger(sys.argv[2], "push", folder, "org/secret")
said["bad name"] = command("push", folder, "a/b/c")
dataset = folder.parent / "dataset"
command("data", "build", "synthetic", "--output", dataset, "-o", "records=2")
embed = ("--dataset", dataset, "--output", folder.parent / "e.safetensors")
# Its cache would answer the stranger.
os.environ["HF_HUB_CACHE"] = str(folder.parent / "other")
import huggingface_hub.constants as constants
constants.HF_HUB_CACHE = str(folder.parent / "other")
said["anonymous secret"] = as_stranger(None, "embed", "--model", "org/secret", *embed)
print(json.dumps(said))
"""


def test_revisions_tags_and_private_repositories(client: Client, hub: LoopbackHub, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    hub.broken_uploads = 1
    said = last_json(client(SESSION, folder, READER, home=tmp_path / "home", token=OWNER))

    code, out, err = said["dry"]
    assert code == 0, err
    assert json.loads(out)["commit"] == ""
    assert set(json.loads(out)["files"]) == {
        *("README.md", "config.json", "ecg_hf_shim.py", "model.safetensors", "preprocessor_config.json")
    }
    first = json.loads(said["first"][1])
    assert (first["repo_id"], first["tag"], first["revision"]) == ("org/x", "v1.0", "main")
    assert first["url"] == f"{hub.endpoint}/org/x"
    repo = hub.repos["model", "org/x"]
    assert repo.tags["v1.0"] == first["commit"]
    assert said["second"][1].startswith(f"{hub.endpoint}/org/x")
    assert "tagged v2.0" in said["second"][1]
    # What an earlier model left, such as its processor, would be read with this one's weights.
    assert "removed: model-00001-of-00002.safetensors, processor_config.json" in said["second"][1]
    assert {"notes.md", "config.json"} < set(hub.files("org/x"))
    assert "processor_config.json" not in hub.files("org/x")
    assert set(repo.branches) == {"main", "experiment"}
    assert json.loads(said["branch"][1])["commit"] == repo.branches["experiment"]

    weights = said["weights"]
    one, two, three = weights["local"]
    assert len({one, two, three}) == 3
    assert (weights["v1.0"], weights["v2.0"], weights["main"]) == (one, two, two)
    assert (weights["experiment"], weights["secret"]) == (three, three)

    secret = hub.repos["model", "org/secret"]
    assert secret.private
    assert json.loads(said["private"][1])["private"] is True
    # Pushing the same again makes no commit and is no error.
    assert json.loads(said["again"][1])["commit"] == json.loads(said["private"][1])["commit"]
    assert len(secret.titles) == 2
    assert ("model", "org/new") not in hub.repos

    def refused(what: str, *words: str) -> None:
        code, out, err = said[what]
        assert (code, out) == (2, ""), (what, out, err)
        assert err.startswith("error: "), (what, err)
        assert err.count("\n") == 1, (what, err)
        for word in words:
            assert word in err, (what, err)

    # An upload that broke off left no half model: the next push made the first commit.
    refused("broken", "org/x", "400")
    assert hub.broken_uploads == 0
    assert repo.titles[:2] == ["initial commit", "EcgCpcForPreTraining: model, preprocessing and card"]
    refused("taken", "org/x", "v1.0", "taken")
    refused("public", "org/x", "public")
    refused("anonymous push", "org/new", "hf auth login")
    refused("stranger's push", "org/x", "your token")
    refused("stranger's secret", "org/secret")
    refused("bad name", "a/b/c")
    refused("anonymous secret", "org/secret", "hf auth login")
    # What was refused changed nothing.
    assert len(repo.titles) == 7
