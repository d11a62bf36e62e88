"""What is particular to CoRe-ECG: views, dual masks, one forward for two losses, exact pools."""

import math
from functools import partial

import pytest
import torch

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.core_ecg.configuration_core_ecg import INDEPENDENT_LEADS, VARIANTS, CoreEcgConfig
from ecg_hf.models.core_ecg.modeling_core_ecg import CoreEcgForPreTraining, CoreEcgModel
from ecg_hf.nn.losses import normalize_patches, nt_xent_loss
from ecg_hf.nn.tokenizers import gather_tokens, patchify
from ecg_hf.training.accumulation import ExactAccumulation

from ..conftest import make_case


def build(batch_size: int = 4, **overrides):
    case = make_case("core-ecg", batch_size, **overrides)
    torch.manual_seed(0)
    return CoreEcgForPreTraining(case.config).eval(), case.signal["input_values"]


def run(seed: int = 0, batch_size: int = 4, **overrides):
    model, values = build(batch_size, **overrides)
    noise = model.draw_noise({"input_values": values}, torch.Generator().manual_seed(seed))
    return model, values, noise, model(values, **noise)


def test_variants_leave_out_one_part_each():
    outputs = {name: run(**VARIANTS[name]) for name in VARIANTS}
    terms = {name: set(output.loss_terms) for name, (_, _, _, output) in outputs.items()}
    assert terms["full"] == terms["no-fda"] == terms["no-stdm"] == {"reconstruction", "contrastive"}
    assert terms["no-contrast"] == {"reconstruction"}
    assert terms["no-reconstruction"] == {"contrastive"}
    noise = {name: set(drawn) for name, (_, _, drawn, _) in outputs.items()}
    assert noise["full"] - noise["no-fda"] == {"gain_noise", "phase_noise"}
    assert noise["no-stdm"] == {"patch_noise", "gain_noise", "phase_noise"}
    parameters = {name: {n for n, _ in model.named_parameters()} for name, (model, *_) in outputs.items()}
    assert not any("projector" in n for n in parameters["no-contrast"])
    assert not any("decoder" in n for n in parameters["no-reconstruction"])
    config = CoreEcgConfig.preset("micro", variant="no-stdm")
    assert config.mask_strategy == "random"
    with pytest.raises(ConfigurationError, match="unknown variant"):
        CoreEcgConfig.preset("micro", variant="everything")


@pytest.mark.parametrize(
    "overrides",
    [
        {"frequency_views": False},
        {"fda_gain_strength": 0.2},
        {"fda_phase_strength": 0.1},
        {"fda_correlation_hz": 3.0},
        {"mask_strategy": "random"},
        {"mask_strategy": "random", "random_mask_ratio": 0.3},
        {"time_mask_ratio": 0.3},
        {"lead_drop_probability": 0.7},
        {"lead_drop_probability": 0.9, "min_leads_kept": 5},
        {"stdm_mode": "alternate"},
        {"reconstruction_source": "view"},
        {"reconstruction_target": "lead_zscore"},
        {"reconstruction_target": "raw"},
        {"normalize_patches": False},
        {"temperature": 0.2},
        {"contrastive_weight": 0.5},
        {"reconstruction_weight": 0.5},
        {"projection_dim": 8},
        {"lead_embedding_std": 0.1},
    ],
    ids=str,
)
def test_every_switch_changes_the_loss(overrides):
    reference = run(initializer_range=0.2)[3]
    model, _, _, output = run(initializer_range=0.2, **overrides)
    assert output.loss.isfinite()
    assert (output.loss - reference.loss).abs() > 1e-6
    output.loss.backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_pooled_feature():
    case = make_case("core-ecg")
    pooled = {}
    for kind in ("cls", "mean"):
        torch.manual_seed(0)
        model = CoreEcgModel(CoreEcgConfig.preset("micro", pooled_feature=kind)).eval()
        output = model(**case.signal)
        pooled[kind] = output.pooler_output
    torch.testing.assert_close(pooled["cls"], output.last_hidden_state[:, 0])
    torch.testing.assert_close(pooled["mean"], output.last_hidden_state[:, 1:].mean(1))


def test_only_visible_tokens_are_encoded_and_reach_anything():
    """Without FDA (which spreads samples over time) hidden samples must not change any prediction."""
    model, values, noise, output = run(frequency_views=False, reconstruction_target="raw")
    seen = []
    hook = model.core_ecg.encoder.layers.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(values, **noise)
    hook.remove()
    kept = noise["kept_leads"].shape[2] * noise["kept_times"].shape[2]
    assert seen[0].shape[:2] == (8, 1 + kept)
    # Hidden in both views of a record.
    masked = output.masked_index.unflatten(0, (-1, 2))
    both = torch.zeros(4, 160).scatter_add(1, masked.flatten(1), torch.ones(4, masked[0].numel())) == 2
    assert both.any(1).all()
    patches = patchify(values.clone(), 50).flatten(1, 2)
    changed = torch.where(both[..., None], torch.full_like(patches, 9.0), patches).unflatten(1, (8, -1))
    moved = model(changed.flatten(-2), **noise)
    assert torch.equal(moved.ecg_embeds, output.ecg_embeds)
    assert torch.equal(moved.reconstruction, output.reconstruction)
    assert not torch.equal(moved.loss, output.loss)


def test_the_target_is_the_clean_record():
    _, values, _, output = run()
    target = normalize_patches(patchify(values, 50), "patch_zscore").flatten(1, 2).repeat_interleave(2, dim=0)
    target = gather_tokens(target, output.masked_index)
    error = (output.reconstruction - target).square().mean((1, 2)).mean()
    torch.testing.assert_close(output.loss_terms["reconstruction"], error.detach())
    expected = error / target.square().mean()
    torch.testing.assert_close(output.metrics["masked_error_vs_zero"], expected.detach(), rtol=1e-4, atol=0)


def test_gradients_stay_in_the_record():
    """Reconstruction looks at one record only; contrast at all of them."""
    for weights, alone in (({"contrastive_weight": 0.0}, True), ({"reconstruction_weight": 0.0}, False)):
        model, values = build(**weights)
        noise = model.draw_noise({"input_values": values}, torch.Generator().manual_seed(0))
        values = values.clone().requires_grad_()
        output = model(values, **noise)
        if alone:
            output.reconstruction[:2].sum().backward()  # both views of the first record
        else:
            pooled = model(values, **noise).ecg_embeds
            (output.loss + 0.0 * pooled.sum()).backward()
        others = values.grad[1:].abs().sum((1, 2))
        assert (others == 0).all() if alone else (others > 0).all()


def test_losses_start_near_their_theoretical_values():
    """ln(2B - 1) for embeddings that point anywhere, 1 for a prediction of about zero."""
    model, values = build(
        64, initializer_range=0.02, temperature=1.0, projection_dim=256, projection_hidden_size=256
    )
    noise = model.draw_noise({"input_values": values}, torch.Generator().manual_seed(0))
    terms = model(values, **noise).loss_terms
    assert terms["contrastive"].item() == pytest.approx(math.log(127), abs=0.5)
    assert terms["reconstruction"].item() == pytest.approx(1.0, abs=0.05)
    loose = nt_xent_loss(*torch.randn(2, 64, 256), temperature=1.0)
    assert loose.item() == pytest.approx(math.log(127), abs=0.05)


def test_monitors_tell_collapse_from_spread():
    model, values, noise, output = run(batch_size=16)
    assert 0.3 < output.metrics["projection_spread"] <= 1.0
    assert -1.0 <= output.metrics["positive_cosine"] <= 1.0
    with torch.no_grad():
        model.projector[-1].weight.zero_()
        model.projector[-1].bias.fill_(1.0)
        model.core_ecg.encoder.norm.weight.zero_()
        model.core_ecg.encoder.norm.bias.fill_(1.0)
    collapsed = model(values, **noise)
    assert collapsed.metrics["projection_spread"] < 1e-3
    assert collapsed.metrics["embedding_spread"] < 1e-3
    assert collapsed.loss_terms["contrastive"].item() == pytest.approx(math.log(31), rel=1e-4)


def test_records_of_one_patient_are_no_negatives():
    model, values, noise, output = run(batch_size=6)
    distinct = model(values, **noise, patient_ids=torch.arange(6))
    unknown = model(values, **noise, patient_ids=torch.full((6,), -1))
    assert torch.equal(distinct.loss, output.loss)
    assert torch.equal(unknown.loss, output.loss)
    shared = model(values, **noise, patient_ids=torch.tensor([0, 0, 1, 1, 2, 3]))
    assert shared.loss_terms["contrastive"] < output.loss_terms["contrastive"]
    assert shared.loss_terms["reconstruction"] == output.loss_terms["reconstruction"]


@pytest.mark.parametrize("patients", [False, True])
def test_accumulated_micro_batches_have_the_gradient_of_one_batch(patients):
    """Batch norm and negatives included: both work on the whole pool."""
    model, values = build(6)
    model.double().train()
    noise = model.draw_noise({"input_values": values}, torch.Generator().manual_seed(0))
    inputs = {"input_values": values.double(), **noise}
    if patients:
        inputs["patient_ids"] = torch.tensor([0, 1, 2, 0, 3, 3])
    whole = model(**inputs).loss
    whole.backward()
    expected = {n: p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()
    parts = [{k: v[i : i + 2] for k, v in inputs.items()} for i in (0, 2, 4)]
    accumulation = ExactAccumulation(model, torch.device("cpu"))
    with accumulation.installed():
        accumulation.first_pass([partial(model, **part) for part in parts])
        for micro, part in enumerate(parts):
            with accumulation.live(micro):
                (model(**part).loss / 3).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-9, atol=1e-12)


def test_missing_leads_do_not_matter_in_pretraining():
    model, values, noise, _ = run(batch_size=4)
    lead_mask = torch.ones(4, 8, dtype=torch.long)
    lead_mask[:, 2:6] = 0
    changed = values.clone()
    changed[:, 2:6] = 50.0
    a, b = model(values, lead_mask, **noise), model(changed, lead_mask, **noise)
    torch.testing.assert_close(a.loss, b.loss)
    assert not torch.equal(a.loss, model(values, **noise).loss)
    # All leads gone but one, which may not even be among those kept: still finite.
    lead_mask[:, 1:] = 0
    assert model(values, lead_mask, **noise).loss.isfinite()


def test_padding_does_not_matter_in_pretraining():
    model, values, noise, _ = run()
    sample_mask = torch.ones(4, 1000, dtype=torch.long)
    sample_mask[:, 700:] = 0
    changed = values.clone()
    changed[:, :, 700:] = 50.0
    torch.testing.assert_close(
        model(values, None, sample_mask, **noise).loss, model(changed, None, sample_mask, **noise).loss
    )


def test_noise_is_drawn_when_missing():
    model, values = build()
    torch.manual_seed(3)
    first, second = model(values).loss, model(values).loss
    torch.manual_seed(3)
    assert torch.equal(model(values).loss, first)
    assert not torch.equal(first, second)


def test_the_share_of_dropped_leads_changes_from_step_to_step():
    model, values = build()
    kept = {
        model.draw_noise({"input_values": values}, torch.Generator().manual_seed(s))["kept_leads"].shape[2]
        for s in range(40)
    }
    assert len(kept) >= 4


def test_eight_independent_leads_are_the_default():
    config = CoreEcgConfig()
    assert tuple(config.lead_names) == INDEPENDENT_LEADS
    assert (config.num_patches, config.num_leads * config.num_patches) == (50, 400)
    assert (config.time_mask_ratio, config.lead_drop_probability) == (0.5, 0.2)
    assert CoreEcgConfig.preset("small").to_diff_dict() == config.to_diff_dict()
    twelve = CoreEcgConfig.preset("micro", lead_names=["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2"])
    assert twelve.num_leads == 8
    with pytest.raises(ConfigurationError, match="8 leads"):
        build()[0](torch.zeros(2, 12, 1000))


@pytest.mark.parametrize(
    "overrides",
    [
        {"num_samples": 999},
        {"patch_size": 0},
        {"num_attention_heads": 5},
        {"time_mask_ratio": 1.0},
        {"random_mask_ratio": 0.0},
        {"lead_drop_probability": 1.0},
        {"min_leads_kept": 9},
        {"min_leads_kept": 8, "stdm_mode": "alternate"},
        {"temperature": 0.0},
        {"fda_gain_strength": -1.0},
        {"contrastive_weight": 0.0, "reconstruction_weight": 0.0},
        {"lead_names": ["I", "I"]},
        {"stdm_mode": "both"},
    ],
    ids=str,
)
def test_contradictions_are_refused(overrides):
    with pytest.raises(ValueError):
        CoreEcgConfig.preset("micro", **overrides)


def test_pretraining_wants_whole_records():
    model, values = build()
    with pytest.raises(ConfigurationError, match="pretraining takes 1000 samples"):
        model(values[..., :500])
