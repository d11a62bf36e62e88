"""Maps of what a score is due to: exact where that can be worked out, another one for another model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from transformers import pipeline

import ecg_hf
from ecg_hf.errors import ConfigurationError, SignalError
from ecg_hf.models.registry import METHODS
from ecg_hf.pipelines.explanation import explain, explain_score
from ecg_hf.signal import EcgRecord


@pytest.fixture(scope="module")
def classifier() -> Any:
    return pipeline("ecg-classification", device="cpu")


@pytest.fixture(scope="module")
def sample() -> EcgRecord:
    return ecg_hf.read_record(ecg_hf.sample_record())


def linear_score(leads: int, samples: int) -> tuple[torch.Tensor, Callable[..., torch.Tensor]]:
    weights = torch.randn(leads, samples, generator=torch.Generator().manual_seed(1))
    return weights, lambda inputs: (inputs["input_values"] * weights).sum((1, 2))


def test_maps_of_a_linear_score_are_its_terms():
    """There gradient x input adds up to occlusion, and to nothing else."""
    values = torch.randn(1, 3, 25, generator=torch.Generator().manual_seed(0)) + 5.0
    weights, score = linear_score(3, 25)
    maps = explain_score(score, {"input_values": values}, patch=10, batch_size=4)
    expected = (weights * (values[0] - values[0].median(-1, keepdim=True).values)).numpy()
    np.testing.assert_allclose(maps.gradient, expected, rtol=1e-5)
    patches = [expected[:, at : at + 10].sum(1) for at in (0, 10, 20)]
    np.testing.assert_allclose(maps.occlusion, np.stack(patches, 1), atol=1e-3)
    np.testing.assert_allclose(maps.by_lead, expected.sum(1), atol=1e-3)
    np.testing.assert_allclose(maps.by_time, maps.occlusion.sum(0), atol=1e-3)
    assert maps.score == pytest.approx(float(score({"input_values": values})))


def test_padding_and_missing_leads_are_no_part_of_the_map():
    values = torch.randn(1, 3, 40, generator=torch.Generator().manual_seed(0))
    _, score = linear_score(3, 40)
    mask = torch.ones(1, 40, dtype=torch.long)
    mask[:, :15] = 0
    inputs = {"input_values": values, "lead_mask": torch.tensor([[1, 0, 1]]), "sample_mask": mask}
    maps = explain_score(score, inputs, patch=10)
    alone = explain_score(lambda one: score({"input_values": torch.nn.functional.pad(one["input_values"], (15, 0))}),
                          {"input_values": values[..., 15:]}, patch=10)  # fmt: skip
    assert maps.gradient.shape == (3, 25)
    for name in ("gradient", "occlusion", "by_lead"):
        found = getattr(maps, name)
        np.testing.assert_allclose(found[[0, 2]], getattr(alone, name)[[0, 2]], atol=1e-4)
        assert not found[1].any()


def test_the_shipped_classifier_finds_the_block_in_the_qrs_complexes(classifier: Any, sample: EcgRecord):
    found = explain(classifier, sample, "complete left bundle branch block", patch_s=0.1)
    assert (found.label, found.score > 0.9) == ("CLBBB", True)
    assert found.maps.gradient.shape == (12, 1000)
    assert found.record.lead_names[int(found.maps.by_lead.argmax())] == "V1"
    # The steepest tenth of V1 is in the complexes: half of what the lead is worth lies there.
    v1 = found.maps.occlusion[found.record.lead_names.index("V1")].clip(min=0)
    steepness = np.abs(np.diff(found.record.signal[6], prepend=0.0)).reshape(100, 10).max(1)
    complexes = steepness >= np.quantile(steepness, 0.8)
    assert v1[complexes].sum() > 0.5 * v1.sum()


def test_a_randomised_model_has_another_map(classifier: Any, sample: EcgRecord):
    """Adebayo et al., arXiv 1810.03292: a map that stays as it is without the weights is about the signal alone."""
    torch.manual_seed(0)
    random = type(classifier.model)(classifier.model.config)
    other = pipeline(
        "ecg-classification", model=random, feature_extractor=classifier.feature_extractor, device="cpu"
    )
    first, again, foreign = (explain(pipe, sample, "CLBBB") for pipe in (classifier, classifier, other))
    for name in ("gradient", "occlusion"):
        maps = [getattr(one.maps, name).ravel() for one in (first, again, foreign)]
        np.testing.assert_array_equal(maps[0], maps[1])
        assert abs(spearmanr(maps[0], maps[2]).statistic) < 0.3, name


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_can_be_explained(method: str, records: list[EcgRecord]):
    spec = METHODS[method]
    torch.manual_seed(0)
    config = spec.load("config").preset(spec.sizes[0], num_labels=3)
    model = spec.load("classification")(config)
    pipe = pipeline(
        "ecg-classification", model=model, feature_extractor=spec.feature_extractor_for(config), device="cpu"
    )
    found = explain(pipe, records[3], patch_s=2.5)
    assert set(found.record.lead_names) == set(config.lead_names) - {"V5", "V6"}
    for values in (found.maps.gradient, found.maps.occlusion, found.maps.by_lead, found.maps.by_time):
        assert np.isfinite(values).all()
        assert values.any()


def test_any_text_can_be_explained(sample: EcgRecord):
    pipe = pipeline("zero-shot-ecg-classification", device="cpu")
    found = explain(pipe, sample, "left bundle branch block", patch_s=1.0)
    (answer,) = pipe(sample, candidate_labels=["left bundle branch block"])
    assert found.score == pytest.approx(answer["score"], abs=1e-5)
    assert found.scale == "similarity"
    with pytest.raises(ConfigurationError, match="name one"):
        explain(pipe, sample)


def test_a_later_stretch_is_the_recording_cut_there(classifier: Any, sample: EcgRecord):
    twice = EcgRecord(np.tile(sample.signal, 2), 100.0, sample.lead_names)
    late, whole = (
        explain(classifier, twice, "SR", start_s=10.0, patch_s=2.0),
        explain(classifier, sample, "SR", patch_s=2.0),
    )
    np.testing.assert_allclose(late.maps.occlusion, whole.maps.occlusion, atol=1e-4)
    assert late.as_dict()["start_s"] == 10.0


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"label": "nonsense"}, ConfigurationError, "there are NORM"),
        ({"start_s": 10.0}, ConfigurationError, "10 s"),
        ({"patch_s": 0.0}, ConfigurationError, "0 s"),
        ({"patch_s": 11.0}, ConfigurationError, "11 s"),
        ({"start_s": 8.0}, SignalError, "too short"),
    ],
)
def test_what_cannot_be_explained(
    classifier: Any, sample: EcgRecord, changes: dict[str, Any], error: type[Exception], text: str
):
    with pytest.raises(error, match=text):
        explain(classifier, sample, **{"label": "SR", **changes})


def test_too_few_leads_for_an_answer_are_too_few_for_its_explanation(
    classifier: Any, sample: EcgRecord, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(classifier.model.config, "min_leads", 6)
    with pytest.raises(SignalError, match="at least 6 leads, the recording has 1"):
        explain(classifier, sample.select_leads(["V2"]))


def test_leads_of_monitors_are_drawn_as_the_model_reads_them(tmp_path: Path, sample: EcgRecord):
    spec = METHODS["ecg-distil"]
    config = spec.load("config").preset("micro")
    pipe = pipeline(
        "ecg-classification",
        model=spec.load("classification")(config),
        feature_extractor=config.feature_extractor(),
        device="cpu",
    )
    record = EcgRecord(sample.signal[[1, 6]], 100.0, ("MLII", "V1"))
    assert explain(pipe, record, patch_s=5.0).record.lead_names == ("II", "V1")
