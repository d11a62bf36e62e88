"""Contrast with quantised tokens, the use of codes and the quantiser against their definitions."""

import math

import pytest
import torch

from ecg_hf.nn.losses.quantized import code_contrast_loss, code_perplexity
from ecg_hf.nn.quantizer import GumbelQuantizer, gumbel_noise


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_contrast_equals_its_definition() -> None:
    predictions, targets = randn(2, 5, 6), randn(2, 5, 6, seed=1)
    codes = torch.tensor([[0, 1, 2, 3, 4], [0, 1, 1, 3, 4]])
    masked = torch.tensor([[True, True, True, False, False], [False, True, True, False, True]])
    index = torch.tensor([[[1, 2], [0, 2], [0, 0], [0, 0], [0, 0]], [[0, 0], [2, 4], [1, 4], [0, 0], [1, 2]]])
    rows = []
    for row in range(2):
        losses = []
        for token in masked[row].nonzero()[:, 0].tolist():

            def score(other: int, row: int = row, token: int = token) -> float:
                cosine = torch.cosine_similarity(predictions[row, token], targets[row, other], dim=0)
                return math.exp(float(cosine) / 0.1)

            # A negative of the own code is none.
            others = [o for o in index[row, token].tolist() if codes[row, o] != codes[row, token]]
            losses.append(-math.log(score(token) / (score(token) + sum(map(score, others)))))
        rows.append(sum(losses) / len(losses))
    found = code_contrast_loss(predictions, targets, codes, masked, index, temperature=0.1)
    assert float(found.loss) == pytest.approx(sum(rows) / 2, rel=1e-5)


def test_a_record_without_pairs_adds_nothing_and_has_no_nan() -> None:
    predictions = randn(2, 4, 3).requires_grad_()
    masked = torch.zeros(2, 4, dtype=torch.bool)
    masked[0, 1] = True
    found = code_contrast_loss(
        predictions,
        randn(2, 4, 3, seed=1),
        torch.zeros(2, 4, dtype=torch.long),
        masked,
        torch.zeros(2, 4, 5, dtype=torch.long),
        temperature=0.1,
    )
    found.loss.backward()
    assert float(found.loss.detach()) == 0.0
    assert not predictions.grad.any()


def test_perplexity_counts_codes() -> None:
    even = torch.full((3, 2, 8), 1 / 8)
    assert float(code_perplexity(even)) == pytest.approx(16.0, rel=1e-4)
    one = torch.zeros(3, 2, 8)
    one[..., 0] = 1.0
    assert float(code_perplexity(one)) == pytest.approx(2.0, rel=1e-4)
    # Each row has one code, all rows together have four: the mean over rows is what counts.
    each = torch.eye(8)[:4, None].expand(4, 2, 8)
    assert float(code_perplexity(each)) == pytest.approx(8.0, rel=1e-4)


def test_the_quantiser_gives_codes_and_a_gradient_of_its_choice() -> None:
    quantizer = GumbelQuantizer(6, groups=2, codes=4, size=10)
    torch.nn.init.normal_(quantizer.codebook)
    features = randn(3, 5, 6)
    noise = gumbel_noise((3, 5, 2, 4), torch.Generator().manual_seed(0), torch.device("cpu"))
    quantized = quantizer(features, noise, 0.7)
    chosen = (quantizer.scores(features).unflatten(-1, (2, 4)) + noise).argmax(-1)
    expected = torch.cat([quantizer.codebook[group, chosen[..., group]] for group in range(2)], dim=-1)
    assert torch.equal(quantized.vectors, expected)
    assert torch.equal(quantized.codes, chosen[..., 0] + 4 * chosen[..., 1])
    quantized.vectors.sum().backward()
    assert quantizer.scores.weight.grad.abs().max() > 0.0
    # Without noise the choice is the most probable code and has no gradient.
    quantizer.zero_grad()
    plain = quantizer(features, None, 0.7)
    assert torch.equal(plain.codes, plain.probabilities.argmax(-1) @ torch.tensor([1, 4]))
    plain.vectors.sum().backward()
    assert quantizer.scores.weight.grad is None
    assert quantizer.codebook.grad.abs().max() > 0.0


def test_gumbel_noise_has_its_mean_and_deviation() -> None:
    noise = gumbel_noise((200_000,), torch.Generator().manual_seed(0), torch.device("cpu"))
    assert float(noise.mean()) == pytest.approx(0.5772, abs=0.01)
    assert float(noise.std()) == pytest.approx(math.pi / math.sqrt(6), abs=0.01)
    assert torch.isfinite(noise).all()
