"""What an extractor may let through, every model must answer with finite numbers, in float32 and bfloat16."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from ecg_hf.errors import EcgError
from ecg_hf.signal import STANDARD_LEADS
from ecg_hf.signal.synthetic import simulate

from .conftest import MicroCase

RATE = 100.0
LARGEST_HALF = 65504.0
ECG = simulate(1, seed=2, sampling_rate=RATE).signal[0]


def _spike(value: float) -> Callable[[], np.ndarray]:
    def make() -> np.ndarray:
        ecg = ECG.astype(np.float64)
        ecg[2, 500] = value
        return ecg

    return make


def _gaps() -> np.ndarray:
    ecg = ECG.copy()
    ecg[:, 100:550] = np.nan
    ecg[3] = np.nan
    return ecg


def _square() -> np.ndarray:
    return np.where(np.arange(ECG.shape[1]) % 2, 1e10, -1e10) * np.ones((12, 1))


def _all_but_one(level: float) -> Callable[[], np.ndarray]:
    def make() -> np.ndarray:
        ecg = np.full_like(ECG, level)
        ecg[1] = ECG[1]
        return ecg

    return make


EXTREMES: dict[str, Callable[[], np.ndarray]] = {
    "zeros": lambda: np.zeros_like(ECG),
    "zeros-but-one": _all_but_one(0.0),
    "constant-but-one": _all_but_one(30.0),
    "tiny-but-one": _all_but_one(1e-30),
    "constant": lambda: np.full_like(ECG, 1e6),
    "tiny": lambda: ECG.astype(np.float64) * 1e-30,
    "denormal": lambda: ECG.astype(np.float64) * 1e-42,
    "huge": lambda: ECG.astype(np.float64) * 1e9,
    "square-wave": _square,
    "spike": _spike(9e9),
    "spike-beyond-float32": _spike(1e300),
    "gaps": _gaps,
    "one-sample": lambda: ECG[:, :1],
    "minute": lambda: np.tile(ECG, 6),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("role", ["model", "classification"])
def test_outputs_are_finite(case: MicroCase, role: str, dtype: torch.dtype):
    model = case.spec.load(role)(case.config).eval().to(dtype)
    extractor = case.spec.feature_extractor_for(case.config)
    answered = 0
    for name, make in EXTREMES.items():
        try:
            inputs = extractor(make(), sampling_rate=RATE, lead_names=STANDARD_LEADS, return_tensors="pt")
        except EcgError:
            continue
        answered += 1
        with torch.inference_mode():
            output = model(**inputs.to(dtype))
        for field, value in output.items():
            if isinstance(value, torch.Tensor):
                assert torch.isfinite(value).all(), f"{name}: {field}"
    assert answered >= 6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("level", [0.0, 1e-30, 30.0, LARGEST_HALF, -LARGEST_HALF])
def test_largest_values_an_extractor_lets_through(case: MicroCase, level: float, dtype: torch.dtype):
    model = case.spec.load("model")(case.config).eval().to(dtype)
    signal = {**case.signal, "input_values": torch.full_like(case.signal["input_values"], level).to(dtype)}
    nothing = torch.zeros(signal["input_values"].shape[:2], dtype=torch.long)
    with torch.inference_mode():
        for output in (model(**signal), model(**signal, lead_mask=nothing)):
            assert torch.isfinite(output.pooler_output).all()
