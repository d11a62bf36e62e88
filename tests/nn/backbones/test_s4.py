"""S4: kernels against the definition, whole signals against a dense sum, streams against whole signals."""

import copy
import math
import pickle

import pytest
import torch
from torch.nn import functional as F

from ecg_hf.nn.backbones.hippo import discretize, hippo_legs, kernel_basis
from ecg_hf.nn.backbones.s4 import S4Block, S4Layer, S4Stack, TiedDropout, fft_convolve


def dense_response(layer: S4Layer, signal: torch.Tensor) -> torch.Tensor:
    """``(batch, tokens, H)`` through the state space, by the definition: matrix powers and a double sum over time."""
    a, b = hippo_legs(layer.state_size)
    signal, length = signal.double(), signal.shape[1]
    dt = layer.log_dt.double().exp()
    identity = torch.eye(layer.state_size, dtype=torch.float64)
    kernels = torch.zeros(layer.C.shape[0], layer.hidden_size, length, dtype=torch.float64)
    for h in range(layer.hidden_size):
        inverse = torch.linalg.inv(identity - dt[h] / 2 * a)
        step, drive = inverse @ (identity + dt[h] / 2 * a), inverse @ (dt[h] * b)
        for time in range(length):
            kernels[:, h, time] = layer.C[:, h].double() @ torch.linalg.matrix_power(step, time) @ drive
    response = layer.D.double() * signal
    for time in range(length):
        for past in range(time + 1):
            response[:, time] += kernels[0, :, past] * signal[:, time - past]
        if layer.bidirectional:
            for ahead in range(length - time - 1):
                response[:, time] += kernels[1, :, ahead] * signal[:, time + 1 + ahead]
    return response


def mixed(layer: S4Layer, response: torch.Tensor) -> torch.Tensor:
    value, gate = layer.output(F.gelu(response.float())).chunk(2, -1)
    return value * gate.sigmoid()


def test_hippo_is_the_published_matrix():
    a, b = hippo_legs(3)
    expected = [
        [-1.0, 0.0, 0.0],
        [-math.sqrt(3), -2.0, 0.0],
        [-math.sqrt(5), -math.sqrt(15), -3.0],
    ]
    torch.testing.assert_close(a, torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(b, torch.tensor([1.0, 3.0, 5.0], dtype=torch.float64).sqrt())


def test_basis_is_the_impulse_response():
    dynamics = discretize(torch.tensor([-3.0, -6.0]), 4)
    basis = kernel_basis(dynamics, 37)
    state = dynamics.drive
    for time in range(37):
        torch.testing.assert_close(basis[..., time], state, rtol=1e-12, atol=1e-14)
        state = (dynamics.transition @ state.unsqueeze(-1)).squeeze(-1)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("tokens", [23, 40])
def test_convolution_is_the_dense_sum(bidirectional: bool, tokens: int):
    """40 tokens are more than the basis was built for."""
    torch.manual_seed(0)
    layer = S4Layer(6, 8, max_length=23, bidirectional=bidirectional).eval()
    signal = torch.randn(2, tokens, 6)
    with torch.no_grad():
        expected = mixed(layer, dense_response(layer, signal))
        torch.testing.assert_close(layer(signal), expected, rtol=0, atol=2e-6)
    assert layer.basis.shape[-1] == tokens
    assert "basis" not in layer.state_dict()


@pytest.mark.parametrize("tokens", [1, 23])
@pytest.mark.parametrize("both", [False, True])
def test_an_exported_convolution_is_the_same(both: bool, tokens: int, monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    kernels = torch.randn(2 if both else 1, 6, tokens)
    signal = torch.randn(2, 6, tokens)
    expected = fft_convolve(signal, *kernels)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    torch.testing.assert_close(fft_convolve(signal, *kernels), expected, rtol=0, atol=1e-5)


def test_convolution_does_not_wrap_around():
    signal, kernel = torch.zeros(1, 1, 5), torch.arange(1.0, 6.0).unsqueeze(0)
    signal[..., 4] = 1.0
    torch.testing.assert_close(fft_convolve(signal, kernel), torch.tensor([[[0.0, 0, 0, 0, 1]]]))
    ahead = fft_convolve(signal, torch.zeros(1, 5), kernel)
    torch.testing.assert_close(ahead, torch.tensor([[[4.0, 3, 2, 1, 0]]]))


def test_causal_layer_does_not_see_the_future():
    layer, signal = S4Layer(4, max_length=20).eval(), torch.randn(1, 20, 4)
    changed = signal.clone()
    changed[:, 12:] += 1.0
    with torch.no_grad():
        before, after = layer(signal), layer(changed)
    torch.testing.assert_close(before[:, :12], after[:, :12], rtol=0, atol=1e-6)
    assert (before[:, 12:] - after[:, 12:]).abs().min() > 0


@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_leaves_no_trace(bidirectional: bool):
    torch.manual_seed(0)
    stack = S4Stack(3, lambda: S4Block(8, max_length=30, bidirectional=bidirectional)).eval()
    signal = torch.randn(2, 30, 8)
    mask = (torch.arange(30) >= 7) & (torch.arange(30) < 25)
    with torch.no_grad():
        padded = stack(signal, mask.expand(2, -1))[:, 7:25]
        torch.testing.assert_close(padded, stack(signal[:, 7:25]), rtol=0, atol=2e-6)


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_stream_equals_convolution(chunk: int):
    torch.manual_seed(0)
    stack = S4Stack(3, lambda: S4Block(16, max_length=200)).eval()
    signal = torch.randn(3, 200, 16)
    with torch.no_grad():
        states, outputs = stack.init_stream(3), []
        sizes = {state.value.shape for state in states}
        for piece in signal.split(chunk, dim=1):
            output, states = stack.stream_step(piece, states)
            outputs.append(output)
        assert {state.value.shape for state in states} == sizes
        torch.testing.assert_close(torch.cat(outputs, 1), stack(signal), rtol=0, atol=1e-5)


def test_an_empty_chunk_changes_nothing():
    stack = S4Stack(1, lambda: S4Block(4)).eval()
    output, states = stack.stream_step(torch.zeros(2, 0, 4), stack.init_stream(2))
    assert output.shape == (2, 0, 4)
    assert not states[0].value.any()


def test_bidirectional_layers_cannot_be_streamed():
    with pytest.raises(ValueError, match="bidirectional"):
        S4Layer(4, bidirectional=True).init_stream(1)


def test_basis_follows_loaded_steps():
    """log_dt is random, fixed and saved; the basis is not saved and must not stay that of other steps."""
    torch.manual_seed(0)
    first, second = S4Layer(8, max_length=50).eval(), S4Layer(8, max_length=50).eval()
    signal = torch.randn(1, 50, 8)
    assert not torch.equal(first(signal), second(signal))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(signal), second(signal))
    for other in (copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
        assert torch.equal(first(signal), other(signal))


def test_steps_are_uniform_on_a_logarithmic_scale():
    log_dt = S4Layer(4000).log_dt
    assert log_dt.min() >= math.log(1e-3)
    assert log_dt.max() <= math.log(0.1)
    share = (log_dt < math.log(1e-2)).float().mean().item()
    assert share == pytest.approx(0.5, abs=0.03)


def test_only_readout_and_linear_layers_learn():
    block = S4Block(8)
    assert {name for name, _ in block.named_parameters()} == {
        *("s4.C", "s4.D", "s4.output.weight", "s4.output.bias", "norm.weight", "norm.bias")
    }


def test_half_precision_keeps_steps_and_convolution():
    torch.manual_seed(0)
    layer, signal = S4Layer(8, max_length=60).eval(), torch.randn(2, 60, 8)
    expected, steps = layer(signal), layer.log_dt.clone()
    layer.to(torch.bfloat16)
    assert layer.C.dtype == torch.bfloat16
    assert torch.equal(layer.log_dt, steps)
    output = layer(signal.bfloat16())
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), expected, rtol=0.05, atol=0.05)
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert S4Layer(4).basis.dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_double_precision_has_the_right_gradient():
    torch.manual_seed(0)
    layer = S4Layer(3, 4, max_length=6, bidirectional=True).double()
    signal = torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (signal,))


def test_dropout_is_tied_over_time():
    torch.manual_seed(0)
    dropped = TiedDropout(0.4)(torch.ones(500, 7, 4))
    assert torch.equal(dropped, dropped[:, :1].expand(-1, 7, -1))
    kept = (dropped[:, 0] > 0).float().mean().item()
    assert kept == pytest.approx(0.6, abs=0.05)
    torch.testing.assert_close(dropped.max(), torch.tensor(1 / 0.6))
    assert torch.equal(TiedDropout(0.4).eval()(torch.ones(2, 3, 4)), torch.ones(2, 3, 4))


def test_post_norm():
    torch.manual_seed(0)
    block, signal = S4Block(8, max_length=20).eval(), torch.randn(2, 20, 8)
    torch.testing.assert_close(block(signal), F.layer_norm(signal + block.s4(signal), (8,)))
