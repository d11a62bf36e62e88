"""Plain-language names of labels, for zero-shot classification by text.

One short clinical phrase per label, in the words a report would use. MERL's CKEPE prompts are longer,
written by a language model, and can be loaded with :func:`load_prompts`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from ecg_hf.documents import read_json
from ecg_hf.errors import ConfigurationError

__all__ = ["SCP_PROMPTS", "SUBCLASS_PROMPTS", "SUPERCLASS_PROMPTS", "load_prompts", "prompts_for"]

SCP_PROMPTS: dict[str, str] = {
    # Diagnostic statements
    "NORM": "normal ECG",
    "NDT": "non-diagnostic T wave abnormalities",
    "NST_": "non-specific ST segment changes",
    "DIG": "digitalis effect",
    "LNGQT": "prolonged QT interval",
    "IMI": "inferior myocardial infarction",
    "ASMI": "anteroseptal myocardial infarction",
    "LVH": "left ventricular hypertrophy",
    "LAFB": "left anterior fascicular block",
    "ISC_": "non-specific ischemic ST-T changes",
    "IRBBB": "incomplete right bundle branch block",
    "1AVB": "first degree AV block",
    "IVCD": "non-specific intraventricular conduction delay",
    "ISCAL": "ischemic ST-T changes in anterolateral leads",
    "CRBBB": "complete right bundle branch block",
    "CLBBB": "complete left bundle branch block",
    "ILMI": "inferolateral myocardial infarction",
    "LAO/LAE": "left atrial enlargement",
    "AMI": "anterior myocardial infarction",
    "ALMI": "anterolateral myocardial infarction",
    "ISCIN": "ischemic ST-T changes in inferior leads",
    "INJAS": "subendocardial injury in anteroseptal leads",
    "LMI": "lateral myocardial infarction",
    "ISCIL": "ischemic ST-T changes in inferolateral leads",
    "LPFB": "left posterior fascicular block",
    "ISCAS": "ischemic ST-T changes in anteroseptal leads",
    "INJAL": "subendocardial injury in anterolateral leads",
    "ISCLA": "ischemic ST-T changes in lateral leads",
    "RVH": "right ventricular hypertrophy",
    "ANEUR": "ST-T changes compatible with ventricular aneurysm",
    "RAO/RAE": "right atrial enlargement",
    "EL": "electrolyte disturbance or drug effect",
    "WPW": "Wolff-Parkinson-White pre-excitation",
    "ILBBB": "incomplete left bundle branch block",
    "IPLMI": "inferoposterolateral myocardial infarction",
    "ISCAN": "ischemic ST-T changes in anterior leads",
    "IPMI": "inferoposterior myocardial infarction",
    "SEHYP": "septal hypertrophy",
    "INJIN": "subendocardial injury in inferior leads",
    "INJLA": "subendocardial injury in lateral leads",
    "PMI": "posterior myocardial infarction",
    "3AVB": "third degree AV block",
    "INJIL": "subendocardial injury in inferolateral leads",
    "2AVB": "second degree AV block",
    # Form statements
    "ABQRS": "abnormal QRS complex",
    "PVC": "premature ventricular complex",
    "STD_": "ST segment depression",
    "VCLVH": "voltage criteria for left ventricular hypertrophy",
    "QWAVE": "pathological Q waves",
    "LOWT": "low amplitude T waves",
    "NT_": "non-specific T wave changes",
    "PAC": "premature atrial complex",
    "LPR": "prolonged PR interval",
    "INVT": "inverted T waves",
    "LVOLT": "low QRS voltage",
    "HVOLT": "high QRS voltage",
    "TAB_": "T wave abnormality",
    "STE_": "ST segment elevation",
    "PRC(S)": "premature complexes",
    # Rhythm statements
    "SR": "sinus rhythm",
    "AFIB": "atrial fibrillation",
    "STACH": "sinus tachycardia",
    "SARRH": "sinus arrhythmia",
    "SBRAD": "sinus bradycardia",
    "PACE": "paced rhythm",
    "SVARR": "supraventricular arrhythmia",
    "BIGU": "bigeminy",
    "AFLT": "atrial flutter",
    "SVTAC": "supraventricular tachycardia",
    "PSVT": "paroxysmal supraventricular tachycardia",
    "TRIGU": "trigeminy",
}
"""The 71 SCP-ECG statements of PTB-XL."""

SUPERCLASS_PROMPTS: dict[str, str] = {
    "NORM": "normal ECG",
    "MI": "myocardial infarction",
    "STTC": "ST segment and T wave changes",
    "CD": "conduction disturbance",
    "HYP": "hypertrophy",
}
"""The five diagnostic superclasses of PTB-XL."""

SUBCLASS_PROMPTS: dict[str, str] = {
    "_AVB": "AV block",
    "ISCA": "ischemic ST-T changes in anterior leads",
    "ISCI": "ischemic ST-T changes in inferior leads",
    "LAFB/LPFB": "left anterior or posterior fascicular block",
    "STTC": "ST segment and T wave changes",
}
"""Diagnostic subclasses of PTB-XL that are not statements themselves."""


def load_prompts(path: str | os.PathLike[str]) -> dict[str, str]:
    """Prompts from a JSON object of label to text, such as MERL's ``CKEPE_prompt.json``, verbatim.

    Raises:
        ConfigurationError: if the file is absent, no JSON object of strings, or has an empty text.
    """
    path = Path(path)
    content: dict[str, str] = read_json(path, dict[str, str])
    for label, text in content.items():
        if not text.strip():
            raise ConfigurationError(f"the prompt of {label} is empty", path=path, value=label)
    return content


def prompts_for(labels: Iterable[str], prompts: Mapping[str, str] | None = None) -> dict[str, str]:
    """The prompt of every label, in order.

    Labels are found with or without the underscores by which PTB-XL marks some of them: ``NST_`` and ``NST``,
    ``_AVB`` and ``AVB``.

    Args:
        labels: Class names of a benchmark.
        prompts: Own prompts; the built-in ones by default.

    Raises:
        ConfigurationError: naming the labels without a prompt.
    """
    source = {**SUBCLASS_PROMPTS, **SUPERCLASS_PROMPTS, **SCP_PROMPTS} if prompts is None else prompts
    bare = {label.strip("_"): text for label, text in source.items()}
    wanted = list(labels)
    missing = [label for label in wanted if label not in source and label.strip("_") not in bare]
    if missing:
        raise ConfigurationError(f"no prompt for {', '.join(missing)}", value=tuple(missing))
    return {label: source[label] if label in source else bare[label.strip("_")] for label in wanted}
