"""The family: backbones and views by configuration, weights that pass from one method to another, errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModel

from ecg_hf import SimClrConfig, SimClrForEcgClassification, SimClrForPreTraining, SimClrModel
from ecg_hf.errors import ConfigurationError
from ecg_hf.models.joint_embedding.configuration import BACKBONES, JointEmbeddingConfig
from ecg_hf.models.registry import METHODS

FAMILY = [name for name, spec in METHODS.items() if issubclass(spec.load("config"), JointEmbeddingConfig)]
SMALL: dict[str, dict[str, Any]] = {
    "resnet1d": {"channels": [8, 16], "depths": [1, 1]},
    "xresnet1d": {"channels": [8, 16], "depths": [1, 1]},
    "vit": {"width": 16, "depth": 2, "num_heads": 2},
    "cnn": {"channels": [4, 8], "strides": [3, 1], "kernel_size": 7, "leadwise": True, "width": 16},
    "merl_vit": {"width": 16, "depth": 2, "num_heads": 2, "head_width": 4},
}


def config_of(backbone: str, **options: Any) -> SimClrConfig:
    fields = {"backbone": {"type": backbone, **SMALL[backbone]}, "views_together": False, **options}
    return SimClrConfig.preset("micro", **fields)


def values(rows: int = 4) -> torch.Tensor:
    return torch.randn(rows, 12, 1000, generator=torch.Generator().manual_seed(0))


def test_the_default_backbone_is_merls() -> None:
    """3,848,832 parameters, tokens of 32 ms at 500 Hz and of 80 ms at 100 Hz."""
    model = SimClrModel(SimClrConfig.preset("base")).eval()
    assert sum(parameter.numel() for parameter in model.parameters()) == 3_848_832
    assert model(torch.zeros(1, 12, 5000)).last_hidden_state.shape == (1, 313, 512)
    model = SimClrModel(SimClrConfig.preset("base-100hz")).eval()
    assert model(torch.zeros(1, 12, 1000)).last_hidden_state.shape == (1, 125, 512)


def test_a_patch_lasts_as_long_at_every_rate() -> None:
    for rate in (100, 250, 500):
        config = config_of("vit", sampling_rate=rate, num_samples=10 * rate)
        tokens = SimClrModel(config).eval()(torch.zeros(1, 12, 10 * rate)).last_hidden_state
        assert tokens.shape == (1, 100, 16)


@pytest.mark.parametrize("backbone", sorted(BACKBONES))
def test_every_backbone_trains_saves_and_classifies(backbone: str, tmp_path: Any) -> None:
    config = config_of(backbone)
    model = SimClrForPreTraining(config).train()
    output = model(values(), output_hidden_states=True)
    output.loss.backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    assert len(output.hidden_states) == 2 * config.num_hidden_layers + 1
    model.eval().save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert torch.equal(loaded(values()).pooler_output, model.joint_embedding(values()).pooler_output)
    classifier = SimClrForEcgClassification.from_pretrained(
        tmp_path, num_labels=3, classifier_pooling="attention"
    )
    assert classifier(values()).logits.shape == (4, 3)
    assert hasattr(config, "num_attention_heads") == backbone.endswith("vit")


@pytest.mark.parametrize("backbone", sorted(BACKBONES))
def test_padding_does_not_count(backbone: str) -> None:
    """What stands in padding can't matter, and the embedding is that of the tokens with signal."""
    model = SimClrModel(config_of(backbone)).eval()
    mask = torch.ones(4, 1000, dtype=torch.long)
    mask[:, 600:] = 0
    changed = values()
    changed[:, :, 600:] = 50.0
    output = model(values(), sample_mask=mask)
    torch.testing.assert_close(model(changed, sample_mask=mask).pooler_output, output.pooler_output)
    kept = model.token_mask(values(), None, mask)
    assert kept is not None
    if backbone == "merl_vit":
        return  # its norm follows the mean
    expected = torch.stack([row[held].mean(0) for row, held in zip(output[0], kept, strict=True)])
    torch.testing.assert_close(output.pooler_output, expected)


def test_views_together_or_one_after_the_other() -> None:
    """Without batch norm in the backbone it makes no difference."""
    apart = SimClrForPreTraining(config_of("vit")).train()
    together = SimClrForPreTraining(config_of("vit", views_together=True)).train()
    together.load_state_dict(apart.state_dict())
    noise = apart.draw_noise({"input_values": values()}, torch.Generator().manual_seed(1))
    torch.testing.assert_close(apart(values(), **noise).loss, together(values(), **noise).loss)


def test_views_add_nothing_where_there_is_no_signal() -> None:
    model = SimClrForPreTraining(config_of("resnet1d", views=[{"op": "noise"}, {"op": "wander"}]))
    leads, samples = torch.ones(4, 12, dtype=torch.long), torch.ones(4, 1000, dtype=torch.long)
    leads[:, 3], samples[:, 700:] = 0, 0
    noise = model.draw_noise({"input_values": values()}, torch.Generator().manual_seed(1))["view_noise"]
    for view in model.make_views(values(), noise, leads, samples):
        assert view.values[:, 3].abs().max() == 0
        assert view.values[:, :, 700:].abs().max() == 0
        assert view.values[:, 2, :700].abs().min() > 0


@pytest.mark.parametrize("method", FAMILY)
def test_weights_pass_from_one_method_to_another(method: str, tmp_path: Any) -> None:
    spec = METHODS[method]
    model = spec.load("pretraining")(spec.load("config").preset("micro"))
    model.save_pretrained(tmp_path)
    loaded, info = SimClrModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert torch.equal(
        loaded.eval()(values()).pooler_output, model.eval().joint_embedding(values()).pooler_output
    )


@pytest.mark.parametrize("method", FAMILY)
def test_a_batch_of_one_has_a_finite_loss(method: str) -> None:
    """The last batch of an evaluation may be one record."""
    spec = METHODS[method]
    model = spec.load("pretraining")(spec.load("config").preset("micro")).eval()
    assert torch.isfinite(model(values(1)).loss)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"backbone": {"type": "lstm"}}, "unknown backbone 'lstm'; known: resnet1d"),
        ({"backbone": {"type": "vit", "patch": 3}}, "vit has no field 'patch'; it has type, patch_s"),
        ({"backbone": {"type": "vit", "width": 10, "num_heads": 3}}, "width must be a multiple"),
        ({"backbone": {"channels": [8], "depths": [1, 1]}}, "channels and depths"),
        ({"backbone": {"type": "cnn", "width": 8}}, "of leadwise networks alone"),
        ({"views": [{"op": "segment", "p": 0.5}]}, r"views\[0\]: p of segment can't be 0.5"),
        ({"views": [{"op": "gain", "snr_db": [6, 24]}]}, "snr_db of gain can't be"),
        ({"backbone": {"depths": "two"}}, "backbone resnet1d: .*depths"),
        ({"views": [{"op": "blur"}]}, r"views\[0\]: unknown op 'blur'; known: crop_resize"),
        ({"views": [{"op": "noise", "sd": 1.0}]}, r"noise has no option 'sd'; it has std, above_hz and p"),
        ({"views": [{"op": "noise"}, {"op": "time_out", "share": [0.4, 0.2]}]}, r"views\[1\]: share"),
        ({"second_views": [{"op": "noise", "p": 2}]}, r"second_views\[0\]: p of noise can't be 2"),
        ({"projector_sizes": []}, "widths of heads must be positive"),
        ({"ema_start": 1.5}, r"ema_start must be in \[0, 1\]"),
        ({"temperature": 0.0}, "temperature must be positive"),
    ],
)
def test_what_does_not_fit_is_named(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        SimClrConfig(**options)
