"""Two processes (gloo) with half of the records each do what one process does with all of them."""

from pathlib import Path

import pytest
import torch
from torch import distributed
from torch.multiprocessing import spawn

from ecg_hf.models.acl_ecg.configuration_acl_ecg import AclEcgConfig
from ecg_hf.models.acl_ecg.modeling_acl_ecg import AclEcgForPreTraining

ROWS = 8


def loss_and_gradients(rows: slice, with_mask: bool) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    model = AclEcgForPreTraining(AclEcgConfig.preset("micro")).train()
    values = torch.randn(ROWS, 8, 1000).cumsum(-1) / 10
    noise = model.draw_noise({"input_values": values}, torch.Generator().manual_seed(1))
    inputs = {name: value[rows] for name, value in {"input_values": values, **noise}.items()}
    if with_mask:
        mask = torch.ones(ROWS, 8)
        mask[1, :2] = 0
        inputs["lead_mask"] = mask[rows]
    loss = model(**inputs).loss
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters()}


def worker(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    rows = slice(0, ROWS // 2) if rank == 0 else slice(ROWS // 2, None)
    # Only one process has a lead mask, as when only its records lack a lead: both must still do the same.
    torch.save(loss_and_gradients(rows, with_mask=rank == 0), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path):
    spawn(worker, (str(tmp_path),), nprocs=2)
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    loss, gradients = loss_and_gradients(slice(None), with_mask=True)
    scale = max(gradient.abs().max() for gradient in gradients.values())
    for own, _ in parts:
        torch.testing.assert_close(own, loss)
    for name, gradient in gradients.items():
        mean = (parts[0][1][name] + parts[1][1][name]) / 2
        torch.testing.assert_close(mean, gradient, rtol=1e-3, atol=1e-4 * float(scale), msg=name)
