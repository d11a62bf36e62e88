"""A card's results as the files that the Hub reads now; it calls ``model-index`` in the card legacy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, eval_result_entries_to_yaml

from ecg_hf.files import write_whole

__all__ = ["EVAL_RESULTS_FILE", "write_eval_results"]

EVAL_RESULTS_FILE = ".eval_results/ecg_hf.yaml"
"""Below the model folder, and in its repository."""


def write_eval_results(folder: Path, results: Sequence[EvalResult]) -> Path | None:
    """Write results beside the card; without any, an older file is removed.

    Args:
        folder: Where the card is.
        results: Those of its ``model-index``.

    Returns:
        The file, None without results.
    """
    path = folder / EVAL_RESULTS_FILE
    if not results:
        path.unlink(missing_ok=True)
        return None
    entries = [
        EvalResultEntry(
            dataset_id=str(one.dataset_type),
            task_id=str(one.dataset_config or one.task_type),
            value=one.metric_value,
            notes=_notes(one),
        )
        for one in results
    ]
    path.parent.mkdir(exist_ok=True)
    write_whole(
        path, yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True)
    )
    return path


def _notes(result: EvalResult) -> str:
    """What the number is, and its interval where there is one."""
    # In an untrusted card arguments may be anything.
    ci95 = result.metric_args.get("ci95") if isinstance(result.metric_args, dict) else None
    interval = f", 95 % interval {ci95}" if ci95 else ""
    return f"{result.metric_name or result.metric_type}, {result.dataset_split or 'test'}{interval}"
