"""Attention probe: one learnable query reads a frozen encoder's tokens, a linear layer turns it into labels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.features.store import TokenFeatures
from ecg_hf.evaluation.heads.base import (
    LogOddsHead,
    checked_labels,
    class_names_of,
    learnable_classes,
    macro_quality,
    train_by_epochs,
)
from ecg_hf.metrics.ranking import BoolArray, FloatArray
from ecg_hf.nn.heads import UnprojectedQueryPool

__all__ = ["AttentionProbe", "QueryHead", "pool_with_one_query"]


@dataclass(slots=True, eq=False)
class AttentionProbe(LogOddsHead):
    """Attention pooling with one learnable query and a linear layer, trained on frozen tokens.

    The loss is the binary cross-entropy averaged over known labels, the optimiser AdamW at a constant rate. The epoch
    with the best validation macro AUROC is kept (the first such on a tie); without validation records the last one.
    Everything random (initial weights, order of records, windows) follows from :attr:`seed`.

    Where tokens consist of several windows, each training record shows one random window per epoch, and a prediction
    is the mean of the windows' probabilities, each weighted by the share of it that is signal and no padding.

    A class without a known positive, or without a known negative, training record is handled as in
    :class:`ecg_hf.evaluation.LinearProbe`.

    Attributes:
        epochs: Passes over the training records.
        learning_rate: Of AdamW, constant.
        weight_decay: Of AdamW, on every parameter.
        batch_size: Records per step; the last, smaller batch is used too.
        num_heads: Attention heads; the largest smaller number that divides the token's width where this one does not.
        standardise: Centre and scale every feature by the tokens of the training records.
        clip_sd: Limit on standardised features.
        seed: Of everything random.
        device: Where the head is trained.
        epoch: The chosen epoch, from 1 (after fitting).
        validation_auroc: Validation macro AUROC after every epoch (after fitting; empty without validation records).
        unfitted: Class name -> why it could not be learnt (after fitting).

    Source: frozen evaluation of the ECG-CPC and strategies papers (``main_lite``): one query, 16 heads, AdamW 1e-3
    with weight decay 1e-3, batch 64, 100 epochs, selection by validation macro AUROC, mean of the windows'
    probabilities.

    Differs from official code:
        Features are standardised, because at one learning rate an encoder whose tokens are small or nearly constant,
        such as an untrained one, would look worse than it is; the linear layer then has a bias, which the constant
        part of the tokens stands for otherwise. ``standardise=False`` is the published form in both. A random window
        is one of the evaluation windows, because tokens are computed once; the official crop starts anywhere.
    """

    epochs: int = 100
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    batch_size: int = 64
    num_heads: int = 16
    standardise: bool = True
    clip_sd: float = 10.0
    seed: int = 0
    device: str = "cpu"
    progress: bool = False
    epoch: int = field(default=0, init=False)
    validation_auroc: tuple[float, ...] = field(default=(), init=False)
    unfitted: dict[str, str] = field(default_factory=dict, init=False)
    class_names: tuple[str, ...] = field(default=(), init=False)
    head: QueryHead | None = field(default=None, init=False, repr=False)
    _centre: Tensor | None = field(default=None, init=False, repr=False)
    _scale: Tensor | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the settings."""
        for name in ("epochs", "batch_size", "num_heads", "learning_rate", "clip_sd"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(
                    f"{name} must be positive, got {getattr(self, name)}", value=getattr(self, name)
                )

    @property
    def epoch_at_end(self) -> bool:
        """Whether the chosen epoch is the last of several, so that more might do better."""
        return self.epochs > 1 and self.epoch == self.epochs

    def fit(
        self,
        features: TokenFeatures | npt.ArrayLike,
        labels: npt.ArrayLike,
        validation_features: TokenFeatures | npt.ArrayLike | None = None,
        validation_labels: npt.ArrayLike | None = None,
        *,
        class_names: Sequence[str] | None = None,
    ) -> AttentionProbe:
        """Train on labelled records, choose the epoch on validation records.

        Args:
            features: Tokens of the training records, or an array ``(records, tokens, dim)``.
            labels: 0, 1 or NaN (unknown) ``(records, classes)``.
            validation_features: Tokens of the validation records.
            validation_labels: Their labels.
            class_names: Names for :attr:`unfitted`; ``class_0``... by default.

        Returns:
            The probe itself.

        Raises:
            ConfigurationError: if shapes do not fit, no class can be learnt, the epoch cannot be chosen, or the loss
                is not finite.
        """
        tokens = _tokens(features)
        y, known = checked_labels(labels, len(tokens))
        self.class_names = class_names_of(class_names, y.shape[1])
        fitted, self.unfitted = learnable_classes(y, known, self.class_names)
        validation = self._validation(validation_features, validation_labels, tokens, y.shape[1])
        self._learn_scale(tokens)
        head = self.head = QueryHead(
            tokens.shape[2], self.num_heads, y.shape[1], bias=self.standardise, seed=self.seed
        ).to(self.device)
        random = np.random.default_rng(self.seed)
        windows = tokens.window_weights()

        def forward() -> Iterator[tuple[npt.NDArray[np.intp], Tensor]]:
            order = random.permutation(len(tokens))
            # The largest of random numbers over the windows that hold signal: uniform over those.
            drawn = np.where(windows > 0, random.random(windows.shape), -1.0).argmax(axis=1)
            for rows in _batches(order, self.batch_size):
                yield rows, head(*self._inputs(*tokens.take(rows, drawn[rows])))

        def score() -> float:
            assert validation is not None
            return macro_quality(
                validation[1][:, fitted], self._log_odds(validation[0])[:, fitted], "the epoch"
            )

        self.epoch, self.validation_auroc = train_by_epochs(
            head,
            forward,
            y,
            known & fitted,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            score=None if validation is None else score,
            title="attention probe",
            progress=self.progress,
        )
        return self

    def decision_function(self, features: TokenFeatures | npt.ArrayLike) -> FloatArray:
        """Log-odds float64 ``(records, classes)`` of windows' mean probability; 0 for classes in :attr:`unfitted`.

        Raises:
            ConfigurationError: if the probe was not fitted, or to tokens of another width.
        """
        if self.head is None:
            raise ConfigurationError("the probe has not been fitted")
        scores = self._log_odds(_tokens(features))
        scores[:, self._not_learnt()] = 0.0
        return scores

    def _validation(
        self, features: Any, labels: npt.ArrayLike | None, training: TokenFeatures, n_classes: int
    ) -> tuple[TokenFeatures, npt.NDArray[np.float32]] | None:
        if features is None and labels is None:
            return None
        if features is None or labels is None:
            raise ConfigurationError("choosing the epoch needs both validation features and labels")
        tokens = _tokens(features)
        y, _ = checked_labels(labels, len(tokens))
        if y.shape[1] != n_classes or tokens.shape[2] != training.shape[2]:
            raise ConfigurationError(
                f"validation has {y.shape[1]} classes and tokens of {tokens.shape[2]}, training {n_classes} and "
                f"{training.shape[2]}",
                value=(y.shape, tokens.shape),
            )
        return tokens, y

    def _learn_scale(self, tokens: TokenFeatures) -> None:
        """Mean and spread of every feature over the tokens that hold signal."""
        self._centre = self._scale = None
        if not self.standardise:
            return
        count = 0.0
        total, squares = (torch.zeros(tokens.shape[2], dtype=torch.float64) for _ in range(2))
        shift: Tensor | None = None
        for rows in _batches(np.arange(len(tokens)), self.batch_size):
            values, mask = tokens.take(rows)
            flat = torch.from_numpy(values)[... if mask is None else torch.from_numpy(mask)]
            flat = flat.reshape(-1, tokens.shape[2]).double()
            if len(flat) == 0:
                continue
            if shift is None:
                # Around a typical value the sum of squares loses nothing to a large mean.
                shift = flat.mean(0)
            count += len(flat)
            total += (flat - shift).sum(0)
            squares += (flat - shift).square().sum(0)
        if shift is None:
            raise ConfigurationError(f"no token of {len(tokens)} training records holds signal")
        mean = total / count
        spread = (squares / count - mean.square()).clamp(min=0.0).sqrt()
        centre = shift + mean
        # As in the linear probe: a feature that is constant but for rounding must not be blown up.
        constant = spread <= 1e-7 * centre.abs().clamp(min=1e-30)
        self._centre = centre.float().to(self.device)
        self._scale = torch.where(constant, torch.zeros_like(spread), 1.0 / spread).float().to(self.device)

    def _inputs(self, values: npt.NDArray[Any], mask: BoolArray | None) -> tuple[Tensor, Tensor | None]:
        """Tokens as the head takes them, float32, and their mask."""
        tokens = torch.from_numpy(values).to(self.device).float()
        if self._centre is not None and self._scale is not None:
            tokens = tokens.sub_(self._centre).mul_(self._scale).clamp_(-self.clip_sd, self.clip_sd)
        return tokens, None if mask is None else torch.from_numpy(mask).to(self.device)

    def _log_odds(self, tokens: TokenFeatures) -> FloatArray:
        """Log-odds of the mean probability over windows, without leaving the logarithm."""
        assert self.head is not None
        n, count, dim = tokens.shape
        expected = self.head.classifier.in_features
        if dim != expected:
            raise ConfigurationError(f"the probe was fitted to tokens of {expected}, got {dim}", value=dim)
        width = tokens.windows
        self.head.eval()
        parts = []
        with torch.inference_mode():
            for rows in _batches(np.arange(n), self.batch_size):
                values, mask = tokens.take(rows)
                values = values.reshape(len(rows) * width, count // width, dim)
                mask = None if mask is None else mask.reshape(len(rows) * width, count // width)
                parts.append(self.head(*self._inputs(values, mask)).cpu().double().numpy())
        logits = np.concatenate(parts).reshape(n, width, -1)
        if width == 1:
            return np.asarray(logits[:, 0])
        with np.errstate(divide="ignore"):
            weights = np.log(tokens.window_weights())[:, :, None]
        yes, no = (
            np.logaddexp.reduce(weights - np.logaddexp(0.0, -sign * logits), axis=1) for sign in (1.0, -1.0)
        )
        return np.asarray(yes - no)


def _batches(order: npt.NDArray[np.intp], size: int) -> Iterator[npt.NDArray[np.intp]]:
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _tokens(features: TokenFeatures | npt.ArrayLike) -> TokenFeatures:
    return features if isinstance(features, TokenFeatures) else TokenFeatures(np.asarray(features))


class QueryHead(nn.Module):
    """:class:`~ecg_hf.nn.heads.UnprojectedQueryPool` and a linear layer; ``(batch, tokens, dim)`` to logits.

    Args:
        dim: Width of the tokens.
        num_heads: Attention heads; the largest smaller number that divides ``dim`` where this one does not.
        num_classes: Width of the output.
        bias: Whether the linear layer has a bias.
        seed: The initial weights follow from it alone; the query starts with variance ``1 / dim``.
    """

    def __init__(self, dim: int, num_heads: int, num_classes: int, *, bias: bool, seed: int) -> None:
        super().__init__()
        heads = next(heads for heads in range(min(num_heads, dim), 0, -1) if dim % heads == 0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.pool = UnprojectedQueryPool(dim, heads)
            self.classifier = nn.Linear(dim, num_classes, bias=bias)
            nn.init.normal_(self.pool.query, std=dim**-0.5)

    def forward(self, tokens: Tensor, token_mask: Tensor | None = None) -> Tensor:
        """Logits ``(batch, classes)``; False tokens are not attended to."""
        logits: Tensor = self.classifier(pool_with_one_query(self.pool, tokens, token_mask))
        return logits


def pool_with_one_query(
    pool: UnprojectedQueryPool, tokens: Tensor, token_mask: Tensor | None = None
) -> Tensor:
    """What ``pool(tokens, token_mask)`` gives, without a key and a value for every token.

    With a single query ``q`` a head's scores are ``x . (W_k^T q)``, and its output is ``W_v`` times the weighted mean
    of ``x``: both projections move from the tokens to the query and the pooled vector. Per token that leaves
    ``2 heads * dim`` multiplications of ``2 dim * dim``. Meant for frozen tokens, which need no gradient.

    Args:
        pool: The layer whose weights are used.
        tokens: ``(batch, tokens, dim)``.
        token_mask: bool ``(batch, tokens)``; False tokens are not attended to. A record with no token at all pools
            over all of them.

    Returns:
        ``(batch, dim)``.
    """
    heads, dim = pool.num_heads, tokens.shape[-1]
    size = dim // heads
    query = F.linear(pool.query[0, 0], pool.query_projection.weight).view(heads, 1, size)
    directions = (query @ pool.key_projection.weight.view(heads, size, dim)).squeeze(1) / math.sqrt(size)
    scores = tokens @ directions.T
    if token_mask is not None:
        there = token_mask | ~token_mask.any(1, keepdim=True)
        scores = scores.masked_fill(~there.unsqueeze(-1), -math.inf)
    means = scores.softmax(1).transpose(1, 2) @ tokens
    by_head = pool.value_projection.weight.view(heads, size, dim).transpose(1, 2)
    return (means.unsqueeze(-2) @ by_head).flatten(1)
