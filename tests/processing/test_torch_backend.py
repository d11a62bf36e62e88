"""The torch path gives the numbers of the numpy path."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ecg_hf.errors import ConfigurationError, SignalError
from ecg_hf.processing import NORMALIZATIONS, EcgFeatureExtractor
from ecg_hf.processing.backend import NumpyBackend
from ecg_hf.processing.torch_backend import TorchBackend
from ecg_hf.signal import STANDARD_LEADS, EcgRecord
from ecg_hf.signal.synthetic import simulate

TOLERANCE = 1e-5
ECGS = simulate(3, seed=5, sampling_rate=360.0).signal
OPTIONS: dict[str, Any] = {"sampling_rate": 360, "lead_names": STANDARD_LEADS}


def devices() -> list[str]:
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


@pytest.fixture(params=devices())
def backend(request: pytest.FixtureRequest) -> TorchBackend:
    """A backend that does not hand its work to scipy."""
    return TorchBackend(request.param, scipy_on_cpu=False)


@pytest.mark.parametrize("method", ["polyphase", "fft"])
@pytest.mark.parametrize(
    ("rate_in", "rate_out"),
    [
        (360, 100),
        (100, 360),
        (500, 250),
        (250, 500),
        (360, 500),
        (257, 500),
        (500, 500.5),
        (1000, 7),
        (499.37, 100),
    ],
)
@pytest.mark.parametrize("n_samples", [2, 3, 50, 999, 1000])
def test_resampling(
    backend: TorchBackend, method: str, rate_in: float, rate_out: float, n_samples: int
) -> None:
    signal = ECGS[..., :n_samples] + np.float32(0.5)
    expected = NumpyBackend().resample(signal, rate_in, rate_out, method)
    out = backend.resample(backend.float32(signal), rate_in, rate_out, method)
    assert out.shape == expected.shape
    np.testing.assert_allclose(backend.to_numpy(out), expected, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("highpass", (0.05, 2)),
        ("highpass", (0.5, 4)),
        ("highpass", (0.67, 5)),
        ("lowpass", (40.0, 4)),
        ("lowpass", (150.0, 1)),
        ("notch", (50.0,)),
    ],
)
def test_filters(backend: TorchBackend, kind: str, arguments: tuple[Any, ...]) -> None:
    for signal in (ECGS, ECGS[0, :2, :40] + 3.0):
        expected = getattr(NumpyBackend(), kind)(signal, 360.0, *arguments)
        out = getattr(backend, kind)(backend.float32(signal), 360.0, *arguments)
        np.testing.assert_allclose(backend.to_numpy(out), expected, atol=TOLERANCE)
    with pytest.raises(ConfigurationError, match="too short"):
        getattr(backend, kind)(backend.float32(ECGS[..., :4]), 360.0, *arguments)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("on_host", [True, False])
def test_whole_extraction(
    normalization: str, device: str, on_host: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not on_host:
        monkeypatch.setattr(
            "ecg_hf.processing.torch_backend.TorchBackend.__init__.__defaults__", (False,), raising=True
        )
    extractor = EcgFeatureExtractor(
        sampling_rate=250, normalization=normalization, highpass_hz=0.5, lowpass_hz=40.0, notch_hz=50.0
    )  # fmt: skip
    broken = ECGS[0, :9].copy()
    broken[5, 100:120] = np.nan
    broken[6] = 0.25
    items = [
        EcgRecord(ECGS[0], 360, STANDARD_LEADS),
        EcgRecord(broken, 360, STANDARD_LEADS[:9]),
        EcgRecord(ECGS[1, :2, :800], 250, ("II", "I")),
        EcgRecord(ECGS[2], 360, STANDARD_LEADS),
    ]
    expected = extractor(items, return_sample_mask=True, return_report=True)
    out = extractor(items, device=device, return_sample_mask=True, return_report=True)
    assert out["input_values"].device.type == device
    assert out["input_values"].dtype == torch.float32
    np.testing.assert_allclose(out["input_values"].cpu(), expected["input_values"], atol=TOLERANCE)
    for mask in ("lead_mask", "sample_mask"):
        np.testing.assert_array_equal(out[mask].cpu(), expected[mask])
    assert out["report"] == expected["report"]


@pytest.mark.parametrize("nan_policy", ["interpolate", "zero"])
def test_gaps(nan_policy: str) -> None:
    rng = np.random.default_rng(2)
    signal = ECGS.copy()
    signal[rng.random(signal.shape) < 0.4] = np.nan
    signal[0, 0, :30] = np.inf
    signal[1, 3, -30:] = np.nan
    extractor = EcgFeatureExtractor(sampling_rate=360, nan_policy=nan_policy)
    expected = extractor(signal, **OPTIONS)["input_values"]
    out = extractor(torch.from_numpy(signal), **OPTIONS)["input_values"]
    np.testing.assert_allclose(out.numpy(), expected, atol=TOLERANCE)


def test_tensors_in_tensors_out_and_numpy_on_request() -> None:
    extractor = EcgFeatureExtractor(sampling_rate=360, normalization="zscore_record")
    expected = extractor(ECGS, **OPTIONS)["input_values"]
    tensor = torch.from_numpy(ECGS).requires_grad_(True)
    for ecg in (tensor, tensor.double(), list(tensor), [ECGS[0], *tensor[1:]]):
        out = extractor(ecg, **OPTIONS)["input_values"]
        assert isinstance(out, torch.Tensor)
        assert not out.requires_grad
        np.testing.assert_allclose(out.numpy(), expected, atol=1e-6)
    assert isinstance(extractor(tensor, return_tensors="np", **OPTIONS)["input_values"], np.ndarray)
    assert torch.equal(tensor.detach(), torch.from_numpy(ECGS))
    for wrong in (tensor > 0, tensor * 1j):
        with pytest.raises(SignalError, match="real numbers"):
            extractor(wrong, **OPTIONS)
