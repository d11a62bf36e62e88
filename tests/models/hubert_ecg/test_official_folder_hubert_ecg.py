"""A folder laid out as the authors' repositories: the Auto classes load it, and run nothing of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

import ecg_hf  # noqa: F401  (registers)
from ecg_hf.errors import ConversionError, ModelFolderError
from ecg_hf.hub.converting import convert_checkpoint
from ecg_hf.models.auto import AutoModelForEcgClassification
from ecg_hf.models.hubert_ecg.feature_extraction_hubert_ecg import HubertEcgFeatureExtractor
from ecg_hf.models.hubert_ecg.modeling_hubert_ecg import HubertEcgForEcgClassification, HubertEcgModel
from tests.conftest import TESTS

OFFICIAL = TESTS / "fixtures" / "hubert_ecg"
# As a configuration of ``transformers.HubertConfig`` is saved, in part.
SAVED = {
    "model_type": "hubert_ecg",
    "architectures": ["HuBERTECG"],
    "auto_map": {
        "AutoConfig": "hubert_ecg.HuBERTECGConfig",
        "AutoModel": "hubert_ecg.HuBERTECG",
    },
    "activation_dropout": 0.1,
    "apply_spec_augment": True,
    "conv_bias": False,
    "do_stable_layer_norm": False,
    "feat_extract_norm": "group",
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
    "num_feat_extract_layers": 5,
    "torch_dtype": "float32",
    "transformers_version": "4.46.3",
    "vocab_size": 32,
}


def official_folder(folder: Path, tensors: dict[str, Tensor] | None = None, **changes: object) -> Path:
    """What a download of ``hubert-ecg-small`` is, at the fixture's sizes; its code must not run."""
    state = OFFICIAL / "tiny_state_dict.safetensors"
    with safe_open(state, "pt") as file:
        sizes = json.loads(file.metadata()["config"])
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**SAVED, **sizes, **changes}))
    (folder / "hubert_ecg.py").write_text("raise SystemExit('code of the repository was run')")
    save_file(load_file(state) if tensors is None else tensors, folder / "model.safetensors")
    return folder


def network(prefix: str = "hubert_ecg.") -> dict[str, Tensor]:
    return {prefix + key: value for key, value in load_file(OFFICIAL / "tiny_state_dict.safetensors").items()}


@pytest.mark.parametrize("trust", [False, True])
def test_equals_what_the_converter_makes(tmp_path: Path, trust: bool) -> None:
    folder = official_folder(tmp_path / "theirs")
    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust)
    model, info = AutoModel.from_pretrained(folder, trust_remote_code=trust, output_loading_info=True)
    assert type(model) is HubertEcgModel
    assert not any(info[f"{kind}_keys"] for kind in ("missing", "unexpected", "mismatched"))
    assert config.model_type == model.config.model_type == "hubert-ecg"
    expected = load_file(OFFICIAL / "tiny_io.safetensors")
    output = model(expected["input"].view(2, 12, 200))
    torch.testing.assert_close(
        output.last_hidden_state, expected["eval.last_hidden_state"], rtol=0, atol=1e-5
    )
    convert_checkpoint(
        "hubert-ecg",
        folder / "model.safetensors",
        tmp_path / "ours",
        config=json.loads((folder / "config.json").read_text()),
    )
    ours = AutoModel.from_pretrained(tmp_path / "ours").state_dict()
    assert all(torch.equal(value, ours[name]) for name, value in model.state_dict().items())
    # What is saved of it is a folder of this package.
    model.save_pretrained(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["model_type"] == "hubert-ecg"
    AutoModel.from_pretrained(tmp_path / "saved")


def test_the_class_itself_loads_it_and_the_extractor_follows(tmp_path: Path) -> None:
    folder = official_folder(tmp_path / "theirs")
    model = HubertEcgModel.from_pretrained(folder, hidden_dropout=0.25)
    assert model.config.hidden_dropout == 0.25
    extractor = AutoFeatureExtractor.from_pretrained(folder, decimate="lead")
    assert type(extractor) is HubertEcgFeatureExtractor
    assert (extractor.decimate, extractor.sampling_rate, extractor.n_samples) == ("lead", 100, 500)
    with pytest.raises(OSError, match="feature extractor"):
        AutoFeatureExtractor.from_pretrained(tmp_path)


def test_a_fine_tuned_folder_has_its_labels(tmp_path: Path) -> None:
    head = {"classifier.weight": torch.randn(164, 32), "classifier.bias": torch.zeros(164)}
    folder = official_folder(tmp_path / "tuned", {**network(), **head})
    model = AutoModelForEcgClassification.from_pretrained(folder)
    assert type(model) is HubertEcgForEcgClassification
    assert model.config.id2label[3] == "NORM"
    assert torch.equal(model.classifier.weight, head["classifier.weight"])
    assert type(AutoModel.from_pretrained(folder)) is HubertEcgModel
    # The labels somebody asks for stay: such a head starts anew, if at all.
    labels = {"id2label": {0: "AF", 1: "NORM"}, "label2id": {"AF": 0, "NORM": 1}}
    with pytest.raises((ModelFolderError, RuntimeError)):
        AutoModelForEcgClassification.from_pretrained(folder, **labels)
    tuned = AutoModelForEcgClassification.from_pretrained(folder, ignore_mismatched_sizes=True, **labels)
    assert tuned.classifier.weight.shape == (2, 32)


def test_a_classifier_on_the_pretrained_folder_starts_with_a_new_head(tmp_path: Path) -> None:
    folder = official_folder(tmp_path / "theirs")
    model = AutoModelForEcgClassification.from_pretrained(folder, num_labels=3)
    assert model.classifier.weight.shape == (3, 32)
    base = HubertEcgModel.from_pretrained(folder).state_dict()
    assert all(torch.equal(value, base[name]) for name, value in model.hubert_ecg.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 64}, "hidden_size is 64, the weights have 32"),
        ({"conv_kernel": [10, 3, 3, 2, 3]}, r"conv_kernel is \[10, 3, 3, 2, 3\], the weights have"),
        ({"do_stable_layer_norm": True}, "do_stable_layer_norm is True"),
        ({"num_hidden_layers": 10**6}, "num_hidden_layers = 1000000 is larger"),
        ({"hidden_size": "32"}, "can't be used"),
    ],
)
def test_configurations_that_are_not_of_the_weights(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ModelFolderError, match=message):
        AutoModel.from_pretrained(official_folder(tmp_path / "theirs", **changes))


@pytest.mark.parametrize("spoilt", ["missing", "stray", "not finite", "pickle", "cut"])
def test_hostile_weights(tmp_path: Path, spoilt: str) -> None:
    tensors = network("")
    if spoilt == "missing":
        del tensors["encoder.layer_norm.bias"]
    elif spoilt == "stray":
        tensors["stray"] = torch.zeros(1)
    elif spoilt == "not finite":
        tensors["encoder.layer_norm.bias"] = torch.full((32,), torch.nan)
    folder = official_folder(tmp_path / "theirs", tensors)
    weights = folder / "model.safetensors"
    if spoilt == "pickle":
        torch.save(tensors, folder / "pytorch_model.bin")
        weights.unlink()
    elif spoilt == "cut":
        weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises((ModelFolderError, ConversionError, OSError)) as error:
        AutoModel.from_pretrained(folder)
    assert str(folder) in str(error.value)
