"""Pipelines without a model argument use the models that ship with the package."""

from __future__ import annotations

import pytest
from transformers import pipeline

import ecg_hf
from ecg_hf.models.pretrained import DEFAULT_CLASSIFIER, DEFAULT_MODEL
from ecg_hf.pipelines import TASKS


@pytest.mark.parametrize("task", TASKS)
def test_the_default_is_a_model_that_ships(task: str):
    name = DEFAULT_CLASSIFIER if task == "ecg-classification" else DEFAULT_MODEL
    pipe = pipeline(task)
    assert pipe.model.name_or_path == str(ecg_hf.pretrained(name))
    assert str(pipe.model.dtype) == "torch.float32"
    assert pipe.feature_extractor is not None
    assert (pipe.tokenizer is not None) == (task == "zero-shot-ecg-classification")


@pytest.mark.parametrize(
    "labels",
    [
        ["normal ECG", "atrial fibrillation", "left bundle branch block"],
        ["normales EKG", "Vorhofflimmern", "Linksschenkelblock"],
    ],
)
def test_zero_shot_finds_the_sample_records_block_in_two_languages(labels: list[str]):
    answers = pipeline("zero-shot-ecg-classification")(str(ecg_hf.sample_record()), candidate_labels=labels)
    assert answers[0]["label"] == labels[-1]


def test_the_classifier_finds_the_sample_records_block():
    scores = {
        one["label"]: one["score"] for one in pipeline("ecg-classification")(str(ecg_hf.sample_record()))
    }
    assert scores["CLBBB"] > 0.5 > max(scores["NORM"], scores["CRBBB"], scores["AFIB"])


def test_features_are_those_of_embed():
    features = pipeline("ecg-feature-extraction")(str(ecg_hf.sample_record()))
    assert features == pytest.approx(ecg_hf.embed(ecg_hf.sample_record())[0].tolist(), abs=1e-5)
