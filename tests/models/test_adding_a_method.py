"""``docs/adding_a_method.md`` is followed to the letter: its blocks make a method that passes the common tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "adding_a_method.md").read_text(encoding="utf-8")
# A block, and the file that the line above it names, if it names one.
BLOCK = re.compile(r"(?:^`([\w/.]+)`:\n\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Of the tests of every method those that show most in least time.
CONTRACT = (
    "test_names_are_exported or every_size or signal_contract or missing_lead or same_noise or noise_is_drawn"
    " or gets_a_gradient or reduces_the_loss or save_and_load or pretraining_checkpoint or loads_the_encoder"
    " or hidden_states or token_mask or frozen_parameters or checkpointing_changes or bfloat16 or feeds_the_model"
    " or a_preset or every_lead_alone or attention_implementations or wrong_shapes"
)


def blocks() -> list[tuple[str, str, str]]:
    """File, language and text of each block."""
    return [match.groups(default="") for match in BLOCK.finditer(PAGE)]  # type: ignore[misc]


def run(folder: Path, *arguments: str) -> str:
    """A Python process that has the copied package and nothing of this one."""
    environment = {**os.environ, "PYTHONPATH": str(folder / "src")}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return done.stdout


def test_page_has_the_blocks_in_order() -> None:
    assert [(file, language) for file, language, _ in blocks()] == [
        ("src/ecg_hf/models/toy_ecg.py", "python"),
        ("", "python"),
        ("src/ecg_hf/training/recipes/toy_ecg_cpu.yaml", "yaml"),
        ("model_cards/toy_ecg.md", "markdown"),
        ("", "bash"),
        ("", "python"),
    ]


@pytest.mark.slow
def test_the_page_adds_a_method(tmp_path: Path) -> None:
    for name in ("src", "tests", "scripts", "model_cards", "docs"):
        left_out = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=left_out)
    for name in ("README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    (file, _, source), (_, _, line), recipe, card, (_, _, command), (_, _, example) = blocks()
    for path, content in ((file, source), (recipe[0], recipe[2]), (card[0], card[2])):
        (tmp_path / path).write_text(content, encoding="utf-8")
    registry = tmp_path / "src" / "ecg_hf" / "models" / "registry.py"
    before = registry.read_text(encoding="utf-8")
    registry.write_text(
        before.replace("    for spec in (\n", f"    for spec in (\n{line}", 1), encoding="utf-8"
    )
    assert registry.read_text(encoding="utf-8").count('name="toy-ecg"') == 1

    (words,) = [line.split("#")[0].split() for line in command.splitlines()]
    assert words[0] == "python"
    assert set(run(tmp_path, *words[1:]).split()) == {"wrote", "src/ecg_hf/__init__.pyi", "README.md"}
    readme = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "**Toy-ECG** (`toy-ecg`) | any of the 12 | 250 Hz | " in readme
    assert "| signals | to see how a method is added |" in readme
    assert "**Toy-ECG** (`toy-ecg`) | this package's own | here |" in readme
    run(tmp_path, "-c", example)
    assert "this package's own" in (tmp_path / "runs" / "toy" / "README.md").read_text(encoding="utf-8")

    for first in ("from ecg_hf import ToyEcgConfig", "from transformers import AutoModel; import ecg_hf"):
        use = (
            "import ecg_hf; from transformers import AutoModel; AutoModel._model_mapping[ecg_hf.ToyEcgConfig]"
        )
        run(tmp_path, "-c", f"{first}\n{use}")
    tests = ("tests/models/test_every_method.py", "tests/models/test_registry.py")
    wanted = f"(toy-ecg and ({CONTRACT})) or up_to_date"
    summary = run(tmp_path, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests, "-k", wanted)
    assert int(re.findall(r"(\d+) passed", summary)[-1]) >= 20
