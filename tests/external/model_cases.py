"""Our models as the library's common model tests want to see them: one case per method and role."""

from __future__ import annotations

import copy
import unittest
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch

from ecg_hf.models.registry import METHODS
from tests.models.conftest import MicroCase, make_case

__all__ = ["CASES", "make_suite_class", "suite_tests"]

_ROLES = ("model", "pretraining", "classification")

CASES = [(name, role) for name, spec in METHODS.items() for role in _ROLES if role in spec.roles] + [
    (name, "zero_shot") for name, spec in METHODS.items() if spec.multimodal
]
"""Method and role; ``zero_shot`` is the dual encoder given records and texts."""

_BATCH = 3


class _ModelTester:
    """What the mixin asks about a model: its size, and a batch for it."""

    batch_size = _BATCH

    def __init__(self, method: str, role: str, model_class: Any) -> None:
        self._case: MicroCase = make_case(method, batch_size=_BATCH)
        # A configuration that no model has been built from: building one writes the attention kernel into it.
        self._config = copy.deepcopy(self._case.config)
        self._role = role
        self._noise: dict[str, torch.Tensor] | None = None
        self.is_training = role in ("pretraining", "classification")
        config: Any = self._config
        for name in ("hidden_size", "num_hidden_layers", "num_attention_heads"):
            if hasattr(config, name):
                setattr(self, name, getattr(config, name))
        # How many tokens a record becomes differs between methods, and pretraining leaves masked ones out.
        own_config, inputs = self.prepare_config_and_inputs_for_common()
        with torch.no_grad():
            outputs = model_class(own_config).eval()(**inputs, output_hidden_states=True)
        if getattr(outputs, "hidden_states", None):
            self.seq_length = outputs.hidden_states[-1].shape[-2]

    def prepare_config_and_inputs_for_common(self) -> tuple[Any, dict[str, torch.Tensor]]:
        with_text = self._role == "zero_shot" or (self._role == "pretraining" and self._case.text)
        inputs = copy.deepcopy(self._case.batch if with_text else self._case.signal)
        if self._role == "pretraining":
            if self._noise is None:
                model = self._case.spec.load("pretraining")(self._case.config)
                self._noise = model.draw_noise(inputs, torch.Generator().manual_seed(0))
            inputs |= copy.deepcopy(self._noise)
        return copy.deepcopy(self._config), inputs

    @property
    def input_names(self) -> list[str]:
        """Everything a forward pass is given."""
        return list(self.prepare_config_and_inputs_for_common()[1])

    def get_config(self) -> Any:
        return self.prepare_config_and_inputs_for_common()[0]


def make_suite_class(common: ModuleType, method: str, role: str) -> type[unittest.TestCase]:
    """The library's ``ModelTesterMixin`` for one of our classes.

    Args:
        common: The suite's ``test_modeling_common``.
        method: A name of the registry.
        role: ``model``, ``pretraining``, ``classification`` or ``zero_shot``.
    """
    spec = METHODS[method]
    model_class = spec.load("model" if role == "zero_shot" else role)
    tester = _ModelTester(method, role, model_class)

    def set_up(self: Any) -> None:
        torch.manual_seed(0)
        self.model_tester = tester

    def prepare_for_class(
        self: Any, inputs: dict[str, Any], model_class: type, return_labels: bool = False
    ) -> dict[str, Any]:
        inputs = copy.deepcopy(inputs)
        if return_labels and role == "classification":
            inputs["labels"] = torch.zeros(_BATCH, dtype=torch.long)
        return inputs

    return type(
        f"{model_class.__name__}SuiteTest",
        (common.ModelTesterMixin, unittest.TestCase),
        {
            "all_model_classes": (model_class,),
            "has_attentions": hasattr(tester, "num_attention_heads"),
            "test_resize_embeddings": False,
            "additional_model_inputs": [name for name in tester.input_names if name != "input_values"],
            "setUp": set_up,
            "_prepare_for_class": prepare_for_class,
        },
    )


def suite_tests(suite: type[unittest.TestCase]) -> list[tuple[str, Callable[[], None]]]:
    """Name and body of each test of a suite; a body raises what the test does."""
    names = unittest.TestLoader().getTestCaseNames(suite)
    return [(name, suite(name).debug) for name in names]
