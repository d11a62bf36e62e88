"""A linear head on frozen tokens: which wave every sample belongs to."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.delineation.tokens import NUM_CLASSES, UNKNOWN, TokenLayout

__all__ = ["DelineationHead"]

# Tokens whose features vary less than this, relative to the largest feature, say nothing.
_CONSTANT = 1e-7


@dataclass(slots=True, eq=False)
class DelineationHead:
    """Multinomial logistic regression from a token to the class of each sample it covers.

    A token of one lead gives ``samples_per_token * 4`` logits, by the same weights in every lead; a token of all
    leads gives ``leads * samples_per_token * 4``. The loss is the cross-entropy, summed over the samples of a token,
    averaged over tokens, plus ``l2 / 2`` times the squared weights; it is convex and minimised by L-BFGS from zero,
    so nothing is random. Features are standardised by the training tokens.

    Attributes:
        l2: Weight of the penalty; the bias has none.
        context: Neighbouring tokens on either side, of the same lead, that the head reads too. With 0 whatever
            it knows of the surroundings the encoder has told it. An encoder that only looks back, such as ECG-CPC's,
            has not seen how a wave goes on.
        max_iterations: Of L-BFGS.
        device: Where it is fitted.
        converged: Whether L-BFGS came to rest by itself (after fitting).
        loss: Cross-entropy per known training sample, in nats (after fitting).
    """

    l2: float = 1e-3
    context: int = 0
    max_iterations: int = 100
    device: str = "cpu"
    converged: bool = field(default=False, init=False)
    loss: float = field(default=float("nan"), init=False)
    _layout: TokenLayout | None = field(default=None, init=False, repr=False)
    _leads: int = field(default=0, init=False, repr=False)
    _centre: Tensor | None = field(default=None, init=False, repr=False)
    _scale: Tensor | None = field(default=None, init=False, repr=False)
    _weight: Tensor | None = field(default=None, init=False, repr=False)
    _bias: Tensor | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.l2 < 0 or self.context < 0 or self.max_iterations < 1:
            raise ConfigurationError(
                f"l2 {self.l2} and context {self.context} must not be negative, "
                f"max_iterations {self.max_iterations} be positive",
                value=(self.l2, self.context, self.max_iterations),
            )

    def fit(
        self, tokens: npt.NDArray[np.floating], classes: npt.NDArray[np.int64], layout: TokenLayout
    ) -> DelineationHead:
        """Fit on records.

        Args:
            tokens: ``(records, tokens, dim)``; tokens behind those of the layout are ignored.
            classes: ``(records, leads, samples)`` class of every sample of the model's input, -1 unknown.
            layout: Which tokens stand for what.

        Raises:
            ConfigurationError: if shapes do not fit or no sample is known.
        """
        leads = classes.shape[1] if classes.ndim == 3 else 0
        span = layout.steps * layout.samples_per_token
        if (
            tokens.ndim != 3
            or classes.ndim != 3
            or len(tokens) != len(classes)
            or layout.leads not in (None, leads)
        ):
            raise ConfigurationError(
                f"tokens {tokens.shape} and classes {classes.shape} do not fit {layout}", value=classes.shape
            )
        padded = np.full((*classes.shape[:2], span), UNKNOWN, dtype=np.int64)
        kept = min(span, classes.shape[2])
        padded[:, :, :kept] = classes[:, :, :kept]
        target = torch.from_numpy(padded).unflatten(2, (layout.steps, layout.samples_per_token))
        if layout.leads is None:
            target = target.transpose(1, 2)  # (records, steps, leads, patch)
        target = target.reshape(-1, target[0, 0, 0].numel() * (leads if layout.leads is None else 1))
        known = (target != UNKNOWN).any(dim=1)
        if not bool(known.any()):
            raise ConfigurationError("no sample of the training records has a known class")
        self._layout, self._leads = layout, leads
        features = self._rows(tokens)[known.numpy()].to(self.device)
        self._centre = features.mean(0)
        spread = features.std(0, correction=0)
        self._scale = torch.where(spread > _CONSTANT * features.abs().max(), spread, torch.inf)
        self._minimise((features - self._centre) / self._scale, target[known].to(self.device))
        return self

    def probabilities(self, tokens: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Class probabilities ``(records, leads, samples, 4)``; samples are those the tokens cover.

        Raises:
            ConfigurationError: if the head is not fitted.
        """
        layout = self._layout
        if layout is None or self._weight is None:
            raise ConfigurationError("the delineation head is not fitted")
        assert self._centre is not None
        assert self._scale is not None
        assert self._bias is not None
        rows = (self._rows(tokens).to(self.device) - self._centre) / self._scale
        scores = torch.addmm(self._bias, rows, self._weight).unflatten(1, (-1, NUM_CLASSES)).softmax(-1).cpu()
        n, patch = len(tokens), layout.samples_per_token
        if layout.leads is None:
            scores = scores.reshape(n, layout.steps, self._leads, patch, NUM_CLASSES).transpose(1, 2)
        result: npt.NDArray[np.float32] = scores.reshape(n, self._leads, -1, NUM_CLASSES).numpy()
        return result

    def _rows(self, tokens: npt.NDArray[np.floating]) -> Tensor:
        """Float32 ``(records * leads * steps, features)``, with neighbours where they are read too."""
        layout = self._layout
        assert layout is not None
        if tokens.shape[1] < layout.count:
            raise ConfigurationError(f"{tokens.shape[1]} tokens do not fit {layout}", value=tokens.shape[1])
        values = torch.from_numpy(np.asarray(tokens[:, layout.before : layout.count], dtype=np.float32))
        runs = values.reshape(-1, layout.steps, values.shape[-1])
        if self.context:
            padded = F.pad(runs, (0, 0, self.context, self.context))
            runs = torch.cat([padded[:, i : i + layout.steps] for i in range(2 * self.context + 1)], dim=-1)
        return runs.flatten(0, 1)

    def _minimise(self, features: Tensor, target: Tensor) -> None:
        outputs = target.shape[1] * NUM_CLASSES
        weight = features.new_zeros(features.shape[1], outputs, requires_grad=True)
        bias = features.new_zeros(outputs, requires_grad=True)
        optimiser = torch.optim.LBFGS(
            [weight, bias],
            max_iter=self.max_iterations,
            history_size=10,
            tolerance_grad=1e-5,
            tolerance_change=1e-7,
            line_search_fn="strong_wolfe",
        )
        flat = target.flatten()

        def cross_entropy() -> Tensor:
            logits = torch.addmm(bias, features, weight).reshape(-1, NUM_CLASSES)
            return F.cross_entropy(logits, flat, ignore_index=UNKNOWN, reduction="sum")

        def closure() -> Tensor:
            optimiser.zero_grad()
            value = cross_entropy() / len(features) + 0.5 * self.l2 * weight.square().sum()
            value.backward()
            return value

        optimiser.step(closure)
        state = optimiser.state[weight]
        self.converged = int(state["n_iter"]) < self.max_iterations
        with torch.no_grad():
            self.loss = float(cross_entropy() / (flat != UNKNOWN).sum())
        self._weight, self._bias = weight.detach(), bias.detach()
