"""The CPC loss against a loop over records and positions."""

import math

import pytest
import torch

from ecg_hf.nn.losses import cpc_logits, cpc_loss, draw_negatives

BATCH, TOKENS, WIDTH, STEPS, NEGATIVES = 3, 20, 6, 4, 9


def draw(rows: int = BATCH, tokens: int = TOKENS, negatives: int = NEGATIVES) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return draw_negatives(rows, tokens, STEPS, negatives, generator=generator, device=torch.device("cpu"))


def case() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    predictions = torch.randn(BATCH, TOKENS, WIDTH, dtype=torch.float64, requires_grad=True)
    targets = torch.randn(BATCH, TOKENS, WIDTH, dtype=torch.float64, requires_grad=True)
    return predictions, targets, draw()


def naive(predictions: torch.Tensor, targets: torch.Tensor, index: torch.Tensor, lengths: list[int]):
    """The official loop: a sum over positions of the mean over records of the cross entropy."""
    total, correct, count = predictions.new_zeros(()), 0, 0
    for record in range(len(predictions)):
        for position in range(lengths[record] - STEPS):
            candidates = [targets[record, position + STEPS]]
            candidates += [
                targets[record, j] for j in index[record, position].tolist() if j < lengths[record]
            ]
            scores = torch.stack([(predictions[record, position] * c).sum() for c in candidates])
            total = total - scores.log_softmax(0)[0] / len(predictions)
            correct += int(scores.argmax() == 0)
            count += 1
    return total, correct / count


@pytest.mark.parametrize("lengths", [[20, 20, 20], [20, 11, 4]], ids=["full", "padded"])
def test_loss_accuracy_and_gradients_are_those_of_the_loop(lengths: list[int]):
    predictions, targets, index = case()
    mask = torch.arange(TOKENS) < torch.tensor(lengths)[:, None]
    found = cpc_loss(predictions, targets, index, STEPS, None if min(lengths) == TOKENS else mask)
    expected, accuracy = naive(predictions, targets, index, lengths)
    torch.testing.assert_close(found.loss, expected, rtol=1e-12, atol=1e-12)
    assert found.accuracy.item() == pytest.approx(accuracy)
    positions = sum(max(length - STEPS, 0) for length in lengths)
    torch.testing.assert_close(found.mean_loss, found.loss.detach() * BATCH / positions)
    gradients = torch.autograd.grad(found.loss, (predictions, targets))
    wanted = torch.autograd.grad(expected, (predictions, targets))
    torch.testing.assert_close(gradients, wanted, rtol=1e-11, atol=1e-12)
    assert all(gradient.abs().max() > 0.01 for gradient in gradients)


def test_logits_have_the_positive_first():
    predictions, targets, index = case()
    logits = cpc_logits(predictions, targets, index, STEPS)
    assert logits.shape == (BATCH, TOKENS - STEPS, 1 + NEGATIVES)
    torch.testing.assert_close(logits[1, 5, 0], predictions[1, 5] @ targets[1, 5 + STEPS])
    torch.testing.assert_close(logits[1, 5, 3], predictions[1, 5] @ targets[1, index[1, 5, 2]])


def test_negatives_are_uniform_over_all_but_the_positive():
    index = draw(rows=4000, tokens=8, negatives=5)
    assert index.dtype == torch.int64
    for position in range(8 - STEPS):
        shares = torch.bincount(index[:, position].flatten(), minlength=8) / index[:, position].numel()
        expected = torch.full((8,), 1 / 7)
        expected[position + STEPS] = 0.0
        torch.testing.assert_close(shares, expected, rtol=0, atol=0.012)


def test_equal_similarities_give_chance():
    ones = torch.ones(2, TOKENS, WIDTH)
    found = cpc_loss(ones, ones, draw(2), STEPS)
    assert found.loss.item() == pytest.approx((TOKENS - STEPS) * math.log(1 + NEGATIVES), rel=1e-6)
    assert found.mean_loss.item() == pytest.approx(math.log(1 + NEGATIVES), rel=1e-6)


def test_half_precision_is_multiplied_out_in_float32():
    predictions, targets = torch.randn(1, TOKENS, 512).bfloat16(), torch.randn(1, TOKENS, 512).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = cpc_logits(predictions, targets, draw(1), STEPS)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, cpc_logits(predictions.float(), targets.float(), draw(1), STEPS))
