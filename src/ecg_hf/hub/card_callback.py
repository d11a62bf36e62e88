"""Writes the model's card when training ends."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ecg_hf.data.report import REPORT_FILE, BuildReport
from ecg_hf.errors import DatasetBuildError
from ecg_hf.hub.card import write_model_card
from ecg_hf.hub.card_context import PLACEHOLDER, CardContext
from ecg_hf.hub.training_facts import facts_of
from ecg_hf.models.registry import get_method
from ecg_hf.storage import location
from ecg_hf.training.machine import device_name, package_versions

__all__ = ["ModelCardCallback"]


class ModelCardCallback(TrainerCallback):
    """Puts ``README.md`` into the output folder at the end of training, from what the trainer knows.

    For any :class:`~ecg_hf.training.EcgPreTrainer`; ``ecg-hf pretrain`` uses it. Results come later, with
    ``ecg-hf card MODEL --results results.json``.

    Args:
        datasets: Folders of the datasets trained on, for what the card says about the data.
        model_name: Title of the card; the output folder's name if not given.

    Raises:
        ConfigurationError: when training begins, if the model's method is not one of this package.
    """

    def __init__(self, datasets: Sequence[str | Path] = (), *, model_name: str | None = None) -> None:
        self._datasets = [str(path) for path in datasets]
        self._model_name = model_name
        self._started = 0.0
        self._resumed_from = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Note the time and the step. A model without a card source is refused now rather than after training."""
        get_method(kwargs["model"].config.model_type)
        self._started = time.perf_counter()
        self._resumed_from = state.global_step

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write the card."""
        if not state.is_world_process_zero:
            return
        model, processing = kwargs["model"], kwargs["processing_class"]
        folder = Path(str(args.output_dir))
        loaders = {"train": kwargs.get("train_dataloader"), "validation": kwargs.get("eval_dataloader")}
        facts = facts_of(
            {
                "records": {
                    name: len(loader.dataset) for name, loader in loaders.items() if loader is not None
                },
                "steps": state.global_step,
                "seconds": time.perf_counter() - self._started,
                "resumed_from": self._resumed_from,
                "device": device_name(args.device),
                "processes": args.world_size,
                "versions": package_versions(),
                "datasets": [part for path in self._datasets if (part := _part(path)) is not None],
                "evaluation": _finite(
                    next((row for row in reversed(state.log_history) if "eval_loss" in row), {})
                ),
            },
            args.to_dict(),
            folder,
        )
        context = CardContext(
            model_name=self._model_name or folder.resolve().name,
            repo=args.hub_model_id if args.push_to_hub and args.hub_model_id else PLACEHOLDER,
            **asdict(facts),
        )
        folder.mkdir(parents=True, exist_ok=True)
        write_model_card(folder, model, getattr(processing, "feature_extractor", processing), context)


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without values that are not finite, which JSON can't represent."""
    return {
        name: value for name, value in values.items() if not isinstance(value, float) or math.isfinite(value)
    }


def _part(path: str) -> dict[str, Any] | None:
    """One dataset, as the report of a run describes it."""
    try:
        place = location(path)
        report = BuildReport.load(place if isinstance(place, Path) else place.mirror(REPORT_FILE.__eq__))
    except DatasetBuildError:
        return None
    return {"path": path, "source": report.source}
