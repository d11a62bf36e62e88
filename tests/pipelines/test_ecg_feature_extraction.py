"""Embeddings from a pipeline, and ECG models under the library's own names of tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ecg_hf.errors import ConfigurationError, RecordNotFound
from ecg_hf.models.registry import METHODS
from ecg_hf.pipelines import EcgClassificationPipeline, EcgFeatureExtractionPipeline
from ecg_hf.signal import EcgRecord


@pytest.fixture(scope="module", params=sorted(METHODS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = METHODS[request.param]
    path = tmp_path_factory.mktemp(spec.module)
    torch.manual_seed(0)
    config = spec.load("config").preset(spec.sizes[0])
    spec.load(spec.whole)(config).save_pretrained(path)
    spec.feature_extractor_for(config).save_pretrained(path)
    return path


def test_embeddings_are_those_of_the_model(folder: Path, records: list[EcgRecord]) -> None:
    from transformers import pipeline

    embed = pipeline("feature-extraction", model=str(folder), device="cpu")
    assert isinstance(embed, EcgFeatureExtractionPipeline)
    with torch.no_grad():
        inputs = embed.feature_extractor(records[0], return_tensors="pt")
        outputs = embed.model(**inputs)
    np.testing.assert_allclose(embed(records[0]), outputs.pooler_output[0], atol=1e-5)
    tokens = embed(records[:2], pool=False, return_tensors=True, batch_size=2)
    torch.testing.assert_close(tokens[0], outputs.last_hidden_state[0].float(), atol=1e-4, rtol=1e-4)
    assert embed([records[0], "no/such/record"], on_error="skip")[1].error.path == "no/such/record.hea"
    for wrong in ({"pool": 1}, {"top_k": 2}):
        with pytest.raises(ConfigurationError):
            embed(records[0], **wrong)


def test_a_classifier_gives_the_features_of_its_encoder(
    classifier_folder: Path, records: list[EcgRecord]
) -> None:
    from transformers import pipeline

    embed = pipeline("ecg-feature-extraction", model=str(classifier_folder), device="cpu")
    assert len(embed(records[0])) == embed.model.config.hidden_size


def test_audio_classification_of_an_ecg_model_classifies_ecgs(
    classifier_folder: Path, records: list[EcgRecord]
) -> None:
    from transformers import pipeline

    named = pipeline("audio-classification", model=str(classifier_folder), device="cpu")
    assert isinstance(named, EcgClassificationPipeline)
    given = pipeline("audio-classification", model=named.model, feature_extractor=named.feature_extractor)
    assert given(records[0]) == named(records[0])
    with pytest.raises(RecordNotFound):
        named("no/such/record")


def test_other_models_keep_the_pipelines_of_the_library(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel, BertTokenizerFast, pipeline
    from transformers.pipelines import FeatureExtractionPipeline

    small: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    bert = BertModel(BertConfig(vocab_size=6, intermediate_size=8, **small))
    with pytest.raises((OSError, ValueError)):
        pipeline("feature-extraction", model=bert, device="cpu")
    bert.save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "ecg"]))
    BertTokenizerFast.from_pretrained(tmp_path).save_pretrained(tmp_path)
    pipe = pipeline("feature-extraction", model=str(tmp_path), device="cpu")
    assert type(pipe) is FeatureExtractionPipeline
    assert np.shape(pipe("ecg")) == (1, 3, 8)
