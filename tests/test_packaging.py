"""What is installed says what it needs, and what it prints for help is its own."""

from __future__ import annotations

import ast
import pydoc
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import ecg_hf

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MODULES = {"scikit-learn": "sklearn", "pyyaml": "yaml", "pytest-xdist": "xdist", "fhir.resources": "fhir"}


def declared(*extras: str) -> set[str]:
    """Top-level modules of the declared dependencies."""
    requirements = list(PROJECT["dependencies"])
    for extra in extras:
        requirements += PROJECT["optional-dependencies"][extra]
    names = {re.split(r"[<>=!~\[; ]", requirement, maxsplit=1)[0].lower() for requirement in requirements}
    return {MODULES.get(name, name.replace("-", "_")) for name in names}


def imported(folder: Path) -> set[str]:
    """Top-level modules imported anywhere below a folder, without those of Python and the project's own."""
    names: set[str] = set()
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    together = folder.name in ("benchmarks", "tests")
    siblings = {file.stem for file in folder.rglob("*.py")} if together else set()
    own = {"ecg_hf", "tests", *siblings}
    return names - set(sys.stdlib_module_names) - own


@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("src", ("baselines", "cluster", "demo", "export", "serve")),
        ("scripts", ()),
        ("benchmarks", ("baselines", "cluster")),
        ("tests", ("baselines", "dev")),
    ],
)
def test_every_import_is_a_declared_dependency(folder: str, extras: tuple[str, ...]) -> None:
    assert imported(ROOT / folder) - declared(*extras) == set()


def test_every_dependency_is_imported() -> None:
    assert declared() - imported(ROOT / "src") == set()


def test_readme_works_on_a_package_index() -> None:
    """A package index has neither the files beside the README nor the headings of other pages.

    Pictures have no address of their own yet: they are in the repository and the source distribution.
    """
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links
    assert [link for link in links if not link.startswith(("https://", "#")) and link not in pictures] == []
    assert pictures == ["docs/sample_ecg.png"]
    assert (ROOT / pictures[0]).read_bytes().startswith(b"\x89PNG")


def test_help_is_about_this_package() -> None:
    text = pydoc.render_doc(ecg_hf, renderer=pydoc.plaintext)
    assert len(text.splitlines()) < 150
    assert "read_record" in text


@pytest.mark.parametrize("script", ["finetune.py", "pretrain.py", "probe.py", "zero_shot.py"])
def test_help_of_scripts_is_about_their_options(script: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / script), "--help"], capture_output=True, text=True, check=True
    )
    assert len(done.stdout.splitlines()) < 130
    for option in (
        ("--output_dir", "--learning_rate") if script in ("finetune.py", "pretrain.py") else ("--model",)
    ):
        assert option in done.stdout


@pytest.mark.slow
def test_distributions_hold_what_they_should(tmp_path: Path) -> None:
    """Tests and all they need in the source distribution; weights, recipes, templates and more in the wheel."""
    pytest.importorskip("setuptools", minversion="77")
    left_out = shutil.ignore_patterns(
        ".git", ".venv", "*_cache", "__pycache__", "*.egg-info", "quickstart_output"
    )
    shutil.copytree(ROOT, tmp_path / "copy", ignore=left_out)
    build = "import setuptools.build_meta as b; b.build_sdist('..'); b.build_wheel('..')"
    subprocess.run([sys.executable, "-c", build], cwd=tmp_path / "copy", check=True, capture_output=True)
    (sdist,), (wheel,) = tmp_path.glob("*.tar.gz"), tmp_path.glob("*.whl")
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    for name in (
        "tests/conftest.py",
        "tests/cli/conftest.py",
        "tests/slow_tests.txt",
        "tests/fixtures/ecg_jepa/tiny_io.safetensors",
        "tests/fixtures/merl_protocol/tables.tar.xz",
        "tests/recordings/README.md",
        "tests/recordings/ludb/data/1.ii",
        "tests/recordings/ptbxl/records500/00000/00001_hr.dat",
        "scripts/pretrain.py",
        "constraints.txt",
        "docs/sample_ecg.png",
        "Makefile",
    ):
        assert name in inside
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        content = archive.read(metadata).decode("utf-8")
    assert {
        "ecg_hf/py.typed",
        "ecg_hf/training/recipes/cg_dmer.yaml",
        "ecg_hf/quickstart/report.html",
    } <= names
    weights = ROOT / "src" / "ecg_hf" / "weights"
    shipped = {
        f"ecg_hf/weights/{path.relative_to(weights).as_posix()}"
        for path in weights.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert (
        {
            "ecg_hf/weights/ecg-distil-ptbxl/model.safetensors",
            "ecg_hf/weights/ecg-distil-ptbxl/README.md",
            "ecg_hf/weights/sample_record/02940_lr.hea",
            "ecg_hf/weights/sample_record/02940_lr.dat",
            "ecg_hf/weights/sample_record/README.md",
        }
        <= shipped
        <= names
    )
    outside = ("tests/", "scripts/", "fixtures/", "recordings/")
    assert not [name for name in names if name.startswith(outside)]
    assert {name for name in names if name.endswith((".dat", ".safetensors"))} <= shipped
    assert "Project-URL: " in content
