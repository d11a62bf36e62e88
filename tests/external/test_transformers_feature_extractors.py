"""The library's common tests of sequence feature extractors, for every method."""

from __future__ import annotations

import unittest
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ecg_hf.models.registry import METHODS
from ecg_hf.processing import EcgFeatureExtractor
from tests.external.model_cases import suite_tests

pytestmark = pytest.mark.slow


class _Tester:
    """Sequences of growing length, ``(samples, leads)`` as the suite wants them."""

    batch_size = 7
    min_seq_length, max_seq_length = 400, 2000
    seq_length_diff = (max_seq_length - min_seq_length) // (batch_size - 1)
    padding_value = 0.0

    def __init__(self, kind: type[EcgFeatureExtractor]) -> None:
        self.feature_size = kind().feature_size

    def prepare_feat_extract_dict(self) -> dict[str, Any]:
        return {"feature_size": self.feature_size, "padding_value": self.padding_value, "sampling_rate": 200}

    def prepare_inputs_for_common(self, equal_length: bool = False, numpify: bool = False) -> list[Any]:
        rng = np.random.default_rng(0)
        lengths = range(self.min_seq_length, self.max_seq_length, self.seq_length_diff)
        lengths = (
            [self.max_seq_length] * self.batch_size if equal_length else list(lengths)[: self.batch_size]
        )
        arrays = [rng.random((length, self.feature_size)) for length in lengths]
        return arrays if numpify else [array.tolist() for array in arrays]


@pytest.mark.parametrize("method", [*METHODS, None])
def test_feature_extractors(
    method: str | None, library_suite: Callable[[str], ModuleType], subtests: pytest.Subtests
) -> None:
    kind = METHODS[method].load("feature_extractor") if method else EcgFeatureExtractor
    common = library_suite("test_sequence_feature_extraction_common")
    suite = type(
        f"{kind.__name__}SuiteTest",
        (common.SequenceFeatureExtractionTestMixin, unittest.TestCase),
        {"feature_extraction_class": kind, "feat_extract_tester": _Tester(kind)},
    )
    tests = suite_tests(suite)
    assert len(tests) >= 14
    for name, run in tests:
        with subtests.test(name):
            run()
