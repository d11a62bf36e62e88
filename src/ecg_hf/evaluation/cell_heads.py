"""Heads by name, as a protocol and the command line ask for them: what they read, how they are set, built fresh.

A head joins the harness by one entry of :data:`BUILDERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.attention_probe import AttentionProbe
from ecg_hf.evaluation.heads.mlp import MlpProbe
from ecg_hf.evaluation.heads.schedules import Schedule, get_schedule
from ecg_hf.evaluation.heads.sgd_linear import SgdLinearHead
from ecg_hf.evaluation.metrics import FloatArray
from ecg_hf.evaluation.probe import LinearProbe
from ecg_hf.evaluation.protocols import EvaluationProtocol
from ecg_hf.evaluation.token_store import TokenFeatures

__all__ = ["FROZEN_HEADS", "SOLVERS", "FrozenHead", "WindowedHead", "frozen_head"]

Inputs = Literal["pooled", "windows", "tokens"]

SOLVERS = ("auto", "lbfgs", "published")
"""How a linear head is fitted: exactly, ``C`` chosen on validation; by the protocol's schedule; or as suits it."""

DEVICE_FIELDS = {"device", "progress"}
PUBLISHED = {"merl-linear": "merl_step_bug", "merl-linear-epochs": "merl", "jepa-linear": "ecg_jepa"}


@dataclass(frozen=True, slots=True)
class FrozenHead:
    """A head on frozen features, ready to be fitted any number of times.

    Attributes:
        name: As rows call it.
        inputs: ``"pooled"``: one vector per record; ``"windows"``: one per window; ``"tokens"``.
        settings: All it depends on, as JSON values: part of a cell's key.
        stochastic: Whether its result depends on the seed.
        needs_validation: Whether it cannot be fitted without validation records.
        sees_test: Whether it chooses by the test score, as only a published protocol asks for.
        build: Seed -> a fresh head.
    """

    name: str
    inputs: Inputs
    settings: dict[str, Any]
    stochastic: bool
    needs_validation: bool
    sees_test: bool
    build: Callable[[int], Any]


def frozen_head(
    name: str,
    protocol: EvaluationProtocol,
    *,
    solver: str = "auto",
    options: Mapping[str, Any] | None = None,
    windows: bool = False,
    device: str = "cpu",
) -> FrozenHead:
    """The head called ``name`` as a protocol has it.

    Args:
        name: One of :data:`FROZEN_HEADS`.
        protocol: Gives the published schedule, if it has one for this head.
        solver: One of :data:`SOLVERS`, for linear heads. ``"auto"``: exact, except under protocols that stand for a
            published procedure.
        options: Fields of the head that replace its own.
        windows: The encoder's features are several windows per record: train on all of them and average
            probabilities.
        device: Where heads with a device are trained.

    Raises:
        ConfigurationError: for an unknown head, solver or option.
    """
    if name not in BUILDERS:
        raise ConfigurationError(
            f"no head {name!r} on frozen features; there are {', '.join(BUILDERS)}", value=name
        )
    if solver not in SOLVERS:
        raise ConfigurationError(f"solver must be one of {', '.join(SOLVERS)}, got {solver!r}", value=solver)
    head = BUILDERS[name](protocol, solver, dict(options or {}), device)
    if not windows or head.inputs != "pooled":
        return head
    inner = head.build
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


def _linear(protocol: EvaluationProtocol, solver: str, options: dict[str, Any], device: str) -> FrozenHead:
    if solver == "auto":
        solver = (
            "lbfgs" if protocol.labels == "name-exact" or "linear" not in protocol.schedules else "published"
        )
    if solver == "lbfgs":
        probe = _built(LinearProbe, options)
        return FrozenHead(
            "linear", "pooled", {"solver": "lbfgs", **_settings(probe)}, False, len(probe.c_grid) > 1, False,
            lambda seed: replace(probe),
        )  # fmt: skip
    if "linear" not in protocol.schedules:
        raise ConfigurationError(
            f"protocol {protocol.name} publishes no schedule of a linear head", value=protocol.name
        )
    schedule = _published_schedule(protocol)
    sgd = _built(SgdLinearHead, {"schedule": schedule, **options})
    settings = {
        "solver": "published",
        "schedule": _settings(schedule),
        **_settings(sgd, without={"schedule", "seed"}),
    }
    return FrozenHead(
        "linear", "pooled", settings, True, schedule.select == "validation", schedule.select == "test_max",
        lambda seed: replace(sgd, seed=seed),
    )  # fmt: skip


def _published_schedule(protocol: EvaluationProtocol) -> Schedule:
    published = protocol.schedules["linear"]
    if protocol.selection == "test":
        return get_schedule("merl_test_max")
    if published.name in PUBLISHED:
        return get_schedule(PUBLISHED[published.name])
    return Schedule(
        published.name,
        published.note,
        optimizer=published.optimizer,
        learning_rate=published.learning_rate,
        weight_decay=published.weight_decay,
        batch_size=published.batch_size,
        epochs=published.epochs,
        select="last" if protocol.selection == "last" else "validation",
    )


def _attention(protocol: EvaluationProtocol, solver: str, options: dict[str, Any], device: str) -> FrozenHead:
    published = protocol.schedules.get("attention")
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
    probe = _built(AttentionProbe, {**own, "device": device, **options})
    return FrozenHead(
        "attention", "tokens", _settings(probe, without={"seed"}), True, False, False,
        lambda seed: replace(probe, seed=seed),
    )  # fmt: skip


def _mlp(protocol: EvaluationProtocol, solver: str, options: dict[str, Any], device: str) -> FrozenHead:
    if "hidden" in options:
        given = options["hidden"]
        options["hidden"] = (given,) if isinstance(given, int) else tuple(given)
    probe = _built(MlpProbe, {"device": device, **options})
    return FrozenHead(
        "mlp", "pooled", _settings(probe, without={"seed"}), True, False, False,
        lambda seed: replace(probe, seed=seed),
    )  # fmt: skip


BUILDERS: dict[str, Callable[[EvaluationProtocol, str, dict[str, Any], str], FrozenHead]] = {
    "linear": _linear,
    "attention": _attention,
    "mlp": _mlp,
}
FROZEN_HEADS = tuple(BUILDERS)
"""Heads on frozen features."""


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
