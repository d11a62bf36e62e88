"""Publishes checkpoints of a run whose folder lies in an object store."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ecg_hf.storage.working_copy import WorkingCopy

__all__ = ["PublishCheckpoints"]


class PublishCheckpoints(TrainerCallback):
    """Publishes the run's folder whenever a checkpoint is saved.

    Args:
        copy: The run's folder.
    """

    def __init__(self, copy: WorkingCopy) -> None:
        self._copy = copy

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Publish."""
        if state.is_world_process_zero:
            self._copy.publish()
