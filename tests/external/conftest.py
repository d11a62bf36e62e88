"""Modules of the library's own test suite, or the reason why they cannot be had here."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

from tests.external.library_suite import SuiteUnavailable, import_from_suite

# Marks of the suite, which pytest would refuse as unknown while it is imported.
_MARKS = (
    "accelerate_tests",
    "flash_attn_3_test",
    "flash_attn_4_test",
    "flash_attn_test",
    "is_pipeline_test",
    "order",
    "torch_compile_test",
)


def pytest_configure(config: pytest.Config) -> None:
    """Make the suite's marks known."""
    for name in _MARKS:
        config.addinivalue_line("markers", f"{name}: of the library's suite")


@pytest.fixture(scope="session")
def library_suite() -> Callable[[str], ModuleType]:
    """Gives a module of the suite, such as ``test_modeling_common``."""

    def load(module: str) -> ModuleType:
        try:
            return import_from_suite(module)
        except SuiteUnavailable as error:
            pytest.skip(f"the library's test suite cannot be fetched: {error}")

    return load
