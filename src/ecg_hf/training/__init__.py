"""Pretraining and fine-tuning on top of ``transformers.Trainer``."""

from ecg_hf.training.arguments import EcgPreTrainingArguments
from ecg_hf.training.trainer import EcgPreTrainer
from ecg_hf.training.training_log import read_training_log

__all__ = ["EcgPreTrainer", "EcgPreTrainingArguments", "read_training_log"]
