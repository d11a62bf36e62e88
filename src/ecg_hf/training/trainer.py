"""The Trainer every pretraining method uses.

A thin layer over ``transformers.Trainer``: noise that depends on the step alone, exact accumulation for
contrastive losses, and a log of every loss term.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput, TrainOutput

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.modeling import EcgForPreTraining
from ecg_hf.training.accumulation import ExactAccumulation
from ecg_hf.training.arguments import EcgPreTrainingArguments
from ecg_hf.training.base import Batch, EcgTrainer
from ecg_hf.training.collapse import CollapseWatch
from ecg_hf.training.step_noise import StepRows, draw_noise_rows
from ecg_hf.training.streams import StreamedEcgDataset, StreamEpochs, stream_loader
from ecg_hf.training.training_log import RunningMeans, reported_values
from ecg_hf.training.weight_average import WeightAverage

__all__ = ["EcgPreTrainer"]


@dataclass
class _OptimizerStep:
    """The micro-batches of the optimiser step under way, and which of them is live."""

    batches: list[Batch]
    rows: StepRows
    micro: int = -1


class _AfterOptimizerStep(TrainerCallback):
    """Tells the model that the optimiser has moved its weights: teachers and averages follow here."""

    def __init__(self, average: WeightAverage | None) -> None:
        self.average = average

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        model = kwargs["model"]
        if hasattr(model, "after_optimizer_step"):
            model.after_optimizer_step(state.global_step, state.max_steps)
        if self.average is not None:
            self.average.update(model, state.global_step + 1)


@contextmanager
def _gathered(model: nn.Module) -> Iterator[None]:
    """Weights that FSDP2 gathers for the outermost forward alone are whole within the context."""
    if not hasattr(model, "unshard"):
        yield
        return
    model.unshard()  # type: ignore[operator]
    try:
        yield
    finally:
        model.reshard()  # type: ignore[operator]


def _overrides(model: nn.Module, method: str) -> bool:
    """Whether a model has more to do there than the base class, which has nothing."""
    own = getattr(type(model), method, None)
    return own is not None and own is not getattr(EcgForPreTraining, method)


class EcgPreTrainer(EcgTrainer):
    """Pretrains any model that follows :class:`ecg_hf.models.modeling.EcgForPreTraining`.

    Use it as a ``Trainer``: ``EcgPreTrainer(model, args, data_collator=..., train_dataset=...,
    processing_class=...)``. What it adds:

    * **Noise.** ``model.draw_noise`` is called in each step with a generator seeded by (seed, step), for all
      rows of the step on all processes; each takes its own. Losses do not depend on how the same rows are
      spread over processes and micro-batches, and a resumed run continues bit for bit. Evaluation seeds by
      batch index, so that its losses are comparable over time.
    * **Exact accumulation**, see :mod:`ecg_hf.training.accumulation`.
    * **Teachers.** ``model.after_optimizer_step(step, total_steps)`` is called once the weights have moved.
    * **Logs.** Every loss term (``loss_<name>``) and metric of the model's output, as means since the last log
      over steps and processes; ``eval_loss_<name>`` in evaluation. Also in ``training_log.jsonl``. A collapse of the
      embeddings is announced, see :mod:`ecg_hf.training.collapse`.

    Methods override :meth:`~ecg_hf.training.base.EcgTrainer.parameter_groups` for learning rates of their own.
    """

    args: EcgPreTrainingArguments

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not isinstance(self.args, EcgPreTrainingArguments):
            raise ConfigurationError(
                f"{type(self).__name__} needs EcgPreTrainingArguments", value=type(self.args)
            )
        if not self.args.exact_accumulation:
            # Accepted for batch norms as for contrastive losses: each micro-batch by itself.
            self.accelerator.unwrap_model(self.model).micro_batch_statistics = True
        self._average: WeightAverage | None = None
        if self.args.weight_average_decay is not None:
            if self.is_fsdp_enabled:
                raise ConfigurationError("weight_average_decay does not work with FSDP's divided weights")
            self._average = WeightAverage(self.model, self.args.weight_average_decay)
        self.add_callback(_AfterOptimizerStep(self._average))
        self.add_callback(StreamEpochs())
        self.add_callback(CollapseWatch())
        self._step: _OptimizerStep | None = None
        self._accumulation: ExactAccumulation | None = None
        self._has_contrastive_loss = True  # until a first pass shows otherwise
        self._train_means = RunningMeans()
        self._eval_means = RunningMeans()
        self._eval_batch = -1

    # Before the first and after the last step -----------------------------------------------------------------

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """See :meth:`EcgTrainer.train`; the model ends with the averaged weights if an average was asked for."""
        self._train_means.reset()
        bare = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        learns = _overrides(bare, "before_training") or getattr(bare, "auxiliary", None) is not None
        if not resume_from_checkpoint and learns:
            bare.before_training(self._batches_in_order())
        result = super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)
        if self._average is not None:
            self._average.copy_to(bare)
            self._average = None
        if _overrides(bare, "after_training"):
            with _gathered(bare):
                bare.after_training(self._batches_in_order())
        return result

    def _batches_in_order(self) -> Iterator[Batch]:
        """Inputs of all training records, in their own order, on this process."""
        if isinstance(self.train_dataset, StreamedEcgDataset):
            batches: Any = stream_loader(self.train_dataset, self.data_collator, self.args)
        else:
            size = self.args.per_device_eval_batch_size
            batches = DataLoader(self.train_dataset, size, shuffle=False, collate_fn=self.data_collator)
        for batch in batches:
            yield self._prepare_inputs(batch)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        if self._average is not None and self.args.should_save:
            folder = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
            folder.mkdir(parents=True, exist_ok=True)
            self._average.save(folder)
        super()._save_checkpoint(model, trial)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self._average is not None:
            self._average.load(resume_from_checkpoint)

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

    # Data ----------------------------------------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader[Any]:
        """As the library's; a stream is divided among the processes already."""
        if isinstance(self.train_dataset, StreamedEcgDataset):
            return stream_loader(self.train_dataset, self.data_collator, self.args)
        loader: DataLoader[Any] = super().get_train_dataloader()
        return loader

    def num_examples(self, dataloader: DataLoader[Any]) -> int:
        """Records in a loader; the items of a stream are batches."""
        if isinstance(dataloader.dataset, StreamedEcgDataset):
            return len(dataloader.dataset.stream)
        return int(super().num_examples(dataloader))

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
        averaged = nullcontext() if self._average is None else self._average.installed(self.model)
        with averaged:
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
        super().log(logs, start_time)

    @property
    def _sum_across_processes(self) -> Callable[[Tensor], Tensor]:
        return partial(self.accelerator.reduce, reduction="sum")
