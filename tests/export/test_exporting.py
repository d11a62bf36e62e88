"""Exports say what their models say, for every method, or are not written."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ecg_hf
from ecg_hf.errors import ConfigurationError, ConversionError, LibraryMissing
from ecg_hf.export import export_model
from ecg_hf.export.checking import check_inputs, compare
from ecg_hf.export.graph import Exported, accepted_names
from ecg_hf.models.pretrained import sample_record
from ecg_hf.models.registry import METHODS
from ecg_hf.runtime import OnnxModel
from ecg_hf.signal import read_record

# Of the joint-embedding family, whose members have one encoder, the first.
METHODS_APART = sorted({spec.family or name: name for name, spec in reversed(METHODS.items())}.values())
WITH_TEXT = sorted(name for name, spec in METHODS.items() if spec.multimodal)


PLACE = str(Path(ecg_hf.__file__).parent).encode()
"""Where the package lies on this machine, which is nobody's business."""


def micro(method: str, role: Any = "model") -> tuple[Any, Any]:
    spec = METHODS[method]
    torch.manual_seed(0)
    config = spec.load("config").preset(spec.sizes[0], num_labels=3)
    return spec.load(role)(config).eval(), spec.feature_extractor_for(config)


def real(recordings: Path) -> list[Path]:
    """At 500 Hz, and at 100 Hz: in what is resampled from those, upper frequencies hold next to nothing."""
    folder = recordings / "ptbxl"
    return [
        path for name in ("records500", "records100") for path in sorted((folder / name).rglob("*.hea"))[:2]
    ]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS_APART)
def test_every_method_says_the_same_in_onnx(method: str, recordings: Path, tmp_path: Path):
    pytest.importorskip("onnxscript", reason="the extra 'export' is not installed")
    model, extractor = micro(method, "classification")
    facts = export_model(model, extractor, tmp_path / "out", head="none", records=real(recordings))
    assert facts["outputs"] == ["last_hidden_state", "pooler_output"]
    assert facts["checked"]["recordings"] == 5
    assert facts["checked"]["inputs"] >= 12
    assert max(facts["checked"]["largest_difference"].values()) < 1e-3
    onnx = OnnxModel(tmp_path / "out", threads=1)
    several = [read_record(path) for path in real(recordings)]
    found = onnx(several)["pooler_output"]
    with torch.no_grad():
        expected = model.base_model(**extractor(several, return_tensors="pt")).pooler_output.numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3)
    np.testing.assert_allclose(onnx(several[1])["pooler_output"][0], found[1], atol=1e-4)
    graph = onnx._session
    assert [one.name for one in graph.get_inputs()] == list(facts["inputs"])
    assert {one.shape[0] for one in (*graph.get_inputs(), *graph.get_outputs())} == {"batch"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", [name for name in METHODS_APART if name in ("clear-hug", "ecg-cpc", "ecg-fm")]
)
def test_classifiers_of_their_own_say_the_same_in_onnx(method: str, tmp_path: Path):
    pytest.importorskip("onnxscript", reason="the extra 'export' is not installed")
    facts = export_model(*micro(method, "classification"), tmp_path / "out")
    assert (facts["head"], facts["outputs"], len(facts["labels"])) == ("classification", ["logits"], 3)
    assert OnnxModel(tmp_path / "out")(sample_record())["logits"].shape == (1, 3)


@pytest.mark.slow
@pytest.mark.parametrize("method", WITH_TEXT)
def test_the_side_of_the_text_space_says_the_same_in_onnx(method: str, tmp_path: Path):
    pytest.importorskip("onnxscript", reason="the extra 'export' is not installed")
    export_model(*micro(method), tmp_path / "out", head="projection")
    embeds = OnnxModel(tmp_path / "out")(sample_record())["ecg_embeds"]
    np.testing.assert_allclose(np.linalg.norm(embeds, axis=1), 1.0, atol=1e-4)


@pytest.mark.slow
def test_torchs_own_format_loads_without_this_package(tmp_path: Path):
    model, extractor = micro("ecg-cpc")
    facts = export_model(model, extractor, tmp_path / "out", format="torch")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "export.json",
        "model.pt2",
        "preprocessing.json",
    ]
    program = torch.export.load(tmp_path / "out" / "model.pt2")
    with zipfile.ZipFile(tmp_path / "out" / "model.pt2") as archive:
        assert not any(PLACE in archive.read(name) for name in archive.namelist())
    # Real arithmetic: a runtime that reads the program need not know complex numbers.
    assert not any("fft" in str(node.target) for node in program.graph.nodes)
    inputs = check_inputs(extractor, [read_record(sample_record())], tuple(facts["inputs"]))
    tensors = [torch.from_numpy(values) for values in inputs.values()]
    tokens, pooled = program.module()(*tensors)
    expected = model(**dict(zip(inputs, tensors, strict=True)))
    torch.testing.assert_close(pooled, expected.pooler_output, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(tokens, expected.last_hidden_state, rtol=1e-4, atol=1e-5)


def test_what_differs_is_refused():
    model, extractor = micro("ecg-distil")
    record = read_record(sample_record())
    names = accepted_names(model, "none", tuple(extractor(record, return_sample_mask=True)))
    module, inputs = Exported(model, "none", names), check_inputs(extractor, [record], names)
    assert len(inputs["input_values"]) == 7
    assert not inputs["sample_mask"].all(axis=1).all()
    assert not inputs["lead_mask"].all(axis=1).all()

    def run(batch: dict[str, np.ndarray], change: float = 0.0) -> dict[str, np.ndarray]:
        with torch.no_grad():
            outputs = module(*(torch.from_numpy(batch[name]) for name in names))
        return {name: value.numpy() + change for name, value in zip(module.outputs, outputs, strict=True)}

    assert set(compare(module, run, inputs, 1)["largest_difference"].values()) == {0.0}
    for change in (0.1, float("nan")):
        with pytest.raises(ConversionError, match="nothing written: last_hidden_state"):
            compare(module, lambda batch, change=change: run(batch, change), inputs, 1)
    with pytest.raises(ConversionError, match="of 7 records is"):
        compare(module, lambda batch: run({name: value[:1] for name, value in batch.items()}), inputs, 1)


def test_an_export_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def differs(*_: Any) -> None:
        raise ConversionError("nothing written: it differs")

    monkeypatch.setattr("ecg_hf.export.exporting.capture", lambda *_: None)
    monkeypatch.setattr("ecg_hf.export.exporting.write_torch", lambda _, path: path.write_bytes(b""))
    monkeypatch.setattr("ecg_hf.export.exporting._LoadedProgram", lambda *_: None)
    monkeypatch.setattr("ecg_hf.export.exporting.compare", differs)
    with pytest.raises(ConversionError):
        export_model(*micro("ecg-distil"), tmp_path / "out", format="torch")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("method", "options", "text"),
    [
        ("ecg-distil", {"format": "executorch"}, "onnx, torch"),
        ("ecg-distil", {"head": "classification"}, "no classifier"),
        ("ecg-distil", {"head": "other"}, "none, classification, projection"),
        ("acl-ecg", {"head": "projection"}, "signals alone"),
    ],
)
def test_what_a_model_does_not_have(method: str, options: dict[str, Any], text: str, tmp_path: Path):
    with pytest.raises(ConfigurationError, match=text):
        export_model(*micro(method), tmp_path / "out", **options)


def test_an_existing_folder_is_kept(tmp_path: Path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(ConfigurationError, match="exists already"):
        export_model(*micro("ecg-distil"), tmp_path)
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_graph_needs_one_length(tmp_path: Path):
    model, extractor = micro("ecg-distil")
    extractor.duration_s = None
    with pytest.raises(ConfigurationError, match="duration_s"):
        export_model(model, extractor, tmp_path / "out")


def test_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for library in ("onnx", "onnxruntime", "onnxscript"):
        monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(
        LibraryMissing, match=r"exports to ONNX need onnxscript: pip install 'ecg-hf\[export\]"
    ):
        export_model(*micro("ecg-distil"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_account_of_an_export(exported: Path):
    facts = json.loads((exported / "export.json").read_text(encoding="utf-8"))
    assert facts["inputs"]["input_values"] == ["batch", 12, 1000]
    assert (
        facts["checked"]["largest_difference"]["logits"] < 1e-3 < facts["checked"]["largest_value"]["logits"]
    )
    assert facts["checked"]["batches"] == [1, 7]
    assert "CLBBB" in facts["labels"]
    assert not any(PLACE in path.read_bytes() for path in exported.iterdir())
