"""Results of an evaluation in the ``model-index`` of an existing card, whose text stays unchanged."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard

from ecg_hf.documents import parse_yaml, read_text
from ecg_hf.errors import ModelFolderError
from ecg_hf.evaluation.results import Results
from ecg_hf.files import sole_writer, write_whole
from ecg_hf.hub.eval_results import write_eval_results
from ecg_hf.hub.model_folder import CARD_FILE

__all__ = ["results_in_card", "summary_entries", "update_model_index", "without"]

METRIC = "roc_auc"
_FRONT_MATTER = re.compile(r"\s*---\r?\n(.*?)\r?\n---", re.DOTALL)


def update_model_index(folder: str | os.PathLike[str], results: Results) -> Path:
    """Put the model's own rows into the ``model-index`` of its card; rows of the same task and name are replaced.

    Args:
        folder: The model's folder, with its card.
        results: Those of an evaluation, with a ``summary``.

    Returns:
        The card.

    Raises:
        ModelFolderError: if the card is missing or can't be read.
    """
    path = Path(folder) / CARD_FILE
    if not path.is_file():
        raise ModelFolderError("the model has no card to write results into", path=path)
    with sole_writer(path):
        return _update(path, summary_entries(results))


def _update(path: Path, new: list[EvalResult]) -> Path:
    card = _card(path)
    card.data.eval_results = [*without(card.data.eval_results or [], new), *new]
    if not card.data.model_name:
        card.data.model_name = path.resolve().parent.name
    write_whole(path, str(card).rstrip("\n") + "\n")
    write_eval_results(path.parent, card.data.eval_results)
    return path


def results_in_card(folder: str | os.PathLike[str]) -> list[EvalResult]:
    """Results in the ``model-index`` of a folder's card; none if it has no card.

    Raises:
        ModelFolderError: if the card can't be read.
    """
    path = Path(folder) / CARD_FILE
    return list(_card(path).data.eval_results or []) if path.is_file() else []


def _card(path: Path) -> Any:
    text = read_text(path, error=ModelFolderError)
    try:
        # No YAML aliases and no key twice; then the library reads it, which may raise anything.
        if match := _FRONT_MATTER.match(text):
            parse_yaml(match[1], dict[str, Any], error=ModelFolderError, path=path)
        card = ModelCard(text)
        card.data.to_yaml()  # what can't be written again is refused now
        return card
    except ModelFolderError:
        raise
    except Exception as error:
        raise ModelFolderError(f"the model's card can't be read: {error}", path=path) from error


def without(results: Iterable[EvalResult], newer: Iterable[EvalResult]) -> list[EvalResult]:
    """Those of ``results`` that are not in ``newer``: of another task or with another name."""
    # As text, because in an untrusted card they may be of any type.
    names = {(str(one.dataset_config), str(one.metric_name)) for one in newer}
    return [one for one in results if (str(one.dataset_config), str(one.metric_name)) not in names]


def summary_entries(results: Results | Mapping[str, Any]) -> list[EvalResult]:
    """Entries of the model's own rows in a ``summary``, each with its interval; none without a summary."""
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
        # The library groups all metrics of a task and dataset under one entry, so the name tells them apart.
        metric_name=f"macro AUROC, {labels}, protocol {row['protocol']}",
        metric_value=round(row["macro_auroc"], 4),
        metric_args={
            "ci95": [None if limit is None else round(limit, 4) for limit in row["ci95"]],
            "seeds": len(row["seeds"]),
            "n_test": row["n_test"],
        },
    )
