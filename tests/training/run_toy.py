"""Trains the toy model in a process of its own: ``run_toy.py OUTPUT JSON``; may kill itself on the way."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from safetensors.torch import save_file
from toy_pretraining import toy_trainer, training_losses
from transformers import TrainerCallback


class Kill(TrainerCallback):
    """SIGKILL at the end of a step: no handler, no flush, no goodbye."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    output, options = Path(sys.argv[1]), json.loads(sys.argv[2])
    kill_at, kill_in_save = options.pop("kill_at", None), options.pop("kill_in_save", None)
    resume = options.pop("resume", False)
    trainer = toy_trainer(output, **options)
    if kill_at:
        trainer.add_callback(Kill(kill_at))
    if kill_in_save:
        save_optimizer = trainer._save_optimizer_and_scheduler

        def die(folder: str) -> None:
            save_optimizer(folder)
            if trainer.state.global_step == kill_in_save:
                half = Path(folder, "optimizer.pt")
                os.truncate(half, half.stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)

        trainer._save_optimizer_and_scheduler = die
    trainer.train(resume_from_checkpoint=resume)
    if trainer.is_world_process_zero():
        save_file(dict(trainer.model.state_dict()), output / "weights.safetensors")
        (output / "losses.json").write_text(json.dumps(training_losses(trainer)))


if __name__ == "__main__":
    main()
