"""What is particular to CG-DMER: its switches do what they say."""

import pytest
import torch

from ecg_hf import EcgCpcConfig
from ecg_hf.errors import ConfigurationError
from ecg_hf.models.cg_dmer.configuration_cg_dmer import PRESETS, VARIANTS, CgDmerConfig
from ecg_hf.models.cg_dmer.modeling_cg_dmer import (
    CgDmerForEcgClassification,
    CgDmerForPreTraining,
    CgDmerModel,
)
from ecg_hf.models.cg_dmer.text_cg_dmer import report_signature
from ecg_hf.models.text_tower import mask_report
from ecg_hf.nn.losses import normalize_patches
from ecg_hf.nn.masks.patches import PatchMask
from ecg_hf.nn.tokenizers import gather_tokens, patchify

from ..conftest import make_case


def run(seed: int = 0, batch_size: int = 4, **overrides):
    case = make_case("cg-dmer", batch_size, **overrides)
    torch.manual_seed(seed)
    model = CgDmerForPreTraining(case.config).eval()
    noise = model.draw_noise(case.batch, torch.Generator().manual_seed(seed))
    return model, case, model(**case.batch, **noise)


def test_variants_are_the_rows_of_table_3():
    terms = {name: set(run(**VARIANTS[name])[2].loss_terms) for name in VARIANTS}
    assert terms["contrastive"] == {"contrastive"}
    assert terms["ecg-reconstruction"] == terms["contrastive"] | {"ecg_reconstruction"}
    assert terms["text-reconstruction"] == terms["ecg-reconstruction"] | {"text_reconstruction"}
    assert terms["orthogonality"] == terms["text-reconstruction"] | {"orthogonality"}
    assert terms["full"] == terms["orthogonality"] | {"siglip"}
    config = CgDmerConfig.preset("micro", variant="contrastive")
    assert config.siglip_weight == 0.0
    with pytest.raises(ConfigurationError, match="unknown variant"):
        CgDmerConfig.preset("micro", variant="everything")


def test_a_switched_off_loss_has_no_parameters():
    names = {n for n, _ in run(**VARIANTS["contrastive"])[0].named_parameters()}
    assert not any(part in n for n in names for part in ("decoder", "specific", "siglip"))


@pytest.mark.parametrize(
    "overrides",
    [
        {"tokenizer_norm_first": True},
        {"norm_first": False},
        {"temporal_positions": "normal"},
        {"mask_strategy": "joint"},
        {"mask_strategy": "tube"},
        {"decoder_per_lead": True},
        {"reconstruction_target": "raw"},
        {"reconstruction_target": "lead_zscore"},
        {"reconstruction_reduction": "sum"},
        {"ecg_reconstruction_weight": 0.5},
        {"contrastive_form": "decoupled"},
        {"contrastive_form": "all_pairs"},
        {"contrastive_reduction": "sum"},
        {"siglip_scale": 1.0, "siglip_bias": 0.0},
        {"siglip_reduction": "mean_pairs"},
        {"normalize_shared": False},
        {"projection_hidden_size": 48},
        {"ecg_pooling": "norm_of_mean"},
        {"ecg_pooling": "statistics"},
        {"contrastive_view": "full"},
        {"text_mask_replacement": "bert"},
        {"text_decoder_layers": 1},
        {"text_pooling": "cls"},
        {"decode_disentangled": True},
        {"auxiliary_targets": ["terms"], "auxiliary_terms": 16},
        {
            "auxiliary_targets": ["terms"],
            "auxiliary_terms": 16,
            "auxiliary_weight": 0.0,
            "phrase_weight": 1.0,
        },
        {"signal_jitter": 0.1},
        {"time_shift_s": 0.3},
    ],
    ids=str,
)
def test_every_switch_changes_the_loss(overrides):
    # Larger weights than the default, so that a changed attention pattern shows in the loss's float32.
    _, _, reference = run(batch_size=6, initializer_range=0.2)
    model, _, output = run(batch_size=6, initializer_range=0.2, **overrides)
    assert output.loss.isfinite()
    assert (output.loss - reference.loss).abs() > 1e-6
    output.loss.backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_a_token_of_all_leads_does_not_see_missing_ones():
    case = make_case("cg-dmer", 3, token_leads="all")
    torch.manual_seed(0)
    model = CgDmerForPreTraining(case.config).eval()
    noise = model.draw_noise(case.batch, torch.Generator().manual_seed(0))
    lead_mask = torch.ones(case.batch["input_values"].shape[:2], dtype=torch.long)
    lead_mask[:, 3] = 0
    changed = case.batch["input_values"].clone()
    changed[:, 3] = 7.0
    one, other = (
        model(**{**case.batch, "input_values": values, "lead_mask": lead_mask}, **noise)
        for values in (case.batch["input_values"], changed)
    )
    torch.testing.assert_close(one.loss, other.loss)
    assert not torch.allclose(model(**{**case.batch, "input_values": changed}, **noise).loss, one.loss)


def test_records_are_rolled_by_up_to_the_shift_with_their_masks():
    case = make_case("cg-dmer", 3)
    case.config.time_shift_s = 0.3
    model = CgDmerForPreTraining(case.config).eval()
    values = case.batch["input_values"]
    mask = (torch.arange(values.shape[-1]) < values.shape[-1] - 40).long().expand(len(values), -1)
    most = round(0.3 * case.config.sampling_rate)
    rolled, rolled_mask = model._shifted(values, mask, torch.tensor([0.0, 0.5, 1.0]))
    for row, shift in enumerate((-most, 0, most)):
        assert torch.equal(rolled[row], values[row].roll(shift, -1))
        assert torch.equal(rolled_mask[row], mask[row].roll(shift, -1))


def test_freezing_the_lower_text_layers_survives_loading(tmp_path):
    model, _, _ = run(freeze_text_layers=1, learn_temporal_positions=False, learn_siglip_scale=False)
    model.save_pretrained(tmp_path)
    loaded = CgDmerForPreTraining.from_pretrained(tmp_path)
    frozen = {n for n, p in loaded.named_parameters() if not p.requires_grad}
    assert frozen == {n for n, p in model.named_parameters() if not p.requires_grad}
    assert any("encoder.layer.0" in n for n in frozen)
    assert "siglip_bias" in frozen
    assert "cg_dmer.ecg_encoder.positions.temporal" in frozen


def test_siglip_starts_where_the_config_says(tmp_path):
    model, _, _ = run()
    assert model.siglip_log_scale.exp().item() == pytest.approx(10.0)
    assert model.siglip_bias.item() == pytest.approx(-10.0)


def test_duplicate_reports_are_no_negatives_when_asked():
    case = make_case("cg-dmer", 4)
    case.text["input_ids"][1] = case.text["input_ids"][2]
    case.text["attention_mask"][1] = case.text["attention_mask"][2]
    torch.manual_seed(0)
    model = CgDmerForPreTraining(case.config).eval()
    noise = model.draw_noise(case.batch, torch.Generator().manual_seed(0))
    kept = model(**case.batch, **noise).loss_terms["contrastive"]
    model.config.ignore_duplicate_reports = True
    assert model(**case.batch, **noise).loss_terms["contrastive"] < kept


def test_report_signature_ignores_padding_only():
    ids = torch.tensor([[5, 6, 7, 0, 0], [5, 6, 7, 9, 0], [6, 5, 7, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 0, 0]])
    signature = report_signature(ids, mask)
    short = report_signature(ids[:1, :3], mask[:1, :3])
    assert torch.equal(signature[0], short[0])
    assert not torch.equal(signature[0], signature[1])
    assert not torch.equal(signature[0], signature[2])


@pytest.mark.parametrize("wrong", ["too large", "negative", "too long"])
def test_tokens_of_another_tokenizer_are_refused(wrong):
    case = make_case("cg-dmer")
    model, signal = CgDmerForPreTraining(case.config), case.signal
    tower = case.config.text_config
    ids = case.text["input_ids"].clone()
    if wrong == "too long":
        ids = ids[:, :1].expand(-1, tower.max_position_embeddings + 1)
    else:
        ids[0, 0] = tower.vocab_size if wrong == "too large" else -1
    with pytest.raises(ConfigurationError, match="token"):
        model.cg_dmer.get_text_features(ids)
    with pytest.raises(ConfigurationError, match="token"):
        model(**signal, input_ids=ids)


def test_special_tokens_are_never_masked():
    config = make_case("cg-dmer").config
    ids = torch.randint(104, 500, (64, 20))
    ids[:, 0], ids[:, 15], ids[:, 16:] = 101, 102, 0
    mask = (torch.arange(20) < 16).long().expand(64, -1)
    noise = torch.rand(64, 20)
    masked = mask_report(ids, mask, noise, noise, config)
    changed = masked.input_ids != ids
    assert changed.sum(1).tolist() == [2] * 64  # round(0.15 * 14)
    assert not changed[:, [0, 15, 16, 17, 18, 19]].any()
    assert (masked.input_ids[changed] == config.text_mask_token_id).all()
    counted = masked.targets.weights.bool()
    assert torch.equal(masked.labels[counted], ids.gather(1, masked.targets.positions)[counted])


def test_bert_replacement_is_80_10_10():
    config = CgDmerConfig.preset("micro", text_mask_replacement="bert")
    ids = torch.randint(104, 500, (4000, 20))
    masked = mask_report(ids, torch.ones_like(ids), torch.rand(4000, 20), torch.rand(4000, 20), config)
    new = masked.input_ids.gather(1, masked.targets.positions)
    share_mask = (new == config.text_mask_token_id).float().mean().item()
    share_same = (new == masked.labels).float().mean().item()
    assert share_mask == pytest.approx(0.8, abs=0.02)
    assert share_same == pytest.approx(0.1, abs=0.02)


def test_masked_patches_do_not_reach_the_encoder():
    """The embedding of a masked forward must not depend on what is hidden."""
    model, case, output = run()
    noise = model.draw_noise(case.batch, torch.Generator().manual_seed(0))
    patches = patchify(case.signal["input_values"].clone(), case.config.patch_size).flatten(1, 2)
    patches = patches.scatter_add(
        1,
        output.masked_index.unsqueeze(-1).expand(-1, -1, patches.shape[-1]),
        torch.full_like(output.reconstruction, 5.0),
    )
    changed = patches.unflatten(1, (12, -1)).flatten(-2)
    moved = model(**{**case.batch, "input_values": changed}, **noise)
    assert torch.equal(moved.ecg_embeds, output.ecg_embeds)
    assert torch.equal(moved.reconstruction, output.reconstruction)


def test_masked_error_is_relative_to_predicting_zero():
    _model, case, output = run()
    patches = patchify(case.signal["input_values"], case.config.patch_size)
    target = gather_tokens(normalize_patches(patches, "patch_zscore").flatten(1, 2), output.masked_index)
    expected = (output.reconstruction - target).square().sum() / target.square().sum()
    torch.testing.assert_close(output.metrics["masked_error_vs_zero"], expected.detach())


@pytest.mark.parametrize(
    "overrides",
    [
        {"num_samples": 999},
        {"mask_ratio": 1.0},
        {"num_attention_heads": 5},
        {"tokenizer_channels": [8]},
        {"temperature": 0.0},
        {"text_config": {"model_type": "no-such-model"}},
        {"lead_names": ["I", "I"]},
    ],
    ids=str,
)
def test_contradictions_are_refused(overrides):
    with pytest.raises(ValueError):
        CgDmerConfig.preset("micro", **overrides)


def test_base_preset_is_the_paper():
    config = CgDmerConfig.preset("base")
    assert PRESETS["base"] == {}
    assert (config.num_hidden_layers, config.num_patches, config.num_leads) == (8, 100, 12)
    assert (config.mask_ratio, config.text_mask_probability, config.temperature) == (0.75, 0.15, 0.07)


def test_tokens_of_all_leads() -> None:
    """A twelfth of the tokens; a patch says the same whatever leads the others miss; masks know no leads."""
    torch.manual_seed(0)
    config = CgDmerConfig.preset("micro", token_leads="all")
    model = CgDmerForPreTraining(config).eval()
    assert (config.token_rows, config.leads_per_token) == (1, 12)
    values = torch.randn(3, 12, 1000)
    encoder = model.cg_dmer
    with torch.no_grad():
        whole = encoder(values)
        assert whole.last_hidden_state.shape == (3, config.num_patches, config.hidden_size)
        padded = torch.ones(3, 1000)
        padded[:, 500:] = 0
        short = encoder(values[..., :500]).pooler_output
        torch.testing.assert_close(
            encoder(values, sample_mask=padded).pooler_output, short, atol=1e-5, rtol=1e-4
        )
        one_lead = values.clone()
        one_lead[:, 1:] = 0.0
        mask = torch.zeros(3, 12, dtype=torch.long)
        mask[:, 0] = 1
        torch.testing.assert_close(encoder(one_lead, mask).pooler_output, encoder(one_lead).pooler_output)
    noise = model.draw_noise({"input_values": values}, torch.Generator().manual_seed(0))
    assert noise["patch_noise"].shape == (3, 1, config.num_patches)
    ids = torch.randint(10, 200, (3, 8))
    output = model(values, input_ids=ids, **noise)
    assert output.reconstruction.shape[2] == 12 * config.patch_size
    target, _ = model._reconstruction_target(
        values, PatchMask(output.masked_index, output.masked_index), None
    )
    patch = int(output.masked_index[0, 0]) * config.patch_size
    lead = values[0, 4, patch : patch + config.patch_size]
    expected = (lead - lead.mean()) / (lead.var(correction=0) + 1e-6).sqrt()
    torch.testing.assert_close(target[0, 0].view(12, -1)[4], expected, atol=0.1, rtol=0.1)


def test_phrases_teach_the_text_tower_and_an_encoder_needs_no_auxiliary_heads(tmp_path):
    options = {"auxiliary_targets": ["terms", "measures"], "auxiliary_terms": 16, "phrase_weight": 1.0}
    case = make_case("cg-dmer", 4, **options)
    model = CgDmerForPreTraining(case.config)
    batch = {**case.batch, "measures": torch.randn(4, 359)}
    output = model(**batch, **model.draw_noise(batch, torch.Generator().manual_seed(0)))
    assert {"auxiliary_terms", "auxiliary_measures", "phrase"} <= set(output.loss_terms)
    phrase = model._phrase_loss(torch.randn(4, case.config.projection_dim), batch["input_ids"], None)
    phrase.backward()
    words = model.cg_dmer.text_encoder.get_input_embeddings().weight.grad
    assert words is not None
    assert words.abs().sum() > 0
    model.save_pretrained(tmp_path)
    for loaded in (
        CgDmerModel.from_pretrained(tmp_path),
        CgDmerForEcgClassification.from_pretrained(tmp_path),
    ):
        assert not hasattr(loaded, "auxiliary")
    again = CgDmerForPreTraining.from_pretrained(tmp_path)
    assert torch.equal(again.auxiliary.terms.words, model.auxiliary.terms.words)


def test_methods_that_take_no_auxiliary_targets_say_so():
    with pytest.raises(ConfigurationError, match="takes no auxiliary_targets"):
        EcgCpcConfig(auxiliary_targets=["measures"])
    with pytest.raises(ConfigurationError, match="terms and measures"):
        CgDmerConfig.preset("micro", auxiliary_targets=["words"])
    with pytest.raises(ConfigurationError, match="phrase_weight needs terms"):
        CgDmerConfig.preset("micro", phrase_weight=1.0)
