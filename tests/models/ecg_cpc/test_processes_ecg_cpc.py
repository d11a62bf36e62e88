"""Two processes (gloo) with half of the rows each train as one process with all of them."""

from pathlib import Path

import pytest
import torch
from torch import distributed
from torch.multiprocessing import spawn
from torch.nn.parallel import DistributedDataParallel

from ecg_hf.models.ecg_cpc.configuration_ecg_cpc import EcgCpcConfig
from ecg_hf.models.ecg_cpc.modeling_ecg_cpc import EcgCpcForPreTraining

ROWS, STEPS = 8, 4


def train(rank: int, world_size: int) -> tuple[list[float], dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    model = EcgCpcForPreTraining(EcgCpcConfig.preset("micro")).train()
    wrapped = DistributedDataParallel(model) if world_size > 1 else model
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    data = torch.Generator().manual_seed(1)
    own = slice(rank * ROWS // world_size, (rank + 1) * ROWS // world_size)
    losses = []
    for step in range(STEPS):
        values = torch.randn(ROWS, 12, 1000, generator=data)
        noise = model.draw_noise({"input_values": values}, torch.Generator().manual_seed(step))
        loss = wrapped(values[own], **{name: value[own] for name, value in noise.items()}).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if world_size > 1:
            distributed.all_reduce(loss := loss.detach())
        losses.append(loss.item() / world_size)
    return losses, model.state_dict()


def worker(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    result = train(rank, 2)
    if rank == 0:
        torch.save(result, f"{folder}/result.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path):
    spawn(worker, (str(tmp_path),), nprocs=2)
    losses, weights = torch.load(tmp_path / "result.pt")
    expected_losses, expected = train(0, 1)
    assert losses == pytest.approx(expected_losses, rel=1e-5)
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value, rtol=1e-4, atol=1e-6, msg=name)
    assert expected_losses[-1] < expected_losses[0]
