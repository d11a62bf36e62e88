"""The 17 outputs of ECG-FM fine-tuned on MIMIC-IV-ECG, in their order: ``label_def.csv`` of bowang-lab/ECG-FM."""

from __future__ import annotations

__all__ = ["LABELS"]

LABELS = {
    "Poor data quality": "max",
    "Sinus rhythm": "mean",
    "Premature ventricular contraction": "max",
    "Tachycardia": "mean",
    "Ventricular tachycardia": "max",
    "Supraventricular tachycardia with aberrancy": "max",
    "Atrial fibrillation": "mean",
    "Atrial flutter": "mean",
    "Bradycardia": "mean",
    "Accessory pathway conduction": "mean",
    "Atrioventricular block": "mean",
    "1st degree atrioventricular block": "mean",
    "Bifascicular block": "mean",
    "Right bundle branch block": "mean",
    "Left bundle branch block": "mean",
    "Infarction": "mean",
    "Electronic pacemaker": "max",
}
"""Each label, and how its probabilities of a record's 5 s pieces become one."""
