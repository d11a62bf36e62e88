"""Any damage to a file of any kind ends in a record or an ``EcgError``, within the root and within memory.

The long version is ``python -m tests.soak.readers``.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.soak.guard import Misbehaviour, guarded, quiet
from tests.soak.readers import KINDS, Files, try_file

FILE_KINDS = [kind for kind in KINDS if kind != "array"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("damaged"))


@pytest.mark.parametrize("kind", FILE_KINDS)
def test_only_ecg_errors_escape(files: Files, kind: str):
    @settings(max_examples=60, deadline=None, database=None)
    @given(source=st.randoms(use_true_random=False))
    def attempt(source: random.Random) -> None:
        with quiet():
            try_file(files, kind, source)

    attempt()


def test_the_guard_sees_what_it_should(files: Files):
    """Each of the things it watches for, done on purpose."""
    outside = files.root.parent / "secret.dat"
    with pytest.raises(Misbehaviour, match="outside"):
        guarded(outside.read_bytes, files.root, 100)
    with pytest.raises(Misbehaviour, match="KeyError escaped"):
        guarded(lambda: {}["x"], files.root, 100)
    with pytest.raises(Misbehaviour, match="took"):
        guarded(lambda: bytearray(1 << 26), files.root, 100)
    assert guarded(lambda: None, files.root, 100) == "ok"
