"""The library's common tests of models, for every method and role."""

from __future__ import annotations

import unittest
from collections.abc import Callable
from types import ModuleType

import pytest

from tests.external.model_cases import CASES, make_suite_class, suite_tests
from tests.external.not_applicable import NOT_APPLICABLE, reason_against

pytestmark = pytest.mark.slow

# Fewer tests than this would mean that the suite skipped itself. ACL-ECG, which has no attention, passes 57.
_LEAST_PASSED = 50


@pytest.mark.parametrize(("method", "role"), CASES)
def test_models(
    method: str,
    role: str,
    library_suite: Callable[[str], ModuleType],
    subtests: pytest.Subtests,
    record_property: Callable[[str, object], None],
) -> None:
    suite = make_suite_class(library_suite("test_modeling_common"), method, role)
    counts = {"passed": 0, "not applicable": 0, "skipped by the suite": 0}
    for name, run in suite_tests(suite):
        against = reason_against(name, f"{method}/{role}")
        with subtests.test(name):
            try:
                if against is None:
                    run()
                    counts["passed"] += 1
                else:
                    _must_fail(run)
                    counts["not applicable"] += 1
            except unittest.SkipTest:
                counts["skipped by the suite"] += 1
    for kind, number in counts.items():
        record_property(kind, number)
    assert counts["passed"] >= _LEAST_PASSED


def _must_fail(run: Callable[[], None]) -> None:
    """A listed test is a test that fails."""
    try:
        run()
    except unittest.SkipTest:
        raise
    except BaseException:
        return
    pytest.fail("passes, and is listed as not applicable")


def test_every_reason_is_for_some_case_and_one_line() -> None:
    cases = [f"{method}/{role}" for method, role in CASES]
    for name, where, reason in NOT_APPLICABLE:
        test = name.replace("*", "")
        assert any(reason_against(test, case) == reason for case in cases), (name, where)
        assert reason
        assert "\n" not in reason
