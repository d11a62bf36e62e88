"""Supervised scores of ECGs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ecg_hf.errors import ConfigurationError, SignalError
from ecg_hf.pipelines import TASKS, EcgClassificationPipeline, register_pipelines
from ecg_hf.pipelines.base import SkippedEcg
from ecg_hf.signal import STANDARD_LEADS, EcgRecord
from tests.pipelines.conftest import LABELS, make_classifier_folder


def load(folder: Path) -> EcgClassificationPipeline:
    from transformers import pipeline

    return pipeline("ecg-classification", model=str(folder), device="cpu")


def scores(entries: list[dict[str, Any]]) -> dict[str, float]:
    return {entry["label"]: entry["score"] for entry in entries}


def logits(pipe: EcgClassificationPipeline, record: EcgRecord) -> torch.Tensor:
    with torch.no_grad():
        return pipe.model(**pipe.feature_extractor(record, return_tensors="pt")).logits[0]


def test_multi_label_scores_are_sigmoids(classifier_folder: Path, records: list[EcgRecord]) -> None:
    classify = load(classifier_folder)
    assert isinstance(classify, EcgClassificationPipeline)
    entries = classify(records[0])
    expected = dict(zip(LABELS, logits(classify, records[0]).sigmoid().tolist(), strict=True))
    assert scores(entries) == pytest.approx(expected, abs=1e-6)
    assert [e["score"] for e in entries] == sorted(expected.values(), reverse=True)


@pytest.mark.parametrize("problem_type", ["single_label_classification", None])
def test_single_label_scores_are_a_softmax(
    problem_type: str | None, records: list[EcgRecord], tmp_path: Path
) -> None:
    classify = load(make_classifier_folder(tmp_path, problem_type))
    assert sum(scores(classify(records[0])).values()) == pytest.approx(1.0)


def test_options(classifier_folder: Path, records: list[EcgRecord]) -> None:
    classify = load(classifier_folder)
    assert [len(entries) for entries in classify(records, top_k=2)] == [2] * 5
    raw = dict(zip(LABELS, logits(classify, records[0]).tolist(), strict=True))
    assert scores(classify(records[0], function_to_apply="none")) == pytest.approx(raw, abs=1e-6)
    assert sum(scores(classify(records[0], function_to_apply="softmax")).values()) == pytest.approx(1.0)
    for wrong in ({"function_to_apply": "tanh"}, {"top_k": -1}, {"topk": 2}):
        with pytest.raises(ConfigurationError):
            classify(records[0], **wrong)


def test_batches_equal_single_calls(
    classifier_folder: Path, records: list[EcgRecord], ecgs: np.ndarray
) -> None:
    classify = load(classifier_folder)
    singles = [classify(record) for record in records]
    for one, other in zip(singles, classify(records, batch_size=3), strict=True):
        assert scores(one) == pytest.approx(scores(other), abs=1e-5)
    stack = classify(ecgs, batch_size=5, sampling_rate=100, lead_names=STANDARD_LEADS)
    assert scores(stack[0]) == pytest.approx(scores(singles[0]), abs=1e-5)


def test_padding_is_masked_in_batches(classifier_folder: Path, records: list[EcgRecord]) -> None:
    classify = load(classifier_folder)
    seen = []
    hook = classify.model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(sorted(kwargs)), with_kwargs=True
    )
    classify(records[0])
    classify(records[1])  # 6.4 s
    hook.remove()
    assert seen == [["input_values", "lead_mask"], ["input_values", "lead_mask", "sample_mask"]]


def test_registering_again_is_harmless(caplog: pytest.LogCaptureFixture) -> None:
    from transformers.pipelines import PIPELINE_REGISTRY

    register_pipelines()
    register_pipelines()
    assert "already registered" not in caplog.text
    assert set(TASKS) <= set(PIPELINE_REGISTRY.get_supported_tasks())


def test_too_few_leads_are_refused_as_elsewhere(classifier_folder: Path, records: list[EcgRecord]) -> None:
    classify = load(classifier_folder)
    classify.model.config.min_leads = 6
    lead = records[0].select_leads(["I"])
    with pytest.raises(SignalError, match="at least 6 leads, the recording has 1"):
        classify(lead)
    whole, none = classify([records[0], lead], on_error="skip", batch_size=2)
    assert scores(whole) == pytest.approx(scores(classify(records[0])), abs=1e-6)
    assert isinstance(none, SkippedEcg)
