"""What a card needs besides the model and its card source, kept beside the card as ``card.json``."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ecg_hf.documents import read_json
from ecg_hf.errors import ConfigurationError, ModelFolderError
from ecg_hf.evaluation.results import validate_results
from ecg_hf.files import write_whole
from ecg_hf.hub.classifier_metrics import ClassifierMetrics
from ecg_hf.hub.training_facts import run_facts
from ecg_hf.training.settings import REPORT_FILE

__all__ = ["CONTEXT_FILE", "PLACEHOLDER", "CardContext", "card_context_of", "weights_licence_of"]

CONTEXT_FILE = "card.json"
"""The context of a card, so that it can be written again with new results. It is not pushed."""

PLACEHOLDER = "path/to/this/folder"
"""Placeholder in the examples of a card until the model has a repository."""

_NOT_STATED = "not stated"
_REPO = re.compile(r"[\w.-]+(/[\w.-]+)*")


@dataclass(frozen=True, slots=True)
class CardContext:
    """What a card needs besides the model and the method's card source.

    Attributes:
        model_name: Title of the card.
        dataset: Name of the training data.
        data_licence: Licence of the training data.
        data: Facts about the training data, printed as a list.
        training: Facts about the run, printed as a list.
        emissions_g: Grams of CO2 equivalent, if they were measured.
        results: Content of a ``results.json``.
        repo: Where the model will be found; a placeholder if it is not on the Hub yet.
        synthetic: Whether the data are simulated.
        weights_licence: Licence of the weights; the method's own for weights trained with this package if not given.
        trained_here: Whether weights with a licence of their own were trained with this package, not converted.
        extra: Further front matter.
        classifier: Labels and figures of a fine-tuned classifier, as in its ``metrics.json``.
    """

    model_name: str
    dataset: str
    data_licence: str
    data: dict[str, str] = field(default_factory=dict)
    training: dict[str, str] = field(default_factory=dict)
    emissions_g: float | None = None
    results: dict[str, Any] = field(default_factory=dict)
    repo: str = PLACEHOLDER
    synthetic: bool = False
    weights_licence: str | None = None
    trained_here: bool = False
    extra: dict[str, Any] = field(default_factory=dict)
    classifier: ClassifierMetrics | None = None

    def __post_init__(self) -> None:
        """Refuse values that would break out of their place in the card.

        Raises:
            ModelFolderError: naming the field.
        """
        if not _REPO.fullmatch(self.repo):
            raise ModelFolderError("repo must be the name of a repository (owner/name)", value=self.repo)
        taken = sorted({"model_name", "license", "library_name", "tags", "eval_results"} & set(self.extra))
        if taken:
            raise ModelFolderError(f"extra may not hold {taken[0]}, which is set by a field", value=taken)

    def save(self, folder: Path) -> None:
        """Write ``card.json``."""
        write_whole(folder / CONTEXT_FILE, json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, folder: Path) -> CardContext | None:
        """The context kept in a folder; None if it has none.

        Raises:
            ModelFolderError: if it can't be understood.
        """
        path = folder / CONTEXT_FILE
        if not path.is_file():
            return None
        context: CardContext = read_json(path, cls, error=ModelFolderError)
        if context.results:
            try:
                validate_results(context.results)
            except ConfigurationError as error:
                raise ModelFolderError(f"results: {error.message}", path=path, value=error.value) from None
        return context


def card_context_of(folder: str | Path, **given: Any) -> CardContext:
    """What is known about the model in a folder: from its last card, its training run, and what is given.

    Args:
        folder: A model folder. If the report of the run is newer than the last card, its facts replace the card's.
        given: Fields of :class:`CardContext` that take precedence; None counts as not given.
    """
    folder = Path(folder)
    kept = CardContext.load(folder)
    facts = run_facts(folder) if _run_is_newer(folder) else None
    context = kept or CardContext(folder.resolve().name, _NOT_STATED, _NOT_STATED)
    if facts is not None:
        context = replace(context, **asdict(facts))
    return replace(context, **{name: value for name, value in given.items() if value is not None})


def weights_licence_of(folder: str | Path) -> str | None:
    """The licence of converted weights in a folder; None for weights that were trained with this package.

    Raises:
        ModelFolderError: if the card's context can't be understood.
    """
    context = CardContext.load(Path(folder))
    return None if context is None or context.trained_here else context.weights_licence


def _run_is_newer(folder: Path) -> bool:
    """Whether a run has finished since the card was last written, so that options given then are out of date."""
    report, card = folder / REPORT_FILE, folder / CONTEXT_FILE
    return report.is_file() and not (card.is_file() and card.stat().st_mtime_ns > report.stat().st_mtime_ns)
