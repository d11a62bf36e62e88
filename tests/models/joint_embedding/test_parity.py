"""Losses and gradients of the reference implementations (fixtures), through the public classes."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ecg_hf import (
    BarlowTwinsForPreTraining,
    ByolForPreTraining,
    ClocsForPreTraining,
    MoCoV3ForPreTraining,
    SimClrForPreTraining,
    SimSiamForPreTraining,
    ThreeKgForPreTraining,
    TsTccForPreTraining,
)
from ecg_hf.models.joint_embedding.modeling import JointEmbeddingForPreTraining
from ecg_hf.nn.ema import cosine_momentum, ema_update
from ecg_hf.nn.views.augmentations import Signals, apply_views
from ecg_hf.signal.leads import STANDARD_LEADS

pytestmark = pytest.mark.fixtures

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def make(kind: type[JointEmbeddingForPreTraining], width: int = 8, **options: Any) -> Any:
    """A model whose backbone's embeddings have ``width`` columns."""
    backbone = {"type": "resnet1d", "channels": [width], "depths": [1]}
    return kind(kind.config_class.preset("micro", backbone=backbone, **options)).train()


def leaf(values: Tensor) -> Tensor:
    return values.clone().requires_grad_()


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_simclr(shared_fixtures: Any, temperature: float) -> None:
    expected = load_file(shared_fixtures / "simclr" / "losses.safetensors")
    model = make(SimClrForPreTraining, temperature=temperature)
    first, second = leaf(expected["z1"]), leaf(expected["z2"])
    loss = model.weighted_sum(model.terms([first, second], [first, second]))
    loss.backward()
    name = f"nt_xent_tau{temperature}"
    torch.testing.assert_close(loss, expected[f"{name}.loss"], **CLOSE)
    torch.testing.assert_close(first.grad, expected[f"{name}.grad1"], **CLOSE)
    torch.testing.assert_close(second.grad, expected[f"{name}.grad2"], **CLOSE)


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors below a prefix, named from there; without what batch norms remember."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix) and "running" not in name and "tracked" not in name
    }


def load_head(head: nn.Module, state: dict[str, Tensor]) -> None:
    """Fill a head in; a bias that only one side has must not matter: ours is zero, theirs is before a norm."""
    own = head.state_dict()
    missing, extra = own.keys() - state.keys(), state.keys() - own.keys()
    assert all(name.endswith("bias") for name in (*missing, *extra))
    shared = {name: value for name, value in state.items() if name in own}
    head.load_state_dict({**{name: torch.zeros_like(own[name]) for name in missing}, **shared})


def check_gradients(head: nn.Module, expected: dict[str, Tensor]) -> None:
    found = {name: parameter.grad for name, parameter in head.named_parameters()}
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, **CLOSE)


class Body(nn.Linear):
    """The backbone of the fixtures: a linear layer and a ReLU."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__(*reversed(state["weight"].shape))
        self.load_state_dict(state)

    def forward(self, values: Tensor) -> Tensor:
        return super().forward(values).relu()


def test_byol(shared_fixtures: Any) -> None:
    expected = load_file(shared_fixtures / "byol" / "losses.safetensors")
    model = make(ByolForPreTraining)
    first, second = leaf(expected["p1"]), leaf(expected["p2"])
    loss = model.weighted_sum(model.terms([first, second], [expected["z1_target"], expected["z2_target"]]))
    loss.backward()
    torch.testing.assert_close(loss, expected["loss"], **CLOSE)
    torch.testing.assert_close(first.grad, expected["loss.grad1"], **CLOSE)
    torch.testing.assert_close(second.grad, expected["loss.grad2"], **CLOSE)


def test_byols_teacher(shared_fixtures: Any) -> None:
    expected = load_file(shared_fixtures / "byol" / "losses.safetensors")
    online, target = (
        nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3)) for _ in range(2)
    )
    online.load_state_dict(part(expected, "ema.online."), strict=False)
    target.load_state_dict(part(expected, "ema.target_before."), strict=False)
    ema_update(target, online, 0.97)
    for name, value in part(expected, "ema.target_after_m0.97.").items():
        torch.testing.assert_close(target.state_dict()[name], value, **CLOSE)
    steps, momenta = expected["schedule.step"].tolist(), expected["schedule.m_textbook"].tolist()
    for step, momentum in zip(steps, momenta, strict=True):
        assert cosine_momentum(int(step), 100, 0.996) == pytest.approx(momentum, abs=1e-6)


def test_barlow_twins(shared_fixtures: Any) -> None:
    expected = load_file(shared_fixtures / "barlow_twins" / "losses.safetensors")
    model = make(BarlowTwinsForPreTraining, 12, projector_sizes=[10, 10, 8])
    load_head(model.projector, part(expected, "state.projector."))
    first, second = leaf(expected["h1"]), leaf(expected["h2"])
    terms, _ = model.compare([first, second])
    loss = model.weighted_sum(terms)
    loss.backward()
    torch.testing.assert_close(loss, expected["loss"], **CLOSE)
    torch.testing.assert_close(first.grad, expected["loss.grad_h1"], **CLOSE)
    torch.testing.assert_close(second.grad, expected["loss.grad_h2"], **CLOSE)
    check_gradients(model.projector, part(expected, "grad.projector."))


@pytest.mark.parametrize(("kind", "head"), [("vit", "head"), ("resnet", "fc")])
def test_moco_v3(shared_fixtures: Any, kind: str, head: str) -> None:
    expected = load_file(shared_fixtures / "moco_v3" / f"moco_{kind}.safetensors")
    model = make(
        MoCoV3ForPreTraining,
        10,
        projector_sizes=[12, 12, 7] if kind == "vit" else [12, 7],
        predictor_sizes=[12],
        predictor_last_norm=kind == "vit",
    )
    load_head(model.projector, part(expected, f"state.base_encoder.{head}."))
    load_head(model.predictor, part(expected, "state.predictor."))
    load_head(model.teacher["projector"], part(expected, f"state.momentum_encoder.{head}."))
    # The official forward moves the teacher first: a step before this one's forward is the same.
    model.after_optimizer_step(0, 1000)
    for name, value in part(expected, f"after.momentum_encoder.{head}.").items():
        torch.testing.assert_close(model.teacher["projector"].state_dict()[name], value, **CLOSE)
    body = Body(part(expected, "state.base_encoder.body."))
    taught = Body(part(expected, "after.momentum_encoder.body."))
    views = [expected["x1"], expected["x2"]]
    terms, _ = model.compare([body(view) for view in views], [taught(view) for view in views])
    loss = model.weighted_sum(terms)
    loss.backward()
    torch.testing.assert_close(loss, expected["loss"], **CLOSE)
    check_gradients(model.projector, part(expected, f"grad.base_encoder.{head}."))
    check_gradients(model.predictor, part(expected, "grad.predictor."))
    check_gradients(body, part(expected, "grad.base_encoder.body."))
    assert all(parameter.grad is None for parameter in model.teacher.parameters())


def test_simsiam(shared_fixtures: Any) -> None:
    expected = load_file(shared_fixtures / "simsiam" / "losses.safetensors")
    model = make(SimSiamForPreTraining, 10, projector_sizes=[10, 10, 7], predictor_sizes=[4])
    load_head(model.projector, part(expected, "state.encoder.fc."))
    load_head(model.predictor, part(expected, "state.predictor."))
    body = Body(part(expected, "state.encoder.body."))
    terms, metrics = model.compare([body(expected["x1"]), body(expected["x2"])])
    loss = model.weighted_sum(terms)
    loss.backward()
    torch.testing.assert_close(loss, expected["loss"], **CLOSE)
    check_gradients(model.projector, part(expected, "grad.encoder.fc."))
    check_gradients(model.predictor, part(expected, "grad.predictor."))
    check_gradients(body, part(expected, "grad.encoder.body."))
    spread = metrics["embedding_spread"] / 7**0.5
    torch.testing.assert_close(spread, expected["collapse_std_z1"], rtol=0.1, atol=0.0)


@pytest.mark.parametrize("case", ["distinct", "shared"])
def test_3kg(shared_fixtures: Any, case: str) -> None:
    """Rows of the fixture are views; each patient has two or, where one is shared, more."""
    expected = part(load_file(shared_fixtures / "three_kg" / "three_kg.safetensors"), f"loss_{case}.")
    order = torch.argsort(expected["patient_id"], stable=True)
    halves = torch.cat([order[::2], order[1::2]])
    views = leaf(expected["features"][halves])
    model = make(ThreeKgForPreTraining)
    patients = expected["patient_id"][halves[: len(halves) // 2]].long()
    terms = model.terms(views.chunk(2), views.detach().chunk(2), patients)
    loss = model.weighted_sum(terms) * expected["n_pairs"]
    loss.backward()
    torch.testing.assert_close(loss, expected["loss_sum"], **CLOSE)
    torch.testing.assert_close(views.grad, expected["grad_proper"][halves], **CLOSE)


@pytest.mark.parametrize("case", ["rotate_scale", "full", "identity"])
def test_3kgs_views(shared_fixtures: Any, case: str) -> None:
    fixture = load_file(shared_fixtures / "three_kg" / "three_kg.safetensors")
    given, drawn = fixture["input"].float()[None], part(fixture, f"{case}.")
    angles, scales = drawn.get("angles_deg", torch.zeros(6)), drawn.get("scales", torch.ones(6))
    starts = drawn.get("mask_starts")
    entries: list[dict[str, Any]] = [{"op": "vcg", "degrees": [-45.0, 45.0], "scale": [1.0, 1.5]}]
    entries += [] if starts is None else [{"op": "lead_time_out"}]
    for view in range(2):
        three = slice(3 * view, 3 * view + 3)
        draws = [(angles[three] + 45.0) / 90.0, (scales[three] - 1.0) / 0.5]
        if starts is not None:
            draws.append((starts[12 * view : 12 * view + 12] + 0.5) / given.shape[-1])
        signals = Signals(given, None, STANDARD_LEADS, 500.0)
        uniform = torch.cat([draw.float() for draw in draws])[None]
        made = apply_views(signals, entries, uniform, max_samples=given.shape[-1]).values[0]
        torch.testing.assert_close(made, drawn[f"view{view + 1}"].float(), **CLOSE)


@pytest.mark.parametrize(
    "case", ["cmsc_distinct", "cmsc_repeat", "cmlc_distinct_3views", "cmlc_4views", "cmsmlc_8views"]
)
def test_clocs(shared_fixtures: Any, case: str) -> None:
    """By the paper's sum over all pairs, which with two views is the official code's."""
    expected = part(load_file(shared_fixtures / "clocs" / "clocs.safetensors"), f"{case}.")
    views = [leaf(view) for view in expected["embeddings"].unbind(2)]
    model = make(ClocsForPreTraining)
    terms = model.terms(views, [view.detach() for view in views], expected["patient_ids"])
    loss = model.weighted_sum(terms)
    loss.backward()
    torch.testing.assert_close(loss, expected["paper_loss"], **CLOSE)
    gradient = torch.stack([view.grad for view in views], dim=2)
    torch.testing.assert_close(gradient, expected["paper_grad"], **CLOSE)
    if len(views) == 2:
        torch.testing.assert_close(loss, expected["official_loss"], **CLOSE)


def temporal_state(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The official names of the network of the contexts (below ``tc.``) as ours."""
    names = {
        r"Wk\.(\d)": r"temporal.predictors.\1",
        r"seq_transformer\.c_token": "temporal.token",
        r"seq_transformer\.patch_to_embedding": "temporal.to_context",
        r"seq_transformer\.transformer\.layers\.(\d)\.": r"temporal.stack.blocks.\1.",
        r"0\.fn\.norm": "attention_norm",
        r"0\.fn\.fn\.to_qkv": "attention.qkv",
        r"0\.fn\.fn\.to_out\.0": "attention.output",
        r"1\.fn\.norm": "mlp_norm",
        r"1\.fn\.fn\.net": "mlp",
        r"projection_head": "projector",
    }
    renamed = {}
    for name, value in tensors.items():
        for official, own in names.items():
            name = re.sub(official, own, name)
        renamed[name] = value
    return renamed


def backbone_state(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The official names of the convolutions as ours."""
    return {
        re.sub(
            r"conv_block(\d)\.(\d)",
            lambda found: f"joint_embedding.encoder.layers.{int(found[1]) - 1}.0.{found[2]}",
            name,
        ): value
        for name, value in tensors.items()
    }


def test_ts_tcc(shared_fixtures: Any) -> None:
    """From both views to the loss: convolutions, features, contexts, predictions, projections.

    In double precision: batch norms over six rows magnify rounding, and what the fixture has of it is near 1e-5.
    """
    stored = load_file(shared_fixtures / "ts_tcc" / "ts_tcc.safetensors")
    expected = {name: value.double() for name, value in stored.items()}
    config = TsTccForPreTraining.config_class.preset(
        "micro",
        backbone={"type": "cnn", "channels": [32, 64, 16], "dropout": 0.0},
        num_samples=96,
        views_together=False,
        views=[],
        second_views=[],
        step_s=0.0,
        feature_size=None,
        future_steps=4,
        context_size=20,
        context_layers=4,
        context_heads=4,
        context_mlp_size=64,
        projector_sizes=[8, 4],
    )
    model = TsTccForPreTraining(config).train().double()
    given = {
        **temporal_state(part(expected, "state.tc.")),
        **backbone_state(part(expected, "state.model.")),
    }
    missing, extra = model.load_state_dict(given, strict=False)
    assert extra == ["projector.0.bias"]  # before a batch norm
    assert all("running" in name or "tracked" in name for name in missing)
    views = [Signals(expected[f"aug{view}"], None, STANDARD_LEADS, 100.0) for view in (1, 2)]
    steps = expected["features1"].shape[-1]
    moments = (expected["t_samples"] + 0.5) / (steps - 4)
    noise = moments.expand(len(expected["aug1"]), 2)[..., None]
    contexts, further = model.represent(views, noise)
    for number, view in enumerate(views, start=1):
        tokens = model.joint_embedding.encoder(view.values, None)
        features = model.temporal.steps(tokens, 96).transpose(1, 2)
        torch.testing.assert_close(features, expected[f"features{number}"], **CLOSE)
    terms, _ = model.compare(contexts, further=further)
    loss = model.weighted_sum(terms)
    loss.backward()
    torch.testing.assert_close(terms["temporal"], expected["tc_loss1"] + expected["tc_loss2"], **CLOSE)
    torch.testing.assert_close(terms["contextual"], expected["context_loss"], **CLOSE)
    torch.testing.assert_close(loss, expected["loss"], **CLOSE)
    gradients = part(expected, "grad.")
    own = {
        **temporal_state(part(gradients, "tc.")),
        **backbone_state({name: value for name, value in gradients.items() if name.startswith("conv")}),
    }
    assert len(own) == len(gradients)
    check_gradients(model, own)
