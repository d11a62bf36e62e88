"""CLOCS, TS-TCC and ASTCL: variants, missing leads, terms written out."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ecg_hf import AstclConfig, AstclForPreTraining, ClocsConfig, ClocsForPreTraining
from ecg_hf.errors import ConfigurationError
from ecg_hf.nn.losses import info_nce_loss
from ecg_hf.nn.losses.agreement import patient_cosine
from ecg_hf.nn.losses.nt_xent import view_pairs_loss
from ecg_hf.nn.losses.predictive import temporal_prediction_loss


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("variant", "views"), [("cmsc", 2), ("cmlc", 12), ("cmsmlc", 24)])
def test_variants_of_clocs_compare_so_many_views(variant: str, views: int) -> None:
    model = ClocsForPreTraining(ClocsConfig.preset("micro", variant=variant)).train()
    values = randn(3, 12, 1000)
    noise = model.draw_noise({"input_values": values}, torch.Generator().manual_seed(0))
    embeds, _ = model.represent(model.make_views(values, noise["view_noise"]), noise["view_noise"])
    assert len(embeds) == views
    model(values, patient_ids=torch.tensor([4, 4, -1]), **noise).loss.backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_a_missing_lead_is_no_view() -> None:
    """Without a lead the loss is that of the leads that remain."""
    config = ClocsConfig.preset("micro", variant="cmlc")
    model = ClocsForPreTraining(config).eval()
    values, leads = randn(4, 12, 1000), torch.ones(4, 12, dtype=torch.long)
    leads[:, 3] = 0
    noise = model.draw_noise({"input_values": values}, torch.Generator().manual_seed(0))["view_noise"]
    embeds, further = model.represent(model.make_views(values, noise, leads), noise)
    assert further["present"].sum(0).tolist() == [4] * 3 + [0] + [4] * 8
    views = torch.stack([model.projector(embed) for embed in embeds])
    terms, _ = model.compare(embeds, further=further)
    remaining = torch.cat([views[:3], views[4:]])
    pairs = view_pairs_loss(remaining, torch.arange(4), temperature=0.1)
    torch.testing.assert_close(terms["contrastive"], pairs)


def test_two_views_of_strangers_are_symmetric_info_nce() -> None:
    views = randn(2, 5, 8)
    loss = view_pairs_loss(views, torch.arange(5), temperature=0.1)
    torch.testing.assert_close(loss, info_nce_loss(*views, temperature=0.1))


def test_leads_need_a_network_that_reads_them_one_by_one() -> None:
    with pytest.raises(ConfigurationError, match="leads needs a leadwise backbone"):
        ClocsConfig(contrast="leads")


def test_prediction_in_time_equals_its_definition() -> None:
    predictions, targets = randn(4, 3, 6), randn(4, 3, 6, seed=1)
    valid = torch.ones(4, 3, dtype=torch.bool)
    valid[2, 1] = False
    total = 0.0
    for row in range(4):
        for step in range(3):
            scores = [float(targets[row, step] @ predictions[other, step]) for other in range(4)]
            if valid[row, step]:
                total += math.log(sum(map(math.exp, scores))) - scores[row]
    loss = temporal_prediction_loss(predictions, targets, valid)
    assert float(loss) == pytest.approx(total / 11, rel=1e-5)


def test_all_records_of_a_patient_agree() -> None:
    first, second, one, two = (randn(4, 8, seed=seed) for seed in range(4))
    patients, total = [7, 7, 2, 3], 0.0
    for prediction, target in ((first, two), (second, one)):
        for row in range(4):
            own = [other for other in range(4) if patients[other] == patients[row]]
            cosines = [float(F.cosine_similarity(prediction[row], target[o], dim=0)) for o in own]
            total += sum(cosines) / len(own) / 8
    found = patient_cosine(first, second, one, two, torch.tensor(patients))
    assert float(found) == pytest.approx(total, rel=1e-5)


def test_the_encoder_plays_against_the_discriminator() -> None:
    """What lowers the discriminator's loss by its own weights, the encoder's gradient raises."""
    options: dict[str, Any] = {"patient_weight": 0.0, "temporal_weight": 0.0, "adversarial_weight": 1.0}
    model = AstclForPreTraining(AstclConfig.preset("micro", **options)).train()
    values = randn(6, 12, 1000)
    noise = model.draw_noise({"input_values": values}, torch.Generator().manual_seed(0))
    loss = model(values, **noise).loss
    loss.backward()
    before = float(loss.detach())
    for part, lowers in ((model.discriminator, True), (model.joint_embedding, False)):
        kept = [parameter.detach().clone() for parameter in part.parameters()]
        with torch.no_grad():
            for parameter in part.parameters():
                parameter -= 0.01 * parameter.grad
            after = model(values, **noise).loss
            for parameter, value in zip(part.parameters(), kept, strict=True):
                parameter.copy_(value)
        assert (float(after) < before) == lowers


def test_padding_is_neither_read_nor_predicted() -> None:
    model = AstclForPreTraining(AstclConfig.preset("micro")).eval()
    mask = torch.ones(3, 1000, dtype=torch.long)
    mask[:, 500:] = 0
    values, changed = randn(3, 12, 1000), randn(3, 12, 1000)
    changed[..., 500:] = 30.0
    noise = model.draw_noise({"input_values": values}, torch.Generator().manual_seed(0))
    noise["view_noise"][..., -1] = 0.7
    one, two = (model(x, sample_mask=mask, **noise) for x in (values, changed))
    torch.testing.assert_close(one.loss, two.loss)
    assert one.loss_terms["temporal"] == 0.0
