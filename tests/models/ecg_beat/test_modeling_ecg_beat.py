"""ECG-Beat: what the encoder reads, every objective, and free text against a hand-made bag of terms."""

import pytest
import torch

from ecg_hf import EcgBeatConfig, EcgBeatForPreTraining, EcgBeatModel
from ecg_hf.errors import ConfigurationError
from ecg_hf.models.ecg_beat.modeling_ecg_beat import mix_neighbours
from ecg_hf.nn.terms import TermHead
from ecg_hf.signal import EcgRecord
from ecg_hf.signal.synthetic import simulate


def _config(**options: object) -> EcgBeatConfig:
    return EcgBeatConfig.preset("micro", **options)


def _batch(count: int = 4, **options: object) -> dict[str, torch.Tensor]:
    config = _config(**options)
    records = [ecg.to_record() for ecg in simulate(count)]
    inputs: dict[str, torch.Tensor] = dict(config.feature_extractor()(records, return_tensors="pt"))
    return inputs


def test_every_objective_learns_alone():
    reports = {
        "input_ids": torch.arange(2, 18).view(4, 4),
        "attention_mask": torch.ones(4, 4, dtype=torch.long),
    }
    for variant in EcgBeatConfig.variants:
        torch.manual_seed(0)
        config = _config(variant=variant)
        batch = _batch(variant=variant) | (reports if config.needs_reports else {})
        model = EcgBeatForPreTraining(config).train()
        model.before_training([batch])
        names = {name for name, weight in config.weights.items() if weight}
        output = model(**batch)
        assert set(output.loss_terms) == names, variant
        output.loss.backward()
        gradients = [p.grad for p in model.ecg_beat.encoder.parameters()]
        assert all(g is not None and g.isfinite().all() for g in gradients), variant


def test_reports_are_asked_for_only_where_they_are_read():
    model = EcgBeatForPreTraining(_config())
    with pytest.raises(ConfigurationError, match="input_ids are missing"):
        model(**_batch())
    assert EcgBeatModel(_config(variant="measures")).term_head is None
    with pytest.raises(ConfigurationError, match="without reports"):
        EcgBeatModel(_config(variant="measures")).get_text_features(torch.ones(1, 2, dtype=torch.long))


def test_the_signal_matters_only_through_beats_and_measurements():
    model = EcgBeatModel(_config()).eval()
    batch = _batch(1)
    with torch.no_grad():
        plain = model(**batch).pooler_output
        masked = model(**{**batch, "lead_mask": torch.zeros_like(batch["lead_mask"])}).pooler_output
        flat = model(**{**batch, "input_values": torch.zeros_like(batch["input_values"])}).pooler_output
    assert not torch.allclose(plain, masked)
    torch.testing.assert_close(masked, flat)
    with pytest.raises(ConfigurationError, match="measurements"):
        model(batch["input_values"])


def test_one_lead_is_enough():
    record = simulate(1)[0].to_record()
    lead = EcgRecord(record.signal[:1], record.sampling_rate, ("I",))
    model = EcgBeatModel(_config()).eval()
    inputs = _config().feature_extractor()([lead], return_tensors="pt")
    assert inputs["lead_mask"].sum() == 1
    assert model(**inputs).pooler_output.isfinite().all()


def test_text_is_its_rare_terms():
    head = TermHead(8, 3)
    head.set_vocabulary(
        torch.tensor([[2, -1], [3, -1], [2, 3]]), torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.9, 0.4, 0.1])
    )
    found = head.text_features(torch.tensor([[2, 3, 0], [3, 2, 0]]), torch.tensor([[1, 1, 0], [1, 1, 0]]))
    torch.testing.assert_close(found[0], torch.tensor([1.0, 2.0, 3.0]) / 14**0.5)
    torch.testing.assert_close(found[1], torch.tensor([1.0, 2.0, 0.0]) / 5**0.5)


def test_neighbours_mix_and_an_odd_last_row_stays():
    rows = torch.arange(5.0)[:, None]
    (mixed,) = mix_neighbours(torch.full((5,), 0.25), rows)
    torch.testing.assert_close(mixed[:, 0], torch.tensor([0.25, 0.75, 2.25, 2.75, 4.0]))
