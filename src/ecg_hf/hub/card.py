"""Model cards: one template, one source per method in ``model_cards/``, figures from a results file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, StrictUndefined

from ecg_hf.errors import ConfigurationError
from ecg_hf.escaping import markdown_text
from ecg_hf.files import write_whole
from ecg_hf.hub.card_context import CardContext
from ecg_hf.hub.classifier_metrics import index_entry, result_text
from ecg_hf.hub.eval_results import write_eval_results
from ecg_hf.hub.licences import OTHER, licence_identifier
from ecg_hf.hub.model_folder import CARD_FILE
from ecg_hf.hub.model_index import METRIC, summary_entries, without
from ecg_hf.models.registry import MethodSpec, get_method
from ecg_hf.signal.leads import STANDARD_LEADS

__all__ = ["write_model_card"]

_DATASET = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", re.ASCII)
"""Names that may be those of a dataset of the Hub; descriptions are not."""


def write_model_card(
    folder: str | Path,
    model: Any,
    feature_extractor: Any,
    context: CardContext,
    *,
    keep: Sequence[EvalResult] = (),
) -> Path:
    """Write ``README.md`` into a model folder, with its context beside it.

    Args:
        folder: The model folder.
        model: The model; its configuration names the method.
        feature_extractor: Its feature extractor.
        context: Everything else.
        keep: Results already in the card's ``model-index`` that stay, unless the context has newer ones.

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
    data = _front_matter(spec, source, context, keep)
    content = template.render(
        card_data=data.to_yaml(),
        model_name=markdown_text(context.model_name),
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
        all_leads=list(config.lead_names) == list(STANDARD_LEADS),
        preprocessing_text="\n".join(f"- {step}" for step in _preprocessing(feature_extractor)),
        method_text=text,
        data_text=_lines(context.data) or markdown_text(context.dataset),
        training_text=_lines(context.training) or "Not recorded.",
        classifier=context.classifier is not None,
        results_text=_results_text(context),
        converted=context.weights_licence is not None and not context.trained_here,
        licence=markdown_text(context.weights_licence or spec.licence),
        data_licence=markdown_text(context.data_licence),
        citation=str(source.get("citation", "")).strip(),
    )
    path = Path(folder) / CARD_FILE
    write_whole(path, content)
    write_eval_results(Path(folder), data.eval_results or [])
    context.save(Path(folder))
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


def _front_matter(
    spec: MethodSpec, source: dict[str, Any], context: CardContext, keep: Sequence[EvalResult]
) -> ModelCardData:
    new = [] if context.classifier is None else index_entry(context.classifier, context.dataset)
    new += summary_entries(context.results)
    results = [*without(keep, new), *new]
    datasets = context.dataset.split(", ")
    # The Hub has no task for classifiers of ECGs, and those of sounds or pictures would mislead.
    extra: dict[str, Any] = {
        "pipeline_tag": "feature-extraction" if context.classifier is None else "other",
        "language": source.get("language"),
        "datasets": datasets if all(map(_DATASET.fullmatch, datasets)) else None,
        "metrics": [METRIC] if results else None,
        **context.extra,
    }
    if context.emissions_g is not None:
        extra["co2_eq_emissions"] = {
            "emissions": context.emissions_g,
            "source": "codecarbon",
            "training_type": "pre-training",
        }
    licence = licence_identifier(context.weights_licence or spec.licence)
    if licence == OTHER:
        extra["license_name"] = context.weights_licence
    data = ModelCardData(
        model_name=context.model_name,
        license=licence,
        library_name=source.get("library_name", "transformers"),
        tags=list(source.get("tags", [])) + (["synthetic-data"] if context.synthetic else []),
        eval_results=results or None,
        **extra,
    )
    return data


def _results_text(context: CardContext) -> str:
    from ecg_hf.evaluation.tables import evaluation_markdown

    parts = [] if context.classifier is None else [result_text(context.classifier)]
    if context.results:
        # Its title would be a level above the card's headings.
        parts.append(evaluation_markdown(context.results).partition("\n")[2].strip())  # type: ignore[arg-type]
    return "\n\n".join(filter(None, parts)) or "None yet."


def _lines(facts: dict[str, str]) -> str:
    # Sources and digests are code spans already.
    return "\n".join(
        f"- {markdown_text(name, keep='`')}: {markdown_text(value, keep='`')}"
        for name, value in facts.items()
    )


def _preprocessing(extractor: Any) -> list[str]:
    """What the feature extractor does to a recording, in its order."""
    filters = extractor.filter_steps
    length = "kept" if extractor.duration_s is None else f"{extractor.duration_s:g} s"
    steps = [
        f"amplitudes to millivolts by the unit stated; samples that are not finite: `{extractor.nan_policy}`",
        "leads by name"
        + (
            ", missing limb leads derived from two others where that is exact"
            if extractor.derive_leads
            else ""
        )
        + "; missing leads are zeros and marked in `lead_mask`",
        f"{extractor.resampling} resampling to {extractor.sampling_rate:g} Hz",
        f"zero-phase filters: {', '.join(filters)}" if filters else "no filter",
        f"length {length}: longer recordings are cut (`{extractor.crop}`), shorter ones padded on the "
        f"{extractor.padding_side}",
        f"normalisation {extractor.normalization_step}",
    ]
    if extractor.clip is not None:
        steps.append(f"limited to +/- {extractor.clip:g}")
    if extractor.wants_r_peaks:
        steps.append("R peaks: those given, else detected")
    return steps


def _round(count: int) -> str:
    return f"{count / 1e6:.1f} million" if count >= 1e6 else f"{count:,}"
