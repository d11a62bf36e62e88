"""Zero-shot classification: a record's score for a class is its cosine similarity to the class's text."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ecg_hf.documents import read_json
from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.cache import CellStore
from ecg_hf.evaluation.encoders import Encoder, ModelEntrant
from ecg_hf.evaluation.plan import EvaluationPlan
from ecg_hf.evaluation.prepare import PreparedBenchmark
from ecg_hf.evaluation.scoring import EvaluatedCell, Job, Say, run_jobs
from ecg_hf.metrics.ranking import FloatArray, same_in_ties

__all__ = [
    "BILINGUAL_PROMPTS",
    "SCP_PROMPTS",
    "SUBCLASS_PROMPTS",
    "SUPERCLASS_PROMPTS",
    "Prompt",
    "ZeroShot",
    "cosine_scores",
    "encode_prompts",
    "load_prompts",
    "load_tokenizer",
    "prompts_for",
    "text_features",
    "tokenizer_digest",
    "unit_rows",
    "zero_shot_scores",
    "zero_shot_settings",
]

logger = logging.getLogger(__name__)

Prompt = str | list[str]
"""Text of a class, or several, whose features are averaged."""


def cosine_scores(ecg_features: npt.ArrayLike, text_features: npt.ArrayLike) -> FloatArray:
    """Cosine similarity of every record with every class.

    Args:
        ecg_features: Real ``(records, dim)``, normalised or not.
        text_features: Real ``(classes, dim)``, normalised or not.

    Returns:
        float64 ``(records, classes)`` in [-1, 1], see :func:`~ecg_hf.metrics.ranking.same_in_ties`. AUROC
        depends on the order within a class alone, so no temperature is applied.

    Source: MERL ``utils/zeroshot_val.py`` (cosine similarity used directly).

    Raises:
        ConfigurationError: if the widths differ or a row is zero or not finite.
    """
    ecg, text = unit_rows(ecg_features, "record"), unit_rows(text_features, "class", keep_zeros=True)
    if ecg.shape[1] != text.shape[1]:
        raise ConfigurationError(
            f"ECG features have {ecg.shape[1]} dimensions, text features {text.shape[1]}",
            value=(ecg.shape, text.shape),
        )
    return same_in_ties(ecg @ text.T)


def unit_rows(features: npt.ArrayLike, what: str, *, keep_zeros: bool = False) -> FloatArray:
    """Rows of Euclidean length 1, float64 ``(rows, dim)``; ``what`` names a row in messages.

    Args:
        features: Real ``(rows, dim)``.
        what: What a row is.
        keep_zeros: Let rows of zeros stay: texts of which a model that compares terms knows no word. Their
            similarity with everything is 0.

    Raises:
        ConfigurationError: if there are none, one is not finite, or one is zero and may not be.
    """
    rows = np.asarray(features, dtype=np.float64)
    if rows.ndim != 2 or 0 in rows.shape:
        raise ConfigurationError(f"features must be (rows, dim), got {rows.shape}", value=rows.shape)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(length) & ((length > 0) | keep_zeros)))
    if len(bad):
        raise ConfigurationError(f"features of {what} {bad[0]} are zero or not finite", value=int(bad[0]))
    return np.asarray(rows / np.where(length > 0, length, 1.0))


def encode_prompts(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str | Sequence[str]] | Mapping[str, str | Sequence[str]],
    *,
    max_length: int = 256,
    lower_case: bool = True,
    batch_size: int = 64,
) -> npt.NDArray[np.float32]:
    """Text features of every class.

    Args:
        model: Dual encoder with ``get_text_features(input_ids, attention_mask)``.
        tokenizer: The model's tokenizer.
        prompts: One text or several per class. Several are averaged after normalisation.
        max_length: Tokens kept of a prompt.
        lower_case: Lower-case the texts first, as MERL does to prompts and reports alike.
        batch_size: Texts per forward pass.

    Returns:
        float32 ``(classes, dim)``, L2-normalised; zeros, and a warning, where the model knows no word.

    Raises:
        ConfigurationError: if there is no class or one has no text.
    """
    import torch

    entries = list(prompts.values()) if isinstance(prompts, Mapping) else list(prompts)
    per_class = [[entry] if isinstance(entry, str) else list(entry) for entry in entries]
    if not per_class or not all(texts and all(text.strip() for text in texts) for texts in per_class):
        raise ConfigurationError("every class needs a prompt that is not empty")
    flat = [text.lower() if lower_case else text for texts in per_class for text in texts]
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    features = []
    try:
        for start in range(0, len(flat), batch_size):
            tokens = tokenizer(
                flat[start : start + batch_size],
                padding=True,
                truncation=True,
                max_length=max_length,
                return_tensors="pt",
            )
            with torch.inference_mode():
                part = model.get_text_features(
                    tokens["input_ids"].to(device), tokens["attention_mask"].to(device)
                )
                features.append(part.float().cpu().numpy())
    finally:
        model.train(training)
    unit = unit_rows(np.concatenate(features), "prompt", keep_zeros=True)
    unknown = [text for text, row in zip(flat, unit, strict=True) if not row.any()]
    if unknown:
        logger.warning("the model knows no word of %s: every record scores 0", ", ".join(map(repr, unknown)))
    stops = np.cumsum([len(texts) for texts in per_class])
    means = np.stack([part.mean(axis=0) for part in np.split(unit, stops[:-1])])
    return unit_rows(means, "class", keep_zeros=True).astype(np.float32)


@lru_cache(maxsize=4)
def load_tokenizer(source: str) -> Any:
    """The tokenizer of a model's folder.

    Raises:
        ConfigurationError: if there is none.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    # The tokenizers library raises plain Exceptions for damaged files.
    except Exception as error:
        raise ConfigurationError("the model has no tokenizer, which text needs", path=source) from error


def tokenizer_digest(source: str) -> str:
    """Digest of everything a tokenizer does, but for padding and truncation, which the last call left in it."""
    tokenizer = load_tokenizer(source)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        text = repr(sorted(tokenizer.get_vocab().items()))
    else:
        text = json.dumps(
            {**json.loads(backend.to_str()), "padding": None, "truncation": None}, sort_keys=True
        )
    return hashlib.sha256(text.encode()).hexdigest()


def text_features(entrant: ModelEntrant, texts: Sequence[Prompt]) -> Any:
    """Features of texts, or means over several, in the space shared with ECGs, float32 ``(texts, dim)``.

    Raises:
        ConfigurationError: if the model has no text side.
    """
    if not hasattr(entrant.model, "get_text_features"):
        raise ConfigurationError(f"{type(entrant.model).__name__} has no text side", path=entrant.source)
    return encode_prompts(
        entrant.model,
        load_tokenizer(entrant.source),
        list(texts),
        max_length=int(getattr(entrant.model.config, "max_text_length", 256)),
    )


def zero_shot_settings(
    plan: EvaluationPlan, prepared: PreparedBenchmark, entrant: ModelEntrant
) -> dict[str, Any]:
    """What zero-shot scores depend on beside model and records: prompts and tokenizer."""
    return {
        "prompts": prompts_for(prepared.data.class_names, plan.prompts),
        "tokenizer": tokenizer_digest(entrant.source),
    }


def zero_shot_scores(job: Job) -> tuple[FloatArray, dict[str, str], dict[str, Any]]:
    """Cosine similarity of test records with the prompt of every class."""
    entrant, prepared = job.entrant, job.prepared
    assert isinstance(entrant, ModelEntrant)
    prompts: dict[str, Prompt] = job.settings["prompts"]
    texts = text_features(entrant, list(prompts.values()))
    features = entrant.projected(prepared.dataset, prepared.recordings)[prepared.data.rows("test")]
    return cosine_scores(features, texts), {}, {"prompts": prompts}


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


BILINGUAL_PROMPTS: dict[str, Prompt] = {
    **SUBCLASS_PROMPTS,
    **SCP_PROMPTS,
    "NORM": [
        "normal ecg",
        "normales ekg",
        "sinus rhythm, normal ecg",
        "sinusrhythmus, lagetyp normal, normales ekg",
    ],
    "MI": [
        "myocardial infarction",
        "inferior myocardial infarction",
        "anteroseptal myocardial infarction",
        "qs complexes consistent with old myocardial infarction",
        "infarkt",
        "inferiorer infarkt",
        "anteroseptaler infarkt",
    ],
    "STTC": [
        "st t changes",
        "non specific st t changes",
        "t waves are inverted",
        "st segments are depressed, myocardial ischaemia",
        "t abnorm",
        "st t abnorm, ischaemie",
    ],
    "CD": [
        "bundle branch block",
        "left anterior fascicular block",
        "av block",
        "intraventricular conduction delay",
        "linksschenkelblock",
        "rechtsschenkelblock",
        "linksanteriorer hemiblock",
    ],
    "HYP": [
        "left ventricular hypertrophy",
        "lvh",
        "right ventricular hypertrophy",
        "left atrial enlargement",
        "voltages are high, suggesting lvh",
        "linkshypertrophie",
        "p sinistrocardiale",
    ],
}
"""The same, but superclasses in the words of PTB-XL's English and German reports, several texts each.

Chosen among four sets on PTB-XL's fold 8.
"""


def load_prompts(path: str | os.PathLike[str]) -> dict[str, Prompt]:
    """Prompts from a JSON object of label to text or several texts, such as MERL's ``CKEPE_prompt.json``, verbatim.

    Raises:
        ConfigurationError: if the file is absent, no JSON object of strings or lists of them, or has an empty text.
    """
    path = Path(path)
    content: dict[str, Prompt] = read_json(path, dict[str, Prompt])
    for label, given in content.items():
        texts = [given] if isinstance(given, str) else given
        if not texts or not all(text.strip() for text in texts):
            raise ConfigurationError(f"the prompt of {label} is empty", path=path, value=label)
    return content


def prompts_for(labels: Iterable[str], prompts: Mapping[str, Prompt] | None = None) -> dict[str, Prompt]:
    """The prompt of every label, in order.

    Labels are found with or without the underscores by which PTB-XL marks some of them: ``NST_`` and ``NST``,
    ``_AVB`` and ``AVB``.

    Args:
        labels: Class names of a benchmark.
        prompts: Own prompts; the built-in ones by default.

    Raises:
        ConfigurationError: naming the labels without a prompt.
    """
    own: dict[str, Prompt] = {**SUBCLASS_PROMPTS, **SUPERCLASS_PROMPTS, **SCP_PROMPTS}
    source = own if prompts is None else prompts
    bare = {label.strip("_"): text for label, text in source.items()}
    wanted = list(labels)
    missing = [label for label in wanted if label not in source and label.strip("_") not in bare]
    if missing:
        raise ConfigurationError(f"no prompt for {', '.join(missing)}", value=tuple(missing))
    return {label: source[label] if label in source else bare[label.strip("_")] for label in wanted}


@dataclass(frozen=True, slots=True, eq=False)
class ZeroShot:
    """A benchmark's labels by the similarity of recordings and texts.

    Attributes:
        plan: What is asked for.
        prepared: Records, labels, splits.
        store: Where cells are kept.
        say: Receives one line per cell computed.
    """

    plan: EvaluationPlan
    prepared: PreparedBenchmark
    store: CellStore
    say: Say

    part: ClassVar[str] = "probe"

    def run(self, encoder: Encoder) -> list[EvaluatedCell]:
        """The one cell of an encoder; none of a baseline, which has no text side."""
        if not isinstance(encoder, ModelEntrant):
            return []
        job = Job(
            self.plan, self.prepared, encoder, "zero-shot", None, self.plan.seeds[0],
            zero_shot_settings(self.plan, self.prepared, encoder), False, zero_shot_scores,
        )  # fmt: skip
        return run_jobs([job], self.store, self.say)
