"""Batch norm over two processes (gloo) equals batch norm over all rows in one."""

from pathlib import Path

import pytest
import torch
from torch import distributed
from torch.multiprocessing import spawn

from ecg_hf.nn.normalization import GlobalBatchNorm1d, PoolBatchNorm1d

CUT = 5  # rows of the first process; the second has the other three
SHAPES = [(8, 6, 10), (8, 6)]


def inputs(shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator) * 3 + 5, torch.randn(shape, generator=generator)


def run(norm: GlobalBatchNorm1d, values: torch.Tensor, weights: torch.Tensor) -> dict[str, torch.Tensor]:
    values = values.clone().requires_grad_()
    output = norm(values)
    (output.square() * weights).sum().backward()
    return {
        "output": output.detach(),
        "input_grad": values.grad,
        "weight_grad": norm.weight.grad,
        "bias_grad": norm.bias.grad,
        **norm.state_dict(),
    }


def worker(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    rows = slice(0, CUT) if rank == 0 else slice(CUT, None)
    results = []
    for shape in SHAPES:
        values, weights = inputs(shape)
        results.append(run(GlobalBatchNorm1d(6), values[rows], weights[rows]))
    torch.save(results, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path):
    spawn(worker, (str(tmp_path),), nprocs=2)
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    for shape, first, second in zip(SHAPES, *parts, strict=True):
        whole = run(GlobalBatchNorm1d(6), *inputs(shape))
        for name in ("output", "input_grad"):
            torch.testing.assert_close(
                torch.cat([first[name], second[name]]), whole[name], rtol=1e-5, atol=1e-5
            )
        for name in ("weight_grad", "bias_grad"):
            torch.testing.assert_close(first[name] + second[name], whole[name], rtol=1e-5, atol=1e-4)
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            assert torch.equal(first[name], second[name])
            torch.testing.assert_close(first[name], whole[name], rtol=1e-5, atol=1e-6)


def test_alone_it_is_batch_norm():
    values, _ = inputs((8, 6, 10))
    ours, theirs = GlobalBatchNorm1d(6), torch.nn.BatchNorm1d(6)
    assert torch.equal(ours(values), theirs(values))
    assert torch.equal(ours.eval()(values), theirs.eval()(values))
    assert ours.state_dict().keys() == theirs.state_dict().keys()


def test_a_teachers_norm_goes_by_the_batch_although_frozen():
    values, _ = inputs(SHAPES[0])
    frozen, teacher = GlobalBatchNorm1d(6), GlobalBatchNorm1d(6)
    for norm in (frozen, teacher):
        norm.requires_grad_(False)
    teacher.of_teacher = True
    torch.testing.assert_close(teacher(values), torch.nn.BatchNorm1d(6)(values))
    assert not torch.allclose(teacher(values), frozen(values), atol=0.1)
    torch.testing.assert_close(teacher.eval()(values).std(), values.std(), rtol=0.5, atol=0)


@pytest.mark.parametrize("affine", [True, False])
def test_a_pools_norm_goes_by_its_rows_and_takes_a_single_one(affine: bool):
    values, _ = inputs(SHAPES[1])
    norm = PoolBatchNorm1d(6, affine=affine)
    expected = torch.nn.BatchNorm1d(6)(values)
    for mode in (True, False):
        torch.testing.assert_close(norm.train(mode)(values), expected)
    assert list(norm.buffers()) == []
    assert norm(values[:1]).tolist() == [[0.0] * 6]
