"""ST-MEM by itself: what is hidden stays hidden, decoding lead by lead, records that lack something."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.st_mem.configuration_st_mem import StMemConfig
from ecg_hf.models.st_mem.modeling_st_mem import StMemForPreTraining, StMemModel
from ecg_hf.nn.masks.patches import mask_patches


def signal(samples: int = 900) -> Tensor:
    return torch.randn(2, 12, samples, generator=torch.Generator().manual_seed(0))


def pretraining() -> tuple[StMemForPreTraining, Tensor]:
    torch.manual_seed(0)
    model = StMemForPreTraining(StMemConfig.preset("micro")).eval()
    noise = model.draw_noise({"input_values": signal()}, torch.Generator().manual_seed(1))["noise"]
    return model, noise


def test_hidden_patches_are_not_seen() -> None:
    model, noise = pretraining()
    first = model(signal(), noise=noise)
    assert first.masked_index.shape == (2, 12 * 8)  # int(10 * 0.25) of each lead stay
    other = signal().unflatten(2, (10, 90)).flatten(1, 2)
    other.scatter_(1, first.masked_index[..., None].expand(-1, -1, 90), 5.0)
    second = model(other.view(2, 12, 900), noise=noise)
    assert torch.equal(first.reconstruction, second.reconstruction)
    assert not torch.equal(first.loss, second.loss)


def test_the_decoder_sees_one_lead_at_a_time() -> None:
    model, noise = pretraining()
    mask = mask_patches(noise, 0.75)
    tokens, _ = model.st_mem.encoder(signal(), visible=mask.visible)
    changed = tokens.clone()
    changed.unflatten(1, (12, -1))[:, 4] += torch.randn(2, 4, 32)
    same = (
        (model.decoder(tokens, mask) == model.decoder(changed, mask)).all(-1).unflatten(1, (12, -1)).all(-1)
    )
    assert same.tolist() == [[lead != 4 for lead in range(12)]] * 2


def test_the_encoder_sees_all_leads() -> None:
    torch.manual_seed(0)
    model = StMemModel(StMemConfig.preset("micro")).eval()
    other = signal()
    other[:, 4] *= -1
    changed = (model(other).last_hidden_state - model(signal()).last_hidden_state).abs().amax(-1)
    assert (changed > 0).all()


def test_a_short_record_is_one_without_its_end() -> None:
    """Padding is not attended to, and SEP stands behind it as behind the end of a short record."""
    torch.manual_seed(0)
    model = StMemModel(StMemConfig.preset("micro")).eval()
    whole = torch.full((2, 12, 900), 7.0)
    whole[..., :540] = signal(540)
    there = torch.zeros(2, 900)
    there[:, :540] = 1
    short, padded = model(signal(540)), model(whole, sample_mask=there)
    torch.testing.assert_close(short.pooler_output, padded.pooler_output)
    tokens = padded.last_hidden_state.unflatten(1, (12, 12))[:, :, [*range(7), 11]].flatten(1, 2)
    torch.testing.assert_close(short.last_hidden_state, tokens)


def test_missing_leads_are_no_targets_and_not_attended_to() -> None:
    model, noise = pretraining()
    lead_mask = torch.ones(2, 12)
    lead_mask[:, 2] = 0
    other = signal()
    other[:, 2] = 50.0
    first, second = (model(values, lead_mask=lead_mask, noise=noise) for values in (signal(), other))
    assert torch.equal(first.loss, second.loss)
    mask = model.token_mask(signal(), lead_mask)
    assert mask is not None
    assert mask.unflatten(1, (12, 12))[0].all(-1).tolist() == [lead != 2 for lead in range(12)]


def test_positions_are_trained_by_fine_tuning_alone() -> None:
    model, _ = pretraining()
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {"st_mem.encoder.positions.table", "decoder.positions.table"}
    assert StMemModel(model.config).encoder.positions.table.requires_grad


def test_patches_are_as_long_at_any_rate() -> None:
    for size in StMemConfig.presets:
        if size != "micro":
            config = StMemConfig.preset(size)
            assert (config.patch_size / config.sampling_rate, config.num_patches) == (0.3, 30)


def test_half_a_patch_is_refused() -> None:
    model, noise = pretraining()
    for call in (model.st_mem, lambda values: model(values, noise=noise)):
        with pytest.raises(ConfigurationError, match="800 samples are not a multiple of 90"):
            call(signal(800))
    with pytest.raises(ConfigurationError, match="not a positive multiple"):
        StMemConfig.preset("micro", num_samples=800)
