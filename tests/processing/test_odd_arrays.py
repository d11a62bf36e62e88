"""Arrays that may or may not be ECGs through every method's extractor; the long version is the fuzzer of the soak."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.soak.guard import quiet
from tests.soak.readers import all_extractors, try_array


def test_finite_or_refused_and_never_changed():
    extractors = all_extractors()

    @settings(max_examples=250, deadline=None, database=None)
    @given(source=st.randoms(use_true_random=False))
    def attempt(source: random.Random) -> None:
        with quiet():
            try_array(extractors, source)

    attempt()
