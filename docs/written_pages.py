"""Pages that follow from the code: one per method, the methods as a table, and the API."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path

import ecg_hf
from ecg_hf.files import write_whole
from ecg_hf.models.pretrained import list_pretrained
from ecg_hf.models.registry import METHODS, MethodSpec

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from follow_registry import choice_table, rates_and_parameters  # noqa: E402

MODULES = {
    "signal": "Recordings",
    "processing": "Inputs of models",
    "data": "Datasets",
    "pipelines": "Pipelines",
    "pipelines.interpretation": "Findings of a recording",
    "pipelines.explanation": "What a score is due to",
    "plotting": "Pictures",
    "training": "Training",
    "evaluation": "Evaluation",
    "hub": "Cards and the Hub",
    "export": "Export",
    "runtime": "Exported models without PyTorch",
    "models.registry": "The registry of methods",
    "errors": "Errors",
}
"""Modules whose public names have a page, below ``ecg_hf``."""


def write_all(folder: Path) -> None:
    """Write every page into a folder; pages that nothing follows from any more are removed."""
    pages = {
        "methods/index.md": methods_page(),
        **{f"methods/{spec.name}.md": method_page(spec) for spec in METHODS.values()},
        **api_pages(),
    }
    for path in folder.rglob("*.*"):
        if str(path.relative_to(folder)) not in pages:
            path.unlink()
    for name, content in pages.items():
        path = folder / name
        # Unchanged pages keep their time, so that Sphinx does not read them again.
        if not path.is_file() or path.read_text(encoding="utf-8") != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, content)


def methods_page() -> str:
    """All methods in a table, and the list of their pages."""
    table = choice_table()
    for spec in METHODS.values():
        table = table.replace(f"| **{spec.short_title}** (", f"| [{spec.short_title}]({spec.name}.md) (")
    names = "\n".join(METHODS)
    return (
        "# Methods\n\n"
        "Each page says what is from the paper, what is equal to the authors' code, and what was inferred here. "
        "*Parameters* are those of the encoder and of a text side, from the smallest preset that is more than a test "
        f"to the largest.\n\n{table}\n```{{toctree}}\n:hidden:\n\n{names}\n```\n"
    )


def method_page(spec: MethodSpec) -> str:
    """What the registry, the card and the docstrings say of one method."""
    _, _, subtitle = spec.title.partition(": ")
    rates, parameters = rates_and_parameters(spec)
    paper = f"[{spec.paper_name}]({spec.paper_url})" if spec.paper_url else spec.paper_name
    code = f"<{spec.official_code}>" if spec.official_code else "none known" if spec.paper else "here"
    weights = f"convert; licence `{spec.official_weights}`" if spec.official_weights else "none to convert"
    shipped = ", ".join(f"`{one.name}`" for one in list_pretrained() if one.method == spec.name)
    facts = {
        "paper": paper,
        "official code": code,
        "authors' weights": weights,
        "weights that ship": shipped or "none",
        "leads": ", ".join(spec.leads),
        "rate": rates,
        "parameters": parameters,
        "presets": ", ".join(f"`{size}`" for size in spec.sizes),
        "learns from": spec.supervision,
        "when to use it": spec.use,
    }
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    roles = [role for role in spec.roles if role != "trainer" or spec.trainer]
    classes = _rst([f".. autoclass:: ecg_hf.{spec.class_name(role)}\n   :no-members:" for role in roles])
    subtitle = subtitle[:1].upper() + subtitle[1:]
    return (
        f"# {spec.short_title}\n\n{subtitle}.\n\n| | |\n|---|---|\n{rows}\n\n"
        f"**Provenance.** {spec.status[:1].upper()}{spec.status[1:]}.\n\n{_card(spec)}\n\n"
        f"## Classes\n\n{classes}"
    )


def _card(spec: MethodSpec) -> str:
    """The text of a method's card, without its front matter and what only a card's template fills in."""
    text = (ROOT / "model_cards" / f"{spec.module}.md").read_text(encoding="utf-8")
    return text.split("---\n", 2)[2].strip()


def api_pages() -> dict[str, str]:
    """The public names, each on one page: that of ``ecg_hf`` itself, then module by module."""
    listed: set[int] = set()
    main = [_directive("ecg_hf", name, listed) for name in sorted(ecg_hf._EXPORTS, key=str.lower)]
    pages = {}
    for module, title in MODULES.items():
        full = f"ecg_hf.{module}"
        loaded = importlib.import_module(full)
        new = [name for name in loaded.__all__ if id(getattr(loaded, name)) not in listed]
        summary = (inspect.getdoc(loaded) or "").partition("\n\n")[0]
        entries = [f"``{full}``: {summary}", *(_directive(full, name, listed) for name in new)]
        pages[f"api/{module}.md"] = f"# {title}\n\n{_rst(entries)}"
    toctree = "\n".join(MODULES)
    pages["api/index.md"] = (
        "# API\n\nThe names of `ecg_hf` itself; those of its parts have a page each, the classes of a method stand "
        f"on its page.\n\n```{{toctree}}\n:maxdepth: 1\n\n{toctree}\n```\n\n{_rst(main)}"
    )
    return pages


def _rst(entries: list[str]) -> str:
    """A block of reStructuredText in a page of Markdown."""
    return "```{eval-rst}\n" + "\n\n".join(filter(None, entries)) + "\n```\n"


def _directive(module: str, name: str, listed: set[int]) -> str:
    """The directive that documents one name; nothing for constants, whose values say little."""
    value = getattr(importlib.import_module(module), name)
    if inspect.ismodule(value):
        return ""
    if inspect.isclass(value):
        kind = "exception" if issubclass(value, BaseException) else "class"
    elif inspect.isroutine(value):
        kind = "function"
    else:
        return ""
    listed.add(id(value))
    return f".. auto{kind}:: {module}.{name}"
