"""Zeros where nothing was recorded."""

import torch

from ecg_hf.nn.masks.missing import zero_missing


def test_what_is_missing_becomes_zero_and_nothing_else() -> None:
    signal = torch.tensor([[[1.0, 2.0, torch.nan], [3.0, 4.0, 5.0]]])
    found = zero_missing(signal, torch.tensor([[1, 0]]), torch.tensor([[1, 1, 0]]))
    assert found.tolist() == [[[1.0, 2.0, 0.0], [0.0, 0.0, 0.0]]]
    assert zero_missing(signal, None, None) is signal
