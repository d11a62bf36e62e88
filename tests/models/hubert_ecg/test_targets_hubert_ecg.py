"""Clusters of tokens: what describes them, k-means, and the script."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.hubert_ecg.configuration_hubert_ecg import HubertEcgConfig
from ecg_hf.models.hubert_ecg.modeling_hubert_ecg import HubertEcgModel
from ecg_hf.models.hubert_ecg.targets_hubert_ecg import NO_TARGET, Clusters, describe_tokens, fit_clusters
from ecg_hf.nn.shards import NUM_DESCRIPTORS
from tests.conftest import ROOT


def groups(rows: int = 400) -> np.ndarray:
    """Four groups far apart, in features of very different size."""
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0, 7.0], [1.0, 0.0, 7.0], [0.0, 1000.0, 7.0], [1.0, 1000.0, 7.0]])
    noise = rng.normal(size=(rows, 3)) * [0.05, 50.0, 0.0]
    return (centres[np.arange(rows) % 4] + noise).astype(np.float32)


def test_groups_are_found_whatever_the_scale_of_features() -> None:
    values = groups()
    clusters = fit_clusters(lambda: np.split(values, 4), 4, seed=1)
    held = torch.ones(1, 400, dtype=torch.bool)
    held[0, -1] = False
    found = clusters.assign(torch.from_numpy(values)[None], held)[0]
    assert found[-1] == NO_TARGET
    assert [len(set(found[group:-1:4].tolist())) for group in range(4)] == [1] * 4
    assert len(set(found[:-1].tolist())) == 4
    again = fit_clusters(lambda: np.split(values, 4), 4, seed=1)
    np.testing.assert_array_equal(clusters.centroids, again.centroids)


def test_too_few_tokens_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="20 clusters need as many tokens in the first batch"):
        fit_clusters(lambda: [groups()[:10]], 20)
    with pytest.raises(ConfigurationError, match="no tokens"):
        fit_clusters(list, 2)


def test_tokens_are_those_of_the_model() -> None:
    torch.manual_seed(0)
    config = HubertEcgConfig.preset("micro")
    model = HubertEcgModel(config).eval()
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[1, 3:] = 0
    inputs = {"input_values": torch.randn(2, 12, 500), "lead_mask": mask}
    by_hand, held = describe_tokens(inputs, config)
    states, also_held = describe_tokens(inputs, config, model, 2)
    assert by_hand.shape == (2, 93, NUM_DESCRIPTORS)
    assert states.shape == (2, 93, config.hidden_size)
    assert torch.equal(held, also_held)
    assert torch.equal(held, model.token_mask(inputs["input_values"], mask))
    torch.testing.assert_close(states, model(**inputs).last_hidden_state)
    for layer in (None, 0, 3):
        with pytest.raises(ConfigurationError, match="layer must be one of 1 to 2"):
            describe_tokens(inputs, config, model, layer)


@pytest.mark.slow
def test_the_script_clusters_a_dataset(
    built_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    config = HubertEcgConfig.preset("micro")
    HubertEcgModel(config).save_pretrained(tmp_path / "model")
    config.feature_extractor().save_pretrained(tmp_path / "model")
    for further in ([], ["--model", str(tmp_path / "model"), "--layer", "1"]):
        output = tmp_path / f"{len(further)}.safetensors"
        options = ["--dataset", str(built_path), "--output", str(output), "--clusters", "7", *further]
        monkeypatch.setattr("sys.argv", ["hubert_targets.py", *options])
        runpy.run_path(str(ROOT / "scripts" / "hubert_targets.py"), run_name="__main__")
        assert "93 tokens each" in capsys.readouterr().out
        with safe_open(output, "np") as file:
            targets = file.get_tensor("targets")
            parts = {name: file.get_tensor(name) for name in ("centroids", "mean", "scale")}
        assert targets.shape[1] == 93
        assert set(np.unique(targets)) <= set(range(-1, 7))
        assert len(np.unique(targets[targets >= 0])) > 1
        assert Clusters(**parts).centroids.shape == (7, 32 if further else NUM_DESCRIPTORS)
