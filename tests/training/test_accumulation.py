"""One optimiser step over G micro-batches against one big batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from toy_pretraining import ToyConfig, ToyForPreTraining, toy_trainer, training_losses

from ecg_hf.training.accumulation import ContrastivePool, ExactAccumulation, scale_gradient


def run(folder: Path, **arguments: Any) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    trainer = toy_trainer(folder, max_steps=6, **arguments)
    trainer.train()
    return training_losses(trainer), trainer.model.state_dict()


def test_scale_gradient_leaves_the_value_and_scales_the_gradient() -> None:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    y = scale_gradient(x, 3.0)
    assert torch.equal(y, x)
    (y**2).sum().backward()
    torch.testing.assert_close(x.grad, 3 * 2 * x.detach())


@pytest.mark.parametrize("micro_batches", [2, 4])
def test_micro_batches_equal_one_big_batch(tmp_path: Path, micro_batches: int) -> None:
    whole, whole_weights = run(tmp_path / "whole", per_device_train_batch_size=8)
    split, split_weights = run(
        tmp_path / "split",
        per_device_train_batch_size=8 // micro_batches,
        gradient_accumulation_steps=micro_batches,
    )
    for one, other in zip(whole, split, strict=True):
        for name in ("loss", "loss_contrastive", "loss_reconstruction", "grad_norm"):
            assert other[name] == pytest.approx(one[name], rel=3e-6, abs=1e-6), name
    for name, weight in whole_weights.items():
        torch.testing.assert_close(split_weights[name], weight, rtol=0, atol=1e-6)


def test_without_exact_accumulation_the_contrastive_loss_is_another_one(tmp_path: Path) -> None:
    whole, _ = run(tmp_path / "whole", per_device_train_batch_size=8)
    split, _ = run(
        tmp_path / "split",
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        exact_accumulation=False,
    )
    assert split[0]["loss_reconstruction"] == pytest.approx(whole[0]["loss_reconstruction"], abs=1e-5)
    assert abs(split[0]["loss_contrastive"] - whole[0]["loss_contrastive"]) > 0.1


def test_constants_equal_the_live_embeddings_under_dropout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worst = []

    def compare(self: ContrastivePool, embeddings: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if self._live is not None:
            constants = self._constants[self._live][self._calls]
            worst.extend((constants[name] - value).abs().max().item() for name, value in embeddings.items())
        return original(self, embeddings)

    original = ContrastivePool._pool
    monkeypatch.setattr(ContrastivePool, "_pool", compare)
    arguments = {
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "config": {"dropout": 0.5},
    }
    first, first_weights = run(tmp_path / "a", **arguments)
    assert len(worst) == 6 * 2 * 2  # steps, micro-batches, embeddings
    assert max(worst) == 0
    second, second_weights = run(tmp_path / "b", **arguments)
    assert [row["loss"] for row in first] == [row["loss"] for row in second]
    assert all(torch.equal(first_weights[name], second_weights[name]) for name in first_weights)


def test_gradient_under_dropout_equals_autograd_through_all_micro_batches() -> None:
    torch.manual_seed(0)
    model = ToyForPreTraining(ToyConfig(dropout=0.5)).double().train()
    batches = [
        {
            "input_values": torch.randn(3, 2, 16, dtype=torch.float64),
            "input_ids": torch.randint(0, 11, (3, 6)),
            "mask_noise": torch.rand(3, 2, 16),
        }
        for _ in range(3)
    ]
    accumulation = ExactAccumulation(model, torch.device("cpu"))
    torch.manual_seed(1)
    with accumulation.installed():
        accumulation.first_pass([lambda batch=batch: model(**batch) for batch in batches])
        for micro, batch in enumerate(batches):
            with accumulation.live(micro):
                (model(**batch).loss / len(batches)).backward()
    gradients = {name: value.grad.clone() for name, value in model.named_parameters()}

    # The same three passes in one graph: each returns its embeddings through a pool that waits for all.
    model.zero_grad()
    torch.manual_seed(1)
    parts, reconstruction = [], []
    for batch in batches:
        model.pool_embeddings = lambda embeddings: parts.append(embeddings) or embeddings
        reconstruction.append(model(**batch).loss_terms["reconstruction"])
    ecg, text = (torch.cat([part[name] for part in parts]) for name in ("ecg", "text"))
    logits = ecg @ text.T * model.logit_scale.exp()
    target = torch.arange(len(logits))
    cross_entropy = torch.nn.functional.cross_entropy
    contrastive = (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
    (contrastive + torch.stack(reconstruction).mean()).backward()
    for name, value in model.named_parameters():
        torch.testing.assert_close(gradients[name], value.grad, rtol=1e-10, atol=1e-12)


def test_buffers_are_updated_once_and_the_pool_is_put_back(tmp_path: Path) -> None:
    trainer = toy_trainer(
        tmp_path,
        max_steps=3,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        config={"batch_norm": True},
    )
    pool = trainer.model.pool_embeddings
    trainer.train()
    assert trainer.model.norm.num_batches_tracked.item() == 6
    assert trainer.model.pool_embeddings is pool


def test_model_without_contrastive_loss_pays_for_one_first_pass_only(tmp_path: Path) -> None:
    trainer = toy_trainer(
        tmp_path,
        max_steps=4,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        config={"contrastive": False},
        ddp_find_unused_parameters=True,
    )
    calls = []
    trainer.model.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    trainer.train()
    assert calls.count(True) == 8
    assert calls.count(False) == 2
