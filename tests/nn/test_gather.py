"""Rows of two processes (gloo) pooled: values and gradients are those of one process with all rows."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed
from torch.multiprocessing import spawn

from ecg_hf.nn.gather import gather_across_processes

ROWS, WIDTH = 4, 6


def all_rows() -> Tensor:
    return torch.randn(2 * ROWS, WIDTH, generator=torch.Generator().manual_seed(0))


def pool_loss(rows: Tensor) -> Tensor:
    pool = gather_across_processes({"ecg": rows})["ecg"]
    weights = torch.arange(1.0, 2 * ROWS + 1)
    # Transposed: the gradient that arrives is not row-major.
    return (pool.T * weights).square().sum() + (pool @ pool.T).tanh().sum()


def worker(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    own = all_rows()[rank * ROWS : (rank + 1) * ROWS]
    gradients = []
    for loss in (pool_loss, torch.compile(pool_loss, backend="aot_eager", fullgraph=True)):
        rows = own.clone().requires_grad_()
        loss(rows).backward()
        gradients.append(rows.grad)
    with torch.no_grad():
        pool = gather_across_processes({"ecg": own.T.contiguous().T})["ecg"]
    assert not pool.requires_grad
    # A gradient of the gradient is a sum over processes again.
    rows = own.clone().requires_grad_()
    (first,) = torch.autograd.grad(pool_loss(rows), rows, create_graph=True)
    first.square().sum().backward()
    gradients.append(rows.grad)
    torch.save((pool, gradients), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_pool_of_two_processes_has_the_gradients_of_one(tmp_path: Path):
    spawn(worker, (str(tmp_path),), nprocs=2)
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    rows = all_rows().requires_grad_()
    (gradient,) = torch.autograd.grad(pool_loss(rows), rows, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), rows)
    for pool, _ in parts:
        assert torch.equal(pool, rows.detach())
    # Both processes compute the loss over the pool, so that its gradient is twice that of one process (until the mean
    # of DistributedDataParallel), and the squared gradient four times.
    for place, expected in enumerate((2 * gradient, 2 * gradient, 4 * second)):
        found = torch.cat([gradients[place] for _, gradients in parts])
        torch.testing.assert_close(found, expected.detach(), rtol=1e-5, atol=1e-4)


def test_alone_it_is_the_identity():
    rows = all_rows()
    assert gather_across_processes({"ecg": rows})["ecg"] is rows
