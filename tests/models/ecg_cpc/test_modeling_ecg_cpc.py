"""What is particular to ECG-CPC: windows, crops, streaming, averaged probabilities, frozen use."""

import pytest
import torch
from transformers import AutoModel

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.ecg_cpc.configuration_ecg_cpc import EcgCpcConfig
from ecg_hf.models.ecg_cpc.encoder_ecg_cpc import crop_records
from ecg_hf.models.ecg_cpc.feature_extraction_ecg_cpc import EcgCpcFeatureExtractor
from ecg_hf.models.ecg_cpc.modeling_ecg_cpc import (
    EcgCpcForEcgClassification,
    EcgCpcForPreTraining,
    EcgCpcModel,
)
from ecg_hf.nn.heads import mean_probability_logits


def config(**overrides) -> EcgCpcConfig:
    return EcgCpcConfig.preset("micro", **overrides)


def model(seed: int = 0, **overrides) -> EcgCpcModel:
    """With batch statistics as after training, so that a zero in is no zero out."""
    torch.manual_seed(seed)
    built = EcgCpcModel(config(**overrides)).eval()
    for block in built.encoder:
        block.norm.running_mean.normal_()
        block.norm.bias.data.normal_()
    return built


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=3e-6)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("samples", [250, 1000, 640, 601, 100, 3, 1])
@torch.no_grad()
def test_windows_are_encoded_one_by_one(samples: int, bidirectional: bool):
    net, values = model(bidirectional=bidirectional), torch.randn(2, 12, samples)
    output = net(values, output_hidden_states=True)
    apart = torch.cat([net(piece).last_hidden_state for piece in values.split(250, dim=-1)], dim=1)
    assert output.last_hidden_state.shape == (2, -(-samples // 2), 16)
    close(output.last_hidden_state, apart)
    close(output.pooler_output, apart.mean(1))
    assert [state.shape for state in output.hidden_states] == [apart.shape] * 3
    close(output.hidden_states[-1], apart)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("bidirectional", [False, True])
@torch.no_grad()
def test_padding_does_not_matter(side: str, bidirectional: bool):
    """Whatever stands in it. On the left by whole windows, else the record would be cut elsewhere."""
    net, values = model(bidirectional=bidirectional), torch.randn(2, 12, 500)
    held = torch.ones(2, 1000, dtype=torch.long)
    padded = torch.full((2, 12, 1000), 50.0)
    if side == "right":
        padded[..., :500], held[:, 500:] = values, 0
    else:
        padded[..., 500:], held[:, :500] = values, 0
    close(net(padded, sample_mask=held).pooler_output, net(values).pooler_output)
    short = torch.ones(2, 1000, dtype=torch.long)
    short[:, 301:] = 0
    output = net(torch.cat([values, values], -1), sample_mask=short)
    tokens = net.token_mask(values, None, short)
    assert tokens.sum(1).tolist() == [151, 151]
    close(output.last_hidden_state[tokens].view(2, 151, 16), net(values[..., :301]).last_hidden_state)


@torch.no_grad()
def test_whole_records_in_one_pass():
    whole, cut = model(window_samples=None, num_samples=1500), model(num_samples=1500)
    values = torch.randn(1, 12, 1500)
    assert whole(values).last_hidden_state.shape == (1, 750, 16)
    close(whole(values[..., :250]).last_hidden_state, cut(values[..., :250]).last_hidden_state)
    later = whole(values).last_hidden_state[:, 130:] - cut(values).last_hidden_state[:, 130:]
    assert later.abs().max() > 0.01


@pytest.mark.parametrize("chunk", [1, 7, 64])
@pytest.mark.parametrize("samples", [600, 601])
@torch.no_grad()
def test_stream_equals_one_pass(chunk: int, samples: int):
    net, values = model(window_samples=None), torch.randn(2, 12, samples)
    lead_mask = torch.ones(2, 12, dtype=torch.long)
    lead_mask[1, 4] = 0
    stream, tokens = net.init_stream(2, lead_mask), []
    for piece in values.split(chunk, dim=-1):
        output, stream = net.stream_step(piece, stream)
        tokens.append(output)
        assert sum(waiting.numel() for waiting in stream.waiting) <= 2 * 12 * 3
    last, _ = net.stream_step(values[..., :0], stream, final=True)
    assert last.shape[1] == samples % 2
    found = torch.cat([*tokens, last], 1)
    torch.testing.assert_close(found, net(values, lead_mask).last_hidden_state, rtol=0, atol=1e-5)


@torch.no_grad()
def test_streams_can_branch():
    net, values = model(), torch.randn(1, 12, 40)
    _, stream = net.stream_step(values[..., :20], net.init_stream(1))
    first, _ = net.stream_step(values[..., 20:], stream)
    again, _ = net.stream_step(values[..., 20:], stream)
    assert torch.equal(first, again)


def test_streaming_is_refused_where_it_would_be_wrong():
    with pytest.raises(ConfigurationError, match="bidirectional"):
        model(bidirectional=True).init_stream(1)
    with pytest.raises(ConfigurationError, match="evaluation mode"):
        model().train().init_stream(1)
    with pytest.raises(ConfigurationError, match="12 leads"):
        model().stream_step(torch.zeros(1, 3, 8), model().init_stream(1))


def test_crops_lie_in_the_signal():
    values = torch.arange(100.0).expand(4, 2, 100)
    mask = torch.ones(4, 100, dtype=torch.long)
    mask[1, 60:], mask[2, :30], mask[3, 10:] = 0, 0, 0
    low, _ = crop_records(values, mask, 40, torch.zeros(4))
    high, held = crop_records(values, mask, 40, torch.full((4,), 1.0 - 2**-24))
    assert low[:, 0, 0].tolist() == [0, 0, 30, 0]
    assert high[:, 0, -1].tolist() == [99, 59, 99, 39]
    assert held.sum(1).tolist() == [40, 40, 40, 10]
    starts = crop_records(values, None, 40, torch.rand(4))[0][:, 0]
    assert torch.equal(starts - starts[:, :1], torch.arange(40.0).expand(4, -1))


def test_every_start_is_equally_likely():
    values = torch.arange(12.0).expand(6000, 1, 12)
    starts = crop_records(values, None, 9, torch.rand(6000))[0][:, 0, 0].long()
    torch.testing.assert_close(torch.bincount(starts) / 6000, torch.full((4,), 0.25), rtol=0, atol=0.025)


def test_short_records_count_only_what_they_hold():
    torch.manual_seed(0)
    net = EcgCpcForPreTraining(config()).eval()
    values, mask = torch.randn(2, 12, 1000), torch.ones(2, 1000, dtype=torch.long)
    noise = net.draw_noise({"input_values": values}, torch.Generator().manual_seed(0))
    mask[1, 100:] = 0
    changed = values.clone()
    changed[1, :, 100:] = 9.0
    first, second = (net(v, sample_mask=mask, **noise).loss for v in (values, changed))
    assert torch.equal(first, second)
    assert not torch.equal(first, net(values, **noise).loss)


def test_clipping_is_for_pretraining_only():
    torch.manual_seed(0)
    free, clipped = (EcgCpcForPreTraining(config(clip_mv=limit)).eval() for limit in (None, 3.0))
    clipped.load_state_dict(free.state_dict())
    values = 3 * torch.randn(2, 12, 1000)
    noise = free.draw_noise({"input_values": values}, torch.Generator().manual_seed(0))
    assert torch.equal(free(values.clamp(-3, 3), **noise).loss, clipped(values, **noise).loss)
    assert not torch.equal(free(values, **noise).loss, clipped(values, **noise).loss)
    assert torch.equal(free.ecg_cpc(values).pooler_output, clipped.ecg_cpc(values).pooler_output)
    assert EcgCpcFeatureExtractor().clip is None
    assert EcgCpcFeatureExtractor(clip_mv=3.0).clip == 3.0


def classifier(
    pooling: str = "attention", kind: str | None = None, **overrides
) -> EcgCpcForEcgClassification:
    torch.manual_seed(0)
    net = EcgCpcForEcgClassification(
        config(num_labels=3, classifier_pooling=pooling, problem_type=kind, **overrides)
    )
    with torch.no_grad():
        net.classifier.weight.mul_(4.0)
    return net


@pytest.mark.parametrize("pooling", ["mean", "attention"])
@pytest.mark.parametrize(
    ("kind", "function"),
    [
        ("multi_label_classification", torch.sigmoid),
        ("single_label_classification", lambda logits: logits.softmax(-1)),
        ("regression", lambda logits: logits),
        (None, lambda logits: logits.softmax(-1)),
    ],
)
@torch.no_grad()
def test_evaluation_averages_the_probabilities_of_windows(pooling: str, kind: str | None, function):
    net, values = classifier(pooling, kind).eval(), torch.randn(4, 12, 1000)
    values = values * torch.tensor([0.1, 0.5, 1.0, 4.0]).repeat_interleave(250)  # windows unlike each other
    each = torch.stack([function(net(piece).logits) for piece in values.split(250, dim=-1)])
    torch.testing.assert_close(function(net(values).logits), each.mean(0), rtol=1e-4, atol=1e-5)
    assert each.std(0).max() > 0.02
    mask = torch.ones(4, 1000, dtype=torch.long)
    mask[:, 350:] = 0
    first = function(net(values[..., :250]).logits)
    second = function(net(values[..., 250:350]).logits)
    weighted = (250 * first + 100 * second) / 350
    torch.testing.assert_close(function(net(values, sample_mask=mask).logits), weighted, rtol=1e-4, atol=1e-5)


def test_extreme_probabilities_keep_their_digits():
    logits = torch.tensor([[[40.0], [60.0]], [[-90.0], [-95.0]]])
    found = mean_probability_logits(logits, torch.full((2, 2), 0.5), "multi_label_classification")
    torch.testing.assert_close(
        found[:, 0], torch.tensor([40.0 + 0.6931, -90.0 - 0.6931 + 0.0067]), rtol=0, atol=1e-3
    )


def test_an_empty_record_gives_finite_logits():
    net = classifier().eval()
    mask = torch.ones(2, 1000, dtype=torch.long)
    mask[1] = 0
    assert net(torch.randn(2, 12, 1000), sample_mask=mask).logits.isfinite().all()


def test_training_takes_one_random_window():
    net = classifier().train()
    seen = []
    net.ecg_cpc.encoder.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    values = torch.arange(1000.0).expand(64, 12, 1000)
    net(values)
    starts = seen[0][:, 0, 0]
    assert seen[0].shape == (64, 12, 250)
    assert torch.equal(seen[0][:, 5] - starts[:, None], torch.arange(250.0).expand(64, -1))
    assert len(starts.unique()) > 30
    assert 0 <= starts.min() < starts.max() <= 750


def test_frozen_encoder_keeps_weights_statistics_and_has_no_dropout(tmp_path):
    EcgCpcForPreTraining(config(hidden_dropout_prob=0.5)).save_pretrained(tmp_path)
    net = EcgCpcForEcgClassification.from_pretrained(tmp_path, num_labels=2, freeze_encoder=True)
    before = {name: value.clone() for name, value in net.ecg_cpc.state_dict().items()}
    values, labels = torch.randn(4, 12, 250), torch.rand(4, 2).round()
    net.train()
    assert net.training
    assert net.classifier.training
    assert torch.equal(net(values).logits, net(values).logits)
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    net(values, labels=labels).loss.backward()
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in net.ecg_cpc.state_dict().items())
    trained = {name.split(".")[0] for name, p in net.named_parameters() if p.grad is not None}
    assert trained == {"classifier_pool", "classifier"}


def test_attention_head_is_the_official_one():
    """1 query, three projections without bias, no output projection: 3,756,032 numbers with 71 outputs."""
    with torch.device("meta"):
        net = EcgCpcForEcgClassification(EcgCpcConfig(num_labels=71))
    assert net.num_parameters() == 3_756_032
    names = {name for name, _ in net.named_parameters() if name.startswith("classifier")}
    projections = {f"classifier_pool.{part}_projection.weight" for part in ("query", "key", "value")}
    assert names == {"classifier_pool.query", "classifier.weight", *projections}
    torch.manual_seed(0)
    query = EcgCpcForEcgClassification(EcgCpcConfig(num_labels=2)).classifier_pool.query
    assert query.std().item() == pytest.approx(512**-0.5, rel=0.15)


@torch.no_grad()
def test_loading_in_bfloat16_keeps_the_time_steps(tmp_path):
    net = model()
    net.save_pretrained(tmp_path)
    half = AutoModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    layer, reference = half.context.blocks[0].s4, net.context.blocks[0].s4
    assert layer.C.dtype == torch.bfloat16
    assert torch.equal(layer.log_dt, reference.log_dt)
    assert torch.equal(layer.basis, reference.basis)
    output = half(torch.randn(2, 12, 500).bfloat16())
    assert output.last_hidden_state.dtype == torch.bfloat16
    assert output.pooler_output.isfinite().all()


@torch.no_grad()
def test_loaded_weights_bring_their_basis(tmp_path):
    net, other = model(0), model(1)
    net.save_pretrained(tmp_path)
    values = torch.randn(1, 12, 250)
    expected = net(values).pooler_output
    assert torch.equal(AutoModel.from_pretrained(tmp_path).eval()(values).pooler_output, expected)
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(values).pooler_output, expected)


@pytest.mark.parametrize(
    "overrides",
    [
        {"window_samples": 251},
        {"window_samples": 0},
        {"window_samples": 10},
        {"stem_kernel_sizes": [3, 1]},
        {"stem_kernel_sizes": [4, 1, 1, 1]},
        {"stem_strides": [4, 1, 1, 1]},
        {"num_samples": 0},
        {"num_hidden_layers": 0},
        {"classifier_num_heads": 3},
        {"dt_min": 0.2},
        {"steps_predicted": 125},
        {"steps_predicted": 0},
        {"num_negatives": 0},
        {"hidden_dropout_prob": 1.0},
        {"clip_mv": 0},
    ],
    ids=str,
)
def test_contradictions_are_refused(overrides):
    with pytest.raises(ConfigurationError):
        config(**overrides)


def test_records_too_short_to_predict_are_refused():
    net = EcgCpcForPreTraining(config())
    with pytest.raises(ConfigurationError, match="too few"):
        net(torch.zeros(1, 12, 14))
    with pytest.raises(ConfigurationError, match="no samples"):
        net.ecg_cpc(torch.zeros(1, 12, 0))
    with pytest.raises(ConfigurationError, match="future"):
        EcgCpcForPreTraining(config(bidirectional=True))


def test_presets_are_the_papers():
    base, whole = EcgCpcConfig.preset("base"), EcgCpcConfig.preset("base-10s")
    assert (base.num_tokens, base.num_samples / base.sampling_rate, base.window_samples) == (300, 10.0, 600)
    assert (whole.num_tokens, whole.window_samples) == (1200, None)
    assert (base.hidden_size, base.num_hidden_layers, base.state_size) == (512, 4, 8)
    assert base.steps_predicted / (base.sampling_rate / base.patch_size) == pytest.approx(0.117, abs=1e-3)
