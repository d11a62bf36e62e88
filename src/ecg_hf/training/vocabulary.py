"""A tokenizer made from a corpus' own reports, for training without any download."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from transformers import PreTrainedTokenizerFast

from ecg_hf.errors import ConfigurationError

__all__ = ["SPECIAL_TOKENS", "make_tokenizer"]

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""Their ids are their positions."""

# Occurrences, and people they are of.
_MIN_COUNT = 2


def make_tokenizer(
    reports: Iterable[str],
    vocab_size: int = 4096,
    max_length: int = 256,
    *,
    patients: Sequence[str | None] | None = None,
) -> PreTrainedTokenizerFast:
    """A lower-casing BERT-style tokenizer whose vocabulary is the most frequent words of ``reports``.

    Words of one person only are left out: a vocabulary is published with the model, and they are names and
    misspellings. They and unknown words are spelled out in characters.
    The same reports give the same vocabulary in any order and on any machine, which ``tokenizers``' own
    WordPiece trainer does not promise (its ties fall by hash order).

    Args:
        reports: Training reports; those of other splits don't belong here.
        vocab_size: Largest vocabulary, special tokens and characters included.
        max_length: The tokenizer's ``model_max_length``.
        patients: Whose report each is; None, for one or for all, stands for a person of its own.

    Raises:
        ConfigurationError: The reports hold no words, or their characters alone fill the vocabulary.
    """
    normalizer = normalizers.BertNormalizer(lowercase=True)
    splitter = pre_tokenizers.BertPreTokenizer()
    words: Counter[str] = Counter()
    owners: dict[str, set[str | int]] = {}
    for report, (count, people) in _distinct(reports, patients).items():
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(report)):
            words[word] += count
            owners.setdefault(word, set()).update(people)
    characters: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            characters[character] += count
    if not words:
        raise ConfigurationError("the reports hold no words to make a vocabulary of")

    spelling = sorted(character for character, count in characters.items() if count >= _MIN_COUNT)
    tokens = dict.fromkeys([*SPECIAL_TOKENS, *spelling, *(f"##{character}" for character in spelling)])
    if len(tokens) >= vocab_size:
        raise ConfigurationError(
            f"vocab_size {vocab_size} is taken up by {len(tokens)} special tokens and characters",
            value=vocab_size,
        )
    for word, count in sorted(words.items(), key=lambda item: (-item[1], item[0])):
        if len(tokens) >= vocab_size or count < _MIN_COUNT:
            break
        if len(owners[word]) >= _MIN_COUNT:
            tokens[word] = None

    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=max_length,
        do_lower_case=True,
        clean_up_tokenization_spaces=False,
    )


def _distinct(
    reports: Iterable[str], patients: Sequence[str | None] | None
) -> dict[str, tuple[int, list[str | int]]]:
    """Each different report with how often it occurs and the first people it is of, no more than matter."""
    found: dict[str, tuple[int, list[str | int]]] = {}
    for row, report in enumerate(reports):
        known = None if patients is None else patients[row]
        owner: str | int = row if known is None else known
        count, people = found.get(report, (0, []))
        if len(people) < _MIN_COUNT and owner not in people:
            people = [*people, owner]
        found[report] = (count + 1, people)
    return found
