"""Whose weights may be passed on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ecg_hf.errors import ModelFolderError
from ecg_hf.hub import CardContext, push_model, write_model_card
from ecg_hf.hub.eval_results import EVAL_RESULTS_FILE
from ecg_hf.models.registry import METHODS
from tests.cli.conftest import Cli
from tests.cli.test_errors import assert_one_line
from tests.hub.test_card import RESULTS


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharing") / "model"
    spec = METHODS["ecg-cpc"]
    torch.manual_seed(0)
    config = spec.load("config").preset(spec.sizes[0])
    spec.load("model")(config).save_pretrained(folder)
    spec.feature_extractor_for(config).save_pretrained(folder)
    return folder


def licensed(model: Path, licence: str | None, *, trained_here: bool = False) -> Path:
    """The model with a card that says whose it is."""
    from ecg_hf.hub import open_model_folder

    opened = open_model_folder(model)
    context = CardContext("a model", "ptbxl", "CC BY 4.0", weights_licence=licence, trained_here=trained_here)
    write_model_card(model, opened.model, opened.feature_extractor, context)
    return model


@pytest.mark.parametrize(
    ("licence", "why"),
    [("unknown", "no licence"), ("CC BY-NC 4.0", "non-commercial"), ("cc-by-nc-nd-4.0", "changed copies")],
)
def test_what_a_licence_forbids_is_not_pushed(model: Path, licence: str, why: str, cli: Cli):
    folder = licensed(model, licence)
    with pytest.raises(ModelFolderError, match=why):
        push_model(folder, "org/x", dry_run=True)
    assert_one_line(cli("push", folder, "org/x", "--dry-run"), why)
    if why != "non-commercial":
        with pytest.raises(ModelFolderError, match=why):
            push_model(folder, "org/x", dry_run=True, non_commercial=True)


def test_what_it_allows_is_pushed(model: Path):
    assert push_model(licensed(model, "cc-by-nc-4.0"), "org/x", dry_run=True, non_commercial=True).files
    for licence in ("mit", "cc-by-4.0", None):
        assert push_model(licensed(model, licence), "org/x", dry_run=True).files
    own = licensed(model, "cc-by-nc-4.0", trained_here=True)
    assert push_model(own, "org/x", dry_run=True).files


def test_results_are_pushed_beside_the_card(model: Path, cli: Cli, tmp_path: Path):
    assert EVAL_RESULTS_FILE not in push_model(licensed(model, None), "org/x", dry_run=True).files
    results = tmp_path / "results.json"
    results.write_text(json.dumps(RESULTS))
    assert cli("card", model, "--results", results).returncode == 0
    # What a folder brings under that name is not what is sent.
    (model / EVAL_RESULTS_FILE).write_text("planted")
    files = push_model(model, "org/x", dry_run=True).files
    assert files[EVAL_RESULTS_FILE] > 100


def test_the_flag_is_for_weights(cli: Cli, tmp_path: Path):
    (tmp_path / "dataset_info.json").write_text("{}")
    assert_one_line(cli("push", tmp_path, "org/x", "--non-commercial"), "--non-commercial")
