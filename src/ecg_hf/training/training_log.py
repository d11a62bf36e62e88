"""``training_log.jsonl``: every logged value of a run, one JSON object per line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ecg_hf.documents import Count, parse_json, read_text
from ecg_hf.errors import ConfigurationError
from ecg_hf.files import write_whole

__all__ = ["MeasuringCallback", "RunningMeans", "TrainingLog", "read_training_log", "reported_values"]

LOG_FILE = "training_log.jsonl"


class _Row(TypedDict):
    """What every row has."""

    step: Count
    kind: str


def _kind(logs: dict[str, Any]) -> str:
    if any(name.startswith("eval_") for name in logs):
        return "evaluation"
    if any(name.startswith("probe_") for name in logs):
        return "probe"
    return "summary" if "train_runtime" in logs else "training"


def read_training_log(path: Path | str) -> list[dict[str, Any]]:
    """Rows of a ``training_log.jsonl`` (or of the one in a run's folder), in the order they were written.

    Each has ``step``, ``kind`` (``training``, ``evaluation``, ``probe`` or ``summary``), ``epoch`` and the logged
    values; None stands for a value that was not finite. A last line cut short by a kill is left out.

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


class MeasuringCallback(TrainerCallback):
    """A callback with values of its own to log: :class:`ecg_hf.training.base.EcgTrainer` sets how.

    Attributes:
        log: Logs values as the trainer logs its own: into its history, ``training_log.jsonl``, the progress shown,
            and wherever ``report_to`` says.
    """

    log: Callable[[dict[str, float]], None]


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
        if state.global_step > 0:
            # Of a run in an object store, killed while it published the file, the checkpoint alone may be left.
            rows = [_row(int(logs["step"]), logs) for logs in state.log_history if "step" in logs]
            rows += read_training_log(path) if path.is_file() else []
            for row in rows:
                if row["step"] <= state.global_step and row["kind"] != "summary":
                    kept[row["step"], row["kind"]] = row
        self._written = set(kept)
        path.parent.mkdir(parents=True, exist_ok=True)
        ordered = sorted(kept.values(), key=lambda row: int(row["step"]))
        write_whole(path, "".join(json.dumps(row) + "\n" for row in ordered))

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
        row = _row(state.global_step, logs)
        path = Path(args.output_dir) / LOG_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(row) + "\n")


def _row(step: int, logs: dict[str, Any]) -> dict[str, Any]:
    values = {name: _jsonable(value) for name, value in logs.items() if name not in ("step", "kind")}
    return {"step": step, "kind": _kind(logs), **values}


def _jsonable(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no NaN
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def reported_values(outputs: Mapping[str, object]) -> dict[str, Tensor]:
    """Scalars worth logging from a model's output.

    Args:
        outputs: Model output with ``loss_terms`` (parts of the loss) and perhaps ``metrics`` (anything else
            worth following, such as the masked error over the error of predicting zero).

    Returns:
        Loss terms as ``loss_<name>``, metrics under their own name; scalar tensors without gradient.
    """
    values: dict[str, Tensor] = {}
    for field, prefix in (("loss_terms", "loss_"), ("metrics", "")):
        reported = outputs.get(field)
        if isinstance(reported, Mapping):
            for name, value in reported.items():
                values[name if name.startswith(prefix) else prefix + name] = value.detach()
    return values


class RunningMeans:
    """Weighted means of named scalars, kept as tensors on their device until :meth:`drain`."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._weights: dict[str, float] = {}

    def update(self, values: Mapping[str, Tensor], weight: float = 1.0) -> None:
        """Add one observation of each scalar."""
        for name, value in values.items():
            term = value.float() * weight
            self._sums[name] = self._sums[name] + term if name in self._sums else term
            self._weights[name] = self._weights.get(name, 0.0) + weight

    def drain(self, sum_across_processes: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Means since the last drain, over all processes, and a fresh start.

        The one place that waits for the device, once for all scalars. Every process must call it.

        Args:
            sum_across_processes: Adds a tensor up over the processes.
        """
        if not self._sums:
            return {}
        names = sorted(self._sums)
        sums = torch.stack([self._sums[name] for name in names])
        weights = torch.tensor([self._weights[name] for name in names], device=sums.device)
        totals = sum_across_processes(torch.stack([sums, weights]))
        means: list[float] = (totals[0] / totals[1]).tolist()
        self.reset()
        return dict(zip(names, means, strict=True))

    def reset(self) -> None:
        """Forget everything seen so far."""
        self._sums, self._weights = {}, {}
