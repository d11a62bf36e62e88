"""The ECG-and-text family: heads, views, text towers from elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

from ecg_hf import EtpConfig, EtpForPreTraining, MerlConfig, MerlForPreTraining, MerlModel
from ecg_hf.errors import ConfigurationError
from ecg_hf.models.ecg_text.heads import AttentionPoolHead, LinearHead, MlpNormHead
from ecg_hf.models.text_tower import freeze_text_layers

from ..conftest import make_case

SMALL_VIT = {"type": "merl_vit", "width": 16, "depth": 2, "num_heads": 2, "head_width": 4}


def test_base_presets_are_the_published_networks() -> None:
    with torch.device("meta"):
        resnet = MerlModel(MerlConfig.preset("base"))
        vit = MerlModel(MerlConfig.preset("base", variant="vit"))
    assert sum(p.numel() for p in resnet.encoder.parameters()) == 3_848_832
    assert sum(p.numel() for p in vit.encoder.parameters()) == 5_473_152
    assert type(resnet.signal_projection) is AttentionPoolHead
    assert resnet.signal_projection.positions.shape == (1, 314, 256)
    assert type(vit.signal_projection) is MlpNormHead
    with torch.device("meta"):
        assert type(EtpForPreTraining(EtpConfig.preset("base")).ecg_text.signal_projection) is LinearHead


@pytest.mark.parametrize("head", ["attention", "mlp", "linear"])
def test_every_backbone_goes_with_every_head(head: str) -> None:
    case = make_case("merl", ecg_head=head, backbone=SMALL_VIT)
    model = MerlForPreTraining(case.config).train()
    output = model(**case.batch)
    output.loss.backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    assert set(output.loss_terms) == {"contrastive", "unimodal"}


def test_padding_is_not_attended_to() -> None:
    case = make_case("merl")
    model = MerlModel(case.config).eval()
    values = case.signal["input_values"]
    mask = torch.ones(len(values), values.shape[-1], dtype=torch.long)
    mask[:, 600:] = 0
    changed = values.clone()
    changed[..., 600:] = 50.0
    found = [model.get_ecg_features(signal, sample_mask=mask) for signal in (values, changed)]
    torch.testing.assert_close(*found)
    assert not torch.allclose(found[0], model.get_ecg_features(values))


def test_views_drop_what_their_noise_says() -> None:
    case = make_case("merl", view_dropout=0.5)
    model = MerlForPreTraining(case.config).eval()
    features = torch.randn(4, 32)
    noise = torch.rand(4, 2, 32)
    first, second = model.views(features, noise)
    assert torch.equal(first == 0, noise[:, 0] < 0.5)
    torch.testing.assert_close(
        second, 2.0 * model.views.maps[1](features) * (noise[:, 1] >= 0.5), rtol=0.0, atol=1e-6
    )


def test_without_uma_there_are_no_views() -> None:
    case = make_case("merl", unimodal_weight=0.0)
    model = MerlForPreTraining(case.config)
    assert model.views is None
    assert model.draw_noise(case.batch, torch.Generator()) == {}
    assert set(model(**case.batch).loss_terms) == {"contrastive"}


def test_pooled_texts_stand_for_reports() -> None:
    case = make_case("etp")
    model = EtpForPreTraining(case.config).eval()
    pooled = model.ecg_text.pool_texts(**case.text)
    expected = model(**case.batch).loss
    torch.testing.assert_close(model(**case.signal, text_pooled=pooled).loss, expected)
    with pytest.raises(ConfigurationError, match="input_ids are missing"):
        model(**case.signal)


def test_a_pretrained_text_tower_is_taken_and_frozen(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tower = BertModel(BertConfig(vocab_size=60, hidden_size=24, num_hidden_layers=2, num_attention_heads=2))
    tower.save_pretrained(tmp_path)
    config = MerlConfig.preset("micro", freeze_text_layers=12)
    model = MerlForPreTraining.from_text_model(str(tmp_path), config)
    own = model.ecg_text.text_encoder
    assert all(torch.equal(own.state_dict()[name], value) for name, value in tower.state_dict().items())
    assert not any(parameter.requires_grad for parameter in own.parameters())
    freeze_text_layers(tower, 1)
    learned = {
        name.split(".")[2] for name, p in tower.named_parameters() if p.requires_grad and "layer." in name
    }
    assert learned == {"1"}
    assert tower.pooler.dense.weight.requires_grad


@pytest.mark.parametrize(
    "overrides", [{"temperature": 0.0}, {"attention_pool_heads": 5}, {"view_dropout": 1.0}], ids=str
)
def test_contradictions_are_refused(overrides: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        MerlConfig.preset("micro", **overrides)
