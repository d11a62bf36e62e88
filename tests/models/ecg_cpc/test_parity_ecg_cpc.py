"""ECG-CPC against the official implementation (fixtures); at the published size against an independent recurrence."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers import AutoModel, AutoModelForPreTraining

from ecg_hf.errors import ConfigurationError, ConversionError
from ecg_hf.hub.converting import convert_checkpoint
from ecg_hf.models.auto import AutoModelForEcgClassification
from ecg_hf.models.conversion import OfficialState
from ecg_hf.models.ecg_cpc.configuration_ecg_cpc import EcgCpcConfig
from ecg_hf.models.ecg_cpc.conversion_ecg_cpc import convert_official
from ecg_hf.models.ecg_cpc.modeling_ecg_cpc import EcgCpcForPreTraining, EcgCpcModel
from ecg_hf.nn.backbones.hippo import discretize, hippo_legs
from ecg_hf.nn.losses import cpc_logits, cpc_loss

STEPS = 5  # of the fixture's loss


@pytest.fixture(scope="module")
def official(shared_fixtures: Path) -> dict[str, torch.Tensor]:
    return load_file(shared_fixtures / "cpc_s4" / "causal_state_dict.safetensors")


@pytest.fixture(scope="module")
def expected(shared_fixtures: Path) -> dict[str, torch.Tensor]:
    return load_file(shared_fixtures / "cpc_s4" / "causal_io.safetensors")


@pytest.fixture(scope="module")
def folder(shared_fixtures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("converted") / "ecg-cpc"
    convert_checkpoint("ecg-cpc", shared_fixtures / "cpc_s4" / "causal_state_dict.safetensors", target)
    return target


@pytest.mark.fixtures
@torch.no_grad()
def test_every_tensor_of_the_official_model(folder: Path, expected: dict[str, torch.Tensor]):
    model = AutoModelForPreTraining.from_pretrained(folder, steps_predicted=STEPS, num_negatives=7).eval()
    base, values = model.ecg_cpc, expected["input"]
    layer = base.context.blocks[0].s4
    targets, output = base.encoder(values), base(values)
    prediction = model.prediction_head(output.last_hidden_state)
    found = {
        "encoder_out": targets,
        "context": output.last_hidden_state,
        "pooled": output.pooler_output,
        "ssl_pred": prediction,
        "layer0_kernel": layer.kernel(60),
        "layer0_s4_out": layer(targets),
        "cpc_sim": cpc_logits(prediction, targets, expected["cpc_neg_idx"], STEPS),
    }
    for name, value in found.items():
        torch.testing.assert_close(
            value, expected[name], rtol=0, atol=5e-6, msg=lambda m, n=name: f"{n}: {m}"
        )
    # float32 of the stored C~ is divided by I - dA^60, which is small for the smallest steps.
    torch.testing.assert_close(layer.C, expected["layer0_C_real_hippo_basis"], rtol=1e-5, atol=5e-5)
    result = model(values, crop_noise=torch.zeros(3), negative_index=expected["cpc_neg_idx"])
    torch.testing.assert_close(result.loss, expected["cpc_loss"][0], rtol=1e-6, atol=0)
    torch.testing.assert_close(result.metrics["cpc_accuracy"], expected["cpc_acc"][0])


@pytest.mark.fixtures
@torch.no_grad()
def test_base_model_loads_and_streams_the_converted_weights(folder: Path, expected: dict[str, torch.Tensor]):
    model = AutoModel.from_pretrained(folder).eval()
    stream, tokens = model.init_stream(3), []
    for chunk in expected["input"].split(7, dim=-1):
        output, stream = model.stream_step(chunk, stream)
        tokens.append(output)
    torch.testing.assert_close(torch.cat(tokens, 1), expected["context"], rtol=0, atol=1e-5)


@pytest.mark.fixtures
def test_gradient_of_the_loss_is_that_of_a_loop(folder: Path, expected: dict[str, torch.Tensor]):
    model = AutoModelForPreTraining.from_pretrained(folder).eval()
    index = expected["cpc_neg_idx"]

    def forward() -> tuple[torch.Tensor, torch.Tensor]:
        targets = model.ecg_cpc.encoder(expected["input"])
        return model.prediction_head(model.ecg_cpc.context(targets)), targets

    predictions, targets = forward()
    total = torch.zeros(())
    for position in range(index.shape[1]):
        losses = []
        for record in range(3):
            rows = [position + STEPS, *index[record, position].tolist()]
            scores = targets[record, rows] @ predictions[record, position]
            losses.append(F.cross_entropy(scores[None], torch.zeros(1, dtype=torch.long)))
        total = total + torch.stack(losses).mean()
    weights = dict(model.named_parameters())
    wanted = torch.autograd.grad(total, list(weights.values()))
    found = torch.autograd.grad(cpc_loss(*forward(), index, STEPS).loss, list(weights.values()))
    for name, ours, theirs in zip(weights, found, wanted, strict=True):
        scale = theirs.abs().max().item()
        assert scale > 0, name
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * max(scale, 1.0), msg=name)


@pytest.mark.fixtures
def test_layouts_of_the_checkpoint(official: dict[str, torch.Tensor], tmp_path: Path):
    """Whole module or encoder only, with or without the prefix, bare or inside a Lightning checkpoint."""
    encoder = {key: value for key, value in official.items() if "head_ssl" not in key}
    bare = {key.removeprefix("ts_encoder."): value for key, value in official.items()}
    reference = convert_official(OfficialState(official))
    for tensors, role in ((official, "pretraining"), (encoder, "model"), (bare, "pretraining")):
        state = OfficialState(tensors)
        converted = convert_official(state)
        state.finish()
        assert converted.role == role
        for key, value in converted.state_dict.items():
            name = key if key in reference.state_dict else f"ecg_cpc.{key}"
            assert torch.equal(value, reference.state_dict[name])
    torch.save({"state_dict": official, "epoch": 3}, tmp_path / "last.ckpt")
    report = convert_checkpoint("ecg-cpc", tmp_path / "last.ckpt", tmp_path / "out")
    assert report.model_class == "EcgCpcForPreTraining"
    assert AutoModel.from_pretrained(tmp_path / "out").config.hidden_size == 16


@pytest.mark.fixtures
def test_sizes_and_windows_are_inferred(official: dict[str, torch.Tensor]):
    config = convert_official(OfficialState(official)).config
    assert (config.hidden_size, config.num_hidden_layers, config.state_size) == (16, 2, 8)
    assert (list(config.stem_kernel_sizes), list(config.stem_strides)) == ([3, 1, 1, 1], [2, 1, 1, 1])
    assert (config.window_samples, config.num_samples, config.sampling_rate) == (120, 2400, 240)
    longer = convert_official(OfficialState(official), num_samples=7200).config
    assert (longer.window_samples, longer.num_samples) == (120, 7200)
    assert convert_official(OfficialState(official), num_samples=120).config.window_samples is None


@pytest.mark.fixtures
def test_readout_is_uncorrected_by_the_length_it_was_saved_for(official: dict[str, torch.Tensor]):
    """601 frequencies: C was multiplied by I - dA^1200 and not by I - dA^60; the window then is the whole record."""
    longer = {k: torch.zeros(601, 2) if k.endswith("omega") else v for k, v in official.items()}
    converted = convert_official(OfficialState(longer))
    assert (converted.config.window_samples, converted.config.num_samples) == (None, 2400)
    short, identity = convert_official(OfficialState(official)), torch.eye(8, dtype=torch.float64)
    for i in range(2):
        key = f"ecg_cpc.context.blocks.{i}.s4."
        transition = discretize(short.state_dict[f"{key}log_dt"], 8).transition
        corrected = [
            result.state_dict[f"{key}C"][0, :, None].double()
            @ (identity - torch.linalg.matrix_power(transition, length))
            for result, length in ((short, 60), (converted, 1200))
        ]
        torch.testing.assert_close(*corrected, rtol=1e-5, atol=1e-5)
        assert (short.state_dict[f"{key}C"] - converted.state_dict[f"{key}C"]).abs().max() > 0.01


@pytest.mark.fixtures
def test_problems_are_listed(official: dict[str, torch.Tensor]):
    def problems(change) -> ConversionError:
        tensors = dict(official)
        change(tensors)
        state = OfficialState(tensors)
        try:
            convert_official(state)
            state.finish()
        except ConversionError as error:
            return error
        pytest.fail("nothing was noticed")

    norm, layer = "ts_encoder.predictor.predictor.norms.1.bias", "ts_encoder.predictor.predictor.s4_layers.1."
    assert norm in str(problems(lambda t: t.pop(norm)))
    assert "mis-shaped" in str(problems(lambda t: t.update({f"{layer}D": torch.zeros(1, 3)})))
    assert "unexpected" in str(problems(lambda t: t.update({"head.weight": torch.zeros(1)})))
    assert "not a checkpoint" in str(problems(dict.clear))
    moved = official[f"{layer}kernel.kernel.w"] + 1.0
    assert "HiPPO" in str(problems(lambda t: t.update({f"{layer}kernel.kernel.w": moved})))


@pytest.fixture(scope="module")
def both_ways(official: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A bidirectional file: the fixture's weights, its read-out of the past used for the future too."""
    return {
        key: torch.cat([value, value]) if key.endswith("kernel.kernel.C") else value
        for key, value in official.items()
    }


@pytest.mark.fixtures
@torch.no_grad()
def test_a_bidirectional_file_becomes_an_encoder(
    both_ways: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tmp_path: Path
):
    torch.save({"state_dict": both_ways, "epoch": 3}, tmp_path / "last.ckpt")
    report = convert_checkpoint("ecg-cpc", tmp_path / "last.ckpt", tmp_path / "out")
    assert report.model_class == "EcgCpcModel"
    assert any("bidirectional" in note and "head" in note for note in report.notes)
    model = AutoModel.from_pretrained(tmp_path / "out").eval()
    assert model.config.bidirectional

    # The state space as the sum that defines it, over the official kernel: token t sees token t + 1 + j by k[j].
    kernel, tokens = expected["layer0_kernel"][0].double(), expected["encoder_out"].double()
    past = sum(kernel[:, j, None] * F.pad(tokens.mT, (j, 0))[..., :60] for j in range(60))
    future = sum(kernel[:, j, None] * F.pad(tokens.mT, (0, j + 1))[..., j + 1 :] for j in range(60))
    key = "ts_encoder.predictor.predictor.s4_layers.0."
    states = past + future + both_ways[f"{key}D"][0][:, None] * tokens.mT
    weight = both_ways[f"{key}output_linear.0.weight"].double()
    bias = both_ways[f"{key}output_linear.0.bias"][:, 0].double()
    wanted = F.glu(F.linear(F.gelu(states.mT), weight, bias), -1)
    layer = model.context.blocks[0].s4
    torch.testing.assert_close(layer(expected["encoder_out"]).double(), wanted, rtol=0, atol=1e-5)

    output = model(expected["input"])
    torch.testing.assert_close(output.pooler_output, output.last_hidden_state.mean(1))
    later = expected["input"].clone()
    later[..., 80:] += 1.0
    assert (model(later).last_hidden_state - output.last_hidden_state)[:, 0].abs().max() > 1e-4


@pytest.mark.fixtures
@torch.no_grad()
def test_a_kernel_of_zeros_for_the_future_is_the_causal_network(
    official: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tmp_path: Path
):
    causal = {
        key: torch.cat([value, torch.zeros_like(value)]) if key.endswith("kernel.kernel.C") else value
        for key, value in official.items()
    }
    save_file(causal, tmp_path / "model.safetensors")
    convert_checkpoint("ecg-cpc", tmp_path / "model.safetensors", tmp_path / "out")
    output = AutoModel.from_pretrained(tmp_path / "out").eval()(expected["input"])
    torch.testing.assert_close(output.last_hidden_state, expected["context"], rtol=0, atol=1e-5)
    torch.testing.assert_close(output.pooler_output, expected["pooled"], rtol=0, atol=1e-5)


@pytest.mark.fixtures
def test_only_pretraining_refuses_a_bidirectional_encoder(
    both_ways: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tmp_path: Path
):
    encoder = {key: value for key, value in both_ways.items() if "head_ssl" not in key}
    save_file(encoder, tmp_path / "model.safetensors")
    report = convert_checkpoint("ecg-cpc", tmp_path / "model.safetensors", tmp_path / "out")
    assert not any("left out" in note for note in report.notes)
    classifier = AutoModelForEcgClassification.from_pretrained(tmp_path / "out", num_labels=3)
    output = classifier(expected["input"], labels=torch.zeros(3, 3))
    output.loss.backward()
    assert output.logits.shape == (3, 3)
    assert classifier.ecg_cpc.context.blocks[0].s4.C.grad[1].abs().max() > 0
    with pytest.raises(ConfigurationError, match="bidirectional network sees"):
        AutoModelForPreTraining.from_pretrained(tmp_path / "out")


def test_published_sizes():
    with torch.device("meta"):
        model = EcgCpcForPreTraining(EcgCpcConfig.preset("base"))
    assert model.ecg_cpc.num_parameters() == 2_932_736
    assert model.num_parameters() == 3_194_880
    assert len(model.ecg_cpc.state_dict()) == 4 * 6 + 4 * 7


@torch.no_grad()
def test_published_size_against_a_recurrence_in_float64():
    """An independent forward: convolutions as matrix products, state spaces sample by sample."""
    torch.manual_seed(0)
    model = EcgCpcModel(EcgCpcConfig.preset("base")).eval()
    for block in model.encoder:
        block.norm.running_mean.normal_()
        block.norm.running_var.uniform_(0.5, 2.0)
    values = torch.randn(1, 12, 90)
    output = model(values).last_hidden_state
    state = {key: value.double() for key, value in model.state_dict().items()}
    padded = torch.cat([torch.zeros(12, 1), values[0], torch.zeros(12, 1)], 1).double()
    tokens = torch.stack([padded[:, 2 * i : 2 * i + 3].flatten() for i in range(45)])
    for i in range(4):
        tokens = tokens @ state[f"encoder.{i}.conv.weight"].flatten(1).T
        mean, variance = state[f"encoder.{i}.norm.running_mean"], state[f"encoder.{i}.norm.running_var"]
        tokens = (tokens - mean) / (variance + 1e-5).sqrt()
        tokens = (tokens * state[f"encoder.{i}.norm.weight"] + state[f"encoder.{i}.norm.bias"]).relu()
    a, b = hippo_legs(8)
    identity = torch.eye(8, dtype=torch.float64)
    for i in range(4):
        own = {k.removeprefix(f"context.blocks.{i}."): v for k, v in state.items() if f"blocks.{i}." in k}
        half = own["s4.log_dt"].exp()[:, None, None] / 2
        inverse = torch.linalg.inv(identity - half * a)
        step, drive = inverse @ (identity + half * a), 2 * half[:, 0] * (inverse @ b)
        memory, responses = torch.zeros(512, 8, dtype=torch.float64), []
        for token in tokens:
            memory = torch.einsum("hnm,hm->hn", step, memory) + drive * token[:, None]
            responses.append((own["s4.C"][0] * memory).sum(1) + own["s4.D"] * token)
        value, gate = F.linear(
            F.gelu(torch.stack(responses)), own["s4.output.weight"], own["s4.output.bias"]
        ).chunk(2, -1)
        tokens = F.layer_norm(
            tokens + value * gate.sigmoid(), (512,), own["norm.weight"], own["norm.bias"], 1e-5
        )
    torch.testing.assert_close(output[0].double(), tokens, rtol=0, atol=2e-5)


@pytest.mark.fixtures
def test_converted_folder_is_complete(folder: Path):
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "preprocessor_config.json", "README.md"} <= names
