"""Results of an evaluation in the card of a model that has one: its ``model-index``, the text left alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard

from ecg_hf.errors import ModelFolderError
from ecg_hf.evaluation.results import Results
from ecg_hf.files import write_whole
from ecg_hf.hub.model_folder import CARD_FILE

__all__ = ["results_in_card", "summary_entries", "update_model_index"]

METRIC = "roc_auc"


def update_model_index(folder: str | os.PathLike[str], results: Results) -> Path:
    """Put the model's own rows into the ``model-index`` of its card; rows of the same task and name are replaced.

    Args:
        folder: The model's folder, with its card.
        results: Of an evaluation, with a ``summary``.

    Returns:
        The card.

    Raises:
        ModelFolderError: if there is no card, or none that can be read.
    """
    path = Path(folder) / CARD_FILE
    card = _card(path)
    new = summary_entries(results)
    names = {(one.dataset_config, one.metric_name) for one in new}
    old = [one for one in card.data.eval_results or [] if (one.dataset_config, one.metric_name) not in names]
    card.data.eval_results = [*old, *new]
    if not card.data.model_name:
        card.data.model_name = Path(folder).resolve().name
    write_whole(path, str(card).rstrip("\n") + "\n")
    return path


def results_in_card(folder: str | os.PathLike[str]) -> list[EvalResult]:
    """Results in the ``model-index`` of a folder's card; none where there is no card.

    Raises:
        ModelFolderError: if there is a card that can't be read.
    """
    path = Path(folder) / CARD_FILE
    return list(_card(path).data.eval_results or []) if path.is_file() else []


def _card(path: Path) -> Any:
    if not path.is_file():
        raise ModelFolderError("the model has no card to write results into", path=path)
    try:
        return ModelCard.load(path)
    except (ValueError, OSError) as error:
        raise ModelFolderError("the model's card can't be read", path=path) from error


def summary_entries(results: Results | Mapping[str, Any]) -> list[EvalResult]:
    """Entries of the model's own rows in a ``summary``, each with its interval; none where there is no summary."""
    return [_entry(row) for row in results.get("summary") or [] if _counts(row)]


def _counts(row: Any) -> bool:
    return row["encoder"] == "pretrained" and row["macro_auroc"] is not None


def _entry(row: Any) -> EvalResult:
    labels = "zero-shot" if row["head"] == "zero-shot" else f"{row['head']}, {row['fraction']:.4g} of labels"
    return EvalResult(
        task_type="ecg-classification",
        task_name="ECG classification",
        dataset_type=row["benchmark"].split("-")[0],
        dataset_name=row["benchmark"],
        dataset_config=row["benchmark"],
        dataset_split="test",
        metric_type=METRIC,
        # The library files all metrics of a task and dataset under one entry, so the name tells them apart.
        metric_name=f"macro AUROC, {labels}, protocol {row['protocol']}",
        metric_value=round(row["macro_auroc"], 4),
        metric_args={
            "ci95": [None if limit is None else round(limit, 4) for limit in row["ci95"]],
            "seeds": len(row["seeds"]),
            "n_test": row["n_test"],
        },
    )
