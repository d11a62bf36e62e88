"""Model cards: metadata the Hub understands, figures with their intervals, and plain words about synthetic data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries

from ecg_hf.errors import ConfigurationError
from ecg_hf.hub import CardContext, card_context_of, write_model_card
from ecg_hf.hub.eval_results import EVAL_RESULTS_FILE
from ecg_hf.models.registry import METHODS
from tests.hub.loopback_hub import validate_card


def row(
    encoder: str, fraction: float, value: float | None, ci95: list[float | None], head: str = "linear"
) -> dict[str, Any]:
    return {
        "encoder": encoder,
        "benchmark": "ptbxl-super",
        "protocol": "merl-exact",
        "head": head,
        "fraction": fraction,
        "seeds": [0],
        "macro_auroc": value,
        "macro_auroc_unlearnt_at_chance": value,
        "sd": None,
        "ci95": ci95,
        "n_train": 100,
        "n_test": 50,
        "n_classes": 2,
        "solver": "",
    }


SUMMARY = [
    row("pretrained", 0.01, None, [None, None]),
    row("pretrained", 0.1, 0.75126, [0.70, 0.80]),
    row("pretrained", 1.0, 0.8, [0.76, 0.84]),
    row("pretrained", 0.0, 0.61, [0.55, 0.67], "zero-shot"),
    row("untrained", 1.0, 0.6789, [0.61, 0.71]),
]
RESULTS: dict[str, Any] = {
    "dataset": "ptbxl",
    "probe": [{**one, "positives": {"NORM": 20, "MI": 12}, "resampled": "patients"} for one in SUMMARY],
    "summary": SUMMARY,
    "timings": {},
}


@pytest.fixture(params=METHODS)
def parts(request: pytest.FixtureRequest) -> tuple[str, Any, Any]:
    """Name, micro model and feature extractor of a method."""
    spec = METHODS[request.param]
    torch.manual_seed(0)
    model = spec.load(spec.whole)(spec.load("config").preset(spec.sizes[0]))
    return spec.name, model, spec.load("feature_extractor")()


def write(folder: Path, parts: tuple[str, Any, Any], **context: Any) -> ModelCard:
    given = {"model_name": "a model", "dataset": "ptbxl", "data_licence": "CC BY 4.0", **context}
    path = write_model_card(folder, parts[1], parts[2], CardContext(**given))
    assert path == folder / "README.md"
    return ModelCard.load(path)


def test_metadata_that_the_hub_filters_by(parts: tuple[str, Any, Any], tmp_path: Path) -> None:
    data = write(tmp_path, parts, results=RESULTS, extra={"base_model": "org/x"}).data.to_dict()
    assert (data["pipeline_tag"], data["datasets"], data["metrics"]) == (
        "feature-extraction",
        ["ptbxl"],
        ["roc_auc"],
    )
    assert data["base_model"] == "org/x"
    assert ("language" in data) == METHODS[parts[0]].multimodal
    entries = parse_eval_result_entries(yaml.safe_load((tmp_path / EVAL_RESULTS_FILE).read_text()))
    metrics = [metric for entry in data["model-index"][0]["results"] for metric in entry["metrics"]]
    assert [one.value for one in entries] == [metric["value"] for metric in metrics]
    assert {one.dataset_id for one in entries} == {"ptbxl"}
    assert "0.7, 0.8" in str(entries[0].notes)
    plain = write(tmp_path, parts, dataset="the authors' data, and ours").data.to_dict()
    assert not {"datasets", "metrics", "base_model"} & set(plain)
    assert not (tmp_path / EVAL_RESULTS_FILE).exists()


def test_metadata_can_be_read_back(parts: tuple[str, Any, Any], tmp_path: Path) -> None:
    card = write(tmp_path, parts, results=RESULTS, training={"optimiser steps": "17"})
    assert card.data.license == METHODS[parts[0]].licence
    assert card.data.library_name == "transformers"
    assert "ecg" in card.data.tags
    assert card.data.model_name == "a model"
    assert "optimiser steps: 17" in card.text
    assert "CC BY 4.0" in card.text
    assert METHODS[parts[0]].paper in card.text
    assert "Not a medical device" in card.text
    assert validate_card(card.content)["errors"] == []
    # Nothing half-written is left beside it, and what it was made of can be read again.
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        ".eval_results",
        "README.md",
        "card.json",
    ]
    again = card_context_of(tmp_path)
    assert (again.model_name, again.training) == ("a model", {"optimiser steps": "17"})
    assert again.results == RESULTS


def test_model_index_holds_our_encoder_with_intervals(parts: tuple[str, Any, Any], tmp_path: Path) -> None:
    card = write(tmp_path, parts, results=RESULTS)
    found = {
        result.metric_name: (result.metric_value, result.metric_args["ci95"])
        for result in card.data.eval_results
    }
    assert found == {
        "macro AUROC, linear, 0.1 of labels, protocol merl-exact": (0.7513, [0.7, 0.8]),
        "macro AUROC, linear, 1 of labels, protocol merl-exact": (0.8, [0.76, 0.84]),
        "macro AUROC, zero-shot, protocol merl-exact": (0.61, [0.55, 0.67]),
    }
    assert {result.dataset_config for result in card.data.eval_results} == {"ptbxl-super"}
    # The untrained encoder is no result of the model, but the table beside must show it.
    assert "0.679" in card.text
    assert "over test patients" in card.text


def test_synthetic_data_are_called_synthetic(parts: tuple[str, Any, Any], tmp_path: Path) -> None:
    card = write(tmp_path, parts, synthetic=True, results=RESULTS)
    assert "synthetic-data" in card.data.tags
    assert "Trained and evaluated on synthetic ECGs" in card.text
    real = write(tmp_path, parts, synthetic=False)
    assert "synthetic-data" not in real.data.tags
    assert "synthetic" not in real.text.lower()


def test_no_results_says_none(parts: tuple[str, Any, Any], tmp_path: Path) -> None:
    card = write(tmp_path, parts)
    assert card.data.eval_results is None
    results = card.text.partition("## Results")[2].partition("##")[0]
    assert results.strip().startswith("None yet.")


def test_no_gaps_are_left_in_the_text(parts: tuple[str, Any, Any], tmp_path: Path) -> None:
    content = write(tmp_path, parts, results=RESULTS).content
    for trace in ("{{", "}}", "{%", "None,", "Undefined"):
        assert trace not in content
    assert ("@" in content.partition("```bibtex")[2]) == bool(METHODS[parts[0]].paper)


def test_example_in_the_card_is_python(parts: tuple[str, Any, Any], tmp_path: Path) -> None:
    code = write(tmp_path, parts, repo="me/my-model").text.partition("```python\n")[2].partition("```")[0]
    compile(code, "card", "exec")
    assert "me/my-model" in code


def test_model_of_no_method(parts: tuple[str, Any, Any], tmp_path: Path) -> None:
    class Stranger:
        class config:
            model_type = "stranger"

    with pytest.raises(ConfigurationError, match="stranger"):
        write(tmp_path, ("stranger", Stranger(), parts[2]))
    assert list(tmp_path.iterdir()) == []


def test_preprocessing_is_that_of_the_feature_extractor(tmp_path: Path) -> None:
    spec = METHODS["clear-hug"]
    model = spec.load("pretraining")(spec.load("config").preset("micro"))
    text = write(tmp_path, ("clear-hug", model, spec.load("feature_extractor")(clip=4.0))).text
    steps = text.partition("## Preprocessing")[2].partition("##")[0]
    for expected in ("fft resampling to 100 Hz", "high-pass 0.67 Hz, low-pass 40 Hz", "+/- 4", "R peaks"):
        assert expected in steps


def test_licences_of_data_and_of_converted_weights(parts: tuple[str, Any, Any], tmp_path: Path) -> None:
    card = write(tmp_path, parts, weights_licence="CC BY 4.0", data_licence="ODbL 1.0")
    assert card.data.license == "cc-by-4.0"
    licences = card.text.partition("## Licences")[2]
    assert "Weights: CC BY 4.0, the authors'" in licences
    assert "Training data: ODbL 1.0" in licences
    unknown = write(tmp_path, parts, weights_licence="Licence of our house")
    assert (unknown.data.license, unknown.data.license_name) == ("other", "Licence of our house")
    assert validate_card(unknown.content)["errors"] == []


def test_emissions_only_if_measured(parts: tuple[str, Any, Any], tmp_path: Path) -> None:
    assert "co2_eq_emissions" not in write(tmp_path, parts).data.to_dict()
    measured = write(tmp_path, parts, emissions_g=12.5)
    assert measured.data.to_dict()["co2_eq_emissions"]["emissions"] == 12.5
    assert validate_card(measured.content)["errors"] == []


def test_results_of_the_harness_reach_index_and_text(parts: tuple[str, Any, Any], tmp_path: Path) -> None:
    summary = {
        "encoder": "pretrained", "benchmark": "ptbxl-super", "protocol": "merl-exact", "head": "linear",
        "fraction": 0.1, "seeds": [0], "macro_auroc": 0.81, "sd": None, "ci95": [0.7, 0.9], "n_train": 10,
        "n_test": 20, "n_classes": 5, "solver": "lbfgs",
    }  # fmt: skip
    results = {"dataset": "ptbxl", "probe": [], "timings": {}, "summary": [summary]}
    card = write(tmp_path, parts, results=results)
    (found,) = card.data.eval_results
    assert (found.metric_value, found.metric_args["ci95"]) == (0.81, [0.7, 0.9])
    assert "0.810 [0.700, 0.900]" in card.text.partition("## Results")[2].partition("## Intended")[0]
