"""What is particular to ACL-ECG: its switches do what they say, regions are kept apart, views use the R peaks."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.acl_ecg.configuration_acl_ecg import AclEcgConfig
from ecg_hf.models.acl_ecg.encoder_acl_ecg import RegionProjectors
from ecg_hf.models.acl_ecg.feature_extraction_acl_ecg import AclEcgFeatureExtractor
from ecg_hf.models.acl_ecg.modeling_acl_ecg import AclEcgForPreTraining, AclEcgModel

from ..conftest import make_case


def batch_of(config: AclEcgConfig, rows: int = 6) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    peaks = torch.full((rows, config.max_r_peaks), -1)
    peaks[:, :11] = torch.arange(11) * 90 + torch.arange(rows)[:, None]
    values = torch.randn(rows, config.num_leads, config.num_samples, generator=generator)
    return {"input_values": values, "r_peaks": peaks}


def run(rows: int = 6, **overrides):
    config = AclEcgConfig.preset("micro", **overrides)
    torch.manual_seed(0)
    model = AclEcgForPreTraining(config).train()
    batch = batch_of(config, rows)
    noise = model.draw_noise(batch, torch.Generator().manual_seed(0))
    return model, {**batch, **noise}, model(**batch, **noise)


@pytest.mark.parametrize(
    "overrides",
    [
        {"region_grouping": "clinical12"},
        {"region_grouping": "random"},
        {"region_grouping": "random", "partition_seed": 1},
        {"share_lead_encoder": True},
        {"kernel_size": 5},
        {"temperature": 0.2},
        {"gamma": 0.0},
        {"gamma": 1.0},
        {"region_reduction": "mean"},
        {"views_together": False},
        {"crop_ratio": [1.0, 1.0]},
        {"mask_mode": "cycle"},
        {"mask_ratio": [0.0, 0.0]},
        {"r_peak_guard_s": 0.1},
        {"max_shift_s": 0.0},
    ],
    ids=str,
)
def test_every_switch_changes_the_loss(overrides):
    _, _, reference = run()
    model, _, output = run(**overrides)
    assert output.loss.isfinite()
    assert (output.loss - reference.loss).abs() > 1e-5
    output.loss.backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_losses_start_near_their_theoretical_values():
    """Warm enough that an untrained network's cosines hardly count, each region is one of 2 * 64 - 1."""
    _, _, output = run(64, temperature=10.0)
    for term in output.loss_terms.values():
        assert term == pytest.approx(4 * math.log(127), rel=0.02)
    torch.testing.assert_close(output.loss.detach(), 0.5 * sum(output.loss_terms.values()))
    _, _, cold = run(64)
    assert cold.loss_terms["intra_region"] < cold.loss_terms["inter_region"]  # views share more than regions


def test_a_lead_encoder_sees_its_own_lead_only():
    for share in (False, True):
        config = AclEcgConfig.preset("micro", share_lead_encoder=share)
        model = AclEcgModel(config).eval()
        values = torch.randn(2, 8, 1000)
        changed = values.clone()
        changed[:, 3] = 0.0
        width = config.channels[-1]
        one, other = (model(x).pooler_output.unflatten(1, (8, width)) for x in (values, changed))
        differs = (one != other).flatten(2).any(-1).any(0)
        assert differs.tolist() == [lead == 3 for lead in range(8)]


def test_shared_encoder_is_the_same_for_every_lead():
    config = AclEcgConfig.preset("micro", share_lead_encoder=True)
    model = AclEcgModel(config).eval()
    values = torch.randn(2, 1, 1000).expand(-1, 8, -1)
    features = model(values).pooler_output.unflatten(1, (8, -1))
    torch.testing.assert_close(features, features[:, :1].expand_as(features))


@pytest.mark.parametrize("grouping", ["anatomical", "clinical12", "random"])
def test_a_region_sees_its_own_leads_only(grouping: str):
    config = AclEcgConfig.preset("micro", region_grouping=grouping)
    projectors = RegionProjectors(config).eval()
    features = torch.randn(5, config.num_leads, config.channels[-1], requires_grad=True)
    for region, leads in enumerate(config.regions.values()):
        (gradient,) = torch.autograd.grad(projectors(features)[:, region].square().sum(), features)
        touched = {config.lead_names[i] for i in gradient.abs().sum((0, 2)).nonzero().flatten().tolist()}
        assert touched == set(leads)


def test_embedding_is_the_mean_of_the_tokens():
    model = AclEcgModel(AclEcgConfig.preset("micro")).eval()
    output = model(torch.randn(2, 8, 1000))
    torch.testing.assert_close(output.pooler_output, output.last_hidden_state.mean(1))


def test_padded_record_is_the_short_record():
    model = AclEcgModel(AclEcgConfig.preset("micro")).eval()
    values = torch.randn(2, 8, 1000)
    mask = (torch.arange(1000) < 640).long().expand(2, -1)
    padded = model(values, sample_mask=mask).pooler_output
    torch.testing.assert_close(padded, model(values[..., :640]).pooler_output)


def test_r_peaks_guide_the_masks():
    model, inputs, output = run()
    assert output.metrics["blind_masks"] == 0
    assert output.metrics["estimated_r_peaks"] == 0
    assert 0.1 < output.metrics["masked_share"] < 0.35
    unshifted = inputs["view_noise"][:, 0].clone()
    unshifted[:, 3] = 0.5
    view, _ = model.make_view(unshifted, inputs["mask_noise"][:, 0], inputs["r_peaks"])
    inside = (view.r_peaks >= 0) & (view.r_peaks <= 999)
    nearest = view.r_peaks.nan_to_num(0.0).round().clamp(0, 999).long()
    assert inside.sum() > 20
    assert (view.gain.gather(1, nearest)[inside] == 1).all()
    assert (view.gain == 0).any()

    none = {**inputs, "r_peaks": torch.full_like(inputs["r_peaks"], -1)}
    assert model(**none).metrics["blind_masks"] == 1
    estimated = model(**{**inputs, "r_peaks": None})
    assert estimated.metrics["estimated_r_peaks"] == 1
    assert estimated.loss.isfinite()


def test_a_region_without_leads_takes_no_part():
    """Whatever stands in the missing leads; and records that have the region are contrasted without the others."""
    model, inputs, _ = run()
    model.eval()
    mask = torch.ones(6, 8)
    mask[2, :2] = 0
    changed = inputs["input_values"].clone()
    changed[2, :2] = 50.0
    losses = [
        model(**{**inputs, "input_values": x}, lead_mask=mask).loss for x in (inputs["input_values"], changed)
    ]
    torch.testing.assert_close(*losses)
    assert (losses[0] - model(**inputs).loss).abs() > 1e-4
    present = model.projectors.present(mask)
    assert present[2].tolist() == [0, 1, 1, 1]
    assert present.sum() == 23


def test_collapse_shows_in_the_metrics():
    model, inputs, output = run()
    assert output.metrics["embedding_spread"] > 0.3
    nn.init.constant_(model.projectors.mlp.norms[-1].bias, 1e4)  # hides what differs between records
    collapsed = model(**inputs).metrics
    assert collapsed["embedding_spread"] < 0.01
    assert collapsed["region_cosine"] > 0.99


def test_negatives_come_through_the_pool():
    """One call with everything the losses need, so that processes and micro-batches can be joined exactly."""
    model, inputs, _ = run()
    model.eval()
    calls = []

    def doubled(embeddings):
        calls.append(embeddings)
        return {name: torch.cat([value, value.detach().roll(1, 0)]) for name, value in embeddings.items()}

    alone = model(**inputs).loss
    model.pool_embeddings = doubled
    pooled = model(**inputs).loss
    assert len(calls) == 1
    assert all(value.ndim == 2 and len(value) == 6 for value in calls[0].values())
    assert pooled > alone


def test_records_of_another_length_or_too_many_beats_are_refused():
    model, inputs, _ = run()
    with pytest.raises(ConfigurationError, match="pretraining takes 1000 samples"):
        model(inputs["input_values"][..., :900])
    with pytest.raises(ConfigurationError, match="more than 40 beats"):
        model(inputs["input_values"], r_peaks=torch.zeros(6, 41, dtype=torch.long))
    with pytest.raises(ConfigurationError, match="one step"):
        model.acl_ecg(inputs["input_values"][..., :31])


def test_feature_extractor_delivers_r_peaks_unless_told_otherwise(tmp_path):
    time = np.arange(5000) / 500
    beats = sum(np.exp(-(((time - 0.5 - 0.8 * k) / 0.02) ** 2)) for k in range(12))
    signal = (np.arange(1, 13)[:, None] / 6 * beats).astype(np.float32)
    names = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
    extractor = AclEcgFeatureExtractor()
    features = extractor(signal, sampling_rate=500, lead_names=names, return_tensors="pt")
    assert features["input_values"].shape == (1, 8, 2048)
    torch.testing.assert_close(features["input_values"].mean(), torch.tensor(0.0), atol=1e-4, rtol=0)
    torch.testing.assert_close(features["input_values"].std(), torch.tensor(1.0), atol=1e-3, rtol=0)
    found = features["r_peaks"][features["r_peaks"] >= 0]
    assert len(found) >= 11
    config = AclEcgConfig()
    assert features["r_peaks"].shape == (1, config.max_r_peaks)
    AclEcgFeatureExtractor(detect_r_peaks=False).save_pretrained(tmp_path)
    quick = AclEcgFeatureExtractor.from_pretrained(tmp_path)
    assert "r_peaks" not in quick(signal, sampling_rate=500, lead_names=names)


def test_registered_case_has_the_papers_leads():
    assert make_case("acl-ecg").config.num_leads == 8
