"""Write what follows from the registry of methods: type stub, README's and checkpoints' tables, pyproject's links.

Run it after a change of ``ecg_hf.models.registry`` or of the names that ``ecg_hf`` exports, or run ``make registry``.
A test fails where a file is out of date::

    python scripts/follow_registry.py
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import torch

import ecg_hf
from ecg_hf.files import write_whole
from ecg_hf.hub.converting import list_official_files
from ecg_hf.hub.fetching import FETCHED
from ecg_hf.models.registry import METHODS, MethodSpec
from ecg_hf.signal.leads import STANDARD_LEADS

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 110
BEGIN, END = "methods of the registry: begin", "methods of the registry: end"


def stub() -> str:
    """``ecg_hf/__init__.pyi``: every public name and the module it is from, as ``ruff format`` writes it."""
    modules: dict[str, list[str]] = defaultdict(list)
    aliases: list[str] = []
    for name, module in ecg_hf._EXPORTS.items():
        modules[module].append(name)
    for spec in METHODS.values():
        for role in spec.roles:
            if role == "trainer" and not spec.trainer:
                aliases.append(f"{spec.class_name(role)} = EcgPreTrainer")
            else:
                modules[spec.module_name(role)].append(spec.class_name(role))
    lines = [
        '"""Public names, for type checkers. Written by ``scripts/follow_registry.py``; do not edit."""',
        "",
    ]
    for module in sorted(modules):
        names = _in_order(modules[module])
        line = f"from {module} import {', '.join(names)}"
        lines += [line] if len(line) <= WIDTH else _wrapped(f"from {module} import (", names, ")")
    lines += ["", *sorted(aliases), "", "__version__: str", ""]
    lines += _wrapped("__all__ = [", [f'"{name}"' for name in _in_order(ecg_hf.__all__)], "]")
    return "\n".join(lines) + "\n"


def _in_order(names: list[str]) -> list[str]:
    return sorted(names, key=lambda name: (name[0].islower(), name))


def _wrapped(start: str, items: list[str], end: str) -> list[str]:
    return [start, *(f"    {item}," for item in items), end]


def choice_table() -> str:
    """README's table of what a method takes and what it is for."""
    rows = [
        "| method | leads | rate | parameters | learns from | when to use it |",
        "|---|---|---|---|---|---|",
    ]
    for spec in METHODS.values():
        rates, parameters = rates_and_parameters(spec)
        cells = (_name(spec), _leads(spec), rates, parameters, spec.supervision, spec.use)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def readme_table() -> str:
    """README's table of where methods are from."""
    rows = ["| method | paper | official code | what the paper specifies, what we inferred, parity |"]
    rows.append("|---|---|---|---|")
    for spec in METHODS.values():
        paper = f"[{spec.paper_name}]({spec.paper_url})" if spec.paper_url else spec.paper_name
        code = (
            f"[yes]({spec.official_code})" if spec.official_code else "none known" if spec.paper else "here"
        )
        rows.append(f"| {_name(spec)} | {paper} | {code} | {spec.status} |")
    return "\n".join(rows) + "\n"


def rates_and_parameters(spec: MethodSpec) -> tuple[str, str]:
    """Rates of a method's presets and millions of parameters from the smallest to the largest; without ``micro``."""
    configs = [spec.load("config").preset(size) for size in spec.sizes if size != "micro"]
    rates = sorted({float(config.sampling_rate) for config in configs})
    with torch.device("meta"):
        models = [spec.load("model")(config) for config in configs]
    counts = sorted(
        {_millions(sum(one.numel() for one in model.parameters())) for model in models}, key=float
    )
    return (
        f"{' or '.join(f'{rate:g}' for rate in rates)} Hz",
        f"{' to '.join(dict.fromkeys((counts[0], counts[-1])))} M",
    )


def _millions(count: int) -> str:
    return f"{count / 1e6:.{0 if count >= 10e6 else 1}f}"


def _name(spec: MethodSpec) -> str:
    return f"**{spec.short_title}** (`{spec.name}`)"


def _leads(spec: MethodSpec) -> str:
    if spec.leads == STANDARD_LEADS:
        return "any of the 12"
    chest = STANDARD_LEADS[6:]
    limb = [lead for lead in spec.leads if lead not in chest]
    # All chest leads or each by its name.
    rest = [f"{chest[0]}-{chest[-1]}"] if set(chest) <= set(spec.leads) else list(spec.leads[len(limb) :])
    return f"any of {', '.join(limb + rest)}"


def checkpoint_table() -> str:
    """The table of ``docs/checkpoints.md``: whose weights convert, from where, and what was shown to be equal."""
    rows = [
        "| method | files | where | licence | size | by name | parity |",
        "|---|---|---|---|---:|---|---|",
    ]
    for one in list_official_files():
        names = [f"`{known.name}`" for known in FETCHED if known.method == one["name"]]
        cells = (
            _name(METHODS[one["name"]]),
            ", ".join(f"`{file}`" for file in one["files"]),
            one["repository"],
            "not stated" if one["licence"] == "unknown" else one["licence"],
            f"{one['size_bytes'] / 1e6:,.0f} MB",
            ", ".join(names),
            one["parity"],
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def project_links() -> str:
    """The papers among ``[project.urls]`` of ``pyproject.toml``."""
    papers = [spec for spec in METHODS.values() if spec.paper_url]
    return "".join(f'"Paper: {spec.short_title}" = "{spec.paper_url}"\n' for spec in papers)


def between_markers(text: str, content: str) -> str:
    """``text`` with ``content`` on the lines between the two markers."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not end:
        raise ValueError(f"no lines with {BEGIN!r} and {END!r}")
    opening, _, _ = rest.partition("\n")
    # The closing marker's line begins as the opening one does: with the comment sign of the file's language.
    sign = head.rpartition("\n")[2]
    return f"{head}{begin}{opening}\n{content}{sign}{end}{tail}"


def written_files(root: Path = ROOT) -> dict[Path, str]:
    """Each file that follows from the registry, as it should be."""
    readme, project = root / "README.md", root / "pyproject.toml"
    checkpoints = root / "docs" / "checkpoints.md"
    return {
        root / "src" / "ecg_hf" / "__init__.pyi": stub(),
        readme: between_markers(readme.read_text(encoding="utf-8"), f"{choice_table()}\n{readme_table()}"),
        project: between_markers(project.read_text(encoding="utf-8"), project_links()),
        checkpoints: between_markers(checkpoints.read_text(encoding="utf-8"), checkpoint_table()),
    }


if __name__ == "__main__":
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    for path, content in written_files().items():
        if not path.is_file() or path.read_text(encoding="utf-8") != content:
            write_whole(path, content)
            print(f"wrote {path.relative_to(ROOT)}")
