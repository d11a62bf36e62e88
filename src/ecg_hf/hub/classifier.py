"""Documents a fine-tuned classifier: ``metrics.json`` and the card in its folder."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecg_hf.data.report import REPORT_FILE as BUILD_REPORT_FILE
from ecg_hf.documents import read_json
from ecg_hf.errors import ModelFolderError
from ecg_hf.files import write_whole
from ecg_hf.hub.card import write_model_card
from ecg_hf.hub.card_context import CardContext
from ecg_hf.hub.classifier_metrics import ClassifierMetrics, classifier_metrics
from ecg_hf.hub.model_folder import open_model_folder
from ecg_hf.hub.training_facts import ARGUMENTS_FILE, facts_of

if TYPE_CHECKING:
    from ecg_hf.training.finetuning_run import FineTuneResult

__all__ = ["METRICS_FILE", "document_classifier"]

METRICS_FILE = "metrics.json"


def document_classifier(result: FineTuneResult, *, model_name: str | None = None) -> ClassifierMetrics:
    """Write ``metrics.json`` and the card into the folder of a fine-tuned classifier.

    Args:
        result: Of :func:`ecg_hf.training.finetune`.
        model_name: Title of the card; the folder's name if not given.

    Returns:
        What ``metrics.json`` holds.
    """
    folder = Path(result.output_dir)
    metrics = classifier_metrics(result)
    write_whole(folder / METRICS_FILE, json.dumps(metrics, indent=2, ensure_ascii=False) + "\n")
    opened = open_model_folder(folder)
    arguments = read_json(folder / ARGUMENTS_FILE, dict[str, Any], error=ModelFolderError)
    facts = facts_of({**result.report(), "datasets": _parts(result)}, arguments, folder)
    start = "random weights of the architecture of" if result.from_scratch else "the weights of"
    context = CardContext(
        model_name=model_name or folder.resolve().name,
        **{**asdict(facts), "training": {"started from": f"{start} {result.model}", **facts.training}},
        extra={"base_model": result.model} if _is_repository(result.model) else {},
        classifier=metrics,
    )
    write_model_card(folder, opened.model, opened.feature_extractor, context)
    return metrics


def _is_repository(model: str) -> bool:
    return re.fullmatch(r"[\w.-]+/[\w.-]+", model) is not None and not Path(model).exists()


def _parts(result: FineTuneResult) -> list[dict[str, Any]]:
    """The datasets of the run, as a card tells them; what was left out when building only where one build is all."""
    whole = len(result.sources) == 1
    counts = {split: result.records[split] for split in ("train", "validation")} if whole else {}
    built = (Path(result.dataset) / BUILD_REPORT_FILE).is_file()
    path = {"path": result.dataset} if whole and built else {}
    return [{"source": source, **counts, **path} for source in result.sources or ("not stated",)]
