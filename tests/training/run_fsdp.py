"""``run_fsdp.py METHODS DATASET OUTPUT JSON``: as ``run_pretrain.py``, divided with FSDP2 on CPU processes (gloo).

accelerate turns to FSDP on accelerators only. This lets it take CPU processes for GPUs at the one place where it
decides; everything after that is the road a run on GPUs takes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState, DistributedType, PartialState
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

from ecg_hf.training import pretrain


def take_processes_for_gpus() -> None:
    real = AcceleratorState.__init__

    def initialise(self: AcceleratorState, *arguments: Any, **options: Any) -> None:
        state = PartialState._shared_state
        if state.get("distributed_type") == DistributedType.MULTI_CPU:
            state["distributed_type"] = DistributedType.MULTI_GPU
        real(self, *arguments, **options)

    AcceleratorState.__init__ = initialise


class IsSharded(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        parameters = dict(kwargs["model"].named_parameters())
        assert all(isinstance(value, DTensor) for value in parameters.values())
        assert any(value.to_local().numel() < value.numel() for value in parameters.values())


if __name__ == "__main__":
    torch.set_num_threads(1)
    take_processes_for_gpus()
    for method in sys.argv[1].split(","):
        options = json.loads(sys.argv[4])
        pretrain(method, sys.argv[2], Path(sys.argv[3], method), callbacks=[IsSharded()], **options)
