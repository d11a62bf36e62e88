"""Says it when embeddings collapse: a loss without negatives may go on falling when they do."""

from __future__ import annotations

import logging
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

__all__ = ["CollapseWatch"]

logger = logging.getLogger(__name__)

LOWEST_SPREAD = 0.05
LOWEST_RANK = 1.5
LEAST_BATCH = 16
"""Fewer records lie near a line by themselves."""
_LOGS_BELOW = 2


class CollapseWatch(TrainerCallback):
    """Warns, once per collapse, if embeddings have all but one direction, or one dimension, in two logs in a row.

    The metric ``embedding_spread`` is 1 if embeddings point in all directions and 0 if all are the same
    (:func:`ecg_hf.nn.collapse.embedding_spread`); ``effective_rank`` is 1 if they lie on a line, which batch norm in
    the heads hides (:func:`ecg_hf.nn.collapse.effective_rank`). Methods that report neither are not watched.
    """

    def __init__(self) -> None:
        self._below = {"embedding_spread": 0, "effective_rank": 0}

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Look at a training log."""
        if logs is None or not state.is_world_process_zero:
            return
        for name, lowest, said, healthy in (
            ("embedding_spread", LOWEST_SPREAD, "all records look alike", "1"),
            ("effective_rank", LOWEST_RANK, "records differ along one line alone", "above 2"),
        ):
            value = logs.get(name)
            if value is None or (name == "effective_rank" and args.train_batch_size < LEAST_BATCH):
                continue
            self._below[name] = self._below[name] + 1 if value < lowest else 0
            if self._below[name] == _LOGS_BELOW:
                logger.warning(
                    "step %d: the embeddings have collapsed, %s (%s %.2g, healthy %s); a lower learning rate, longer "
                    "warm-up or larger batch may help",
                    state.global_step,
                    said,
                    name,
                    value,
                    healthy,
                )
