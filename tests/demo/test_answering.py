"""What the page asks of its models, without a browser: uploads, labels, explanations, and how they are refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from transformers import pipeline

import ecg_hf
from ecg_hf.demo.answering import MAX_LABELS, Demo
from ecg_hf.errors import EcgError
from ecg_hf.models.pretrained import DEFAULT_CLASSIFIER, DEFAULT_MODEL, pretrained_folder


@pytest.fixture(scope="module")
def demo() -> Demo:
    folder, texts = (str(pretrained_folder(name)) for name in (DEFAULT_CLASSIFIER, DEFAULT_MODEL))
    zero_shot = pipeline("zero-shot-ecg-classification", model=texts, device="cpu")
    classify = pipeline("ecg-classification", model=folder, device="cpu")
    return Demo(classify, folder, zero_shot, DEFAULT_MODEL)


@pytest.fixture
def uploaded(tmp_path: Path) -> list[Path]:
    header = ecg_hf.sample_record()
    return [Path(shutil.copy(header.with_suffix(suffix), tmp_path)) for suffix in (".dat", ".hea")]


def test_an_upload_is_interpreted_compared_and_explained(demo: Demo, uploaded: list[Path]) -> None:
    record = demo.read(uploaded, {})
    answer = demo.interpret(record)
    assert answer.model == DEFAULT_CLASSIFIER
    assert {one.label for one in answer.findings[:3]} == {"SR", "CD", "CLBBB"}
    assert len(answer.nearest) == 3
    found = demo.similarities(record, " atrial fibrillation, left bundle branch block,, atrial fibrillation")
    assert [one["label"] for one in found] == ["left bundle branch block", "atrial fibrillation"]
    explanation = demo.explain(record, "CLBBB")
    assert explanation.name == "complete left bundle branch block"
    assert (demo.sample().signal == record.signal).all()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (" , ", "at least one label"),
        (",".join(map(str, range(MAX_LABELS + 1))), "at most"),
        ("x" * 1000, "at most"),
        ("xyzzy", "knows no word"),
    ],
)
def test_labels_that_can_not_be_compared(demo: Demo, labels: str, message: str) -> None:
    with pytest.raises(EcgError, match=message):
        demo.similarities(demo.sample(), labels)


def test_uploads_that_can_not_be_read_say_why_and_not_where(demo: Demo, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.xml"
    wrong.write_bytes(b"<html>ZZTESTNAME</html>")
    lonely = Path(shutil.copy(ecg_hf.sample_record(), tmp_path))
    for paths in ([], [wrong], [lonely], [wrong, lonely], [tmp_path / "gone"], [wrong] * 40):
        with pytest.raises(EcgError) as refused:
            demo.read(paths, {})
        assert str(tmp_path) not in str(refused.value)
        assert "ZZTESTNAME" not in str(refused.value)
