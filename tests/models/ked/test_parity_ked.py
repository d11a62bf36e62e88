"""KED against its official code: network, files, scale."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoFeatureExtractor, AutoModel

from ecg_hf.errors import ConversionError
from ecg_hf.hub.converting import convert_checkpoint
from ecg_hf.models.auto import AutoModelForEcgClassification
from ecg_hf.models.conversion import OfficialState
from ecg_hf.models.ked.configuration_ked import KedConfig
from ecg_hf.models.ked.conversion_ked import convert_official
from ecg_hf.models.ked.feature_extraction_ked import KedFeatureExtractor
from ecg_hf.models.ked.modeling_ked import KedForEcgClassification, KedModel

pytestmark = pytest.mark.fixtures

CLOSE = {"rtol": 0.0, "atol": 1e-5}


@pytest.fixture(scope="module")
def official(shared_fixtures: Path) -> Path:
    return shared_fixtures / "ked"


@pytest.fixture(scope="module")
def expected(official: Path) -> dict[str, Tensor]:
    return load_file(official / "tiny_io.safetensors")


@pytest.fixture(scope="module")
def weights(official: Path) -> dict[str, Tensor]:
    return load_file(official / "tiny_state_dict.safetensors")


@pytest.fixture(scope="module")
def converted(weights: dict[str, Tensor], official: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as the authors publish it, converted with the configuration that the fixture tells."""
    folder = tmp_path_factory.mktemp("ked")
    others = {"model": {"decoder.weight": torch.zeros(2)}, "text_encoder": {"bert.weight": torch.zeros(3)}}
    torch.save({**others, "ecg_model": weights, "epoch": 3}, folder / "nested.pt")
    with safe_open(official / "tiny_state_dict.safetensors", "pt") as file:
        told = file.metadata()
    report = convert_checkpoint("ked", folder / "nested.pt", folder / "out", config=told)
    assert report.model_class == "KedModel"
    assert any(note.startswith("2 tensors beside the ECG encoder") for note in report.notes)
    return folder / "out"


def test_tokens_embedding_and_stages(converted: Path, expected: dict[str, Tensor]) -> None:
    model = AutoModel.from_pretrained(converted).eval()
    assert type(model) is KedModel
    with torch.inference_mode():
        output = model(expected["input"], output_hidden_states=True)
        stem = expected["input"]
        for index, layer in enumerate(model.encoder.stem):
            stem = layer(stem)
            steps = expected[f"module{index}"].shape[-1]
            torch.testing.assert_close(stem[..., :steps], expected[f"module{index}"], **CLOSE)
    torch.testing.assert_close(output.last_hidden_state, expected["last_hidden_state"], **CLOSE)
    torch.testing.assert_close(output.pooler_output, expected["pooler_output"], **CLOSE)
    # The last blocks of the stages, which have 1, 2, 1 and 1.
    for stage, block in enumerate((1, 3, 4, 5)):
        torch.testing.assert_close(output.hidden_states[block], expected[f"module{4 + stage}"], **CLOSE)


@pytest.mark.parametrize("layout", ["bare", "flat", "parallel", "convs alone"])
def test_other_layouts(layout: str, weights: dict[str, Tensor], converted: Path, tmp_path: Path) -> None:
    prefix = {"flat": "ecg_model.", "parallel": "module."}.get(layout, "")
    kept = [key for key in weights if layout != "convs alone" or "convpath" not in key]
    torch.save({prefix + key: weights[key] for key in kept}, tmp_path / "x.pt")
    convert_checkpoint("ked", tmp_path / "x.pt", tmp_path / "out")
    expected = load_file(converted / "model.safetensors")
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in found.items())


def test_the_published_file(official: Path) -> None:
    """Keys and shapes of the published size: all accounted for, sizes recognised, the official parameter count."""
    shapes = json.loads((official / "state_dict_shapes.json").read_text())
    assert len(shapes) == 1224
    state = OfficialState({key: torch.zeros(()).expand(shape) for key, shape in shapes.items()})
    converted = convert_official(state)
    state.finish()
    expected = KedConfig.preset("base")
    for name in ("stem_channels", "channels", "depths"):
        assert tuple(getattr(converted.config, name)) == tuple(getattr(expected, name))
    assert (converted.config.expansion, converted.config.kernel_size) == (4, 5)
    with torch.device("meta"):
        model = KedModel(expected)
    own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert own == {name: tuple(tensor.shape) for name, tensor in converted.state_dict.items()}
    assert model.num_parameters() == 7_865_984
    tokens = model(torch.zeros(1, 12, 1000, device="meta")).last_hidden_state
    assert tokens.shape == (1, 32, 768)


def test_twin_keys_must_agree(weights: dict[str, Tensor]) -> None:
    key = "5.1.convs.1.0.weight"
    with pytest.raises(ConversionError, match=rf"{key} and 5\.1\.convpath\.0\.1\.0\.weight .* differ"):
        convert_official(OfficialState({**weights, key: weights[key] + 1.0}))
    # Where one of the two is missing that is said, as of any other key.
    state = OfficialState({name: value for name, value in weights.items() if name != key})
    convert_official(state)
    with pytest.raises(ConversionError, match=f"1 missing: {key}"):
        state.finish()


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"widen": 0.25}, "widen 0.25"),
        ({"layers": [1, 2, 1, 2]}, r"layers \[1, 2, 1, 2\]"),
        ({"layers": "[1, 2, 1"}, "a list of them"),
        ({"widen": [1]}, "widen must be a number"),
    ],
)
def test_a_configuration_of_another_network_is_refused(
    told: dict[str, object], message: str, weights: dict[str, Tensor]
) -> None:
    with pytest.raises(ConversionError, match=message):
        convert_official(OfficialState(weights, told))


def test_a_network_of_other_leads_is_refused(weights: dict[str, Tensor]) -> None:
    with pytest.raises(ConversionError, match="8 leads"):
        convert_official(OfficialState({**weights, "0.0.weight": torch.zeros(8, 8, 5)}))


def test_the_folder_prepares_signals_and_takes_a_head(converted: Path) -> None:
    extractor = AutoFeatureExtractor.from_pretrained(converted)
    assert type(extractor) is KedFeatureExtractor
    assert (extractor.sampling_rate, extractor.n_samples, extractor.normalization) == (
        100,
        1000,
        "zscore_lead",
    )
    model = AutoModelForEcgClassification.from_pretrained(converted, num_labels=3).eval()
    assert type(model) is KedForEcgClassification
    assert model(torch.zeros(2, 12, 1000)).logits.shape == (2, 3)
    card = (converted / "README.md").read_text()
    assert "license: unknown" in card
