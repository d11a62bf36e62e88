"""Says it when embeddings collapse: a loss without negatives may go on falling when they do."""

from __future__ import annotations

import logging
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

__all__ = ["CollapseWatch"]

logger = logging.getLogger(__name__)

LOWEST_SPREAD = 0.05
_LOGS_BELOW = 2


class CollapseWatch(TrainerCallback):
    """Warns, once per collapse, if the metric ``embedding_spread`` is all but zero in two logs in a row.

    The metric is 1 if embeddings point in all directions and 0 if all are the same
    (:func:`ecg_hf.nn.collapse.embedding_spread`). Methods that do not report it are not watched.
    """

    def __init__(self) -> None:
        self._below = 0

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Look at a training log."""
        spread = (logs or {}).get("embedding_spread")
        if spread is None or not state.is_world_process_zero:
            return
        self._below = self._below + 1 if spread < LOWEST_SPREAD else 0
        if self._below == _LOGS_BELOW:
            logger.warning(
                "step %d: the embeddings have collapsed, all records look alike (embedding_spread %.2g, healthy 1); "
                "a lower learning rate, longer warm-up or larger batch may help",
                state.global_step,
                spread,
            )
