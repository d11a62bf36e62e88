"""CRT by itself: which patches are dropped, what counts as a target, records that lack something."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.crt.configuration_crt import CrtConfig
from ecg_hf.models.crt.encoder_crt import cross_domain_signal
from ecg_hf.models.crt.modeling_crt import CrtForPreTraining, CrtModel
from ecg_hf.nn.losses.instance_discrimination import instance_discrimination_loss


def signal(samples: int = 1000) -> Tensor:
    return torch.randn(2, 12, samples, generator=torch.Generator().manual_seed(0))


def pretraining(**overrides: object) -> tuple[CrtForPreTraining, dict[str, Tensor]]:
    torch.manual_seed(0)
    model = CrtForPreTraining(CrtConfig.preset("micro", **overrides)).eval()
    return model, model.draw_noise({"input_values": signal()}, torch.Generator().manual_seed(1))


def test_more_is_dropped_as_training_goes_on() -> None:
    model, noise = pretraining()
    counts = []
    for step in range(10):
        counts.append(model(signal(), **noise).masked_index.shape[1])
        model.after_optimizer_step(step, 10)
    # Of 40 patches: 6 of time and 3 of each other domain at first, in the end 16 and 8.
    assert counts == [12, 12, 12, 12, 16, 20, 24, 28, 32, 32]
    model.before_training([])
    assert model(signal(), **noise).masked_index.shape[1] == counts[0]
    assert model.state_dict()["progress"] == 0


def test_magnitude_and_phase_lose_the_same_patches() -> None:
    model, noise = pretraining()
    _, (time, magnitude, phase) = model._divided(*noise.values())
    assert torch.equal(magnitude - 20, phase - 30)
    assert time.shape == (2, 6)
    assert (time < 20).all()


def test_predictions_are_compared_with_their_own_patches() -> None:
    """Two patches that change places in the targets and in the predictions leave the loss alone."""
    for targets in ("aligned", "official"):
        model, noise = pretraining(targets=targets)
        kept, dropped = model._divided(*noise.values())
        patches = model.patches(signal())
        predicted = torch.zeros_like(patches)
        model.decoder.forward = lambda *_, predicted=patches: predicted
        loss = model(signal(), **noise).loss_terms["reconstruction"]
        assert (loss == 0) == (targets == "aligned")
        assert predicted.shape[1] == sum(part.shape[1] for part in (*kept, *dropped))


def test_the_spectrum_of_a_sine() -> None:
    """3 mV at 5 Hz: one bin, 0 elsewhere; the constant's phase is 0 also where it is negative."""
    time = torch.arange(1000) / 100.0
    sine = 3.0 * torch.cos(2 * math.pi * 5.0 * time + 0.7) - 1.0
    made = cross_domain_signal(sine.double()[None, None], standardize=False)[0, 0]
    magnitude, phase = made[1000:1500], made[1500:]
    torch.testing.assert_close(magnitude[50], torch.tensor(1500.0, dtype=torch.float64), rtol=1e-5, atol=0.0)
    torch.testing.assert_close(phase[50], torch.tensor(0.7, dtype=torch.float64), rtol=0.0, atol=1e-5)
    assert magnitude[[10, 49, 51, 400]].max() < 1e-2
    assert phase[0] == 0


def test_a_bin_that_holds_little_has_its_phase_in_exports_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a recording sampled more coarsely the upper bins are nearly empty: a DFT less exact gives them any phase."""
    spectrum = torch.fft.rfft(signal().double())
    spectrum[..., 100:] *= 1e-4
    coarse = torch.fft.irfft(spectrum).float()
    expected = cross_domain_signal(coarse.double(), standardize=False)[..., 1500:]
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    found = cross_domain_signal(coarse, standardize=False)[..., 1500:]
    assert found.dtype == torch.float32
    # Half a turn and minus half a turn are the same phase.
    for one in (torch.cos, torch.sin):
        torch.testing.assert_close(one(found).double(), one(expected), rtol=0, atol=1e-5)


def test_the_scale_of_a_spectrum_is_that_of_the_leads_that_are_there() -> None:
    lead_mask = torch.ones(2, 12)
    lead_mask[0, 5:] = 0
    values = signal() * lead_mask[..., None]
    made = cross_domain_signal(values, lead_mask)
    alone = cross_domain_signal(values[:1, :5])
    torch.testing.assert_close(made[:1, :5], alone, rtol=1e-5, atol=1e-5)
    assert (made[0, 5:] == 0).all()


def test_a_short_record_is_a_padded_one() -> None:
    torch.manual_seed(0)
    model = CrtModel(CrtConfig.preset("micro")).eval()
    short, whole = signal(600), torch.full((2, 12, 1000), 7.0)
    whole[..., :600] = short
    there = torch.zeros(2, 1000)
    there[:, :600] = 1
    torch.testing.assert_close(model(short).pooler_output, model(whole, sample_mask=there).pooler_output)
    mask = model.token_mask(short)
    assert mask is not None
    assert mask.sum(1).tolist() == [3 + 12 + 20] * 2


def test_missing_leads_are_no_targets() -> None:
    model, noise = pretraining()
    lead_mask = torch.ones(2, 12)
    lead_mask[:, 6:] = 0
    with torch.no_grad():
        for head in model.decoder.heads:
            head.bias.view(12, -1)[6:] = 100.0
    spoilt = model(signal(), **noise).loss_terms["reconstruction"]
    assert model(signal(), lead_mask=lead_mask, **noise).loss_terms["reconstruction"] < 0.01 * spoilt


def test_discrimination_by_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 3, 5, 4, generator=generator)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 1, 1, 0], [0, 1, 0, 0, 0]], dtype=torch.bool)
    sums = []
    for record in range(2):
        tokens = mask[record].nonzero()[:, 0].tolist()
        total = sum(
            torch.cosine_similarity(first[record, i], second[record, j], dim=0).exp()
            for i in tokens
            for j in tokens
            if i != j
        )
        sums.append(total.log())
    first.requires_grad_()
    loss = instance_discrimination_loss(first, second, mask)
    torch.testing.assert_close(loss, torch.stack(sums).mean())
    loss.backward()
    assert first.grad.isfinite().all()
    assert (first.grad[2] == 0).all()


@pytest.mark.parametrize(
    ("field", "value"),
    [("num_samples", 1050), ("hidden_size", 12), ("drop_ratio_start", 0.05), ("drop_ratio_end", 1.0)],
)
def test_sizes_that_do_not_fit(field: str, value: float) -> None:
    with pytest.raises(ConfigurationError):
        CrtConfig.preset("micro", **{field: value})
