"""Whether a run about to start will fit: the memory part of a plan, from shapes alone."""

from __future__ import annotations

import logging

from ecg_hf.errors import ConfigurationError
from ecg_hf.planning.memory import PROCESS_BYTES, StoredRecords, static_memory
from ecg_hf.planning.samples import sample_inputs
from ecg_hf.planning.settings import PlannedRun, plan_settings
from ecg_hf.planning.tracing import StepMemory, meta_model, trace_memory
from ecg_hf.training.arguments import EcgPreTrainingArguments
from ecg_hf.training.machine import memory_bytes
from ecg_hf.training.settings import RunSettings, precision_of

__all__ = ["memory_needed", "peak_bytes", "warn_if_too_large"]

logger = logging.getLogger(__name__)


def peak_bytes(run: PlannedRun, step: StepMemory) -> int:
    """Most memory one device takes at a time; on a processor, that of the whole process.

    Args:
        run: The run.
        step: What a micro-batch of it takes.
    """
    static = static_memory(meta_model(run), run.gpus)
    lasting = static.weights + static.optimizer + static.communication
    return lasting + step.inputs + step.peak + (0 if run.accelerator else PROCESS_BYTES)


def memory_needed(asked: RunSettings, arguments: EcgPreTrainingArguments) -> int | None:
    """Peak memory of a run in bytes, or None where no plan can be made, for instance for other optimisers.

    Args:
        asked: What the run is asked for.
        arguments: Its training arguments.
    """
    on_gpu = arguments.device.type == "cuda"
    values = {"bf16": arguments.bf16, "fp16": arguments.fp16}
    try:
        run = plan_settings(
            asked,
            gpus=arguments.world_size,
            precision=precision_of(values, bf16_by_default=False),
            accelerator=on_gpu,
        )
        inputs = sample_inputs(run, StoredRecords(), records=2)
        return peak_bytes(run, trace_memory(run, inputs, checkpointing=run.checkpointing))
    except (ConfigurationError, NotImplementedError, RuntimeError) as error:
        # An estimate that can't be made is no reason not to train.
        logger.info("the run's memory was not estimated: %s", error)
        return None


def warn_if_too_large(asked: RunSettings, arguments: EcgPreTrainingArguments) -> None:
    """Log a warning before the first step of a run that will probably not fit; takes a second or two.

    Args:
        asked: What the run is asked for.
        arguments: Its training arguments.
    """
    needed = memory_needed(asked, arguments)
    there = memory_bytes(arguments.device)
    if needed is not None and needed > there:
        logger.warning(
            "this run will take about %.1f GiB, more than the %.1f GiB of this machine: lower "
            "--per-device-train-batch-size (now %d; --gradient-accumulation-steps makes up for it), take a smaller "
            "--size, or try --gradient-checkpointing",
            needed / 2**30,
            there / 2**30,
            arguments.per_device_train_batch_size,
        )
