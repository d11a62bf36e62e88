"""Does training depend on the number of processes? The same global batches on 1, 2 and 4 CPU processes (gloo).

    python benchmarks/bench_processes.py                       # every method of the registry, 1, 2 and 4 processes
    python benchmarks/bench_processes.py --methods cg-dmer --processes 1,2 --steps 4

Every method trains its smallest preset with its own trainer, a learning rate at which weights move, no clipping,
and SGD: Adam's first step has the size of the learning rate whatever the gradient's, which would hide a wrong scale.
Columns:

* loss, grad norm: largest relative difference from one process over all steps, all loss terms included;
* weights: distance of the final weights from those of one process, relative to the way training has gone;
* ranks: largest difference of any parameter or buffer between two processes; must be 0;
* teacher: the same for parameters that are not trained (0 where there are none: see the count).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

GLOBAL_BATCH = 16
RECORDS = 100


def worker(dataset: Path, output: Path, methods: list[str], steps: int) -> None:
    """Train each method; runs in every process. Rank 0 leaves ``<method>.json`` and ``<method>.safetensors``."""
    import torch
    from safetensors.torch import save_file
    from torch import distributed
    from transformers import TrainerCallback

    from ecg_hf.training import pretrain, read_training_log

    torch.set_num_threads(1)
    world = int(os.environ.get("WORLD_SIZE", "1"))

    class Keep(TrainerCallback):
        """The model before and after."""

        model: Any = None
        before: dict[str, torch.Tensor]

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.model = kwargs["model"]
            self.before = {name: value.clone() for name, value in self.model.state_dict().items()}

    for method in methods:
        keep = Keep()
        pretrain(
            method,
            dataset,
            output / f"run-{method}",
            callbacks=[keep],
            max_steps=steps,
            per_device_train_batch_size=GLOBAL_BATCH // world,
            optim="sgd",
            learning_rate=1e-2,
            lr_scheduler_type="constant",
            max_grad_norm=1e9,
            logging_steps=1,
            save_strategy="no",
            eval_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
        )
        state = keep.model.state_dict()
        frozen = {name for name, value in keep.model.named_parameters() if not value.requires_grad}
        apart = dict.fromkeys(state, 0.0)
        if world > 1:
            for name, value in state.items():
                copies = [torch.empty_like(value) for _ in range(world)]
                distributed.all_gather(copies, value.contiguous())
                apart[name] = max(float((copy.double() - copies[0].double()).abs().max()) for copy in copies)
        if int(os.environ.get("RANK", "0")) == 0:
            rows = read_training_log(output / f"run-{method}")
            account = {
                "steps": [row for row in rows if row["kind"] == "training"],
                "apart": max(apart.values()),
                "teacher_apart": max((apart[name] for name in frozen), default=0.0),
                "frozen": len(frozen),
                "teacher_moved": max(
                    (float((state[name] - keep.before[name]).abs().max()) for name in frozen), default=0.0
                ),
            }
            (output / f"{method}.json").write_text(json.dumps(account))
            save_file(
                {name: value.contiguous() for name, value in state.items()}, output / f"{method}.safetensors"
            )
            save_file(
                {name: value.contiguous() for name, value in keep.before.items()},
                output / f"{method}.before.safetensors",
            )


def launch(processes: int, dataset: Path, output: Path, methods: list[str], steps: int) -> None:
    """Run :func:`worker` in several processes."""
    output.mkdir(parents=True)
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command += [
        __file__,
        "--worker",
        str(dataset),
        str(output),
        "--methods",
        ",".join(methods),
        "--steps",
        str(steps),
    ]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{processes} processes failed:\n{done.stderr[-4000:]}")


def compare(method: str, one: Path, many: Path) -> dict[str, float]:
    """Differences of a run from that with one process."""
    from safetensors.torch import load_file

    first, other = (json.loads((folder / f"{method}.json").read_text()) for folder in (one, many))
    assert len(first["steps"]) == len(other["steps"]) > 0

    def relative(names: list[str]) -> float:
        pairs = zip(first["steps"], other["steps"], strict=True)
        # Not of less than a tenth: a loss of cosines starts near 0.
        return max(abs(b[name] - a[name]) / max(abs(a[name]), 0.1) for a, b in pairs for name in names)

    terms = [name for name in first["steps"][0] if name.startswith("loss")]
    before, ours, theirs = (
        load_file(path)
        for path in (
            one / f"{method}.before.safetensors",
            one / f"{method}.safetensors",
            many / f"{method}.safetensors",
        )
    )
    way = sum(float((ours[name].double() - before[name].double()).square().sum()) for name in ours)
    off = sum(float((theirs[name].double() - ours[name].double()).square().sum()) for name in ours)
    return {
        "loss": relative(terms),
        "grad_norm": relative(["grad_norm"]),
        "weights": (off / way) ** 0.5,
        "ranks": other["apart"],
        "teacher": other["teacher_apart"],
        "frozen": other["frozen"],
        "teacher_moved": other["teacher_moved"],
    }


def measure(methods: list[str], processes: list[int], steps: int, folder: Path) -> list[dict[str, Any]]:
    """One row per method and number of processes above one."""
    from ecg_hf.data import build_dataset

    dataset = folder / "dataset"
    build_dataset("synthetic", None, dataset, records=RECORDS, progress=False)
    for count in sorted({1, *processes}):
        launch(count, dataset, folder / str(count), methods, steps)
    return [
        {"method": method, "processes": count, **compare(method, folder / "1", folder / str(count))}
        for method in methods
        for count in processes
        if count > 1
    ]


def main() -> None:
    """Print the table, or rows as JSON."""
    from ecg_hf.models.registry import PRETRAINABLE

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--methods", default=",".join(PRETRAINABLE))
    parser.add_argument("--processes", default="1,2,4")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", nargs=2, type=Path, metavar=("DATASET", "OUTPUT"))
    arguments = parser.parse_args()
    methods = arguments.methods.split(",")
    if arguments.worker:
        worker(*arguments.worker, methods, arguments.steps)
        return
    with tempfile.TemporaryDirectory() as folder:
        counts = [int(count) for count in arguments.processes.split(",")]
        rows = measure(methods, counts, arguments.steps, Path(folder))
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    print("| method | processes | loss | grad norm | weights | ranks | teacher (frozen tensors) |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        values = " | ".join(
            f"{row[name]:.1e}" for name in ("loss", "grad_norm", "weights", "ranks", "teacher")
        )
        print(f"| {row['method']} | {row['processes']} | {values} ({row['frozen']}) |")


if __name__ == "__main__":
    main()
