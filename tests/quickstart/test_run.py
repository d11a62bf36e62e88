"""The quickstart end to end on a small synthetic corpus, and again over its own leftovers."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoFeatureExtractor, AutoModel, AutoModelForPreTraining
from typer.testing import CliRunner

from ecg_hf.cli.main import app
from ecg_hf.data import load_built
from ecg_hf.errors import ConfigurationError, ModelFolderError
from ecg_hf.evaluation import embed_dataset
from ecg_hf.evaluation.results import read_results
from ecg_hf.models.registry import METHODS, PRETRAINABLE
from ecg_hf.processing import EcgProcessor
from ecg_hf.quickstart.reload import reload_in_clean_process
from ecg_hf.quickstart.run import run_quickstart
from ecg_hf.quickstart.showcase import reconstruct_record


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("quickstart")
    said: list[str] = []
    run_quickstart(folder, max_steps=3, num_proc=1, source_options={"records": 300}, say=said.append)
    return folder, said


@pytest.mark.slow
def test_everything_is_there(finished):
    folder, said = finished
    results = read_results(folder / "results.json")
    assert results["dataset"] == "synthetic"
    rows = {(row["encoder"], row["head"], row["fraction"]) for row in results["summary"]}
    assert rows == {
        (encoder, head, share)
        for encoder in ("pretrained", "untrained")
        for head, shares in (("linear", (0.01, 0.1, 1.0)), ("zero-shot", (0.0,)))
        for share in shares
    }
    assert {"data", "pretrain", "evaluate", "card", "reload", "report"} == set(results["timings"])
    for row in results["probe"]:
        assert row["n_test"] >= max(row["positives"].values())
    # Three steps teach nothing, and a picture of nothing is not drawn.
    assert not (folder / "figures" / "reconstruction.png").exists()
    page = (folder / "report.html").read_text()
    assert "reconstruct" not in page.lower() + " ".join(said).lower()
    assert "simulat" in page.lower()
    assert {p.name for p in (folder / "figures").iterdir()} >= {
        "ecg.png",
        "losses.png",
        "results.png",
        "tsne.png",
    }
    card = (folder / "model" / "README.md").read_text()
    assert "synthetic" in card.lower()
    assert not any(path.suffix in (".bin", ".pt", ".pth") for path in (folder / "model").iterdir())
    assert any("largest difference 0.0" in line for line in said)


@pytest.mark.slow
def test_it_says_how_long_it_takes_and_what_to_open(finished):
    folder, said = finished
    assert re.match(r"This takes about \d+ min on this machine: 3 pretraining steps of 64 records", said[0])
    closing = " ".join(said[-3:])
    for words in (str(folder / "report.html"), str(folder / "model"), "untrained", "simulated"):
        assert words in closing


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(set(PRETRAINABLE) - {"cg-dmer"}))
def test_every_method_has_a_quickstart(method: str, tmp_path: Path):
    """The recipe for small machines fits, and card, pictures and reload need nothing a method may lack."""
    said: list[str] = []
    results = run_quickstart(
        tmp_path, model=method, max_steps=2, num_proc=1, source_options={"records": 100}, say=said.append
    )
    heads = {row["head"] for row in results["summary"]}
    assert heads == ({"linear", "zero-shot"} if METHODS[method].multimodal else {"linear"})
    assert any("largest difference 0.0" in line for line in said)
    pictures = {path.name for path in (tmp_path / "figures").iterdir()}
    assert pictures - {"reconstruction.png"} == {"ecg.png", "losses.png", "results.png", "tsne.png"}
    assert METHODS[method].title.split(":")[0] in (tmp_path / "model" / "README.md").read_text()


@pytest.mark.slow
def test_a_second_run_continues_instead_of_starting_again(finished):
    folder, _ = finished
    before = (folder / "model" / "model.safetensors").read_bytes()
    probes = read_results(folder / "results.json")["probe"]
    run_quickstart(folder, max_steps=3, num_proc=1, source_options={"records": 300}, say=lambda line: None)
    assert (folder / "model" / "model.safetensors").read_bytes() == before
    assert json.dumps(read_results(folder / "results.json")["probe"]) == json.dumps(probes)


@pytest.mark.slow
def test_it_evaluates_as_the_command_does(finished, tmp_path):
    """The same rows from 'ecg-hf evaluate', to the last digit."""
    folder, _ = finished
    results = read_results(folder / "results.json")
    command = [
        "evaluate", "--model", str(folder / "model"), "--benchmark", "synthetic-findings", "--dataset",
        str(folder / "data"), "--output", str(tmp_path), "--head", "linear,zero-shot", "--controls", "untrained",
        "--no-figures",
    ]  # fmt: skip
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 0, found.output
    assert read_results(tmp_path / "results.json")["summary"] == results["summary"]
    assert read_results(tmp_path / "results.json")["paired"] == results["paired"]


@pytest.mark.slow
def test_a_damaged_model_does_not_pass_the_reload(finished, tmp_path):
    folder, _ = finished
    model = AutoModel.from_pretrained(folder / "model")
    extractor = AutoFeatureExtractor.from_pretrained(folder / "model")
    expected = embed_dataset(model, extractor, load_built(folder / "data").select([0, 1]), progress=False)
    with pytest.raises(ModelFolderError, match="other embeddings"):
        reload_in_clean_process(folder / "model", folder / "data", [0, 1], expected + 1e-6, tmp_path)


@pytest.mark.slow
def test_reconstruction_is_in_millivolts(finished):
    folder, _ = finished
    row = load_built(folder / "data")[0]
    model = AutoModelForPreTraining.from_pretrained(folder / "model")
    shown = reconstruct_record(model, EcgProcessor.from_pretrained(folder / "model"), row)
    np.testing.assert_allclose(shown.signal_mv, row["ecg"]["signal"], atol=1e-6)
    visible = np.repeat(~shown.hidden, model.config.patch_size, axis=1)
    np.testing.assert_allclose(shown.reconstruction_mv[visible], shown.signal_mv[visible], atol=1e-4)
    assert shown.hidden.mean() == pytest.approx(model.config.mask_ratio, abs=0.01)


def test_unknown_data_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="unknown dataset"):
        run_quickstart(tmp_path / "out", dataset="nothing", say=lambda line: None)
    assert not (tmp_path / "out").exists()
