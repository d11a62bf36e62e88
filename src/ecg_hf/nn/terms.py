"""Which terms a text contains: words and pairs of neighbouring words, as a multi-hot vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecg_hf.nn.precision import full_precision
from ecg_hf.nn.targets import Standardizer, TargetHead

__all__ = ["TermBag", "TermHead", "term_codes"]

_NO_LIMIT = 1e30
# More than any vocabulary has words.
_CODES = 2**20


def term_codes(input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """One number for each word and for each pair of neighbouring words.

    Args:
        input_ids: int64 ``(texts, length)``.
        attention_mask: ``(texts, length)``, 0 for padding.

    Returns:
        int64 ``(texts, 2 * length)``, -1 where there is none.
    """
    ids = input_ids if attention_mask is None else input_ids.masked_fill(attention_mask == 0, -1)
    following = F.pad(ids[:, 1:], (0, 1), value=-1)
    single = ids * _CODES
    pair = torch.where(following >= 0, single + following + 1, -1)
    return torch.cat([single.masked_fill(ids < 0, -1), pair.masked_fill(ids < 0, -1)], dim=1)


class TermBag(nn.Module):
    """Finds terms in token ids.

    A term is a word or a pair of words that follow each other; the tokenizer gives one id per word.

    Args:
        num_terms: Number of terms.

    Attributes:
        words: int64 buffer ``(num_terms, 2)``: token ids of a term's words, the second -1 for a single word.
        idf: float buffer ``(num_terms,)``: inverse document frequency.
    """

    words: Tensor
    idf: Tensor

    def __init__(self, num_terms: int) -> None:
        super().__init__()
        # Until a vocabulary is given: the term i is the word i.
        words = torch.stack([torch.arange(num_terms), torch.full((num_terms,), -1)], dim=1)
        self.register_buffer("words", words)
        self.register_buffer("idf", torch.ones(num_terms))

    def reset_buffers(self) -> None:
        """Back to the state after construction, also from storage without values."""
        self.words[:, 0] = torch.arange(len(self.words), device=self.words.device)
        self.words[:, 1] = -1
        self.idf.fill_(1.0)

    @torch.no_grad()
    def set_codes(self, codes: Tensor, idf: Tensor) -> None:
        """Take over terms by their numbers, see :func:`term_codes`; places that are left over match nothing."""
        self.words.fill_(-1)
        self.words[: len(codes), 0] = codes // _CODES
        self.words[: len(codes), 1] = codes % _CODES - 1
        self.idf.zero_()
        self.idf[: len(codes)] = idf

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Which terms occur.

        Args:
            input_ids: int64 ``(texts, length)``.
            attention_mask: ``(texts, length)``, 0 for padding.

        Returns:
            float ``(texts, num_terms)`` of zeros and ones.
        """
        codes = term_codes(input_ids, attention_mask)
        wanted = self.words[:, 0] * _CODES + self.words[:, 1] + 1
        order = wanted.argsort()
        sorted_codes = wanted[order]
        place = torch.searchsorted(sorted_codes, codes).clamp(max=len(wanted) - 1)
        found = sorted_codes[place] == codes
        bag = torch.zeros(len(codes), len(wanted), device=codes.device, dtype=self.idf.dtype)
        # Whatever was not found adds nothing to the first term.
        bag = bag.scatter_add(1, order[place], found.to(bag.dtype))
        return bag.clamp(max=1.0)

    def weighted(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Bags weighted by ``idf``, of length 1: float ``(texts, num_terms)``; zeros for a text without any term."""
        return F.normalize(self(input_ids, attention_mask) * self.idf, dim=-1)


class TermHead(nn.Module):
    """Predicts the terms of a report from an embedding, and thereby compares records with free text.

    Args:
        embedding_size: Width of the embedding.
        num_terms: Number of terms.

    Attributes:
        bag: Finds terms in token ids.
        prior: float buffer ``(num_terms,)``: share of the training reports that contain each.
        standard: Mean and deviation of the logits over training records.
    """

    prior: Tensor

    def __init__(self, embedding_size: int, num_terms: int) -> None:
        super().__init__()
        self.bag = TermBag(num_terms)
        self.register_buffer("prior", torch.full((num_terms,), 0.5))
        self.predict = TargetHead(embedding_size, num_terms)
        self.standard = Standardizer(num_terms, limit=_NO_LIMIT)

    def reset_buffers(self) -> None:
        """Back to the state after construction, also from storage without values."""
        self.prior.fill_(0.5)

    @torch.no_grad()
    def set_vocabulary(self, words: Tensor, idf: Tensor, frequency: Tensor) -> None:
        """Take over the terms of a corpus; untrained, the head then predicts their frequencies.

        Args:
            words: int64 ``(num_terms, 2)``, see :class:`TermBag`.
            idf: float ``(num_terms,)``.
            frequency: float ``(num_terms,)``: share of the training reports that contain each.
        """
        self.bag.words.copy_(words)
        self.bag.idf.copy_(idf)
        self.prior.copy_(frequency)
        self.predict.linear.bias.copy_(torch.logit(self.prior.clamp(1e-5, 1.0 - 1e-5)))

    def forward(self, embedding: Tensor) -> Tensor:
        """Logits of every term, ``(batch, num_terms)``."""
        logits: Tensor = self.predict(embedding)
        return logits

    def ecg_features(self, embedding: Tensor) -> Tensor:
        """Standardised logits of length 1: float32 ``(batch, num_terms)``.

        Standardised, a term that is rarely predicted counts as much as one that is in half of the reports.
        """
        return F.normalize(self.standard(full_precision(self(embedding))), dim=-1)

    def text_features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """The terms of texts, weighted by rarity, of length 1: float ``(texts, num_terms)``."""
        return self.bag.weighted(input_ids, attention_mask)
