"""Reports and prompts to token ids, the same way for training, zero-shot and the processor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from transformers.utils import logging

from ecg_hf.errors import ConfigurationError, SignalError

__all__ = ["DEFAULT_MAX_LENGTH", "tokenize_texts"]

DEFAULT_MAX_LENGTH = 256
"""Tokens kept of a text when the tokenizer states no limit (MERL's value)."""

# Tokenizers without a limit state 1e30.
_NO_LIMIT = 1_000_000

logger = logging.get_logger(__name__)


def tokenize_texts(
    tokenizer: Any,
    texts: str | Sequence[str],
    *,
    max_length: int | None = None,
    padding: bool | str = True,
    truncation: bool = True,
    return_tensors: str | None = None,
) -> dict[str, Any]:
    """Token ids and attention mask of texts.

    Texts are lower-cased if the tokenizer's configuration says ``do_lower_case``, whether or not its
    normaliser does so too.

    Args:
        tokenizer: A ``transformers`` tokenizer.
        texts: One text or several.
        max_length: Longest output in tokens; by default the tokenizer's limit.
        padding: As in ``tokenizer(...)``.
        truncation: Cut texts that are longer. One warning announces that texts were cut.
        return_tensors: ``"pt"``, ``"np"`` or ``None`` for lists.

    Returns:
        ``input_ids`` and ``attention_mask``, ``(texts, length)`` also for a single text.

    Raises:
        SignalError: without any text, or if one is not a string (for instance a missing report read as NaN).
        ConfigurationError: if the tokenizer fails: impossible options, or damaged files.
    """
    if not isinstance(texts, Iterable):
        raise SignalError(f"a text is {type(texts).__name__}, not a string")
    batch = [texts] if isinstance(texts, str) else list(texts)
    if not batch:
        raise SignalError("an empty list holds no text")
    for position, text in enumerate(batch):
        # Never quote the value, which may be part of a patient's report.
        if not isinstance(text, str):
            raise SignalError(f"text {position} of the batch is {type(text).__name__}, not a string")
        if not _is_unicode(text):
            raise SignalError(f"text {position} of the batch has characters that no encoding can represent")
    if tokenizer.init_kwargs.get("do_lower_case", False):
        batch = [text.lower() for text in batch]
    try:
        if max_length is None:
            limit = int(min(tokenizer.model_max_length, _NO_LIMIT))
            max_length = limit if limit < _NO_LIMIT else DEFAULT_MAX_LENGTH
        encoded = tokenizer(
            batch,
            max_length=max_length,
            padding=padding,
            truncation=truncation,
            return_tensors=return_tensors,
            return_token_type_ids=False,
            return_attention_mask=True,
        )
        _announce_truncation(tokenizer, batch, max_length, truncation)
    # What is wrong with a stranger's tokenizer shows here, as any exception; its message may quote the text.
    except Exception as error:
        raise ConfigurationError(
            f"the tokenizer does not work with these options and its own files ({type(error).__name__})",
            path=getattr(tokenizer, "name_or_path", None) or None,
        ) from error
    return {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}


def _is_unicode(text: str) -> bool:
    """Whether it is free of lone surrogates, which a careless decoder leaves and no tokenizer accepts."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _announce_truncation(tokenizer: Any, texts: Sequence[str], max_length: int, truncation: bool) -> None:
    # A token covers at least one character, so only texts longer than that can have been cut.
    suspects = [text for text in texts if len(text) > max_length - 2] if truncation else []
    if not suspects:
        return
    lengths = [len(ids) for ids in tokenizer(suspects, truncation=False, verbose=False)["input_ids"]]
    cut = sum(length > max_length for length in lengths)
    if cut:
        logger.warning_once(
            f"Texts longer than {max_length} tokens are cut; pass max_length to keep more of them."
        )
