"""Zero-shot cells: test records scored by the similarity of their embeddings with texts."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.entrants import ModelEntrant
from ecg_hf.evaluation.metrics import FloatArray
from ecg_hf.evaluation.prepared import PreparedBenchmark
from ecg_hf.evaluation.prompts import prompts_for
from ecg_hf.evaluation.zero_shot import cosine_scores, encode_prompts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ecg_hf.evaluation.harness import EvaluationPlan, Job

__all__ = ["load_tokenizer", "text_features", "tokenizer_digest", "zero_shot_scores", "zero_shot_settings"]


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
    """Digest of everything a tokenizer does."""
    tokenizer = load_tokenizer(source)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = repr(sorted(tokenizer.get_vocab().items())) if backend is None else backend.to_str()
    return hashlib.sha256(text.encode()).hexdigest()


def text_features(entrant: ModelEntrant, texts: Sequence[str]) -> Any:
    """Features of texts in the space shared with ECGs, float32 ``(texts, dim)``.

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
    prompts: dict[str, str] = job.settings["prompts"]
    texts = text_features(entrant, list(prompts.values()))
    features = entrant.projected(prepared.dataset, prepared.recordings)[prepared.data.rows("test")]
    return cosine_scores(features, texts), {}, {"prompts": prompts}
