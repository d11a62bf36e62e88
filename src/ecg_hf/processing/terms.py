"""The terms of a corpus of reports: a tokenizer of words, and which words and pairs of words are worth predicting."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from ecg_hf.errors import ConfigurationError

__all__ = ["TermVocabulary", "make_term_vocabulary"]

_PAD, _UNKNOWN = "[PAD]", "[UNK]"
_WORD = "[a-z]+[0-9]?|[0-9]"
# Spelling that says nothing, and phrases of the machine that wrote the report instead of what it saw.
_REPLACED = {"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "å": "a"}
_REMOVED = r"unbestaetigter bericht|unbest\. bericht|edit|\d+\.\d+"
_MOST_COMMON = 0.95
_MIN_PEOPLE = 2


@dataclass(frozen=True, slots=True, eq=False)
class TermVocabulary:
    """Terms of a corpus.

    Attributes:
        tokenizer: Gives one id per word; words that are in no term are unknown.
        words: int64 ``(terms, 2)``: token ids of each term's words, the second -1 for a single word.
        frequency: float64 ``(terms,)``: share of the reports that contain each.
        reports: Number of reports.
    """

    tokenizer: PreTrainedTokenizerFast
    words: npt.NDArray[np.int64]
    frequency: npt.NDArray[np.float64]
    reports: int

    @property
    def idf(self) -> npt.NDArray[np.float64]:
        """Inverse document frequency, ``1 - ln(frequency)``."""
        return 1.0 - np.log(self.frequency)


def make_term_vocabulary(
    reports: Sequence[str],
    *,
    min_reports: int = 20,
    max_length: int = 64,
    patients: Sequence[str | None] | None = None,
) -> TermVocabulary:
    """Words and pairs of neighbouring words that occur in enough reports, in more than one person's, and not in all.

    Of terms that occur in exactly the same reports the first in alphabetical order is kept. The same reports give the
    same terms in any order and on any machine.

    Args:
        reports: Training reports; those of other splits don't belong here.
        min_reports: Fewest reports a term occurs in; at most 95 % of all.
        max_length: The tokenizer's ``model_max_length``.
        patients: Whose report each is; None stands for another person each time.

    Raises:
        ConfigurationError: if no term occurs often enough.
    """
    places: dict[tuple[str, ...], list[int]] = {}
    normalizer, splitter = _normalizer(), _splitter()
    for row, report in enumerate(reports):
        words = [word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(report))]
        for term in {*((word,) for word in words), *pairwise(words)}:
            places.setdefault(term, []).append(row)
    most = _MOST_COMMON * len(reports)
    kept: dict[tuple[str, ...], int] = {}
    seen: set[bytes] = set()
    for term in sorted(places, key=" ".join):
        rows = places[term]
        if not min_reports <= len(rows) < most or _people(rows, patients) < _MIN_PEOPLE:
            continue
        digest = hashlib.sha256(np.asarray(rows, np.int64).tobytes()).digest()
        if digest not in seen:
            seen.add(digest)
            kept[term] = len(rows)
    if not kept:
        raise ConfigurationError(
            f"no word of the {len(reports)} reports occurs in {min_reports} of them: too few reports for terms",
            value=len(reports),
        )
    vocabulary = {_PAD: 0, _UNKNOWN: 1}
    for word in sorted({word for term in kept for word in term}):
        vocabulary[word] = len(vocabulary)
    ids = np.array([[vocabulary[t[0]], vocabulary[t[1]] if len(t) > 1 else -1] for t in kept], np.int64)
    frequency = np.array(list(kept.values()), np.float64) / len(reports)
    return TermVocabulary(_tokenizer(vocabulary, max_length), ids, frequency, len(reports))


def _people(rows: Iterable[int], patients: Sequence[str | None] | None) -> int:
    """People the rows are of, no more counted than matter."""
    found: set[str | int] = set()
    for row in rows:
        known = None if patients is None else patients[row]
        found.add(row if known is None else known)
        if len(found) >= _MIN_PEOPLE:
            break
    return len(found)


def _normalizer() -> normalizers.Normalizer:
    steps = [normalizers.Lowercase(), *(normalizers.Replace(a, b) for a, b in _REPLACED.items())]
    return normalizers.Sequence([*steps, normalizers.Replace(Regex(_REMOVED), "")])


def _splitter() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(_WORD), behavior="removed", invert=True)


def _tokenizer(vocabulary: dict[str, int], max_length: int) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=_UNKNOWN))
    tokenizer.normalizer = _normalizer()
    tokenizer.pre_tokenizer = _splitter()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=_PAD,
        unk_token=_UNKNOWN,
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )
