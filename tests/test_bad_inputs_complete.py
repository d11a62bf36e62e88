"""Every row of the project's table of bad inputs has a test that carries its number."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROWS = set(range(1, 73))
TESTS = Path(__file__).parent
FILES = (
    "signal/test_bad_inputs.py",
    "signal/test_bad_arrays.py",
    "processing/test_bad_inputs.py",
    "evaluation/test_bad_inputs.py",
    "models/test_safe_loading.py",
)


def rows_of(path: Path) -> set[int]:
    """Numbers in names of test functions and in the ids of their parameters."""
    found: set[int] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_row_"):
            found |= {int(number) for number in re.findall(r"_(\d\d)(?=_)", node.name)}
        elif isinstance(node, ast.keyword) and node.arg == "id" and isinstance(node.value, ast.Constant):
            found |= {int(number) for number in re.findall(r"^row-(\d\d)-", str(node.value.value))}
    return found


def test_every_row_has_a_test():
    found = set().union(*(rows_of(TESTS / name) for name in FILES))
    assert found == ROWS
