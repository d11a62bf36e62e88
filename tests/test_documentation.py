"""The documentation site: its examples, the pages that follow from the code, and its build where Sphinx is there."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import typer

import ecg_hf
from ecg_hf.cli.main import app

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
EXAMPLES = sorted((DOCS / "examples").glob("*.py"))
PAGES = {path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md")}


@pytest.fixture(scope="module")
def written() -> ModuleType:
    spec = importlib.util.spec_from_file_location("written_pages", DOCS / "written_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_examples_are_listed_in_their_order() -> None:
    assert [path.name[:2] for path in EXAMPLES] == [f"{number:02}" for number in range(1, len(EXAMPLES) + 1)]
    assert len(EXAMPLES) >= 10


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_compiles_and_what_it_imports_is_there(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text, str(path))
    compile(text, str(path), "exec")
    title, line, *_ = (ast.get_docstring(tree) or "").splitlines()
    assert line == "=" * len(title), "the gallery takes its title from the docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ecg_hf"):
            module = importlib.import_module(str(node.module))
            assert all(hasattr(module, alias.name) for alias in node.names)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ecg_hf":
            assert hasattr(ecg_hf, node.attr)


def test_quick_start_has_the_example_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    first = [
        re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0] for text in (readme, PAGES["quick_start.md"])
    ]
    assert ast.dump(ast.parse(first[0])) == ast.dump(ast.parse(first[1]))


def test_commands_of_the_pages_exist() -> None:
    blocks = re.findall(r"```bash\n(.*?)```", PAGES["quick_start.md"], re.DOTALL)
    lines = [line for line in "\n".join(blocks).splitlines() if line.startswith("ecg-hf ")]
    assert len(lines) >= 8
    for line in lines:
        _, *words = shlex.split(line, comments=True)
        command = typer.main.get_command(app)
        while getattr(command, "commands", None):
            command, words = command.commands[words[0]], words[1:]  # type: ignore[attr-defined]
        command.make_context("ecg-hf", list(words))


def test_every_public_name_is_on_one_page(written: ModuleType) -> None:
    pages = written.api_pages()
    entries = re.findall(r"^\.\. auto\w+:: (\S+)$", "\n".join(pages.values()), re.MULTILINE)
    assert len(entries) == len(set(entries)) > 150
    assert {f"ecg_hf.{name}" for name in ecg_hf._EXPORTS} <= set(entries)


def test_pages_are_in_the_contents() -> None:
    contents = re.findall(r"```\{toctree\}(.*?)```", PAGES["index.md"], re.DOTALL)
    named = {line for block in contents for line in block.splitlines() if line and not line.startswith(":")}
    made = ("written/", "gallery/")
    assert {f"{name}.md" for name in named if not name.startswith(made)} | {"index.md"} == {
        name for name in PAGES if not name.startswith((*made, "_build"))
    }


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """Pages and examples as ``make docs`` builds them; the examples themselves are run by that alone."""
    for module in ("sphinx_gallery", "furo", "myst_parser"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"the extra 'docs' is not installed: no {module}")
    left_out = shutil.ignore_patterns("_build", "gallery", "written", "__pycache__")
    shutil.copytree(DOCS, tmp_path / "docs", ignore=left_out)
    for name in ("src", "scripts", "model_cards"):
        (tmp_path / name).symlink_to(ROOT / name)
    build = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-D", "plot_gallery=False"]
    places = ["-d", tmp_path / "doctrees", tmp_path / "docs", tmp_path / "html"]
    done = subprocess.run([*build, *places], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    for spec in importlib.import_module("ecg_hf.models.registry").METHODS:
        assert (tmp_path / "html" / "written" / "methods" / f"{spec}.html").is_file()
    assert len(list((tmp_path / "docs" / "gallery").glob("*.ipynb"))) == len(EXAMPLES)
