"""Whether a run about to start will fit: the memory part of a plan, from shapes alone."""

from __future__ import annotations

from ecg_hf.errors import ConfigurationError
from ecg_hf.planning.memory import PROCESS_BYTES, StoredRecords, static_memory
from ecg_hf.planning.samples import sample_inputs
from ecg_hf.planning.settings import PlannedRun, plan_settings
from ecg_hf.planning.tracing import StepMemory, meta_model, trace_memory
from ecg_hf.training.arguments import EcgPreTrainingArguments
from ecg_hf.training.settings import RunSettings, precision_of

__all__ = ["memory_needed", "peak_bytes"]


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
    except (ConfigurationError, NotImplementedError, RuntimeError):
        # An estimate that can't be made is no reason not to train.
        return None
