"""``training_log.jsonl``: every logged value of a run, one JSON object per line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, TypedDict

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ecg_hf.documents import Count, parse_json, read_text
from ecg_hf.errors import ConfigurationError
from ecg_hf.files import write_whole

__all__ = ["TrainingLog", "read_training_log"]

LOG_FILE = "training_log.jsonl"


class _Row(TypedDict):
    """What every row has."""

    step: Count
    kind: str


def _kind(logs: dict[str, Any]) -> str:
    if any(name.startswith("eval_") for name in logs):
        return "evaluation"
    return "summary" if "train_runtime" in logs else "training"


def read_training_log(path: Path | str) -> list[dict[str, Any]]:
    """Rows of a ``training_log.jsonl`` (or of the one in a run's folder), in the order they were written.

    Each has ``step``, ``kind`` (``training``, ``evaluation`` or ``summary``), ``epoch`` and the logged values;
    None stands for a value that was not finite. A last line cut short by a kill is left out.

    Raises:
        ConfigurationError: if there is no log, or a line of it is none.
    """
    path = Path(path)
    path = path / LOG_FILE if path.is_dir() else path
    rows: list[dict[str, Any]] = []
    lines = [line for line in read_text(path).splitlines() if line.strip()]
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(parse_json(line, _Row))
        except ConfigurationError as error:
            if number == len(lines):  # cut short
                continue
            raise ConfigurationError(f"line {number}: {error.message}", path=path) from None
    return rows


class TrainingLog(TrainerCallback):
    """Writes the log, one row per step and kind; on resume drops what the resumed run is going to log again."""

    def __init__(self) -> None:
        self._written: set[tuple[int, str]] = set()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the file, or take it up again at the step resumed from."""
        if not state.is_world_process_zero:
            return
        path = Path(args.output_dir) / LOG_FILE
        kept: dict[tuple[int, str], dict[str, Any]] = {}
        if state.global_step > 0 and path.is_file():
            for row in read_training_log(path):
                if row["step"] <= state.global_step and row["kind"] != "summary":
                    kept[row["step"], row["kind"]] = row
        self._written = set(kept)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, "".join(json.dumps(row) + "\n" for row in kept.values()))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Append one row."""
        if not state.is_world_process_zero or not logs:
            return
        kind = _kind(logs)
        if (state.global_step, kind) in self._written:
            return
        self._written.add((state.global_step, kind))
        values = {name: _jsonable(value) for name, value in logs.items() if name not in ("step", "kind")}
        row = {"step": state.global_step, "kind": kind, **values}
        path = Path(args.output_dir) / LOG_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(row) + "\n")


def _jsonable(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no NaN
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
