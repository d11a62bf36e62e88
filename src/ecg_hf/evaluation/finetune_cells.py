"""Fine-tuning cells: all weights trained on a benchmark's rows, from pretrained or from random weights."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.cells import cell_key
from ecg_hf.evaluation.entrants import ModelEntrant
from ecg_hf.evaluation.heads.finetune import finetune_scores
from ecg_hf.evaluation.metrics import FloatArray
from ecg_hf.training.finetuning import layer_depths

if TYPE_CHECKING:
    from ecg_hf.evaluation.harness import Job
    from ecg_hf.evaluation.plan import EvaluationPlan

__all__ = ["deviations", "finetuned_scores"]

EXTRACTOR_FILE = "preprocessor_config.json"


def deviations(plan: EvaluationPlan, model: Any) -> list[str]:
    """What keeps a fine-tuning from being its protocol's published one, in words; nothing if it is.

    Args:
        plan: What is asked for.
        model: The encoder.
    """
    schedule = plan.protocol.schedules.get("finetune")
    if schedule is None:
        return ["the protocol publishes no schedule of it"]
    found = [f"{name} is not reproduced" for name in schedule.not_reproduced]
    if schedule.encoder_learning_rate is not None and max(layer_depths(model).values()) == 0:
        found.append("the encoder has no layers to tell its stem from")
    if plan.protocol.window_s is not None and getattr(model.config, "window_samples", None):
        found.append("the model is trained on all windows of a recording, not on a random one")
    if plan.head_options:
        found.append(f"asked for otherwise: {', '.join(sorted(plan.head_options))}")
    return found


def finetuned_scores(job: Job) -> tuple[FloatArray, dict[str, str], dict[str, Any]]:
    """Log-odds of the test records by a fine-tuned model; a killed training continues from its last epoch."""
    entrant, data = job.entrant, job.prepared.data
    assert isinstance(entrant, ModelEntrant)
    if not len(data.rows("validation")):
        raise ConfigurationError("fine-tuning chooses the epoch on validation records: give validation folds")
    folder = entrant.cache_dir.parent / "work" / f"finetune-{cell_key(job.depends())}"
    options: dict[str, Any] = {"disable_tqdm": False, "report_to": "none", **job.settings}
    if job.plan.device == "cpu":
        options.setdefault("use_cpu", True)
    found = finetune_scores(
        _staged(entrant, folder / "start"),
        job.prepared.dataset,
        data,
        folder / "training",
        train_rows=job.train_rows(),
        from_scratch=entrant.untrained,
        model_options=_model_options(job.plan),
        resume=True,
        seed=job.seed,
        **options,
    )
    # Weights and optimiser states of every cell would fill the disk; the scores are what is kept.
    shutil.rmtree(folder, ignore_errors=True)
    return found.scores, found.unfitted, {"best_step": found.best_step}


def _model_options(plan: EvaluationPlan) -> dict[str, Any]:
    """Fields of the configuration that the published schedule decides."""
    schedule = plan.protocol.schedules.get("finetune")
    return {} if schedule is None or schedule.pooling is None else {"classifier_pooling": schedule.pooling}


def _staged(entrant: ModelEntrant, folder: Path) -> str:
    """The model's folder, with the protocol's preprocessing in place of its own where that differs."""
    if not entrant.adapted:
        return entrant.source
    source = Path(entrant.source)
    if not source.is_dir():
        raise ConfigurationError(
            "fine-tuning under a protocol with its own preprocessing needs a local model", path=source
        )
    folder.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        target = folder / file.name
        if (
            file.is_file()
            and file.name not in (EXTRACTOR_FILE, "processor_config.json")
            and not target.exists()
        ):
            os.symlink(file.resolve(), target)
    entrant.extractor.save_pretrained(folder)
    return str(folder)
