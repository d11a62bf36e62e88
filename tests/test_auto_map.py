"""Saved folders lead back to the package, and loaded objects do not know about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoFeatureExtractor, AutoProcessor

import ecg_hf
from ecg_hf.auto_map import SHIM_FILE, SHIM_LINE, without_shim
from ecg_hf.models.registry import METHODS
from ecg_hf.processing import EcgFeatureExtractor, EcgProcessor
from ecg_hf.training.vocabulary import make_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore")


def saved(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_class_named_in_a_folder_is_found_through_its_one_line(name: str, tmp_path: Path) -> None:
    spec = METHODS[name]
    config = spec.load("config").preset(spec.sizes[0])
    extractor = spec.feature_extractor_for(config)
    config.save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    namespace: dict[str, Any] = {}
    assert (tmp_path / SHIM_FILE).read_text(encoding="utf-8") == SHIM_LINE
    exec(SHIM_LINE, namespace)
    auto_map = (
        saved(tmp_path / "config.json")["auto_map"] | saved(tmp_path / "preprocessor_config.json")["auto_map"]
    )
    found = {auto: namespace["__getattr__"](name.partition(".")[2]) for auto, name in auto_map.items()}
    assert found == {
        "AutoConfig": spec.load("config"),
        "AutoModel": spec.load("model"),
        **({"AutoModelForPreTraining": spec.load("pretraining")} if spec.pretrainable else {}),
        "AutoModelForAudioClassification": spec.load("classification"),
        "AutoFeatureExtractor": spec.load("feature_extractor"),
    }
    assert {name.partition(".")[0] for name in auto_map.values()} == {SHIM_FILE.removesuffix(".py")}
    # Loaded again, nothing differs: fingerprints of models and settings of runs stay what they were.
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert not hasattr(loaded, "auto_map")
    assert {**loaded.to_dict(), "_name_or_path": ""} == config.to_dict()
    assert AutoFeatureExtractor.from_pretrained(tmp_path).to_dict() == extractor.to_dict()


def test_processor_and_the_extractor_inside_it(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(["normal ecg"] * 3, 200, 32)
    EcgProcessor(EcgFeatureExtractor(clip=5.0), tokenizer).save_pretrained(tmp_path)
    content = saved(tmp_path / "processor_config.json")
    assert content["auto_map"] == {"AutoProcessor": "ecg_hf_shim.EcgProcessor"}
    expected = {"AutoFeatureExtractor": "ecg_hf_shim.EcgFeatureExtractor"}
    assert content["feature_extractor"]["auto_map"] == expected
    assert saved(tmp_path / "preprocessor_config.json")["auto_map"] == expected
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is EcgProcessor
    assert loaded.feature_extractor.clip == 5.0
    assert not hasattr(loaded.feature_extractor, "auto_map")


def test_other_json_files_stay_alone(tmp_path: Path) -> None:
    ecg_hf.EcgCpcConfig.preset("micro").to_json_file(tmp_path / "settings.json")
    assert [file.name for file in tmp_path.iterdir()] == ["settings.json"]
    assert "auto_map" not in saved(tmp_path / "settings.json")


def test_loading_as_remote_code_makes_no_copies_of_our_source(tmp_path: Path) -> None:
    """The library registers what it loaded that way, and would then save the whole module file."""
    config_class = type(ecg_hf.EcgCpcConfig.preset("micro"))
    config_class.register_for_auto_class()
    EcgFeatureExtractor.register_for_auto_class()
    EcgProcessor.register_for_auto_class()
    config_class.preset("micro").save_pretrained(tmp_path)
    EcgFeatureExtractor().save_pretrained(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {
        *("config.json", "preprocessor_config.json", SHIM_FILE)
    }


class OtherExtractor(EcgFeatureExtractor):
    """Somebody's own."""


def test_classes_of_others_are_left_to_the_library(tmp_path: Path) -> None:
    OtherExtractor.register_for_auto_class()
    try:
        OtherExtractor().save_pretrained(tmp_path)
    finally:
        OtherExtractor._auto_class = None
    assert saved(tmp_path / "preprocessor_config.json")["auto_map"] == {
        "AutoFeatureExtractor": "test_auto_map.OtherExtractor"
    }
    assert (tmp_path / "test_auto_map.py").is_file()
    assert not (tmp_path / SHIM_FILE).exists()


def test_only_our_entries_are_taken_out() -> None:
    other = {"AutoConfig": "theirs.Config", "AutoModel": "ecg_hf_shim.X"}
    assert without_shim({"a": 1, "auto_map": other}) == {
        "a": 1,
        "auto_map": {"AutoConfig": "theirs.Config"},
    }
    assert without_shim({"auto_map": {"AutoModel": "ecg_hf_shim.X"}}) == {}
    assert without_shim({"a": 1}) == {"a": 1}
