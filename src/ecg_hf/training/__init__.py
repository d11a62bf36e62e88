"""Pretraining and fine-tuning on top of ``transformers.Trainer``.

Names are loaded on first use: a plan, a card or a conversion takes settings and records of a run, not the trainer.
"""

from typing import TYPE_CHECKING

# The library's Auto classes come first, see ``ecg_hf.auto_registration``.
import transformers.models.auto.modeling_auto  # noqa: F401

from ecg_hf.lazy import lazy_names

if TYPE_CHECKING:
    from ecg_hf.training.arguments import EcgArgumentParser, EcgFineTuningArguments, EcgPreTrainingArguments
    from ecg_hf.training.collators import BatchedEcgDataset, EcgCollator, EcgTextCollator
    from ecg_hf.training.finetuning_run import FineTuneResult, finetune
    from ecg_hf.training.recipe import Recipe, list_recipes, load_recipe
    from ecg_hf.training.run import PretrainResult, pretrain
    from ecg_hf.training.trainer import EcgPreTrainer
    from ecg_hf.training.training_log import read_training_log

__all__ = [
    "BatchedEcgDataset",
    "EcgArgumentParser",
    "EcgCollator",
    "EcgFineTuningArguments",
    "EcgPreTrainer",
    "EcgPreTrainingArguments",
    "EcgTextCollator",
    "FineTuneResult",
    "PretrainResult",
    "Recipe",
    "finetune",
    "list_recipes",
    "load_recipe",
    "pretrain",
    "read_training_log",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".arguments": ("EcgArgumentParser", "EcgFineTuningArguments", "EcgPreTrainingArguments"),
        ".collators": ("BatchedEcgDataset", "EcgCollator", "EcgTextCollator"),
        ".finetuning_run": ("FineTuneResult", "finetune"),
        ".recipe": ("Recipe", "list_recipes", "load_recipe"),
        ".run": ("PretrainResult", "pretrain"),
        ".trainer": ("EcgPreTrainer",),
        ".training_log": ("read_training_log",),
    },
)
