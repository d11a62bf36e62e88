"""The Trainer every pretraining method uses.

A thin layer over ``transformers.Trainer``: noise that depends on the step alone, exact accumulation for
contrastive losses, a log of every loss term, and resuming from checkpoints that are known to be whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import Trainer
from transformers.trainer_utils import EvalLoopOutput, TrainOutput
from transformers.utils import logging as library_logging

from ecg_hf.errors import ConfigurationError
from ecg_hf.training.accumulation import ExactAccumulation
from ecg_hf.training.arguments import EcgPreTrainingArguments
from ecg_hf.training.checkpoints import STATE_FILE, discard_incomplete_checkpoints, newest_complete_checkpoint
from ecg_hf.training.loss_terms import RunningMeans, reported_values
from ecg_hf.training.noise import StepRows, draw_noise_rows
from ecg_hf.training.training_log import TrainingLog

__all__ = ["EcgPreTrainer"]

Batch = dict[str, Any]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's progress bars: one for each file of each checkpoint, across ours."""
    enabled = library_logging.is_progress_bar_enabled()
    library_logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            library_logging.enable_progress_bar()


@dataclass
class _OptimizerStep:
    """The micro-batches of the optimiser step under way, and which of them is live."""

    batches: list[Batch]
    rows: StepRows
    micro: int = -1


class EcgPreTrainer(Trainer):
    """Pretrains any model that follows :class:`ecg_hf.models.modeling.EcgForPreTraining`.

    Use it as a ``Trainer``: ``EcgPreTrainer(model, args, data_collator=..., train_dataset=...,
    processing_class=...)``. What it adds:

    * **Noise.** ``model.draw_noise`` is called in each step with a generator seeded by (seed, step), for all
      rows of the step on all processes; each takes its own. Losses do not depend on how the same rows are
      spread over processes and micro-batches, and a resumed run continues bit for bit. Evaluation seeds by
      batch index, so that its losses are comparable over time.
    * **Exact accumulation**, see :mod:`ecg_hf.training.accumulation`.
    * **Logs.** Every loss term (``loss_<name>``) and metric of the model's output, as means since the last log
      over steps and processes; ``eval_loss_<name>`` in evaluation. Also in ``training_log.jsonl``.
    * **Resuming.** ``train(resume_from_checkpoint=True)`` takes the newest complete checkpoint and removes
      incomplete ones.

    Methods override :meth:`parameter_groups` for learning rates of their own.
    """

    args: EcgPreTrainingArguments
    # Losses are means over the micro-batch: the trainer divides by the number of micro-batches (read by
    # transformers >= 5.23; before, ``accepts_loss_kwargs = False`` on the model says the same).
    loss_is_scaled_for_ga = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not isinstance(self.args, EcgPreTrainingArguments):
            raise ConfigurationError(
                f"{type(self).__name__} needs EcgPreTrainingArguments", value=type(self.args)
            )
        if self.args.n_gpu > 1:
            raise ConfigurationError(
                "several GPUs in one process are not supported: start one process per GPU with torchrun",
                value=self.args.n_gpu,
            )
        self._step: _OptimizerStep | None = None
        self._accumulation: ExactAccumulation | None = None
        self._has_contrastive_loss = True  # until a first pass shows otherwise
        self._train_means = RunningMeans()
        self._eval_means = RunningMeans()
        self._eval_batch = -1
        self.add_callback(TrainingLog())

    # Optimiser -----------------------------------------------------------------------------------------------

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Optimiser groups: weight decay on matrices, none on biases, norms and scalars. Override for more.

        Args:
            model: Model to train.
        """
        decaying = set(self.get_decay_parameter_names(model))
        groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                groups[name in decaying and parameter.ndim > 1].append(parameter)
        return [
            {"params": groups[True], "weight_decay": self.args.weight_decay},
            {"params": groups[False], "weight_decay": 0.0},
        ]

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The optimiser of ``args.optim`` over :meth:`parameter_groups`."""
        if getattr(self, "optimizer", None) is None:
            target = self.model if model is None else model
            kind, options = self.optimizer_cls_and_kwargs or self.get_optimizer_cls_and_kwargs(
                self.args, target
            )
            groups = [group for group in self.parameter_groups(target) if group["params"]]
            self.optimizer: torch.optim.Optimizer = kind(groups, **options)
        return self.optimizer

    # One optimiser step --------------------------------------------------------------------------------------

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], Tensor | int | None]:
        """Fetch the micro-batches of the next optimiser step, and remember them."""
        batches, num_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        rows = StepRows(tuple(map(self._rows, batches)), self.args.world_size, self.args.process_index)
        self._step = _OptimizerStep(batches, rows)
        return batches, num_items

    def training_step(
        self, model: nn.Module, inputs: Batch, num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Forward and backward of one micro-batch; before the first, the pass without gradient over all."""
        step = self._step
        if step is None:
            raise ConfigurationError("training_step belongs into Trainer.train: no batches were fetched")
        step.micro += 1
        if step.micro == 0:
            self._accumulation = self._new_accumulation(step)
            if self._accumulation is not None:
                model.train()
                forwards = [partial(self._forward, model, micro) for micro in range(len(step.batches))]
                with self._accumulation.installed():
                    self._accumulation.first_pass(forwards)
                self._has_contrastive_loss = self._accumulation.needed
        if self._accumulation is None:
            loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        else:
            with self._accumulation.installed(), self._accumulation.live(step.micro):
                loss = super().training_step(model, inputs, num_items_in_batch)
        return loss

    def _new_accumulation(self, step: _OptimizerStep) -> ExactAccumulation | None:
        if len(step.batches) == 1 or not self.args.exact_accumulation or not self._has_contrastive_loss:
            return None
        bare = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        return ExactAccumulation(bare, self.args.device) if ExactAccumulation.supports(bare) else None

    def _forward(self, model: nn.Module, micro: int) -> None:
        assert self._step is not None
        inputs = self._prepare_inputs(self._step.batches[micro])
        with self.compute_loss_context_manager():
            model(**inputs, **self._noise(inputs, self._step.rows, micro, "train", self.state.global_step))

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """Loss of one micro-batch, with its noise; notes the loss terms."""
        rows = self._rows(inputs)
        if model.training and self._step is not None:
            noise = self._noise(inputs, self._step.rows, self._step.micro, "train", self.state.global_step)
        else:
            layout = StepRows((rows,), self.args.world_size, self.args.process_index)
            noise = self._noise(inputs, layout, 0, "evaluation", self._eval_batch)
        loss, outputs = super().compute_loss(
            model, {**inputs, **noise}, return_outputs=True, num_items_in_batch=num_items_in_batch
        )
        if isinstance(outputs, Mapping):
            means = self._train_means if model.training else self._eval_means
            means.update(reported_values(outputs), weight=rows)
        return (loss, outputs) if return_outputs else loss

    def _noise(self, inputs: Batch, rows: StepRows, micro: int, *position: int | str) -> dict[str, Tensor]:
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        if not hasattr(model, "draw_noise"):
            return {}
        return draw_noise_rows(model, inputs, rows, micro, self.args.device, (self.args.seed, *position))

    def _rows(self, inputs: Batch) -> int:
        name = getattr(self.model, "main_input_name", "input_values")
        return len(inputs[name])

    def floating_point_ops(self, inputs: Batch) -> int:
        """Not counted: the library's formula takes each sample of the signal for a token."""
        return 0

    # Evaluation ----------------------------------------------------------------------------------------------

    def get_eval_dataloader(self, eval_dataset: str | Dataset[Any] | None = None) -> DataLoader[Any]:
        """As the library's, but never dropping the last batch: evaluation covers every record."""
        drop_last, self.args.dataloader_drop_last = self.args.dataloader_drop_last, False
        try:
            loader: DataLoader[Any] = super().get_eval_dataloader(eval_dataset)
        finally:
            self.args.dataloader_drop_last = drop_last
        return loader

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """As the library's, with the means of all loss terms among the metrics."""
        self._eval_means.reset()
        self._eval_batch = -1
        result = super().evaluation_loop(
            dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
        )
        for name, value in self._eval_means.drain(self._sum_across_processes).items():
            result.metrics[f"{metric_key_prefix}_{name}"] = value
        return result

    def prediction_step(
        self,
        model: nn.Module,
        inputs: Batch,
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor | None, Any, Any]:
        """As the library's; counts batches, which seed the noise."""
        self._eval_batch += 1
        ignored = [*(ignore_keys or ()), "loss_terms", "metrics"]
        step: tuple[Tensor | None, Any, Any] = super().prediction_step(
            model, inputs, prediction_loss_only, ignored
        )
        return step

    # Logs ----------------------------------------------------------------------------------------------------

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, adding the loss terms to training logs."""
        if "loss" in logs:
            logs.update(self._train_means.drain(self._sum_across_processes))
        logs.pop("total_flos", None)  # always 0, see floating_point_ops
        super().log(logs, start_time)

    @property
    def _sum_across_processes(self) -> Callable[[Tensor], Tensor]:
        return partial(self.accelerator.reduce, reduction="sum")

    # Checkpoints ---------------------------------------------------------------------------------------------

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Train; with ``resume_from_checkpoint=True``, from the newest complete checkpoint.

        Raises:
            ConfigurationError: There is no complete checkpoint to resume from.
        """
        self._train_means.reset()
        if isinstance(resume_from_checkpoint, bool) and resume_from_checkpoint:
            if self.is_world_process_zero():
                discard_incomplete_checkpoints(self.args.output_dir)
            self.accelerator.wait_for_everyone()
            newest = newest_complete_checkpoint(self.args.output_dir)
            if newest is None:
                raise ConfigurationError("no complete checkpoint to resume from", value=self.args.output_dir)
            resume_from_checkpoint = str(newest)
        return super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        # Writing over a checkpoint left by an earlier run must not look complete half-way.
        folder = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
        if self.args.should_save:
            (folder / STATE_FILE).unlink(missing_ok=True)
        super()._save_checkpoint(model, trial)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        # Process 0 goes on to write the file that marks the checkpoint complete: not before all are here.
        self.accelerator.wait_for_everyone()

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        with _quiet():
            super()._save(output_dir, state_dict)
        if not self.args.should_save:
            return
        folder = Path(self.args.output_dir if output_dir is None else output_dir)
        # The library pickles the arguments. Nothing reads them back, and a model folder holds no pickles.
        (folder / "training_args.bin").unlink(missing_ok=True)
        (folder / "training_args.json").write_text(self.args.to_json_string() + "\n", encoding="utf-8")
