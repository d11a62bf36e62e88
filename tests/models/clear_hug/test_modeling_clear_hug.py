"""What the specification of CLEAR-HUG says must hold, beyond equality with the official numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.clear_hug.configuration_clear_hug import ClearHugConfig
from ecg_hf.models.clear_hug.feature_extraction_clear_hug import ClearHugFeatureExtractor
from ecg_hf.models.clear_hug.hug_clear_hug import HugHead, group_pairs
from ecg_hf.models.clear_hug.modeling_clear_hug import (
    ClearHugForEcgClassification,
    ClearHugForPreTraining,
    ClearHugModel,
)
from ecg_hf.nn.beats import BeatTokens
from ecg_hf.signal import STANDARD_LEADS, read_record
from ecg_hf.signal.synthetic import simulate

LEADS, SLOTS = 12, 15


def config(**options: Any) -> ClearHugConfig:
    return ClearHugConfig.preset("micro", **options)


@pytest.fixture(scope="module")
def batch() -> dict[str, torch.Tensor]:
    ecgs = simulate(3, seed=4, sampling_rate=100.0)
    extractor = ClearHugFeatureExtractor()
    features = extractor(ecgs.signal, 100.0, STANDARD_LEADS, r_peaks=ecgs.r_peaks, return_tensors="pt")
    return {name: features[name] for name in ("input_values", "r_peaks")}


def beats_of(model: ClearHugModel, batch: dict[str, torch.Tensor]) -> BeatTokens:
    return model.beat_tokens(batch["input_values"], r_peaks=batch["r_peaks"])


def pretraining(**options: Any) -> ClearHugForPreTraining:
    torch.manual_seed(0)
    return ClearHugForPreTraining(config(**options)).eval()


def noise(seed: int = 0, rows: int = 3, shared: bool = True) -> torch.Tensor:
    drawn = torch.rand(1 if shared else rows, LEADS * SLOTS, generator=torch.Generator().manual_seed(seed))
    return drawn.expand(rows, -1)


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("size", "whole", "encoder"), [("base", 56.64e6, 47.69e6), ("large", 304.4e6, 151.8e6)]
)
def test_published_sizes(size: str, whole: float, encoder: float) -> None:
    with torch.device("meta"):
        model = ClearHugForPreTraining(ClearHugConfig.preset(size))
    assert model.num_parameters() == pytest.approx(whole, rel=2e-4)
    assert model.clear_hug.num_parameters() == pytest.approx(encoder, rel=2e-4)


def test_hug_has_the_published_size() -> None:
    with torch.device("meta"):
        head = HugHead(768, ClearHugConfig().group_indices)
    assert sum(p.numel() for p in head.parameters()) == 4_134_144


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"token_kernel_size": 2}, "must be odd"),
        ({"mask_ratio": 1.0}, "mask_ratio"),
        ({"num_time_ids": 10}, "10 s need"),
        ({"num_lead_ids": 12}, "12 leads need"),
        ({"beat_length": 1001}, "beat_length 1001"),
        ({"lead_groups": [["I", "II"], ["II"]]}, "two lead_groups"),
        ({"lead_groups": [["I", "II", "III"]]}, "leads aVR"),
        ({"encoder_attention": "sparse"}, "encoder_attention"),
    ],
)
def test_values_that_can_not_work_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        config(**options)


# ---------------------------------------------------------------- CLEAR


def test_loss_at_the_start_is_near_that_of_predicting_noise(batch: dict[str, torch.Tensor]) -> None:
    """Targets have unit variance, (n - 1) / n of it after the unbiased estimate; the prediction adds its own."""
    model = pretraining(loss_on_padding=False)
    output = model(**batch, mask_noise=noise())
    own = output.beat_reconstruction.square().mean().item()
    assert output.loss.item() == pytest.approx(95 / 96 + own, rel=0.1)
    assert 0.8 < output.metrics["masked_error_vs_zero"] < 2.0
    assert output.metrics["lead_token_std"] > 0.01
    assert 0.2 < output.metrics["real_beat_share"] < 1.0


def test_an_empty_slot_costs_only_where_it_is_meant_to(batch: dict[str, torch.Tensor]) -> None:
    counted, ignored = (pretraining(loss_on_padding=flag) for flag in (True, False))
    with torch.no_grad():
        for model in (counted, ignored):
            model.decoder.head.bias.zero_()
            model.decoder.head.weight.zero_()
        a, b = (model(**batch, mask_noise=noise()) for model in (counted, ignored))
    # Zeros are the right answer in empty slots, so they lower the loss where they count.
    assert b.loss.item() == pytest.approx(95 / 96, rel=1e-3)
    assert a.loss < 0.95 * b.loss
    assert a.metrics["masked_error_vs_zero"].item() == pytest.approx(1.0)


@pytest.mark.parametrize("kernel", [1, 3])
def test_a_masked_beat_is_hidden_only_without_the_neighbours_in_the_convolution(
    batch: dict[str, torch.Tensor], kernel: int
) -> None:
    model = pretraining(token_kernel_size=kernel)
    tokens = beats_of(model.clear_hug, batch)
    with torch.no_grad():
        before = model.rebuild(tokens, None, noise())
        hidden = torch.zeros(3, LEADS * SLOTS, dtype=torch.bool).scatter(1, before.masked_index, True)
        changed = torch.where(hidden[..., None], tokens.beats.flip(2) + 1.0, tokens.beats)
        after = model.rebuild(tokens._replace(beats=changed), None, noise())
    same = torch.allclose(before.beat_reconstruction, after.beat_reconstruction, atol=1e-6)
    assert same == (kernel == 1)


def test_a_masked_beat_is_rebuilt_from_its_moment_and_its_lead_alone() -> None:
    """f(B^j, c_i): with one decoder layer, what other beats hold can come in through nothing else."""
    model = pretraining(decoder_num_layers=1)
    decoder = model.decoder
    visible = torch.arange(0, LEADS * SLOTS, 5)[None]
    masked = torch.tensor([[i for i in range(LEADS * SLOTS) if i % 5]])
    encoded = torch.randn(1, LEADS + visible.shape[1], 32, requires_grad=True)
    prediction = decoder(encoded, visible, masked)
    position = 40
    (gradient,) = torch.autograd.grad(prediction[0, position].sum(), encoded)
    token = int(masked[0, position])
    lead, beat = token // SLOTS, token % SLOTS
    touched = gradient[0].abs().sum(1) > 0
    assert touched[:LEADS].nonzero().flatten().tolist() == [lead]
    expected = [int(v) % SLOTS == beat for v in visible[0]]
    assert touched[LEADS:].tolist() == expected


def test_in_view_a_lead_token_hears_its_own_lead_first_and_in_dense_all(
    batch: dict[str, torch.Tensor],
) -> None:
    """With one layer and no convolution over neighbours, a lead token is a function of its own beats."""
    for attention, own_only in (("view", True), ("dense", False)):
        torch.manual_seed(0)
        model = ClearHugModel(
            config(encoder_attention=attention, num_hidden_layers=1, token_kernel_size=1)
        ).eval()
        values = batch["input_values"].clone().requires_grad_()
        lead_tokens = model(values, r_peaks=batch["r_peaks"]).last_hidden_state[:, :LEADS]
        (gradient,) = torch.autograd.grad(lead_tokens[:, 4].square().sum(), values)
        touched = gradient.abs().sum((0, 2)) > 0
        assert touched.tolist() == [lead == 4 or not own_only for lead in range(LEADS)]


@pytest.mark.parametrize("attention", ["dense", "view", "official_bias"])
def test_order_of_tokens_matters_to_the_official_bias_only(
    batch: dict[str, torch.Tensor], attention: str
) -> None:
    torch.manual_seed(0)
    model = ClearHugModel(config(encoder_attention=attention)).eval()
    tokens = beats_of(model, batch)
    beats = model.network_input(tokens)
    order = torch.randperm(LEADS * SLOTS, generator=torch.Generator().manual_seed(1))[None]
    with torch.no_grad():
        straight = model.encoder(beats, tokens.time_ids)[:, :LEADS]
        shuffled = model.encoder(beats, tokens.time_ids, None, order)[:, :LEADS]
    difference = (straight - shuffled).abs().max().item()
    assert (difference < 1e-5) == (attention != "official_bias")


def test_masks_are_shared_by_a_batch_or_drawn_per_record(batch: dict[str, torch.Tensor]) -> None:
    for per_sample in (False, True):
        model = pretraining(mask_per_sample=per_sample)
        drawn = model.draw_noise(batch, torch.Generator().manual_seed(0))["mask_noise"]
        assert drawn.shape == (3, LEADS * SLOTS)
        assert torch.equal(drawn[0], drawn[1]) != per_sample
        index = model(**batch, mask_noise=drawn).masked_index
        assert index.shape == (3, 145)
        assert torch.equal(index[0].sort().values, index[1].sort().values) != per_sample


def test_a_mask_per_record_gives_each_record_the_loss_it_has_alone(batch: dict[str, torch.Tensor]) -> None:
    model = pretraining(mask_per_sample=True, loss_on_padding=False, attend_to_padding=False)
    drawn = noise(3, shared=False)
    with torch.no_grad():
        together = model(**batch, mask_noise=drawn).loss
        alone = [
            model(**{k: v[i : i + 1] for k, v in batch.items()}, mask_noise=drawn[i : i + 1]).loss
            for i in range(3)
        ]
    torch.testing.assert_close(together, torch.stack(alone).mean())


def test_empty_slots_can_be_kept_out_of_attention(batch: dict[str, torch.Tensor]) -> None:
    for attend in (True, False):
        torch.manual_seed(0)
        model = ClearHugModel(config(attend_to_padding=attend)).eval()
        tokens = beats_of(model, batch)
        assert not tokens.beat_mask.all()
        moved = torch.where(tokens.beat_mask, tokens.time_ids, 7)
        with torch.no_grad():
            outputs = [
                model.encoder(model.network_input(tokens), ids, model.visible_keys(tokens, None))[:, :LEADS]
                for ids in (tokens.time_ids, moved)
            ]
        assert torch.allclose(*outputs, atol=1e-6) != attend


def test_missing_leads_neither_help_nor_count(batch: dict[str, torch.Tensor]) -> None:
    model = pretraining()
    mask = torch.ones(3, LEADS, dtype=torch.long)
    mask[:, [1, 7]] = 0
    values = batch["input_values"].clone()
    values[:, [1, 7]] = float("nan")
    broken = model(values, mask, r_peaks=batch["r_peaks"], mask_noise=noise())
    whole = model(batch["input_values"], mask, r_peaks=batch["r_peaks"], mask_noise=noise())
    assert torch.equal(broken.loss, whole.loss)
    assert not torch.equal(whole.loss, model(**batch, mask_noise=noise()).loss)
    gradient = torch.autograd.grad(broken.loss, model.clear_hug.encoder.lead_tokens)[0]
    assert gradient[[1, 7]].abs().max() == 0
    assert gradient.isfinite().all()


def test_time_embedding_moves_with_the_peak(batch: dict[str, torch.Tensor]) -> None:
    tokens = beats_of(ClearHugModel(config()), batch)
    for peaks, ids, mask in zip(batch["r_peaks"], tokens.time_ids, tokens.beat_mask, strict=True):
        kept = peaks[peaks >= 0][:SLOTS]
        assert ids[: len(kept)].tolist() == [0 if p == 0 else int(p) // 100 + 1 for p in kept]
        assert mask[:SLOTS].sum() == len(kept)
        assert torch.equal(ids[:SLOTS].repeat(LEADS), ids)


def test_without_peaks_records_are_cut_evenly(batch: dict[str, torch.Tensor]) -> None:
    model = ClearHugModel(config()).eval()
    even = model(batch["input_values"]).pooler_output
    assert even.isfinite().all()
    assert (even - model(**batch).pooler_output).abs().max() > 1e-4
    with pytest.raises(ConfigurationError, match="1001 samples"):
        model(torch.zeros(1, 12, 1001))


# ---------------------------------------------------------------- HUG


def test_pairs_are_neighbours_first() -> None:
    assert group_pairs(3) == [(0, 1), (1, 2), (0, 2)]
    assert ClearHugConfig().group_indices == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9, 10, 11]]
    assert ClearHugConfig(lead_names=["II", "V1", "V5"]).group_indices == [[0], [1, 2]]


def test_averaged_hug_is_one_linear_map_of_three_group_means() -> None:
    torch.manual_seed(0)
    head = HugHead(8, ClearHugConfig().group_indices).double()
    with torch.no_grad():

        def fused(means: torch.Tensor) -> torch.Tensor:
            leads = torch.cat([means[:, [i]].expand(-1, n, -1) for i, n in enumerate((3, 3, 6))], 1)
            return head(leads).mean(1)

        offset = fused(torch.zeros(1, 3, 8, dtype=torch.float64))
        columns = fused(torch.eye(24, dtype=torch.float64).view(24, 3, 8)) - offset
        tokens = torch.randn(5, LEADS, 8, dtype=torch.float64)
        means = torch.stack([tokens[:, a:b].mean(1) for a, b in ((0, 3), (3, 6), (6, 12))], 1)
        torch.testing.assert_close(head(tokens).mean(1), means.flatten(1) @ columns + offset)


def test_hug_leaves_missing_leads_out_of_their_group() -> None:
    torch.manual_seed(0)
    head = HugHead(8, ClearHugConfig().group_indices)
    tokens = torch.randn(2, LEADS, 8)
    mask = torch.ones(2, LEADS)
    mask[:, 4] = 0
    changed = tokens.clone()
    changed[:, 4] = 50.0
    torch.testing.assert_close(head(tokens, mask), head(changed, mask))
    expected = head.group_maps[1](tokens[:, [3, 5]].mean(1))
    torch.testing.assert_close(head(tokens, mask)[:, 1], expected)
    mask[:, 3:6] = 0
    assert torch.equal(head(tokens, mask)[:, 1], head.group_maps[1].bias.expand(2, -1))


@pytest.mark.parametrize(
    ("options", "width"), [({}, 32), ({"hug_fusion": "concat"}, 7 * 32), ({"head_type": "mean"}, 32)]
)
def test_heads(batch: dict[str, torch.Tensor], options: dict[str, Any], width: int) -> None:
    torch.manual_seed(0)
    model = ClearHugForEcgClassification(config(num_labels=4, **options)).eval()
    assert model.classifier.in_features == width
    logits = model(**batch).logits
    tokens = model.clear_hug(**batch).last_hidden_state[:, :LEADS]
    if options.get("head_type") == "mean":
        expected = tokens.mean(1)
    else:
        features = model.classifier_hug(tokens)
        expected = features.flatten(1) if "hug_fusion" in options else features.mean(1)
    torch.testing.assert_close(logits, model.classifier(expected))


def test_stage_two_trains_the_head_alone(batch: dict[str, torch.Tensor], tmp_path: Path) -> None:
    pretraining().save_pretrained(tmp_path)
    options = {"freeze_encoder": True, "num_labels": 4}
    model = ClearHugForEcgClassification.from_pretrained(tmp_path, **options).train()
    before = model.clear_hug.encoder.lead_tokens.clone()
    model(**batch, labels=torch.ones(3, 4)).loss.backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert trained == {name for name, _ in model.named_parameters() if name.startswith("classifier")}
    assert torch.equal(model.clear_hug.encoder.lead_tokens, before)


# ---------------------------------------------------------------- feature extractor


def test_extractor_can_return_the_beats_the_model_cuts(batch: dict[str, torch.Tensor]) -> None:
    ecgs = simulate(2, seed=9, sampling_rate=500.0)
    plain = ClearHugFeatureExtractor()(ecgs.signal, 500.0, STANDARD_LEADS, return_tensors="pt")
    assert set(plain) == {"input_values", "lead_mask", "r_peaks"}
    extractor = ClearHugFeatureExtractor(return_beats=True)
    for kind in ("np", "pt"):
        features = extractor(ecgs.signal, 500.0, STANDARD_LEADS, return_tensors=kind)
        assert features["beats"].shape == (2, 180, 96)
        assert features["lead_ids"][0].tolist() == [1 + i // 15 for i in range(180)]
        tokens = ClearHugModel(config()).beat_tokens(plain["input_values"], r_peaks=plain["r_peaks"])
        assert np.array_equal(np.asarray(features["beats"]), tokens.beats.numpy())
        assert np.array_equal(np.asarray(features["time_ids"]), tokens.time_ids.numpy())
        assert np.array_equal(np.asarray(features["beat_mask"]), tokens.beat_mask.numpy())
    with pytest.raises(ConfigurationError, match="beats_per_lead must be a whole number"):
        ClearHugFeatureExtractor(beats_per_lead=0)


def test_extractor_survives_saving(tmp_path: Path) -> None:
    ClearHugFeatureExtractor(beat_length=80, return_beats=True).save_pretrained(tmp_path)
    again = ClearHugFeatureExtractor.from_pretrained(tmp_path)
    assert (again.beat_length, again.return_beats, again.highpass_hz) == (80, True, 0.67)


@pytest.mark.realdata
def test_real_records_become_beats(recordings: Path) -> None:
    headers = sorted((recordings / "ptbxl" / "records100").rglob("*.hea"))[:6]
    records = [read_record(header.with_suffix("")) for header in headers]
    features = ClearHugFeatureExtractor(return_beats=True)(records, return_tensors="pt")
    mask = features["beat_mask"].view(len(records), LEADS, SLOTS)
    assert (mask == mask[:, :1]).all()
    assert (mask[:, 0].sum(1) >= 4).all()
    # The steepest place of lead II's beats lies around the middle of the window, where the R peak was put.
    lead_ii = features["beats"].view(len(records), LEADS, SLOTS, 96)[:, 1][mask[:, 1]]
    steepest = lead_ii.diff(dim=1).abs().argmax(1).float()
    assert (steepest - 48).abs().median() <= 6
    model = ClearHugModel(config()).eval()
    pooled = model(features["input_values"], r_peaks=features["r_peaks"]).pooler_output
    assert pooled.isfinite().all()
