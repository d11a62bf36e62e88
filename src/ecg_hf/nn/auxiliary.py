"""Targets that any pretraining may predict beside its own: terms of the report, and measurements of the ECG."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecg_hf.errors import ConfigurationError
from ecg_hf.nn.losses.targets import term_entropy, term_loss
from ecg_hf.nn.precision import full_precision, match_weights
from ecg_hf.nn.targets import Standardizer
from ecg_hf.nn.terms import TermBag, term_codes

__all__ = ["AuxiliaryTargets"]

MIN_REPORTS = 20
"""A term must occur in so many training reports, and in less than ``MOST_COMMON`` of them."""
MOST_COMMON = 0.95
_LIMIT = 4.0


class AuxiliaryTargets(nn.Module):
    """Predicts terms and measurements from the embedding of a whole record.

    The embedding is normalised per record, so that the gradient of a batch is the mean of its records' gradients.
    Terms are tokens of the method's own tokenizer and pairs of neighbouring tokens.

    Args:
        embedding_size: Width of the embedding.
        num_terms: Most terms, the most frequent ones; 0 for none.
        num_measures: Measurements; 0 for none.

    Attributes:
        prior: float buffer ``(num_terms,)``: share of the training reports that contain each term, 0 for places that
            no term took.
    """

    prior: Tensor

    def __init__(self, embedding_size: int, *, num_terms: int = 0, num_measures: int = 0) -> None:
        super().__init__()
        self.num_terms, self.num_measures = num_terms, num_measures
        self.norm = nn.LayerNorm(embedding_size)
        if num_terms:
            self.terms = TermBag(num_terms)
            self.term_head = nn.Linear(embedding_size, num_terms)
            self.register_buffer("prior", torch.full((num_terms,), 0.5))
        if num_measures:
            self.measures = Standardizer(num_measures, _LIMIT)
            self.measure_head = nn.Linear(embedding_size, num_measures)

    def reset_buffers(self) -> None:
        """Back to the state after construction, also from storage without values."""
        if self.num_terms:
            self.terms.reset_buffers()
            self.prior.fill_(0.5)
        if self.num_measures:
            self.measures.reset_buffers()

    @torch.no_grad()
    def fit(self, batches: Iterable[Mapping[str, Tensor]]) -> None:
        """Choose the terms, and learn mean and spread of the measurements.

        Args:
            batches: All training records: ``input_ids`` and ``attention_mask`` where there are terms, ``measures``
                where there are measurements.

        Raises:
            ConfigurationError: if an input is missing, or no term occurs in enough reports.
        """
        measures, found, reports = [], [], 0
        for batch in batches:
            if self.num_measures:
                measures.append(_required(batch, "measures"))
            if self.num_terms:
                codes = term_codes(_required(batch, "input_ids"), batch.get("attention_mask")).sort(1).values
                first = F.pad(codes[:, 1:] != codes[:, :-1], (1, 0), value=True) & (codes >= 0)
                found.append(codes[first])
                reports += len(codes)
        if self.num_measures:
            self.measures.fit(torch.cat(measures))
        if not self.num_terms:
            return
        codes, counts = torch.cat(found).unique(return_counts=True)
        kept = (counts >= MIN_REPORTS) & (counts < MOST_COMMON * reports)
        if not kept.any():
            raise ConfigurationError(
                f"no term of the {reports} training reports occurs in {MIN_REPORTS} of them", value=reports
            )
        codes, counts = codes[kept], counts[kept]
        # Equal counts keep the order of the codes: the same reports give the same terms on every machine.
        most = counts.argsort(descending=True, stable=True)[: self.num_terms]
        self.terms.set_codes(codes[most], torch.log(reports / counts[most]))
        self.prior.zero_()
        self.prior[: len(most)] = counts[most] / reports
        self.term_head.bias.copy_(torch.logit(self.prior.clamp(1e-5, 1.0 - 1e-5)))

    def forward(
        self,
        embedding: Tensor,
        *,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        measures: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Losses.

        Args:
            embedding: float ``(batch, embedding_size)``.
            input_ids: int64 ``(batch, length)``, the reports.
            attention_mask: ``(batch, length)``, 0 for padding.
            measures: float ``(batch, num_measures)``, NaN where undefined.

        Returns:
            ``auxiliary_terms``: binary cross-entropy over that of predicting frequencies (1 has learnt nothing), and
            ``auxiliary_measures``: twice the smooth L1 of standardised values.

        Raises:
            ConfigurationError: if an input is missing.
        """
        batch = {"input_ids": input_ids, "attention_mask": attention_mask, "measures": measures}
        given = {name: value for name, value in batch.items() if value is not None}
        normed = self.norm(match_weights(embedding, self.norm))
        losses: dict[str, Tensor] = {}
        if self.num_terms:
            bag = self.terms(_required(given, "input_ids"), attention_mask)
            losses["auxiliary_terms"] = term_loss(self.term_head(normed), bag, term_entropy(self.prior))
        if self.num_measures:
            target = self.measures(_required(given, "measures"))
            known = torch.isfinite(target)
            predicted = full_precision(self.measure_head(normed))
            target = torch.where(known, target, predicted.detach()).float()
            error = F.smooth_l1_loss(predicted, target, reduction="none")
            losses["auxiliary_measures"] = 2.0 * ((error * known).sum(1) / known.sum(1).clamp(min=1)).mean()
        return losses


def _required(batch: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in batch:
        what = "reports" if name == "input_ids" else "measurements"
        raise ConfigurationError(f"{what} are an auxiliary target: {name} are missing")
    return batch[name]
