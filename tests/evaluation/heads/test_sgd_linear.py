"""The numpy steps are torch's; schedules are the published ones; selection sees what it may see."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.heads.base import Head
from ecg_hf.evaluation.heads.schedules import SCHEDULES, Schedule, get_schedule
from ecg_hf.evaluation.heads.sgd_linear import SgdLinearHead
from ecg_hf.metrics.ranking import auroc

from .test_logistic import correlated

LAST = Schedule("own", "test", epochs=3, select="last")


def parts(n: int = 260, d: int = 12, k: int = 3) -> list[tuple[np.ndarray, np.ndarray]]:
    x, y = correlated(n, d, k)
    return [(x[p], y[p]) for p in (slice(0, 100), slice(100, 180), slice(180, None))]


def with_torch(schedule: Schedule, x: np.ndarray, y: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The same training with autograd and ``torch.optim``."""
    rng = np.random.default_rng(seed)
    bound = 1 / np.sqrt(x.shape[1])
    start = rng.uniform(-bound, bound, (x.shape[1] + 1, y.shape[1])).astype(np.float32)
    layer = torch.nn.Linear(x.shape[1], y.shape[1])
    layer.weight.data = torch.from_numpy(start[:-1].T.copy())
    layer.bias.data = torch.from_numpy(start[-1].copy())
    kind = torch.optim.AdamW if schedule.optimizer == "adamw" else torch.optim.Adam
    optimizer = kind(layer.parameters(), lr=1.0, weight_decay=schedule.weight_decay)
    known = ~np.isnan(y)
    inputs, targets = torch.from_numpy(x).float(), torch.from_numpy(np.nan_to_num(y)).float()
    weights = torch.from_numpy(known).float()
    per_epoch = -(-len(x) // schedule.batch_size)
    step = 0
    for _ in range(schedule.epochs):
        order = rng.permutation(len(x))
        for start_row in range(0, len(x), schedule.batch_size):
            rows = order[start_row : start_row + schedule.batch_size]
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate(step, per_epoch)
            losses = F.binary_cross_entropy_with_logits(layer(inputs[rows]), targets[rows], reduction="none")
            loss = (losses * weights[rows]).sum() / weights[rows].sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    return layer.weight.detach().numpy(), layer.bias.detach().numpy()


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
@pytest.mark.parametrize("unknown", [False, True])
def test_steps_are_those_of_torch(optimizer: str, unknown: bool) -> None:
    (x, y), *_ = parts()
    labels = y.astype(float)
    if unknown:
        labels[::7, 1] = np.nan
    schedule = replace(LAST, optimizer=optimizer, weight_decay=0.05, learning_rate=0.01)  # type: ignore[arg-type]
    head = SgdLinearHead(schedule, seed=5).fit(x, labels)
    weight, bias = with_torch(schedule, x, labels, 5)
    np.testing.assert_allclose(head.coef, weight, atol=2e-5)
    np.testing.assert_allclose(head.intercept, bias, atol=2e-5)


def test_published_rates() -> None:
    merl, bug = get_schedule("merl"), get_schedule("merl_step_bug")
    assert merl.rate(39 * 11 + 10, 11) == 1e-3
    assert merl.rate(40 * 11, 11) == pytest.approx(1e-4)
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=1e-3)
    stepped = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[40], gamma=0.1)
    for iteration in range(80):
        assert bug.rate(iteration, 11) == pytest.approx(optimizer.param_groups[0]["lr"]), iteration
        optimizer.step()
        stepped.step()
        if iteration % 11 == 10:
            stepped.step()
    jepa = get_schedule("ecg_jepa")
    rates = [jepa.rate(i, 100) for i in range(1000)]
    assert rates[0] == pytest.approx(0.001)
    assert rates[10] == pytest.approx(0.01, rel=1e-3)
    assert rates[999] == pytest.approx(0.001, rel=1e-2)
    mem = get_schedule("st_mem")
    assert mem.rate(0, 10) == 0.0
    assert mem.rate(15, 10) == pytest.approx(mem.learning_rate / 2)
    assert mem.rate(30, 10) == mem.learning_rate
    melp = get_schedule("melp")
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=1e-3)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100, eta_min=1e-5)
    for epoch in range(100):
        assert melp.rate(epoch * 7 + 3, 7) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        cosine.step()


@pytest.mark.parametrize(
    "name", [n for n, s in SCHEDULES.items() if n != "merl_test_max" and s.head == "linear"]
)
def test_every_schedule_learns_and_is_deterministic(name: str) -> None:
    (x, y), (x_val, y_val), (x_test, y_test) = parts()
    schedule = replace(get_schedule(name), epochs=min(get_schedule(name).epochs, 12))
    head = SgdLinearHead(schedule).fit(x, y, x_val, y_val)
    assert isinstance(head, Head)
    scores = head.decision_function(x_test)
    if name in ("merl", "ecg_jepa"):  # the rates of the others are made for many more steps than these
        assert auroc(y_test, scores).mean() > 0.65
    np.testing.assert_array_equal(
        scores, SgdLinearHead(schedule).fit(x, y, x_val, y_val).decision_function(x_test)
    )
    assert not np.array_equal(
        scores, SgdLinearHead(schedule, seed=1).fit(x, y, x_val, y_val).decision_function(x_test)
    )


def test_selection() -> None:
    (x, y), (x_val, y_val), (x_test, y_test) = parts()
    chosen = SgdLinearHead(replace(LAST, epochs=8, learning_rate=0.3, select="validation"))
    chosen.fit(x, y, x_val, y_val)
    assert chosen.epoch == 1 + int(np.argmax(chosen.validation_auroc))
    quality = auroc(y_val, chosen.decision_function(x_val)).mean()
    assert quality == pytest.approx(max(chosen.validation_auroc), abs=1e-6)
    most = SgdLinearHead(replace(LAST, epochs=8, learning_rate=0.3, select="test_max"))
    most.fit(x, y, x_val, y_val, test_features=x_test, test_labels=y_test)
    assert auroc(y_test, most.decision_function(x_test)).mean() == pytest.approx(
        max(most.test_auroc), abs=1e-6
    )
    last = SgdLinearHead(replace(LAST, epochs=8)).fit(x, y, x_val, y_val)
    assert last.epoch == 8
    assert len(last.validation_auroc) == 8
    patient = SgdLinearHead(replace(LAST, epochs=60, learning_rate=1.0, select="validation", patience=2))
    patient.fit(x, y, x_val, y_val)
    assert len(patient.validation_auroc) == min(patient.epoch + 2, 60) < 60


def test_classes_that_cannot_be_learnt() -> None:
    (x, y), (x_val, y_val), (x_test, _) = parts()
    y = y.copy()
    y[:, 2] = False
    head = SgdLinearHead(LAST, standardise=True).fit(x, y, x_val, y_val, class_names=["a", "b", "c"])
    assert list(head.unfitted) == ["c"]
    assert (head.predict(x_test)[:, 2] == 0).all()
    assert np.isnan(head.predict_proba(x_test)[:, 2]).all()


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_bad_use_is_a_typed_error() -> None:
    (x, y), (x_val, y_val), _ = parts()
    for call in (
        lambda: SgdLinearHead("adagrad").fit(x, y),
        lambda: SgdLinearHead("merl").fit(x, y),
        lambda: SgdLinearHead("merl_test_max").fit(x, y, x_val, y_val),
        lambda: SgdLinearHead("merl").fit(x, y, x_val, y_val, test_features=x_val, test_labels=y_val),
        lambda: SgdLinearHead(LAST).fit(x, y, x_val[:, :3], y_val),
        lambda: SgdLinearHead(LAST).decision_function(x),
        lambda: SgdLinearHead(LAST).fit(x, y).decision_function(x[:, :3]),
        lambda: SgdLinearHead(LAST).fit(x * np.nan, y),
        lambda: SgdLinearHead(replace(LAST, learning_rate=1e38)).fit(x, y),
    ):
        with pytest.raises(ConfigurationError):
            call()


@pytest.mark.parametrize(
    ("head", "field"),
    [
        ("attention", {"decay": "cosine"}),
        ("attention", {"betas": (0.9, 0.95)}),
        ("attention", {"optimizer": "adam"}),
        ("finetune", {"decay": "step"}),
        ("finetune", {"patience": 3}),
        ("finetune", {"warmup_start": 1e-4}),
        ("finetune", {"encoder_learning_rate": 1e-4}),
        ("linear", {"n_heads": 4}),
        ("linear", {"pooling": "mean"}),
    ],
)
def test_a_schedule_says_nothing_that_its_head_does_not_follow(head: Any, field: dict[str, Any]) -> None:
    usual = {"optimizer": "adamw"} if head != "linear" else {}
    Schedule("x", "", head, **usual)
    with pytest.raises(ConfigurationError, match="schedule x"):
        Schedule("x", "", head, **{**usual, **field})


def test_betas_reach_the_optimiser() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 4)), rng.random((60, 2)) < 0.5
    scores = [
        SgdLinearHead(replace(get_schedule("ecg_jepa"), epochs=2, betas=betas)).fit(x, y).decision_function(x)
        for betas in ((0.9, 0.999), (0.5, 0.9))
    ]
    assert not np.allclose(*scores)
