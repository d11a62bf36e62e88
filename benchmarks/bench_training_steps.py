"""Records a second of every method's training step on one core, at its CPU recipe.

A step is what ``ecg-hf plan`` measures: inputs copied, noise and views drawn, forward, backward, AdamW. The data
loader is not in it (``bench_loading.py``). Methods without a CPU recipe train their smallest preset.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from ecg_hf.models.registry import METHODS, PRETRAINABLE
from ecg_hf.planning.measuring import first_step
from ecg_hf.planning.memory import StoredRecords
from ecg_hf.planning.samples import sample_inputs
from ecg_hf.planning.settings import planned_run
from ecg_hf.training.recipe import list_recipes
from rows import Row, measured, operator_headline


def cpu_recipe(method: str) -> str | None:
    """Name of the recipe of a method that is made for processors."""
    names = (METHODS[method].module + "_cpu", METHODS[method].module + "_ptbxl_cpu")
    return next((name for name in names if name in list_recipes()), None)


def rows(quick: bool) -> Iterator[Row]:
    """Every method of the registry that can be pretrained."""
    for method in sorted(PRETRAINABLE):
        recipe = cpu_recipe(method)
        run = planned_run(method, recipe=recipe, accelerator=False)
        inputs = sample_inputs(run, StoredRecords())
        batch = min(run.batch_size, 16) if quick else run.batch_size
        step = first_step(run, inputs, rows=batch, device="cpu", precision="fp32")
        rates = []
        for _ in range(2 if quick else 5):
            start = time.process_time()
            step()
            rates.append(batch / (time.process_time() - start))
        name = f"training step, {method} {run.size}, recipe {recipe or 'none'}, batch {batch}"
        yield measured(name, rates, "records/s", profile=operator_headline(step))
