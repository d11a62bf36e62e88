"""Model cards: one template, one source per method in ``model_cards/``, figures from a results file."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, StrictUndefined

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.registry import MethodSpec, get_method

__all__ = ["CardContext", "write_model_card"]


@dataclass(frozen=True, slots=True)
class CardContext:
    """What a card says that neither the model nor the method's card source knows.

    Attributes:
        model_name: Title of the card.
        dataset: Name of the training data.
        data_licence: Licence of the training data.
        training: Facts about the run, printed as a list.
        results: Content of a ``results.json``.
        repo: Where the model will be found; a placeholder if it is not on the Hub yet.
        synthetic: Whether the data are simulated.
        weights_licence: Licence of the weights; the method's own for weights trained with this package if not given.
        extra: Further front matter.
    """

    model_name: str
    dataset: str
    data_licence: str
    training: dict[str, str] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    repo: str = "path/to/this/folder"
    synthetic: bool = False
    weights_licence: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def write_model_card(folder: str | Path, model: Any, feature_extractor: Any, context: CardContext) -> Path:
    """Write ``README.md`` into a model folder.

    Args:
        folder: The model folder.
        model: The model; its configuration names the method.
        feature_extractor: Its feature extractor.
        context: Everything else.

    Returns:
        Path of the card.

    Raises:
        ConfigurationError: if the method has no card source.
    """
    spec = get_method(model.config.model_type)
    source, text = _card_source(spec)
    config = model.config
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    template = environment.from_string(_resource("model_card.md.jinja"))
    content = template.render(
        card_data=_front_matter(spec, source, context).to_yaml(),
        model_name=context.model_name,
        method_title=spec.title,
        paper_name=spec.paper_name,
        paper_url=spec.paper_url,
        parameters=_round(model.num_parameters()),
        multimodal=spec.multimodal,
        synthetic=context.synthetic,
        repo=context.repo,
        leads=", ".join(config.lead_names),
        sampling_rate=f"{config.sampling_rate:g}",
        duration=f"{config.num_samples / config.sampling_rate:g}",
        normalization=f"normalisation `{feature_extractor.normalization}`",
        method_text=text,
        training_text="\n".join(f"- {name}: {value}" for name, value in context.training.items())
        or "Not recorded.",
        results_text=_results_text(context.results),
        resampled=_resampled_unit(context.results),
        licence=context.weights_licence or spec.licence,
        data_licence=context.data_licence,
        citation=str(source.get("citation", "")).strip(),
    )
    path = Path(folder) / "README.md"
    partial = path.with_name(path.name + ".partial")
    partial.write_text(content, encoding="utf-8")
    os.replace(partial, path)
    return path


def _resource(name: str) -> str:
    return (resources.files("ecg_hf.hub") / name).read_text(encoding="utf-8")


def _card_source(spec: MethodSpec) -> tuple[dict[str, Any], str]:
    """Front matter and text of ``model_cards/<method>.md``."""
    name = f"model_cards/{spec.module}.md"
    try:
        content = _resource(name)
    except FileNotFoundError:
        raise ConfigurationError(f"{spec.name} has no card source", path=name) from None
    _, matter, text = content.split("---\n", 2)
    return yaml.safe_load(matter), text.strip()


def _front_matter(spec: MethodSpec, source: dict[str, Any], context: CardContext) -> ModelCardData:
    data = ModelCardData(
        model_name=context.model_name,
        license=context.weights_licence or spec.licence,
        library_name=source.get("library_name", "transformers"),
        tags=list(source.get("tags", [])) + (["synthetic-data"] if context.synthetic else []),
        eval_results=_eval_results(context) or None,
        **context.extra,
    )
    return data


def _eval_results(context: CardContext) -> list[EvalResult]:
    """The ``model-index``: our own encoder's rows only, each with its interval."""
    found = []
    rows = [row for row in context.results.get("probe", []) if row["encoder"] == "pretrained"]
    zero_shot = context.results.get("zero_shot")
    for row in [*rows, *([zero_shot] if zero_shot else [])]:
        if row["macro_auroc"] is None:
            continue
        share = "zero-shot" if row is zero_shot else f"linear probe, {row['fraction']:.0%} of labels"
        found.append(
            EvalResult(
                task_type="ecg-classification",
                task_name="ECG classification",
                dataset_type=context.dataset,
                dataset_name=context.dataset,
                dataset_config=row.get("benchmark", context.dataset),
                dataset_split="test",
                metric_type="roc_auc",
                # The library files all metrics of a task and dataset under one entry, so the name tells them apart.
                metric_name=f"macro AUROC, {share}",
                metric_value=round(row["macro_auroc"], 4),
                metric_args={"ci95": [None if x is None else round(x, 4) for x in row["ci95"]]},
            )
        )
    return found


def _results_text(results: dict[str, Any]) -> str:
    if not results:
        return "None yet."
    from ecg_hf.evaluation.tables import results_markdown

    return results_markdown(results).strip()  # type: ignore[arg-type]


def _resampled_unit(results: dict[str, Any]) -> str:
    units = {row.get("resampled", "records") for row in results.get("probe", [])}
    return units.pop() if len(units) == 1 else "records"


def _round(count: int) -> str:
    return f"{count / 1e6:.1f} million" if count >= 1e6 else f"{count:,}"
