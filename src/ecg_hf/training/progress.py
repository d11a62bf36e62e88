"""What a training run shows while it runs: the step, the time left, and the few values that matter."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

__all__ = ["Progress", "duration"]


def duration(seconds: float) -> str:
    """``"45 s"``, ``"3 min 10 s"``, ``"2 h 05 min"``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


SHOWN = {
    "loss": "loss",
    "eval_loss": "validation loss",
    "probe_knn_auroc": "kNN probe",
    "probe_linear_auroc": "linear probe",
}


class Progress(TrainerCallback):
    """Shows training and validation loss, and what probes found, beside the step, on standard error.

    On a terminal as a bar that moves with every step; elsewhere, or with ``disable_tqdm``, as one line for every log
    and evaluation. All terms of the loss are in ``training_log.jsonl``.
    """

    def __init__(self) -> None:
        self._bar: Any = None
        self._losses: dict[str, float] = {}
        self._started = 0.0
        self._first = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Note where the run starts."""
        self._losses, self._started, self._first = {}, time.perf_counter(), state.global_step
        if state.is_world_process_zero and sys.stderr.isatty() and not args.disable_tqdm:
            self._bar = tqdm(
                total=state.max_steps, initial=state.global_step, unit="step", dynamic_ncols=True
            )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show what is worth it, if the log has any of it."""
        new = {shown: float(logs[name]) for name, shown in SHOWN.items() if logs and name in logs}
        if not new or not state.is_world_process_zero:
            return
        self._losses |= new
        text = ", ".join(f"{name} {value:.4g}" for name, value in self._losses.items())
        if self._bar is not None:
            self._bar.set_postfix_str(text)
        elif state.global_step > 0:
            sys.stderr.write(f"step {state.global_step:,} / {state.max_steps:,}  {text}{self._left(state)}\n")
            sys.stderr.flush()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _left(self, state: TrainerState) -> str:
        """Time left at the pace of this run so far."""
        done, remaining = state.global_step - self._first, state.max_steps - state.global_step
        if done <= 0 or remaining <= 0:
            return ""
        return f"  {duration((time.perf_counter() - self._started) / done * remaining)} left"
