"""Packages whose names are loaded on first use have the names that they promise, and no others."""

from __future__ import annotations

import importlib

import pytest


@pytest.mark.parametrize(
    "package", ["ecg_hf.evaluation", "ecg_hf.hub", "ecg_hf.signal", "ecg_hf.studies", "ecg_hf.training"]
)
def test_names_are_those_promised(package: str) -> None:
    module = importlib.import_module(package)
    assert set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        module.nonsense  # noqa: B018
