"""ECG-FM's pretraining against its official code: quantiser, contrast, diversity, penalty, segments, gradients."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForPreTraining

from ecg_hf.errors import ConfigurationError, ConversionError
from ecg_hf.hub.converting import convert_checkpoint
from ecg_hf.models.conversion import OfficialState
from ecg_hf.models.ecg_fm.configuration_ecg_fm import EcgFmConfig
from ecg_hf.models.ecg_fm.conversion_ecg_fm import convert_official
from ecg_hf.models.ecg_fm.modeling_ecg_fm import EcgFmForPreTraining
from ecg_hf.nn.losses.nt_xent import view_pairs_loss
from ecg_hf.nn.losses.quantized import code_contrast_logits
from ecg_hf.nn.precision import match_weights

pytestmark = pytest.mark.fixtures

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
GRADIENTS = {
    "conv_pos.pos_conv.0.bias": "ecg_fm.encoder.positions.bias",
    "conv_pos.pos_conv.0.parametrizations.weight.original0": "ecg_fm.encoder.positions.scale",
    "encoder.layer_norm.weight": "ecg_fm.encoder.norm.weight",
    "encoder.layers.0.final_layer_norm.weight": "ecg_fm.encoder.layers.blocks.0.mlp_norm.weight",
    "feature_extractor.conv_layers.0.0.weight": "ecg_fm.encoder.stem.convolutions.0.weight",
    "feature_extractor.conv_layers.0.2.weight": "ecg_fm.encoder.stem.norm.weight",
    "final_proj.weight": "prediction_head.weight",
    "layer_norm.weight": "ecg_fm.encoder.stem_norm.weight",
    "mask_emb": "mask_token",
    "post_extract_proj.weight": "ecg_fm.encoder.projection.weight",
    "project_q.weight": "target_head.weight",
    "quantizer.vars": "quantizer.codebook",
    "quantizer.weight_proj.weight": "quantizer.scores.weight",
}


@pytest.fixture(scope="module")
def official(shared_fixtures: Path) -> Path:
    return shared_fixtures / "ecg_fm"


@pytest.fixture(scope="module")
def expected(official: Path) -> dict[str, Tensor]:
    return load_file(official / "tiny_io.safetensors")


@pytest.fixture(scope="module")
def sizes(official: Path) -> dict[str, object]:
    with safe_open(official / "tiny_state_dict.safetensors", "pt") as file:
        return json.loads(file.metadata()["config"])


@pytest.fixture
def model(official: Path, sizes: dict[str, object], tmp_path: Path) -> EcgFmForPreTraining:
    weights = load_file(official / "tiny_state_dict.safetensors")
    torch.save({"cfg": {"model": sizes}, "model": weights}, tmp_path / "tiny.pt")
    report = convert_checkpoint("ecg-fm", tmp_path / "tiny.pt", tmp_path / "out")
    assert report.model_class == "EcgFmForPreTraining"
    options = {"num_negatives": 5, "hidden_dropout": 0.0, "attention_dropout": 0.0, "feature_dropout": 0.0}
    return AutoModelForPreTraining.from_pretrained(
        tmp_path / "out", num_samples=800, window_samples=400, **options
    )


def at_masked(masked: Tensor, values: Tensor) -> Tensor:
    """``(rows * masked, ...)`` at their places in ``(rows, tokens, ...)``, zeros elsewhere."""
    placed = torch.zeros(*masked.shape, *values.shape[1:], dtype=values.dtype)
    placed[masked] = values
    return placed


def negatives(expected: dict[str, Tensor], masked: Tensor, name: str) -> Tensor:
    """Positions of tokens of the official numbers, which count masked tokens of the whole batch."""
    places = masked.nonzero()[:, 1]
    picked = places[expected[f"{name}.neg_idxs"]].reshape(-1, 5)
    return at_masked(masked, picked)


@pytest.mark.parametrize("name", ["pre_eval", "pre_train"])
def test_losses_and_gradients(model: EcgFmForPreTraining, expected: dict[str, Tensor], name: str) -> None:
    masked = expected["mask_indices"].bool()
    noise = None
    if name == "pre_train":
        noise = at_masked(masked, expected["gumbel_noise"].unflatten(0, (-1, 2)))
    model.train(name == "pre_train")
    index = negatives(expected, masked, name)
    output = model.compare(expected["input"], None, masked, index, noise, expected["patient_id"][::2].clone())
    size = float(expected[f"{name}.sample_size"])
    weights = model.config.contrastive_weight, model.config.diversity_weight
    weights += model.config.feature_penalty_weight, model.config.segments_weight
    assert weights == (1.0, 0.1, 10.0, 1.0)
    for number, (term, weight) in enumerate(zip(output.loss_terms.values(), weights, strict=True)):
        torch.testing.assert_close(weight * term * size, expected[f"{name}.term_loss_{number}"], **CLOSE)
    torch.testing.assert_close(output.loss * size, expected[f"{name}.loss_total"], **CLOSE)
    torch.testing.assert_close(
        output.metrics["code_perplexity"], expected[f"{name}.prob_perplexity"], **CLOSE
    )
    features = expected[f"{name}.cmsc_features"].unflatten(0, (-1, 2)).mean(1)
    torch.testing.assert_close(output.ecg_embeds, features, **CLOSE)

    (output.loss * size).backward()
    compared = 0
    for official_name, ours in GRADIENTS.items():
        gradient = expected.get(f"{name}.grad.{official_name}")
        if gradient is not None:
            found = model.get_parameter(ours).grad
            scale = float(gradient.abs().max())
            torch.testing.assert_close(found.reshape(gradient.shape), gradient, rtol=1e-4, atol=1e-5 * scale)
            compared += 1
    assert compared == (13 if name == "pre_train" else 11)


def test_logits_and_negatives_of_the_same_code(
    model: EcgFmForPreTraining, expected: dict[str, Tensor]
) -> None:
    model.eval()
    masked, tower = expected["mask_indices"].bool(), model.ecg_fm.encoder
    normed = tower.stem_norm(tower.stem(match_weights(expected["input"], tower)))
    tokens = torch.where(masked[..., None], model.mask_token, tower.projection(normed))
    quantized = model.quantizer(normed, None, 1.0)
    logits = code_contrast_logits(
        model.prediction_head(tower(tokens, None)),
        model.target_head(quantized.vectors),
        quantized.codes,
        negatives(expected, masked, "pre_eval"),
        temperature=0.1,
    )
    # The official rows are ordered by token, then by record.
    ordered = logits[masked].unflatten(0, (4, 12)).transpose(0, 1).flatten(0, 1)
    torch.testing.assert_close(ordered, expected["pre_eval.logits"], **CLOSE)
    assert torch.isinf(logits[masked]).sum() == 16


def test_all_pairs_of_a_patient_are_positives(expected: dict[str, Tensor]) -> None:
    features = expected["pre_eval.cmsc_features"]
    views = torch.stack([features[::2], features[1::2]])
    loss = view_pairs_loss(
        views, torch.zeros(2, dtype=torch.long), temperature=0.1, both_ways=True, fixed_length=True
    )
    torch.testing.assert_close(48 * loss, expected["pre_eval_same_patient.term_loss_3"], **CLOSE)


def test_no_gradient_passes_through_the_length() -> None:
    views = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    for fixed, across in ((False, True), (True, False)):
        loss = view_pairs_loss(views, torch.arange(3), temperature=0.1, both_ways=True, fixed_length=fixed)
        (gradient,) = torch.autograd.grad(loss, views)
        along = (gradient * views).sum(-1).abs().max()
        assert bool(along < 1e-5) == across


def test_the_temperature_falls_and_is_stored(tmp_path: Path) -> None:
    config = EcgFmConfig.preset("micro", gumbel_temperature_decay=0.5)
    model = EcgFmForPreTraining(config)
    assert float(model.gumbel_temperature) == 2.0
    model.after_optimizer_step(0, 10)
    assert float(model.gumbel_temperature) == 1.0
    model.after_optimizer_step(5, 10)
    assert float(model.gumbel_temperature) == 0.5
    model.save_pretrained(tmp_path)
    again = EcgFmForPreTraining.from_pretrained(tmp_path)
    assert int(again.updates) == 6
    again.before_training([])
    assert float(again.gumbel_temperature) == 2.0


def test_padding_is_neither_masked_nor_compared() -> None:
    torch.manual_seed(0)
    model = EcgFmForPreTraining(EcgFmConfig.preset("micro")).eval()
    values = torch.randn(4, 12, 500)
    mask = torch.ones(4, 500, dtype=torch.long)
    mask[1, 130:] = 0
    mask[2] = 0
    noise = model.draw_noise({"input_values": values}, torch.Generator().manual_seed(0))
    losses = []
    for filling in (0.0, 100.0):
        filled = torch.where(mask[:, None].bool(), values, filling)
        losses.append(model(filled, sample_mask=mask, **noise).loss)
    assert torch.equal(*losses)
    assert torch.isfinite(losses[0])
    assert not torch.equal(losses[0], model(values, **noise).loss)


def test_leads_are_dropped_at_random() -> None:
    torch.manual_seed(0)
    model = EcgFmForPreTraining(EcgFmConfig.preset("micro")).eval()
    values = torch.randn(2, 12, 500)
    noise = model.draw_noise({"input_values": values}, torch.Generator().manual_seed(0))
    noise["lead_noise"] = torch.full_like(noise["lead_noise"], 0.6)
    noise["lead_noise"][:, 1, 4] = 0.4
    changed = values.clone()
    changed[:, 4, 250:] = 9.0
    assert torch.equal(model(values, **noise).loss, model(changed, **noise).loss)
    changed[:, 4, :250] = 9.0
    assert not torch.equal(model(values, **noise).loss, model(changed, **noise).loss)


def test_segments_too_short_for_spans_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="too few for spans of 15"):
        EcgFmForPreTraining(EcgFmConfig.preset("micro", mask_length=15))
    with pytest.raises(ConfigurationError, match="pretraining takes 500 samples, got 400"):
        EcgFmForPreTraining(EcgFmConfig.preset("micro"))(torch.randn(1, 12, 400))


@pytest.mark.parametrize("groups", [None, 0, 5, "2"])
def test_groups_of_the_quantiser_are_asked_for(
    official: Path, sizes: dict[str, object], groups: object
) -> None:
    weights = load_file(official / "tiny_state_dict.safetensors")
    told = {name: value for name, value in sizes.items() if name != "latent_groups"}
    if groups is not None:
        told["latent_groups"] = groups
    with pytest.raises(ConversionError, match="latent_groups"):
        convert_official(OfficialState(weights, told))
