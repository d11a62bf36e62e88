"""``ecg-hf plan``: what a pretraining run will take, before machines are rented for it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from ecg_hf.cli.loading import resolve_device
from ecg_hf.cli.output import echo, print_json, quiet_libraries
from ecg_hf.cli.pretrain import (
    PASS_THROUGH,
    Method,
    Normalization,
    Size,
    TextModel,
    Variant,
    parse_overrides,
)
from ecg_hf.errors import ConfigurationError

__all__ = ["PASS_THROUGH", "plan_command"]


class PrecisionName(StrEnum):
    """Arithmetic of the forward pass."""

    bf16 = "bf16"
    fp16 = "fp16"
    fp32 = "fp32"


def plan_command(
    context: typer.Context,
    model: Method,
    dataset_size: Annotated[
        int, typer.Option("--dataset-size", "--records", min=1, help="Training records.")
    ],
    gpus: Annotated[
        int | None,
        typer.Option(
            min=1, help="GPUs, one process each. Without this and --card, this machine is planned for."
        ),
    ] = None,
    size: Size = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="A recipe of the package, or a YAML file; as in 'ecg-hf pretrain', none if not given."
        ),
    ] = None,
    variant: Variant = None,
    text_model: TextModel = None,
    normalization: Normalization = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Records per device and micro-batch, instead of the recipe's.")
    ] = None,
    precision: Annotated[PrecisionName | None, typer.Option(help="Instead of the recipe's.")] = None,
    card: Annotated[str | None, typer.Option(help="Planned GPU: h100, h200, a100-80gb ... (h100)")] = None,
    device_tflops: Annotated[
        float | None, typer.Option(help="Its dense peak in the run's precision, instead of the data sheet's.")
    ] = None,
    mfu: Annotated[
        float | None, typer.Option(help="Share of the peak the model's operations reach (0.4).")
    ] = None,
    text_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of the longest report in a batch; the model's limit.")
    ] = None,
    record_rate: Annotated[float, typer.Option(help="Hertz of the stored recordings.")] = 500.0,
    record_seconds: Annotated[float, typer.Option(help="Their length.")] = 10.0,
    record_leads: Annotated[int, typer.Option(min=1, help="Their leads.")] = 12,
    device: Annotated[
        str | None, typer.Option(help="Where the step is measured; a GPU if there is one.")
    ] = None,
    measured_records: Annotated[
        int | None, typer.Option(min=2, help="Records of the measured step; few on a CPU, else the batch.")
    ] = None,
    measured_steps: Annotated[int, typer.Option(min=1, help="Steps to time.")] = 3,
    nodes: Annotated[
        int | None,
        typer.Option(min=1, help="Also plan download, build, embed and evaluate, on so many machines."),
    ] = None,
    cores: Annotated[int | None, typer.Option(min=1, help="Of each node; as many as here.")] = None,
    download_mbit: Annotated[
        float | None,
        typer.Option(help="Mbit/s to where the recordings come from, of all nodes together (1000)."),
    ] = None,
    storage_mbit: Annotated[
        float | None, typer.Option(help="Mbit/s from each node to shared storage (10000).")
    ] = None,
    benchmark_records: Annotated[
        int | None, typer.Option(min=1, help="Records that are evaluated (PTB-XL's 21799).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Say what a pretraining run will take: parameters, operations, memory, time, disk.

    Any training argument and any field of the model's configuration is an option too, as in 'ecg-hf pretrain': with
    the same options, the plan is that of the same run. With --nodes, every stage from download to evaluation is
    planned, from rates that a few hundred synthetic records measure here.
    """
    training, options = parse_overrides(context.args, model)
    if variant is not None:
        options["variant"] = variant
    quiet_libraries()
    from ecg_hf.planning import (
        Assumptions,
        Machines,
        StoredRecords,
        make_plan,
        measure_stages,
        plan_lines,
        plan_stages,
        planned_run,
        stage_lines,
        stages_to_dict,
    )

    given: dict[str, Any] = {"cores": cores, "download_mbit": download_mbit, "storage_mbit": storage_mbit}
    given = {k: v for k, v in {**given, "benchmark_records": benchmark_records}.items() if v is not None}
    if given and nodes is None:
        raise ConfigurationError(f"--{next(iter(given)).replace('_', '-')} needs --nodes")
    machines = None if nodes is None else Machines(nodes, **given)
    place = resolve_device(device)
    elsewhere = any(value is not None for value in (gpus, card, device_tflops, mfu))
    run = planned_run(
        model,
        size=size,
        recipe=recipe,
        gpus=gpus or 1,
        accelerator=elsewhere or place != "cpu",
        batch_size=batch_size,
        precision=None if precision is None else precision.value,
        model_options=options,
        extractor_options={} if normalization is None else {"normalization": normalization},
        text_model=text_model,
        training_options=training,
    )
    assumptions = Assumptions(
        card=card,
        device_tflops=device_tflops,
        mfu=mfu,
        stored=StoredRecords(record_rate, record_seconds, record_leads),
        text_tokens=text_tokens,
    )
    plan = make_plan(
        run,
        dataset_size,
        assumptions=assumptions,
        device=place,
        measured_records=measured_records,
        measured_steps=measured_steps,
    )
    content, lines = plan.to_dict(), plan_lines(plan)
    if machines is not None:
        measured = measure_stages(run, assumptions.stored, device=place)
        stages = plan_stages(plan, machines, measured)
        content |= stages_to_dict(stages, machines, measured)
        lines += stage_lines(stages, machines, measured)
    if as_json:
        print_json(content)
    else:
        echo("\n".join(lines))
