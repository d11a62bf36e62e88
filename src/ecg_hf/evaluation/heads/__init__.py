"""Heads on frozen features beside the linear and the attention probe, and full fine-tuning."""

from ecg_hf.evaluation.heads.base import Head
from ecg_hf.evaluation.heads.finetune import FineTunedScores, finetune_scores
from ecg_hf.evaluation.heads.mlp import MlpProbe
from ecg_hf.evaluation.heads.ridge import RegressionHead, TargetScore, score_regression
from ecg_hf.evaluation.heads.schedules import SCHEDULES, Schedule, get_schedule
from ecg_hf.evaluation.heads.sgd_linear import SgdLinearHead

__all__ = [
    "SCHEDULES",
    "FineTunedScores",
    "Head",
    "MlpProbe",
    "RegressionHead",
    "Schedule",
    "SgdLinearHead",
    "TargetScore",
    "finetune_scores",
    "get_schedule",
    "score_regression",
]
