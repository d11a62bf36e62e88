"""Heads by name, as a protocol and the command line ask for them: what they read, how they are set, built fresh.

A head joins the evaluation by one entry of :data:`HEADS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.features.store import TokenFeatures
from ecg_hf.evaluation.heads.attention import AttentionProbe
from ecg_hf.evaluation.heads.finetune import finetune_settings
from ecg_hf.evaluation.heads.linear import LinearProbe
from ecg_hf.evaluation.heads.mlp import MlpProbe
from ecg_hf.evaluation.heads.sgd_linear import SgdLinearHead
from ecg_hf.evaluation.protocols import Protocol
from ecg_hf.metrics.ranking import FloatArray

__all__ = ["HEADS", "SOLVERS", "ConfiguredHead", "WindowedHead", "configured_head"]

Inputs = Literal["pooled", "windows", "tokens", "recordings"]

SOLVERS = ("auto", "lbfgs", "published")
"""How a linear head is fitted: exactly, ``C`` chosen on validation; by the protocol's schedule; or as suits it."""

DEVICE_FIELDS = {"device", "progress"}


@dataclass(frozen=True, slots=True)
class ConfiguredHead:
    """A head with all its settings, ready to be fitted any number of times.

    Attributes:
        name: As rows call it.
        inputs: ``"pooled"``: one vector per record; ``"windows"``: one per window; ``"tokens"``;
            ``"recordings"``: the encoder is trained with it.
        settings: All it depends on, as JSON values: part of a cell's key.
        stochastic: Whether its result depends on the seed.
        needs_validation: Whether it cannot be fitted without validation records.
        sees_test: Whether it chooses by the test score, as only a published protocol asks for.
        build: Seed -> a fresh head on frozen features; ``None`` where the encoder is trained too.
    """

    name: str
    inputs: Inputs
    settings: dict[str, Any]
    stochastic: bool
    needs_validation: bool
    sees_test: bool
    build: Callable[[int], Any] | None


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a head is made from, see :func:`configured_head`."""

    protocol: Protocol
    solver: str
    options: dict[str, Any]
    device: str
    model_type: str | None


def configured_head(
    name: str,
    protocol: Protocol,
    *,
    solver: str = "auto",
    options: Mapping[str, Any] | None = None,
    windows: bool = False,
    device: str = "cpu",
    model_type: str | None = None,
) -> ConfiguredHead:
    """The head called ``name`` as a protocol has it.

    Args:
        name: One of :data:`HEADS`.
        protocol: Gives the published schedule, if it has one for this head.
        solver: One of :data:`SOLVERS`, for linear heads. ``"auto"``: exact, except under protocols that stand for a
            published procedure.
        options: Fields of the head that replace its own.
        windows: The encoder's features are several windows per record: train on all of them and average
            probabilities.
        device: Where heads with a device are trained.
        model_type: Of the encoder, where published parameter groups depend on it.

    Raises:
        ConfigurationError: for an unknown head, solver or option.
    """
    if name not in HEADS:
        raise ConfigurationError(f"no head {name!r}; there are {', '.join(HEADS)}", value=name)
    if solver not in SOLVERS:
        raise ConfigurationError(f"solver must be one of {', '.join(SOLVERS)}, got {solver!r}", value=solver)
    head = HEADS[name](_Wanted(protocol, solver, dict(options or {}), device, model_type))
    inner = head.build
    if not windows or head.inputs != "pooled" or inner is None:
        return head
    return replace(
        head,
        inputs="windows",
        settings={**head.settings, "windows": "all of a record trained on, mean probability"},
        build=lambda seed: WindowedHead(inner(seed)),
    )


class WindowedHead:
    """A head for windows: trained on every window with its record's labels, probabilities averaged over a record.

    Args:
        head: A head for vectors.
    """

    def __init__(self, head: Any) -> None:
        self.head = head

    @property
    def unfitted(self) -> dict[str, str]:
        """Class name -> why it could not be learnt."""
        found: dict[str, str] = self.head.unfitted
        return found

    def fit(
        self,
        features: TokenFeatures,
        labels: npt.ArrayLike,
        validation_features: TokenFeatures | None = None,
        validation_labels: npt.ArrayLike | None = None,
        **options: Any,
    ) -> WindowedHead:
        """Train; whatever is chosen is chosen on single windows of the validation records."""
        x, y = _flat(features, labels)
        if validation_features is None or validation_labels is None:
            self.head.fit(x, y, **options)
        else:
            self.head.fit(x, y, *_flat(validation_features, validation_labels), **options)
        return self

    def decision_function(self, features: TokenFeatures) -> FloatArray:
        """Log-odds of the mean probability, float64 ``(records, classes)``."""
        values, _ = features.take(np.arange(len(features)))
        n, windows, dim = values.shape
        flat = self.head.decision_function(values.reshape(n * windows, dim))
        weights = features.window_weights()
        weights = weights / weights.sum(axis=1, keepdims=True)
        mean = np.einsum("rwk,rw->rk", expit(flat.reshape(n, windows, -1)), weights)
        return np.asarray(logit(np.clip(mean, 1e-300, 1.0 - 1e-16)))


def _flat(features: TokenFeatures, labels: npt.ArrayLike) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Windows that hold signal as rows, each with its record's labels."""
    values, _ = features.take(np.arange(len(features)))
    there = features.window_weights() > 0
    records = np.nonzero(there)[0]
    return np.asarray(values[there]), np.asarray(labels)[records]


def _linear(wanted: _Wanted) -> ConfiguredHead:
    protocol, solver, options = wanted.protocol, wanted.solver, wanted.options
    if solver == "auto":
        solver = (
            "lbfgs" if protocol.labels == "name-exact" or "linear" not in protocol.schedules else "published"
        )
    if solver == "lbfgs":
        probe = _built(LinearProbe, options)
        return ConfiguredHead(
            "linear", "pooled", {"solver": "lbfgs", **_settings(probe)}, False, len(probe.c_grid) > 1, False,
            lambda seed: replace(probe),
        )  # fmt: skip
    if "linear" not in protocol.schedules:
        raise ConfigurationError(
            f"protocol {protocol.name} publishes no schedule of a linear head", value=protocol.name
        )
    schedule = protocol.schedules["linear"]
    sgd = _built(SgdLinearHead, {"schedule": schedule, **options})
    settings = {
        "solver": "published",
        "schedule": _settings(schedule),
        **_settings(sgd, without={"schedule", "seed"}),
    }
    return ConfiguredHead(
        "linear", "pooled", settings, True, schedule.select == "validation", schedule.select == "test_max",
        lambda seed: replace(sgd, seed=seed),
    )  # fmt: skip


def _attention(wanted: _Wanted) -> ConfiguredHead:
    published = wanted.protocol.schedules.get("attention")
    own: dict[str, Any] = {}
    if published is not None:
        own = {
            "epochs": published.epochs,
            "learning_rate": published.learning_rate,
            "weight_decay": published.weight_decay,
            "batch_size": published.batch_size,
            "num_heads": published.n_heads or AttentionProbe().num_heads,
            "standardise": False,
        }
    probe = _built(AttentionProbe, {**own, "device": wanted.device, **wanted.options})
    return ConfiguredHead(
        "attention", "tokens", _settings(probe, without={"seed"}), True, False, False,
        lambda seed: replace(probe, seed=seed),
    )  # fmt: skip


def _mlp(wanted: _Wanted) -> ConfiguredHead:
    options = dict(wanted.options)
    if "hidden" in options:
        given = options["hidden"]
        options["hidden"] = (given,) if isinstance(given, int) else tuple(given)
    probe = _built(MlpProbe, {"device": wanted.device, **options})
    return ConfiguredHead(
        "mlp", "pooled", _settings(probe, without={"seed"}), True, False, False,
        lambda seed: replace(probe, seed=seed),
    )  # fmt: skip


def _finetune(wanted: _Wanted) -> ConfiguredHead:
    settings = finetune_settings(wanted.protocol, wanted.options, wanted.model_type)
    return ConfiguredHead("finetune", "recordings", settings, True, True, False, None)


HEADS: dict[str, Callable[[_Wanted], ConfiguredHead]] = {
    "linear": _linear,
    "attention": _attention,
    "mlp": _mlp,
    "finetune": _finetune,
}
"""Every head that is trained on a benchmark's labels, by name: one entry is all a new one needs."""


def _built(kind: Any, options: Mapping[str, Any]) -> Any:
    known = {field.name for field in fields(kind) if field.init} - {"seed"}
    unknown = sorted(set(options) - known)
    if unknown:
        raise ConfigurationError(
            f"{kind.__name__} has no option {unknown[0]!r}; there are {', '.join(sorted(known))}",
            value=unknown[0],
        )
    try:
        return kind(**options)
    except TypeError as error:
        raise ConfigurationError(f"options of {kind.__name__}: {error}") from None


def _settings(thing: Any, without: set[str] | None = None) -> dict[str, Any]:
    """Fields a result depends on, as JSON values."""
    left_out = DEVICE_FIELDS | (without or set())
    return {
        field.name: list(value) if isinstance(value := getattr(thing, field.name), tuple) else value
        for field in fields(thing)
        if field.init and field.name not in left_out
    }
