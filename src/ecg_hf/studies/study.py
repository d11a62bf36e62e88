"""What a study is: its file, checked."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from ecg_hf.documents import Range, Share, check, parse_yaml, read_text
from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.benchmark_data import get_benchmark
from ecg_hf.evaluation.plan import EvaluationPlan
from ecg_hf.evaluation.protocols import get_protocol
from ecg_hf.models.registry import get_method
from ecg_hf.training import load_recipe

__all__ = ["Arm", "Budget", "Study", "list_studies", "load_study"]

_FOLDER = "ecg_hf.studies.shipped"

_BUDGET = re.compile(r"(\d+(?:\.\d+)?)(min|rec)")


@dataclass(frozen=True)
class Budget:
    """How much every method may train: processor minutes on one core, or records seen."""

    minutes: float | None = None
    records: int | None = None

    @classmethod
    def parse(cls, text: str) -> Budget:
        """``10min`` or ``100000rec``.

        Raises:
            ConfigurationError: for anything else.
        """
        found = _BUDGET.fullmatch(text.strip())
        if found is None or not float(found[1]):
            raise ConfigurationError(
                f"a budget is minutes or records, 10min or 100000rec, got {text!r}", value=text
            )
        if found[2] == "min":
            return cls(minutes=float(found[1]))
        return cls(records=int(float(found[1])))

    def __str__(self) -> str:
        return f"{self.minutes:g}min" if self.minutes is not None else f"{self.records}rec"


@dataclass(frozen=True)
class Arm:
    """A row of the study's table.

    Attributes:
        method: Name in the registry.
        label: What the table calls it.
        variant: Of the method.
        recipe: Name or path; the method's CPU recipe by default, where there is one.
        overrides: Fields of the method's configuration over the recipe's.
    """

    method: str
    label: str
    variant: str = "full"
    recipe: str | None = None
    overrides: dict[str, Any] = field(default_factory=dict)

    def folder_name(self, seed: int) -> str:
        """Of the cell, in letters that every disk takes."""
        return re.sub(r"[^a-z0-9]+", "-", self.label.lower()).strip("-") + f"-seed{seed}"


@dataclass(frozen=True)
class Study:
    """A grid of arms and seeds, pretrained on the same datasets and evaluated alike.

    Attributes:
        name: File name without ending.
        title: One line.
        arms: Rows.
        datasets: Sources to pretrain on.
        seeds: Of pretraining.
        budget: Equal for all arms; the recipes' own lengths by default.
        benchmarks: To evaluate on.
        plan: Protocol, heads, fractions, seeds of label subsets.
        zero_shot: Also score prompts, of arms that read text.
        compare_with: Label of the arm that all others are compared with.
        curves: Also score test recordings with fewer ``leads`` or at a lower ``rate``.
        maps: Draw the embeddings of each cell.
    """

    name: str
    title: str
    arms: tuple[Arm, ...]
    datasets: tuple[str, ...]
    benchmarks: tuple[str, ...]
    plan: EvaluationPlan
    seeds: tuple[int, ...] = (0,)
    budget: Budget | None = None
    zero_shot: bool = False
    compare_with: str | None = None
    curves: tuple[str, ...] = ()
    maps: bool = False

    @property
    def sources(self) -> tuple[str, ...]:
        """Datasets of pretraining and of the benchmarks, each once."""
        return tuple(
            dict.fromkeys([*self.datasets, *(get_benchmark(name).dataset for name in self.benchmarks)])
        )


def list_studies() -> list[str]:
    """Names of the studies that come with the package."""
    files = resources.files(_FOLDER).iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def load_study(name: str | Path) -> Study:
    """Read a study.

    Args:
        name: One of :func:`list_studies`, or the path of a YAML file.

    Raises:
        ConfigurationError: There is no such study, or it holds something a study can't hold.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ConfigurationError("study not found", path=path)
        text = read_text(path)
    elif str(name) in list_studies():
        text = (resources.files(_FOLDER) / f"{name}.yaml").read_text(encoding="utf-8")
    else:
        raise ConfigurationError(
            f"unknown study {str(name)!r}; known: {', '.join(list_studies())}", value=str(name)
        )
    return _study(path.stem, path, parse_yaml(text, path=path))


class _Method(TypedDict):
    method: str
    label: NotRequired[str]
    variant: NotRequired[str]
    recipe: NotRequired[str]
    overrides: NotRequired[dict[str, Any]]


class _Pretrain(TypedDict):
    datasets: list[str]
    budget: NotRequired[str]
    seeds: NotRequired[list[int]]


class _Evaluate(TypedDict):
    benchmarks: list[str]
    protocol: NotRequired[str]
    heads: NotRequired[list[str]]
    fractions: NotRequired[list[Share]]
    seeds: NotRequired[Annotated[int, Range(1, 100)]]
    subsets: NotRequired[str]
    folds: NotRequired[list[str]]
    zero_shot: NotRequired[bool]


class _Content(TypedDict):
    title: NotRequired[str]
    pretrain: _Pretrain
    methods: list[_Method]
    evaluate: _Evaluate
    compare_with: NotRequired[str]
    curves: NotRequired[list[Literal["leads", "rate"]]]
    maps: NotRequired[bool]


def _study(name: str, path: Path, content: object) -> Study:
    asked = check(content, _Content, path=path)
    for part, kind in ((asked, _Content), (asked["pretrain"], _Pretrain), (asked["evaluate"], _Evaluate)):
        _no_others(part, kind, path)
    for one in asked["methods"]:
        _no_others(one, _Method, path)
    arms = tuple(_arm(one) for one in asked["methods"])
    labels = Counter(arm.label for arm in arms)
    if not arms or max(labels.values()) > 1:
        twice = [label for label, count in labels.items() if count > 1]
        raise ConfigurationError("methods need labels of their own", path=path, value=twice)
    with_label = asked.get("compare_with")
    if with_label is not None and with_label not in labels:
        raise ConfigurationError("compare_with names no label of the study", path=path, value=with_label)
    wanted, training = asked["evaluate"], asked["pretrain"]
    folds = wanted.get("folds", [])
    if len(folds) not in (0, 3):
        raise ConfigurationError("folds are three: train, validation, test", path=path, value=folds)
    plan = EvaluationPlan(
        protocol=get_protocol(wanted.get("protocol", "merl-exact")),
        heads=tuple(wanted.get("heads", ["linear"])),
        fractions=tuple(wanted["fractions"]) if "fractions" in wanted else None,
        seeds=tuple(range(wanted.get("seeds", 1))),
        subsets=wanted.get("subsets", "published"),
        folds=(folds[0], folds[1], folds[2]) if folds else (None, None, None),
    )
    benchmarks = tuple(get_benchmark(benchmark).name for benchmark in wanted["benchmarks"])
    if not benchmarks or not training["datasets"]:
        raise ConfigurationError("a study needs datasets to pretrain on and benchmarks", path=path)
    return Study(
        name,
        asked.get("title", name),
        arms,
        tuple(training["datasets"]),
        benchmarks,
        plan,
        tuple(training.get("seeds", [0])),
        Budget.parse(training["budget"]) if "budget" in training else None,
        wanted.get("zero_shot", False),
        with_label,
        tuple(asked.get("curves", [])),
        asked.get("maps", False),
    )


def _no_others(part: Any, kind: type, path: Path) -> None:
    others = sorted(set(part) - set(kind.__annotations__))
    if others:
        raise ConfigurationError(
            f"a study has no {others[0]!r} here; there are {', '.join(kind.__annotations__)}",
            path=path,
            value=others[0],
        )


def _arm(asked: _Method) -> Arm:
    method = get_method(asked["method"])
    name = method.name
    arm = Arm(
        name,
        asked.get("label", name),
        asked.get("variant", "full"),
        asked.get("recipe"),
        dict(asked.get("overrides", {})),
    )
    if "pretraining" not in method.roles:
        raise ConfigurationError(f"{name} is not pretrained here", value=name)
    method.load("config").variant_fields(arm.variant)
    if arm.recipe is not None and load_recipe(arm.recipe).method != name:
        raise ConfigurationError(f"recipe {arm.recipe} is not for {name}", value=arm.recipe)
    return arm
