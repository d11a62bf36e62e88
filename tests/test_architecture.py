"""The floors of the house: who may import whom, and a few promises about importing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "ecg_hf"
FLOORS = {
    "errors": 0,
    "allocator": 0,
    "auto_map": 0,
    "files": 0,
    "storage": 0,
    "documents": 0,
    "escaping": 0,
    "engine": 0,
    "progress": 0,
    "signal": 1,
    "nn": 1,
    "metrics": 1,
    "processing": 2,
    "data": 2,
    "fhir": 2,
    "plotting": 2,
    "models": 3,
    "training": 4,
    "planning": 4,
    "runtime": 4,
    "evaluation": 4,
    "pipelines": 5,
    "studies": 5,
    "hub": 5,
    "export": 6,
    "serving": 6,
    "demo": 6,
    "cli": 6,
    "quickstart": 6,
    "auto_registration": 7,
}
# Neighbours on one floor that may see each other; everything else on a floor is apart.
NEIGHBOURS = {
    ("cli", "demo"),
    ("cli", "export"),
    ("cli", "quickstart"),
    ("cli", "serving"),
    ("demo", "serving"),
    ("evaluation", "training"),
    ("pipelines", "hub"),
    ("planning", "evaluation"),
    ("planning", "training"),
    ("files", "errors"),
    ("engine", "allocator"),
    ("engine", "errors"),
    ("engine", "files"),
    ("engine", "storage"),
    ("storage", "errors"),
    ("storage", "files"),
    ("documents", "errors"),
    ("errors", "escaping"),
    ("auto_map", "files"),
}
FORBIDDEN = {"signal": {"torch", "transformers", "datasets"}, "nn": {"transformers", "datasets"}}


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
    return found


def part_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


MODULES = sorted(p for p in SOURCE.rglob("*.py") if part_of(p) != "__init__")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_downwards(path: Path):
    part = part_of(path)
    for name in imports_of(path):
        top, *rest = name.split(".")
        assert top not in FORBIDDEN.get(part, set()), f"{part} must not import {top}"
        if top != "ecg_hf" or not rest or rest[0] not in FLOORS:
            continue
        target = rest[0]
        allowed = target == part or FLOORS[target] < FLOORS[part] or (part, target) in NEIGHBOURS
        assert allowed, f"{part} (floor {FLOORS[part]}) imports {target} (floor {FLOORS[target]})"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_stay_readable(path: Path):
    assert len(path.read_text().splitlines()) <= 600
    assert path.stem not in {"utils", "helpers", "misc"}


def runtime_imports(path: Path, names: set[str]) -> set[str]:
    """Modules of the package that a module or one of its functions imports; those for type checkers are left out."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.module:
                for alias in child.names:
                    full = f"{child.module}.{alias.name}"
                    found.add(full if full in names else child.module)
            visit(child)

    visit(ast.parse(path.read_text()))
    return found & names


def circle(graph: dict[str, set[str]]) -> set[str]:
    """What remains after modules that import nothing more are taken away, again and again; empty without a circle."""
    left = dict(graph)
    while free := [name for name, imported in left.items() if not imported & left.keys() - {name}]:
        for name in free:
            del left[name]
    return set(left)


def with_packages(name: str, imported: set[str], names: set[str]) -> set[str]:
    """The modules and the packages that Python enters on the way to them from outside."""
    parts = [module.split(".")[:depth] for module in imported for depth in range(2, module.count(".") + 1)]
    packages = {".".join(part) for part in parts} & names
    return imported | {package for package in packages if not f"{name}.".startswith(f"{package}.")}


def test_no_circles():
    """Modules import each other in one direction, and no import inside a function leads back."""
    modules = {".".join(("ecg_hf", *p.relative_to(SOURCE).with_suffix("").parts)): p for p in MODULES}
    modules = {name.removesuffix(".__init__"): path for name, path in modules.items()}
    names = set(modules)
    graph = {name: runtime_imports(path, names) for name, path in modules.items()}
    assert not circle({name: with_packages(name, imported, names) for name, imported in graph.items()})
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == {"a", "b", "c"}


def test_evaluation_stays_small():
    files = [path for path in (SOURCE / "evaluation").rglob("*.py") if path.name != "__init__.py"]
    assert len(files) <= 50


def test_import_is_light():
    heavy = ("torch", "transformers", "scipy", "datasets", "pandas", "matplotlib")
    code = f"import ecg_hf, sys; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_signal_reads_without_torch():
    code = "from ecg_hf import read_record, EcgRecord; import sys; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_predict_loads_no_datasets():
    heavy = ("datasets", "pandas", "matplotlib", "sklearn", "ecg_hf.evaluation", "ecg_hf.training")
    code = f"""
import sys
from ecg_hf.cli.main import main
from ecg_hf.models.pretrained import sample_record
sys.argv = ["ecg-hf", "predict", str(sample_record()), "--json"]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print([m for m in {heavy} if m in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


PUBLIC = [
    "import ecg_hf.models.cg_dmer.configuration_cg_dmer",
    "import ecg_hf.models.cg_dmer.modeling_cg_dmer",
    "import ecg_hf.models.auto",
    "import ecg_hf.processing",
    "import ecg_hf.pipelines",
    "import ecg_hf.training",
    "import ecg_hf.evaluation",
    "from ecg_hf import CgDmerConfig",
    "from ecg_hf import CgDmerFeatureExtractor",
    "from ecg_hf import EcgProcessor",
    "from ecg_hf import AutoModelForZeroShotEcgClassification",
    "import torch, transformers; from transformers import AutoModel, pipeline; import ecg_hf",
    "import ecg_hf; from transformers import pipeline",
]
REGISTERED = """
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoProcessor
from transformers.pipelines import PIPELINE_REGISTRY
import ecg_hf
from ecg_hf import AutoModelForZeroShotEcgClassification as ZeroShot, CgDmerConfig, CgDmerModel
assert AutoModel._model_mapping[CgDmerConfig] is CgDmerModel is ZeroShot._model_mapping[CgDmerConfig]
assert 'zero-shot-ecg-classification' in PIPELINE_REGISTRY.get_supported_tasks()
AutoConfig.for_model('cg-dmer')
"""


@pytest.mark.slow
@pytest.mark.parametrize("first", PUBLIC)
def test_whatever_is_imported_first_everything_is_registered(first: str):
    """Registration happens inside imports, so every order of importing must work."""
    result = subprocess.run([sys.executable, "-c", first + "\n" + REGISTERED], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
