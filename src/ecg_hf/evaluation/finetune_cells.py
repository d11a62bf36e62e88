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

if TYPE_CHECKING:
    from ecg_hf.evaluation.harness import EvaluationPlan, Job

__all__ = ["finetune_settings", "finetuned_scores"]

OWN = {"output_dir", "seed", "resume_from_checkpoint", "disable_tqdm", "report_to"}
EXTRACTOR_FILE = "preprocessor_config.json"


def finetune_settings(plan: EvaluationPlan) -> dict[str, Any]:
    """Training options: the protocol's schedule where it has one, then what was asked for.

    Of a published schedule rate, weight decay, batch size and epochs are taken; layer groups follow from
    ``layer_decay``, which asks for one factor per layer instead of the published groups.

    Raises:
        ConfigurationError: for an option the harness decides.
    """
    options: dict[str, Any] = {}
    schedule = plan.protocol.schedules.get("finetune")
    if schedule is not None:
        options = {
            "learning_rate": schedule.learning_rate,
            "weight_decay": schedule.weight_decay,
            "per_device_train_batch_size": schedule.batch_size,
            "num_train_epochs": schedule.epochs,
            "lr_scheduler_type": "constant" if schedule.decay == "constant" else "cosine",
        }
    given = {("num_train_epochs" if name == "epochs" else name): v for name, v in plan.head_options.items()}
    own = sorted(OWN & set(given))
    if own:
        raise ConfigurationError(f"{own[0]} is decided by the evaluation", value=own[0])
    return {**options, **given}


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
        resume=True,
        seed=job.seed,
        **options,
    )
    # Weights and optimiser states of every cell would fill the disk; the scores are what is kept.
    shutil.rmtree(folder, ignore_errors=True)
    return found.scores, found.unfitted, {"best_step": found.best_step}


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
